from .postgres import PostgresError, running_postgres
from .redis import RedisServerError, running_redis
from .server import Server, shown

__all__ = [
    "PostgresError",
    "RedisServerError",
    "Server",
    "running_postgres",
    "running_redis",
    "shown",
]
