"""Deployment: the desk as a service that holds.

| name | what it is |
| --- | --- |
| Store, Job, JobResult, StoredAnswer | what the service keeps in PostgreSQL, tenant by tenant |
| Fresh, Running, Done, Conflict | what `Store.begin` says of an idempotency key |
| StoreError, StoreUnavailable, MigrationChanged | refused; no database; a migration was changed |
| Audit, AuditError | a log of who did what, which shows what was changed afterwards |
| FileHead, RedisHead, Head | where the end of its chain is kept, outside the database |
| Verified, Broken | what `Audit.verify` says |
| Customers, Erasure | a customer exported, or erased everywhere (exercise 5.6) |
| Place, Person, Cache, Collector, Lines, trace_of | where a customer may be, beside the database |
| DEMANDS, Demand | what regulations ask, the control here, the test that shows it |
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
