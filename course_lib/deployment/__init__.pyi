from .callers import Caller, Callers, Forbidden, Unauthorized, make_key, make_token
from .config import ApiKey, ConfigError, DeploymentConfig
from .quotas import QuotaExceeded, Quotas

__all__ = [
    "ApiKey",
    "Caller",
    "Callers",
    "ConfigError",
    "DeploymentConfig",
    "Forbidden",
    "QuotaExceeded",
    "Quotas",
    "Unauthorized",
    "make_key",
    "make_token",
]
