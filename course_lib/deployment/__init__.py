"""Deployment: the desk as a service that holds.

| name | what it is |
| --- | --- |
| DeploymentConfig, ConfigError | the settings, or every problem they have (exercise 5.1) |
| make_key, make_token | what opens the service to a tenant |
| Callers, Caller | who asks, by key or token, with roles |
| Unauthorized, Forbidden | nobody is known by what was sent; the caller has not the role |
| create_app, Service, Problem | the application, what its requests share, and how it tells what is wrong |
| Answering, ProgramError | the programs, and all that is around them |
| save_program, load_program | a program's state as a version in JSON, without any model |
| Registry, RegistryError | which version is live, which is tried, where each came from |
| compare, check_release, GateError | the gate: candidate against live (exercise 5.7) |
| evaluation, scored | a program's examples and metric, and what it scores |
| Rollout, Seen, Slo, Evidence, RolloutError | a canary promoted or rolled back by what is seen of it |
| observing, stored_scores | what is seen: a version's metrics, and the scores of its answers |
| AdaptiveOptimizer, Drift, AdaptiveError | looks for a better version when quality falls |
| Quotas, QuotaExceeded | requests a minute and tokens a day, over all replicas (exercise 5.3) |
| JobQueue | jobs on RabbitMQ or NATS; those that were given up |
| Worker | does each job once, whatever is killed (exercise 5.4) |
| Replica, routes, GatewayError | who answers what, for the gateway: by program, version, canary share |
| running_stack, running_replica, Stack | every part as a process of its own, gone with this one |
| Store | what the service keeps in PostgreSQL, tenant by tenant |
| Audit | a log of who did what, which shows what was changed afterwards |
| Customers | a customer exported, or erased everywhere (exercise 5.6) |
| Lines | the files where a customer may be, beside the database |
| Load, open_loop, closed_loop, Outcome | requests that come by chance, or wait in turn; what became of them |
| Work, work_of, simulate, mean_wait_s | what a request takes, measured; how long it then takes under load |
| log_normal_s | times of a model, as its profile states them |
| plan, CapacityError | how many replicas a day's requests need, and what an answer costs |
| DEMANDS | what regulations ask, the control here, the test that shows it |
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
