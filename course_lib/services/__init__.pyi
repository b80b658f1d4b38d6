from .gateway import GatewayServer, GatewayServerError, running_gateway
from .postgres import PostgresError, running_postgres
from .queue import QueueServer, QueueServerError, running_queue
from .redis import RedisServerError, running_redis
from .server import Server, shown
from .traces import TraceServer, TraceServerError, running_traces

__all__ = [
    "GatewayServer",
    "GatewayServerError",
    "PostgresError",
    "QueueServer",
    "QueueServerError",
    "RedisServerError",
    "Server",
    "TraceServer",
    "TraceServerError",
    "running_gateway",
    "running_postgres",
    "running_queue",
    "running_redis",
    "running_traces",
    "shown",
]
