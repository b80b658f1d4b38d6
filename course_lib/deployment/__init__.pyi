from .answering import Answering, ProgramError, load_program, save_program
from .app import Service, create_app
from .audit import Audit, AuditError, Broken, FileHead, Head, RedisHead, Verified
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
from .gateway import GatewayError, Replica, routes
from .problems import Problem
from .queue import DeadLetter, JobQueue, QueueUnavailable
from .quotas import QuotaExceeded, Quotas
from .stack import Stack, StackError, running_replica, running_stack
from .store import Conflict, Done, Fresh, Job, JobResult, Running, Store, StoredAnswer
from .worker import Worker

__all__ = [
    "DEMANDS",
    "Answering",
    "ApiKey",
    "Audit",
    "AuditError",
    "Broken",
    "Cache",
    "Caller",
    "Callers",
    "CapacityError",
    "ConfigError",
    "Conflict",
    "Customers",
    "DeadLetter",
    "Demand",
    "DeploymentConfig",
    "Done",
    "Erasure",
    "FileHead",
    "Forbidden",
    "Fresh",
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
    "Replica",
    "Running",
    "Service",
    "Stack",
    "StackError",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "StoredAnswer",
    "Unauthorized",
    "Verified",
    "Work",
    "Worker",
    "closed_loop",
    "create_app",
    "load_program",
    "log_normal_s",
    "make_key",
    "make_token",
    "mean_wait_s",
    "open_loop",
    "plan",
    "routes",
    "running_replica",
    "running_stack",
    "save_program",
    "simulate",
    "trace_of",
    "work_of",
]
