from .callers import Caller, Callers, Forbidden, Unauthorized, make_key, make_token
from .config import ApiKey, ConfigError, DeploymentConfig
from .gateway import GatewayError, Replica, routes
from .quotas import QuotaExceeded, Quotas

__all__ = [
    "ApiKey",
    "Caller",
    "Callers",
    "ConfigError",
    "DeploymentConfig",
    "Forbidden",
    "GatewayError",
    "QuotaExceeded",
    "Quotas",
    "Replica",
    "Unauthorized",
    "make_key",
    "make_token",
    "routes",
]
