"""Who answers what: the routes of the gateway, from the replicas that run and the share of each version.

Main path: routes(replicas, weights) -> a mapping; gateway.use(routes(...)) holds without a restart.
Source: Traefik 3.7: routers (which request), services (who answers it), middlewares (what is done between).

A request goes to a program by its path, and to a version by `X-Program-Version`, or else by the weights: 9
to 1 sends each tenth request to the canary. A version of weight 0 answers only those who name it; a replica
asks them for the role "operate", so that no customer chooses what a rollout sees. A replica that fails its
health check gets nothing; until that is known, a request that cannot be delivered goes to another one. What
was delivered is never sent twice. What a replica tells of itself (/metrics) has no route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from course_lib.deployment.config import PROGRAMS, DeploymentConfig, Program, Version
from course_lib.errors import CourseError

VERSION_HEADER = "X-Program-Version"
HEALTH_PATH = "/health/ready"
"""What replicas are asked for: 503 from one that is about to end. A database that is lost is lost for all of
them, so it is told there, and no reason to leave one out."""
NOTICE_S = 2.5
"""So long a replica that is to end says so and goes on: longer than the gateway's pause between two looks."""
_URL = r"^https?://([\w.-]+|\[[\da-fA-F:]+\])(:\d{1,5})?$"
_PATHS = {
    "answer": "PathPrefix(`/v1/answers`)",
    "triage": "PathPrefix(`/v1/triage`)",
    "others": "PathPrefix(`/v1/`) || PathPrefix(`/health/`) || PathPrefix(`/docs`) || Path(`/openapi.json`)",
}


class GatewayError(CourseError):
    """These weights make no routes."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of the service: where it is, and what it answers; ValueError where it cannot be so."""

    url: Annotated[str, Field(pattern=_URL)]
    """http://host:port"""
    version: Version = "1"
    programs: tuple[Program, ...] = PROGRAMS


def routes(
    replicas: Sequence[Replica],
    weights: Mapping[str, int] | None = None,
    *,
    config: DeploymentConfig,
    health_every_s: float = 1.0,
) -> dict[str, Any]:
    """Return the routes to these replicas, for GatewayServer.use.

    Args:
        replicas: all that may run.
        weights: of each version, whole numbers; versions without one have 0. None: all versions the same.
        config: its gateway's deadline (then 504); the size of a body is for the replica to limit.
        health_every_s: seconds between two health checks of a replica.

    Raises:
        GatewayError: a weight is of no use: of no replica, no whole number, or all are 0.
    """
    versions = sorted({replica.version for replica in replicas})
    weights = dict.fromkeys(versions, 1) if weights is None else dict(weights)
    if unknown := set(weights) - set(versions):
        raise GatewayError(f"version {min(unknown)!r} has a weight and no replica; versions: {versions}")
    if any(type(weight) is not int or weight < 0 for weight in weights.values()) or not any(weights.values()):
        raise GatewayError(f"weights are {weights!r}; they must be whole numbers, and not all 0")
    health = {"path": HEALTH_PATH, "interval": f"{health_every_s:g}s", "timeout": f"{health_every_s:g}s"}
    routers: dict[str, Any] = {}
    services: dict[str, Any] = {}
    for program, rule in _PATHS.items():
        priority = 1 + 10 * (program != "others")
        able = [replica for replica in replicas if program in (*replica.programs, "others")]
        for version in sorted({replica.version for replica in able}):
            servers = [{"url": each.url} for each in able if each.version == version]
            balancer = {"servers": servers, "healthCheck": health, "serversTransport": "replicas"}
            services[f"{program}-{version}"] = {"loadBalancer": balancer}
            by_version = f"({rule}) && Header(`{VERSION_HEADER}`, `{version}`)"
            routers[f"{program}-{version}"] = {"rule": by_version, "priority": priority + 20}
        shares = [
            {"name": f"{program}-{version}", "weight": weight}
            for version, weight in sorted(weights.items())
            if weight and f"{program}-{version}" in services
        ]
        if shares:
            services[program] = {"weighted": {"services": shares, "healthCheck": {}}}
            routers[program] = {"rule": rule, "priority": priority}
    for name, router in routers.items():  # what limits bodies would write large answers to disk
        router |= {"service": name, "middlewares": ["plain", "again"]}
    plain = {"customRequestHeaders": {"Forwarded": ""}, "customResponseHeaders": {"Server": ""}}
    middlewares = {
        "again": {"retry": {"attempts": 8, "initialInterval": "5ms"}},  # only what could not be delivered
        "plain": {"headers": plain},  # X-Forwarded-For is written anew, and the standard's own is not
    }
    timeouts = {"dialTimeout": "1s", "responseHeaderTimeout": f"{config.gateway_deadline_s:g}s"}
    timeouts["idleConnTimeout"] = "3s"  # a connection at rest is left before uvicorn ends it (5 s)
    transports = {"replicas": {"forwardingTimeouts": timeouts, "maxIdleConnsPerHost": 100}}
    http = {"routers": routers, "services": services, "middlewares": middlewares}
    return {"http": {**http, "serversTransports": transports}}


def longest_end_s(config: DeploymentConfig) -> float:
    """Return how long a replica or a worker may take to end by itself; then it hangs, and may be killed.

    It says so, answers what it has, and writes down what it still holds, such as audit records.
    """
    return NOTICE_S + config.drain_s + 2.0
