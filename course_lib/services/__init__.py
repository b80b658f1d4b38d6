"""Real servers as child processes, each of which ends with the process that started it.

`running_redis()`: a Redis-protocol server (lesson 02, part 3)
`running_postgres()`: a PostgreSQL (lesson 01, part 5)
`running_traces()`: a trace viewer, `TraceServer` with `url`, `headers`, `password` (lesson 04, part 3)
`running_queue()`: a message queue, `QueueServer` with `url` and `kind` (lesson 05, part 3)
`running_gateway()`: a gateway, `GatewayServer` with `url` and `use(routes)` (lesson 05, part 2)
`running_prometheus()`, `running_alertmanager()`: metrics, rules and alerts, where `has_prometheus()`, with
    `PrometheusServer`, `AlertmanagerServer` (lesson 05, part 5)
`Server`: what all return: `url`, `pid`, `folder`, `start()`, `stop()`, `kill()`, `close()`
`ServerError`: it cannot be started, stopped or reached, or refuses what is asked of it
`shown()`: an address without what could be a password

Main path: running_redis() and the others -> a server with an address.
Inside: server.py starts and stops one; child.py has the two sides of the process that ends it.
web.py is for web servers of our own: whom they refuse, and the bounds of a connection.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
