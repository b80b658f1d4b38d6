"""What Prometheus reads of a replica beside what it counted: its version, its parts, jobs and audit records.

Main path: GET /metrics -> refresh(), one query -> MetricsCollector.text() -> collect().
Source: prometheus-client 0.26. Jobs are all replicas' together: take the maximum, not the sum.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, LiteralString

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from course_lib.deployment.database import EVERY_TENANT
from course_lib.errors import CourseError

_WITHIN_S = 1.0
_JOBS: LiteralString = """
    SELECT status, count(*), extract(epoch FROM now() - min(created))::float FROM jobs
    WHERE NOT has_ended GROUP BY status
    UNION ALL SELECT 'dead', count(*), 0 FROM jobs WHERE status = 'dead'
"""


class Gauges(Collector):
    """Gauges of a service, in its registry; those of the jobs are left out while the database is away."""

    def __init__(self, service: Any) -> None:
        self._service, self._jobs = service, dict[str, tuple[int, float]]()
        service.metrics.registry.register(self)

    async def refresh(self) -> None:
        """Ask the database once, for a second at most."""
        self._jobs, store = {}, self._service.store
        if store is not None:
            try:
                rows = await asyncio.wait_for(store.rows(EVERY_TENANT, _JOBS, {}), _WITHIN_S)
            except (CourseError, TimeoutError):
                return  # service_part_ok tells it
            self._jobs = {"queued": (0, 0.0)} | {status: (count, age_s) for status, count, age_s in rows}

    def collect(self) -> Iterator[Metric]:
        """Yield what there is at the moment."""
        service, jobs = self._service, self._jobs
        version, waits = {service.config.program_version: 1.0}, service.audit and {"": service.audit.waiting}
        yield _gauge("service_info", "1, with what the replica serves", version, "version")
        parts = {name: float(text == "ok") for name, text in service.parts().items()}
        yield _gauge("service_part_ok", "1 as it should be, 0 lost", parts, "part")
        counts = {status: float(count) for status, (count, _) in jobs.items()}
        yield _gauge("service_jobs", "Jobs that are not done", counts, "status")
        oldest = {"": jobs["queued"][1]} if jobs else {}
        yield _gauge("service_oldest_job_seconds", "Since the oldest job that nobody has begun", oldest)
        yield _gauge("service_audit_waiting", "Audit records that are not in the database yet", waits or {})


def _gauge(name: str, text: str, values: Mapping[str, float], label: str = "") -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=[label] if label else [])
    for value, number in values.items():
        gauge.add_metric([value] if label else [], number)
    return gauge
