"""Deployment: the desk as a service that holds.

| name | what it is |
| --- | --- |
| DeploymentConfig, ConfigError | the settings, or every problem they have (exercise 5.1) |
| ApiKey, make_key, make_token | what opens the service to a tenant |
| Callers, Caller | who asks, by key or token, with roles |
| Unauthorized, Forbidden | nobody is known by what was sent; the caller has not the role |
| create_app, Service, Problem | the application, what its requests share, and how it tells what is wrong |
| Answering, ProgramError | the programs, and all that is around them |
| save_program, load_program | a program's state as a version in JSON, without any model |
| Quotas, QuotaExceeded | requests a minute and tokens a day, over all replicas (exercise 5.3) |
| JobQueue, DeadLetter, QueueUnavailable | jobs on RabbitMQ or NATS; those that were given up |
| Worker | does each job once, whatever is killed (exercise 5.4) |
| Replica, routes, GatewayError | who answers what, for the gateway: by program, version, canary share |
| running_stack, running_replica, Stack, StackError | every part as a process of its own, gone with this one |
| Store, Job, JobResult, StoredAnswer | what the service keeps in PostgreSQL, tenant by tenant |
| Begun | what `Store.begin` says of an idempotency key |
| StoreError, StoreUnavailable, MigrationChanged | refused; no database; a migration was changed |
| Audit, AuditError | a log of who did what, which shows what was changed afterwards |
| RedisHead, Head | where the end of its chain is kept, outside the database |
| Verified, Broken | what `Audit.verify` says |
| Customers, Erasure | a customer exported, or erased everywhere (exercise 5.6) |
| Place, Person, Cache, Lines, trace_of | where a customer may be, beside the database |
| DEMANDS, Demand | what regulations ask, the control here, the test that shows it |
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
