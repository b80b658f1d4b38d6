from .gateway import GatewayServer, running_gateway
from .metrics import (
    AlertmanagerServer,
    PrometheusServer,
    has_prometheus,
    running_alertmanager,
    running_prometheus,
)
from .postgres import running_postgres
from .queue import QueueServer, running_queue
from .redis import running_redis
from .server import Server, ServerError, shown
from .traces import TraceServer, running_traces

__all__ = [
    "AlertmanagerServer",
    "GatewayServer",
    "PrometheusServer",
    "QueueServer",
    "Server",
    "ServerError",
    "TraceServer",
    "has_prometheus",
    "running_alertmanager",
    "running_gateway",
    "running_postgres",
    "running_prometheus",
    "running_queue",
    "running_redis",
    "running_traces",
    "shown",
]
