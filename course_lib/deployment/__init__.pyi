from .answering import Answering, ProgramError, load_program, save_program
from .app import create_app
from .audit import Audit, AuditError, Broken, Head, RedisHead, Verified
from .callers import Caller, Callers, Forbidden, Unauthorized, make_key, make_token
from .compliance import DEMANDS, Demand
from .config import ApiKey, ConfigError, DeploymentConfig
from .customers import Cache, Customers, Erasure, Lines, Person, Place, trace_of
from .database import MigrationChanged, StoreError, StoreUnavailable
from .gateway import GatewayError, Replica, routes
from .problems import Problem
from .queue import DeadLetter, JobQueue, QueueUnavailable
from .quotas import QuotaExceeded, Quotas
from .service import Service
from .stack import Stack, StackError, running_replica, running_stack
from .store import Begun, Job, JobResult, Store, StoredAnswer
from .worker import Worker

__all__ = [
    "DEMANDS",
    "Answering",
    "ApiKey",
    "Audit",
    "AuditError",
    "Begun",
    "Broken",
    "Cache",
    "Caller",
    "Callers",
    "ConfigError",
    "Customers",
    "DeadLetter",
    "Demand",
    "DeploymentConfig",
    "Erasure",
    "Forbidden",
    "GatewayError",
    "Head",
    "Job",
    "JobQueue",
    "JobResult",
    "Lines",
    "MigrationChanged",
    "Person",
    "Place",
    "Problem",
    "ProgramError",
    "QueueUnavailable",
    "QuotaExceeded",
    "Quotas",
    "RedisHead",
    "Replica",
    "Service",
    "Stack",
    "StackError",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "StoredAnswer",
    "Unauthorized",
    "Verified",
    "Worker",
    "create_app",
    "load_program",
    "make_key",
    "make_token",
    "routes",
    "running_replica",
    "running_stack",
    "save_program",
    "trace_of",
]
