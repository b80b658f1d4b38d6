"""The service in this process, on a real Redis and PostgreSQL, with a client for each of its callers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from course_lib.deployment.app import App, create_app
from course_lib.deployment.callers import make_key
from course_lib.deployment.config import ROLES, DeploymentConfig
from tests.deployment.settings import SIGNING_KEY

QUESTION = "What does shipping cost?"


@dataclass
class Desk:
    """An application that runs, and the keys of its callers."""

    app: App
    keys: dict[str, str]

    def client(self, name: str = "lantern") -> httpx.AsyncClient:
        headers = {"X-API-Key": self.keys[name]}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://desk", headers=headers
        )


def callers(names: Iterable[str] = ("lantern", "other")) -> tuple[dict[str, str], tuple[Any, ...]]:
    """Return a key for each tenant, with every role; and one that may only ask."""
    made = {name: make_key(name, name, ROLES) for name in names}
    made["asker"] = make_key("asker", "lantern", ["ask"])
    return {name: key for name, (key, _) in made.items()}, tuple(entry for _, entry in made.values())


@asynccontextmanager
async def desk(redis_url: str | None = None, **settings: Any) -> AsyncIterator[Desk]:
    """Run the service until the end of the block."""
    keys, entries = callers()
    urls = {"redis_url": redis_url} if redis_url else {}
    given = {"api_keys": entries, "signing_key": SIGNING_KEY, **urls, **settings}
    app = create_app(DeploymentConfig(**given))
    async with app.api.router.lifespan_context(app.api):
        yield Desk(app, keys)
