from .answering import Answering, ProgramError, load_program, save_program
from .app import create_app
from .callers import Caller, Callers, Forbidden, Unauthorized, make_key, make_token
from .config import ApiKey, ConfigError, DeploymentConfig
from .gateway import GatewayError, Replica, routes
from .quotas import QuotaExceeded, Quotas
from .stack import Stack, StackError, running_replica, running_stack

__all__ = [
    "Answering",
    "ApiKey",
    "Caller",
    "Callers",
    "ConfigError",
    "DeploymentConfig",
    "Forbidden",
    "GatewayError",
    "ProgramError",
    "QuotaExceeded",
    "Quotas",
    "Replica",
    "Stack",
    "StackError",
    "Unauthorized",
    "create_app",
    "load_program",
    "make_key",
    "make_token",
    "routes",
    "running_replica",
    "running_stack",
    "save_program",
]
