"""Settings that a service may have in production, and secrets that stand nowhere else."""

from __future__ import annotations

from typing import Any

JWT_SECRET = "kJ8d7f6g5h4j3k2l1qWertyuiopZXCVBNM"
SIGNING_KEY = "0a9Zs8d7f6g5h4j3k2l1pqowieurytlKJHG"
PASSWORD = "hunt3r-Zwo"
PRODUCTION: dict[str, Any] = {
    "profile": "production",
    "host": "0.0.0.0",
    "redis_url": f"rediss://:{PASSWORD}@cache.example:6380/0",
    "database_url": f"postgresql://desk:{PASSWORD}@db.example/desk?sslmode=verify-full",
    "queue_url": f"amqps://desk:{PASSWORD}@queue.example/",
    "jwt_secret": JWT_SECRET,
    "signing_key": SIGNING_KEY,
}
