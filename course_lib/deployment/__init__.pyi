from .audit import Audit, AuditError, Broken, FileHead, Head, RedisHead, Verified
from .compliance import DEMANDS, Demand
from .customers import Cache, Collector, Customers, Erasure, Lines, Person, Place, trace_of
from .database import MigrationChanged, StoreError, StoreUnavailable
from .store import Conflict, Done, Fresh, Job, JobResult, Running, Store, StoredAnswer

__all__ = [
    "DEMANDS",
    "Audit",
    "AuditError",
    "Broken",
    "Cache",
    "Collector",
    "Conflict",
    "Customers",
    "Demand",
    "Done",
    "Erasure",
    "FileHead",
    "Fresh",
    "Head",
    "Job",
    "JobResult",
    "Lines",
    "MigrationChanged",
    "Person",
    "Place",
    "RedisHead",
    "Running",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "StoredAnswer",
    "Verified",
    "trace_of",
]
