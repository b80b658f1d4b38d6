from .adaptive import AdaptiveError, AdaptiveOptimizer, Drift
from .answering import Answering
from .app import create_app
from .audit import Audit
from .callers import Caller, Callers, Forbidden, Unauthorized, make_key, make_token
from .capacity import (
    CapacityError,
    Load,
    Outcome,
    Work,
    closed_loop,
    log_normal_s,
    mean_wait_s,
    open_loop,
    plan,
    simulate,
    work_of,
)
from .compliance import DEMANDS
from .config import ConfigError, DeploymentConfig
from .customers import Customers, Lines
from .gate import GateError, check_release, compare, evaluation, scored
from .gateway import GatewayError, Replica, routes
from .observed import observing, stored_scores
from .problems import Problem
from .programs import ProgramError, load_program, save_program
from .queue import JobQueue
from .quotas import QuotaExceeded, Quotas
from .registry import Registry, RegistryError
from .rollout import Evidence, Rollout, RolloutError, Seen, Slo
from .service import Service
from .stack import Stack, running_replica, running_stack
from .store import Store
from .worker import Worker

__all__ = [
    "DEMANDS",
    "AdaptiveError",
    "AdaptiveOptimizer",
    "Answering",
    "Audit",
    "Caller",
    "Callers",
    "CapacityError",
    "ConfigError",
    "Customers",
    "DeploymentConfig",
    "Drift",
    "Evidence",
    "Forbidden",
    "GateError",
    "GatewayError",
    "JobQueue",
    "Lines",
    "Load",
    "Outcome",
    "Problem",
    "ProgramError",
    "QuotaExceeded",
    "Quotas",
    "Registry",
    "RegistryError",
    "Replica",
    "Rollout",
    "RolloutError",
    "Seen",
    "Service",
    "Slo",
    "Stack",
    "Store",
    "Unauthorized",
    "Work",
    "Worker",
    "check_release",
    "closed_loop",
    "compare",
    "create_app",
    "evaluation",
    "load_program",
    "log_normal_s",
    "make_key",
    "make_token",
    "mean_wait_s",
    "observing",
    "open_loop",
    "plan",
    "routes",
    "running_replica",
    "running_stack",
    "save_program",
    "scored",
    "simulate",
    "stored_scores",
    "work_of",
]
