"""Rules, routes and dashboard: Prometheus's and Alertmanager's own tools, and that what they name exists."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from course_lib.deployment import dashboards
from course_lib.deployment.config import DeploymentConfig
from course_lib.deployment.records import Ended, _line
from course_lib.paths import ROOT
from course_lib.services import running_alertmanager
from tests.deployment.serving import desk
from tests.services.installed import need_prometheus
from tests.services.processes import happens

DEPLOY = ROOT / "deploy"
RULES, ROUTES = DEPLOY / "prometheus/rules/desk.yml", DEPLOY / "alertmanager/alertmanager.yml"
TESTS = sorted((DEPLOY / "prometheus/tests").glob("*.yml"))
NAME = re.compile(r"\b(?:service|dspy)_\w+\b(?!\s*:)")


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    need_prometheus()


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def expressions() -> Iterator[str]:
    for panels in dashboards.PANELS.values():
        for panel in panels:
            yield from panel.series.values()


# Three seconds: promtool evaluates all rules every 15 s over hours of samples.
def test_each_alert_fires_in_time_and_no_other_does():
    run("promtool", "test", "rules", *TESTS)

    cases = [case for path in TESTS for case in yaml.safe_load(path.read_text())["tests"]]
    assert {case["name"] for case in cases} == set(alerts())
    for case in cases:  # before the fault nothing fires; afterwards this alert alone, asked of all of them
        before, *_, after = case["promql_expr_test"]
        assert 'ALERTS{alertstate="firing"}' in after["expr"]
        assert before["exp_samples"] == []
        labels = f'{{alertname="{case["name"]}", job="desk"}}'  # inhibition goes by the job
        assert [each["labels"] for each in after["exp_samples"]] == [labels]


def test_an_alert_says_what_to_do_for_whom_and_where_to_look():
    titles = {panel.title for panels in dashboards.PANELS.values() for panel in panels}

    for name, rule in alerts().items():
        assert set(rule["annotations"]) == {"summary", "todo", "panel"}, name
        assert rule["annotations"]["panel"] in titles, name
        assert rule["labels"]["severity"] in ("page", "ticket"), name
        assert rule["labels"]["team"] in ("desk", "platform"), name


@pytest.mark.anyio
async def test_every_metric_of_rules_and_dashboard_is_one_that_a_replica_tells():
    async with desk() as running, running.client() as client:
        text = (await client.get("/metrics")).text
    told = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    parts = {
        f"{name}_{part}" for name, kind in told.items() if kind == "histogram" for part in ("bucket", "count")
    }

    recorded = {rule["record"] for rule in rules() if "record" in rule}
    wanted = [*expressions(), *(rule["expr"] for rule in rules())]
    used = {name for each in wanted for name in NAME.findall(re.sub(r"\w+:[\w:]+", "", each))}
    assert used - set(told) - parts == set()
    assert {name for each in wanted for name in re.findall(r"\w+:[\w:]+", each)} <= recorded


def test_the_dashboard_is_the_one_in_code_and_its_expressions_are_promql(tmp_path):
    text = dashboards.FILE.read_text()
    assert text == dashboards.text(), "run: make build"
    panels = Dashboard.from_json(json.loads(text)).panels
    assert len(panels) == sum(map(len, dashboards.PANELS.values())) + len(dashboards.PANELS)

    checked = [{"record": f"a{number}", "expr": each} for number, each in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": checked}]}))
    run("promtool", "check", "rules", file)


def test_grafana_finds_the_dashboard_and_its_source():
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources.yml").read_text())["datasources"]

    assert (source["uid"], source["type"]) == (dashboards.SOURCE.uid, dashboards.SOURCE.type_val)
    assert yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards.yml").read_text())["providers"]


def test_prometheus_and_alertmanager_take_their_settings():
    run("promtool", "check", "config", "--syntax-only", DEPLOY / "prometheus/prometheus.yml")
    run("promtool", "check", "rules", RULES)
    run("amtool", "check-config", ROUTES)
    scrapes = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    for each in (*scrapes, yaml.safe_load(ROUTES.read_text())["global"]["http_config"]):
        assert each["follow_redirects"] is False  # a redirect takes the token along


@pytest.mark.parametrize("team", ["desk", "platform"])
@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_an_alert_goes_to_its_team_at_its_hour(team, severity):
    labels = f"severity={severity}", f"team={team}"

    routed = run("amtool", "config", "routes", "test", f"--config.file={ROUTES}", *labels)

    assert routed.split() == [f"{team}-{severity}s"]


def test_what_follows_from_another_alert_is_not_told():
    follow = {"DependencyLost": {"JobsNotBegun", "AuditNotWritten"}, "ModelUnavailable": {"AnswersSlow"}}
    follow |= {"ReplicaDown": {"AnswersSlow"}, "DeskDown": set(alerts()) - {"DeskDown"}}
    jobs = {cause: alerts()[cause]["labels"].get("job", cause) for cause in follow}  # each apart
    labels = [
        {"alertname": name, "job": jobs[cause], **alerts()[name]["labels"]}
        for cause, effects in follow.items()
        for name in (cause, *effects)
    ]
    with running_alertmanager(ROUTES) as server:
        told = [{"labels": each} for each in labels]
        httpx.post(f"{server.url}/api/v2/alerts", json=told, trust_env=False).raise_for_status()

        def active() -> set[tuple[str, str]]:
            held = [each["labels"] for each in server.alerts() if each["status"]["state"] == "active"]
            return {(each["job"], each["alertname"]) for each in held}

        assert happens(lambda: active() == {(job, cause) for cause, job in jobs.items()}, 10)


def test_a_shipped_line_has_the_fields_of_the_template_and_the_paths_of_the_service(tmp_path):
    settings = yaml.safe_load((DEPLOY / "logs/filebeat.yml").read_text())
    template = json.loads((DEPLOY / "logs/index-template.json").read_text())["template"]
    kinds = {"long": int, "date": str, "keyword": str, "wildcard": str, "match_only_text": str}
    line = json.loads(_line(Ended(0.0, 0.1, "r-1", "POST", "/v1/answers", 503, "lantern", "sub_1", 7)))

    fields = template["mappings"]["properties"]
    assert set(line) == set(fields)
    assert [name for name, value in line.items() if type(value) is not kinds[fields[name]["type"]]] == []
    assert line["log.level"] == "error"
    ((fields,),) = [each.values() for each in settings["processors"]]
    assert fields["fields"] == ["event.id"]  # no caller can give two lines the same, and so hide one
    (shipped,) = settings["filebeat.inputs"]
    assert shipped["paths"] == ["${RECORDS_FOLDER}/requests.jsonl*"]
    assert template["lifecycle"]["data_retention"] == f"{DeploymentConfig().retention_days}d"
