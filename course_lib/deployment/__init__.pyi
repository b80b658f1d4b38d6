from .callers import Caller, Callers, Forbidden, Unauthorized, make_key, make_token
from .config import ApiKey, ConfigError, DeploymentConfig

__all__ = [
    "ApiKey",
    "Caller",
    "Callers",
    "ConfigError",
    "DeploymentConfig",
    "Forbidden",
    "Unauthorized",
    "make_key",
    "make_token",
]
