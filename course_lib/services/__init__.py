"""Real servers as child processes, each of which ends with the process that started it.

Main path: running_redis() or running_postgres() -> a server with an address.
"""

from course_lib.services.postgres import running_postgres
from course_lib.services.redis import running_redis

__all__ = ["running_postgres", "running_redis"]
