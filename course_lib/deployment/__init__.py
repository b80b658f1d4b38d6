"""Deployment: the desk as a service that holds.

| name | what it is |
| --- | --- |
| DeploymentConfig, ConfigError | the settings, or every problem they have (exercise 5.1) |
| ApiKey, make_key, make_token | what opens the service to a tenant |
| Callers, Caller | who asks, by key or token, with roles |
| Unauthorized, Forbidden | nobody is known by what was sent; the caller has not the role |
| running_stack, Stack | the whole service on servers of its own, part by part to be killed and started |
| create_app, Service, Problem | the application, what its requests share, and how it tells what is wrong |
| Answering, save_program, load_program | programs with their caches and policies; as files |
| Quotas, QuotaExceeded | requests a minute and tokens a day, over all replicas (exercise 5.3) |
| Replica, routes, GatewayError | who answers what, for the gateway: by program, version, canary share |
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
