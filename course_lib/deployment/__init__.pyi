from .adaptive import AdaptiveError, AdaptiveOptimizer, Drift
from .answering import Answering
from .app import create_app
from .audit import Audit, AuditError, Broken, Head, RedisHead, Verified
from .callers import Caller, Callers, Forbidden, Unauthorized, make_key, make_token
from .capacity import (
    CapacityError,
    Load,
    Outcome,
    Plan,
    Work,
    closed_loop,
    log_normal_s,
    mean_wait_s,
    open_loop,
    plan,
    simulate,
    work_of,
)
from .compliance import DEMANDS, Demand
from .config import ApiKey, ConfigError, DeploymentConfig
from .customers import Cache, Customers, Erasure, Lines, Person, Place, trace_of
from .database import MigrationChanged, StoreError, StoreUnavailable
from .gate import GateError, Verdict, check_release, compare, evaluation, scored
from .gateway import GatewayError, Replica, routes
from .observed import observing, stored_scores
from .problems import Problem
from .programs import ProgramError, load_program, save_program
from .queue import DeadLetter, JobQueue, QueueUnavailable
from .quotas import QuotaExceeded, Quotas
from .registry import Registered, Registry, RegistryError
from .rollout import Evidence, Rollout, RolloutError, Seen, Slo
from .service import Service
from .stack import Stack, StackError, running_replica, running_stack
from .store import Begun, Job, JobResult, Store, StoredAnswer
from .worker import Worker

__all__ = [
    "DEMANDS",
    "AdaptiveError",
    "AdaptiveOptimizer",
    "Answering",
    "ApiKey",
    "Audit",
    "AuditError",
    "Begun",
    "Broken",
    "Cache",
    "Caller",
    "Callers",
    "CapacityError",
    "ConfigError",
    "Customers",
    "DeadLetter",
    "Demand",
    "DeploymentConfig",
    "Drift",
    "Erasure",
    "Evidence",
    "Forbidden",
    "GateError",
    "GatewayError",
    "Head",
    "Job",
    "JobQueue",
    "JobResult",
    "Lines",
    "Load",
    "MigrationChanged",
    "Outcome",
    "Person",
    "Place",
    "Plan",
    "Problem",
    "ProgramError",
    "QueueUnavailable",
    "QuotaExceeded",
    "Quotas",
    "RedisHead",
    "Registered",
    "Registry",
    "RegistryError",
    "Replica",
    "Rollout",
    "RolloutError",
    "Seen",
    "Service",
    "Slo",
    "Stack",
    "StackError",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "StoredAnswer",
    "Unauthorized",
    "Verdict",
    "Verified",
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
    "trace_of",
    "work_of",
]
