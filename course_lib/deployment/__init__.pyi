from .answering import Answering, load_program, save_program
from .app import Service, create_app
from .callers import Caller, Callers, Forbidden, Unauthorized, make_key, make_token
from .config import ApiKey, ConfigError, DeploymentConfig
from .gateway import GatewayError, Replica, routes
from .problems import Problem
from .quotas import QuotaExceeded, Quotas
from .stack import Stack, running_stack

__all__ = [
    "Answering",
    "ApiKey",
    "Caller",
    "Callers",
    "ConfigError",
    "DeploymentConfig",
    "Forbidden",
    "GatewayError",
    "Problem",
    "QuotaExceeded",
    "Quotas",
    "Replica",
    "Service",
    "Stack",
    "Unauthorized",
    "create_app",
    "load_program",
    "make_key",
    "make_token",
    "routes",
    "running_stack",
    "save_program",
]
