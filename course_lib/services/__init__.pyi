from .gateway import GatewayServer, GatewayServerError, running_gateway
from .metrics import (
    AlertmanagerServer,
    MetricsServerError,
    PrometheusServer,
    has_prometheus,
    running_alertmanager,
    running_prometheus,
)
from .postgres import PostgresError, running_postgres
from .queue import QueueServer, QueueServerError, running_queue
from .redis import RedisServerError, running_redis
from .server import Server, shown
from .traces import TraceServer, TraceServerError, running_traces

__all__ = [
    "AlertmanagerServer",
    "GatewayServer",
    "GatewayServerError",
    "MetricsServerError",
    "PostgresError",
    "PrometheusServer",
    "QueueServer",
    "QueueServerError",
    "RedisServerError",
    "Server",
    "TraceServer",
    "TraceServerError",
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
