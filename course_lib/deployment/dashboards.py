"""The dashboard for whoever is on call, as code: one table of panels, from which Grafana's JSON is made.

Main path: PANELS -> text() -> deploy/grafana/dashboards/desk.json (`make build`).
Source: grafana-foundation-sdk 10.1.0, which types what Grafana 10 reads. Rows follow the questions: is it
broken, for whom, since when, why. No panel tells of a tenant: what can grow without end is no label.
"""

from __future__ import annotations

from typing import NamedTuple

from grafana_foundation_sdk.builders.dashboard import AnnotationQuery, Dashboard, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from course_lib.files import write_whole
from course_lib.paths import ROOT

FILE = ROOT / "deploy" / "grafana" / "dashboards" / "desk.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
_DESK = 'job="desk"'


class Panel(NamedTuple):
    """A picture of some expressions over time."""

    title: str
    """What alert rules name as their `panel`."""
    unit: str
    """As Grafana names it."""
    series: dict[str, str]
    """By legend, the expression in PromQL."""


def _rate(metric: str, by: str, labels: str = "", window: str = "5m") -> str:
    return f"sum by ({by}) (rate({metric}{{{_DESK}{labels}}}[{window}]))"


def _percentiles(metric: str, by: str, labels: str = "") -> dict[str, str]:
    rate, legend = _rate(f"{metric}_bucket", f"le{by}", labels), by.replace(", ", " {{") + "}}" * bool(by)
    return {f"p{percent}{legend}": f"histogram_quantile({percent / 100}, {rate})" for percent in (50, 95, 99)}


_ASKED = ',route=~"/v1/.+"'
_ANSWERS = ',route=~"/v1/(answers|triage)"'
_FAILED = {"5 minutes": "5m", "1 hour": "1h", "6 hours": "6h", "3 days": "3d"}
_COST = _rate("dspy_cost_dollars_total", "model", window="10m")
_TROUBLE = {
    "{{model}} {{error}}": _rate("dspy_model_calls_total", "model, error", ',error!=""'),
    "repeated, {{error}}": _rate("dspy_retries_total", "error"),
    "not parsed, {{adapter}}": _rate("dspy_parse_failures_total", "adapter"),
    "fallback, {{kind}}": _rate("dspy_fallbacks_total", "kind"),
}
_JOBS = {
    "{{status}}": f"max by (status) (service_jobs{{{_DESK}}})",
    "age of the oldest, in seconds": f"max(service_oldest_job_seconds{{{_DESK}}})",
}
_REPLICAS = {"answer": f"sum(up{{{_DESK}}})", "expected": f"count(up{{{_DESK}}})"}
_FAILED_SHARE = {legend: f"job:service_failed:ratio_rate{window}" for legend, window in _FAILED.items()}
_FAILED_BY_VERSION = {"{{version}}": "version:service_failed:ratio_rate5m"}
_BREAKERS = {"{{breaker}} of {{instance}}": f"dspy_breaker_open{{{_DESK}}}"}
_PARTS = {"{{part}}": f"min by (part) (service_part_ok{{{_DESK}}})"}
_UNDER_WAY = {"{{program}}": f"sum by (program) (dspy_requests_in_flight{{{_DESK}}})"}
_CACHE = {
    "answers given again, {{program}}": _rate("service_repeated_total", "program"),
    "hits, {{tier}}": _rate("dspy_cache_hits_total", "tier"),
    "misses": _rate("dspy_cache_misses_total", ""),
}
PANELS: dict[str, tuple[Panel, ...]] = {
    "Is it broken, and for whom?": (
        Panel("Replicas", "short", _REPLICAS),
        Panel("Requests", "reqps", {"{{route}}": _rate("service_requests_total", "route", _ASKED)}),
        Panel("Failed requests", "percentunit", _FAILED_SHARE),
        Panel("Duration of answers", "s", _percentiles("service_request_seconds", "", _ANSWERS)),
        Panel("Failed requests by version", "percentunit", _FAILED_BY_VERSION),
        Panel("Requests by version", "reqps", {"{{version}}": "version:service_requests:rate5m"}),
    ),
    "Why?": (
        Panel("Programs under way", "short", _UNDER_WAY),
        Panel("Circuit breakers", "short", _BREAKERS),
        Panel("Parts", "short", _PARTS),
        Panel("Duration of the models", "s", _percentiles("dspy_model_duration_seconds", ", model")),
        Panel("Time to the first token", "s", _percentiles("dspy_first_token_seconds", ", model")),
        Panel("Errors of the models", "cps", _TROUBLE),
        Panel("Jobs", "short", _JOBS),
        Panel("Audit records that wait", "short", {"all replicas": f"sum(service_audit_waiting{{{_DESK}}})"}),
    ),
    "What does it cost?": (
        Panel("Tokens", "cps", {"{{model}} {{direction}}": _rate("dspy_tokens_total", "model, direction")}),
        Panel("Cost of the models", "currencyUSD", {"{{model}}, a day": f"{_COST} * 86400"}),
        Panel("Cache", "cps", _CACHE),
    ),
}
"""By row."""


def _built(number: int, panel: Panel) -> TimeSeries:
    built = TimeSeries().id(number).title(panel.title).unit(panel.unit).datasource(SOURCE)
    built = built.span(8).height(7).min(0)
    for letter, (legend, expression) in zip("ABCDEF", panel.series.items(), strict=False):
        built = built.with_target(Dataquery().ref_id(letter).expr(expression).legend_format(legend))
    return built


def text() -> str:
    """Return the dashboard as Grafana reads it; the same for the same panels."""
    firing = AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True).icon_color("red")
    alerts = firing.expr('ALERTS{alertstate="firing"}')
    board = Dashboard("Desk").uid("desk").refresh("15s").time("now-1h", "now").annotation(alerts)
    number = 1
    for row, panels in PANELS.items():
        board = board.with_row(Row(row).id(100 + number))
        for panel in panels:
            board = board.with_panel(_built(number, panel))
            number += 1
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


if __name__ == "__main__":
    write_whole(FILE, text())
