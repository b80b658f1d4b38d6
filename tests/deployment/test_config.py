"""A bad deployment does not start, all that is wrong is told at once, and no secret is told at all."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
import traceback

import pytest

from course_lib.deployment import ConfigError, DeploymentConfig, make_key
from course_lib.deployment.config import variable
from tests.deployment.settings import JWT_SECRET, PASSWORD, PRODUCTION, SIGNING_KEY

SECRETS = (JWT_SECRET, SIGNING_KEY, PASSWORD)


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch):
    for name in [variable(field) for field in DeploymentConfig.model_fields]:
        monkeypatch.delenv(name, raising=False)


def problems(**values):
    with pytest.raises(ConfigError) as caught:
        DeploymentConfig(**values)
    return list(caught.value.problems)


def digest(key):
    return {"name": "a", "tenant": "t", "roles": ["ask"], "sha256": hashlib.sha256(key.encode()).hexdigest()}


def test_development_needs_nothing_and_production_shows_nothing():
    development, production = DeploymentConfig(), DeploymentConfig(**PRODUCTION)

    assert (development.profile, development.host, development.docs) == ("development", "127.0.0.1", True)
    assert (production.docs, production.trace_content, production.cors_origins) == (False, False, ())
    assert production.requests_per_minute < development.requests_per_minute
    shares = [
        DeploymentConfig(**{**PRODUCTION, "profile": name}).trace_share for name in ("staging", "production")
    ]
    assert (development.trace_share, shares) == (1.0, [0.1, 0.1])


def test_the_environment_is_read_and_can_be_handed_on(monkeypatch):
    _, entry = make_key("web", "lantern", ["ask"])
    first = DeploymentConfig(**PRODUCTION, programs="answer", api_keys=[entry], deadline_s=2)
    for name, value in first.environment().items():
        monkeypatch.setenv(name, value)

    assert DeploymentConfig() == first
    assert DeploymentConfig().programs == ("answer",)


def test_a_file_of_secrets_that_cannot_be_read_is_named_and_nothing_of_it_is_told(tmp_path):
    (tmp_path / "COURSE_SERVICE_SIGNING_KEY").write_bytes(SIGNING_KEY.encode() + b"\xff")
    (tmp_path / "COURSE_SERVICE_JWT_SECRET").write_text(f"\ufeff{JWT_SECRET}", "utf-8")
    (tmp_path / "REDIS_URL").symlink_to("nothing")
    (tmp_path / "another").write_bytes(b"\xff")  # no setting, so nobody's business

    marked, signing, link = problems(_secrets_dir=tmp_path)

    assert re.search(r"JWT_SECRET begins with a byte order mark", marked)
    assert re.search(r"SIGNING_KEY is no text in UTF-8", signing)
    assert re.search(r"REDIS_URL cannot be read \(No such file", link)
    assert not any(secret in marked + signing + link for secret in SECRETS)


BAD = {
    "secret missing": ({"jwt_secret": None}, "jwt_secret", "missing"),
    "signing key missing": ({"signing_key": None}, "signing_key", "missing"),
    "secret short": ({"jwt_secret": "a8Gk2"}, "jwt_secret", "5 characters"),
    "secret of one word": ({"jwt_secret": "passphrase" * 4}, "jwt_secret", "repeats"),
    "secret a default": ({"signing_key": "changeme-" + JWT_SECRET}, "signing_key", "default"),
    "one secret for both": ({"signing_key": JWT_SECRET}, "signing_key", "same as jwt_secret"),
    "key a default": ({"api_keys": [digest("secret")]}, "api_keys", "default password"),
    "no database": ({"database_url": None}, "database_url", "missing"),
    "any origin": ({"cors_origins": "*"}, "cors_origins", "https"),
    "any subdomain": ({"cors_origins": "https://*.example"}, "cors_origins", "https"),
    "documents": ({"docs": True}, "docs", "false"),
    "content in traces": ({"trace_content": True}, "trace_content", "false"),
    "redis in plain text": ({"redis_url": f"redis://:{PASSWORD}@h/0"}, "redis_url", "rediss://"),
    "redis unchecked": (
        {"redis_url": f"rediss://:{PASSWORD}@h/0?ssl_cert_reqs=none"},
        "redis_url",
        "certificate",
    ),
    "redis of any name": (
        {"redis_url": f"rediss://:{PASSWORD}@h/0?ssl_check_hostname=false"},
        "redis_url",
        "certificate and name",
    ),
    "database unchecked": (
        {"database_url": f"postgresql://u:{PASSWORD}@h/d?sslmode=require"},
        "database_url",
        "verify-full",
    ),
    "database of any name": (
        {"database_url": f"postgresql://u:{PASSWORD}@h/d?sslmode=verify-ca"},
        "database_url",
        "certificate and name",
    ),
    "queue unchecked": (
        {"queue_url": f"amqps://u:{PASSWORD}@h/?no_verify_ssl=1"},
        "queue_url",
        "certificate and name",
    ),
    "queue in a list": ({"queue_url": f"tls://h:1,nats://u:{PASSWORD}@g:2"}, "queue_url", "no address"),
    "redis without password": ({"redis_url": "rediss://h/0"}, "redis_url", "no password"),
    "redis unreadable": ({"redis_url": f"http://:{PASSWORD}@h"}, "redis_url", "its form is rediss://"),
    "database in plain text": (
        {"database_url": f"postgresql://u:{PASSWORD}@h/d"},
        "database_url",
        "verify-full",
    ),
    "database without password": (
        {"database_url": "postgresql://u@h/d?sslmode=verify-full"},
        "database_url",
        "no password",
    ),
    "queue in plain text": ({"queue_url": f"nats://u:{PASSWORD}@h"}, "queue_url", "tls://"),
    "queue with a default password": (
        {"queue_url": "amqps://guest:guest@h"},
        "queue_url",
        "default password",
    ),
    "database with a default password": (
        {"database_url": "postgresql://postgres:postgres@h/d?sslmode=verify-full"},
        "database_url",
        "default password",
    ),
    "redis with a default password": ({"redis_url": "rediss://:Redis@h/0"}, "redis_url", "default password"),
    "traces in plain text": ({"otlp_endpoint": "http://collector.example"}, "otlp_endpoint", "https"),
    "a collector's password": (
        {"otlp_endpoint": f"https://u:{PASSWORD}@collector.example"},
        "otlp_endpoint",
        "OTEL_EXPORTER_OTLP_HEADERS",
    ),
    "no origin": ({"cors_origins": "https://[::1"}, "cors_origins", "https"),
    "question larger than body": ({"max_question_chars": 20_000}, "max_question_chars", "max_body_bytes"),
    "gateway gives up first": ({"deadline_s": 31, "drain_s": 40}, "gateway_deadline_s", "deadline_s"),
    "drain cuts off": ({"drain_s": 5}, "drain_s", "deadline_s"),
    "unknown program": ({"programs": "answer,tirage"}, "programs", "answer|triage"),
    "a program twice": ({"programs": "answer,answer"}, "programs", "name each once"),
    "a model of blanks": ({"model": " "}, "model", "match"),
    "a deadline that never comes": ({"deadline_s": 1e300}, "deadline_s", "less than or equal"),
    "a limit that nobody counts to": ({"tokens_per_day": 10**400}, "tokens_per_day", "(COURSE_SERVICE_TOK"),
    "days beyond the calendar": ({"retention_days": 10**12}, "retention_days", "less than or equal"),
    "no program": ({"programs": ""}, "programs", "at least 1"),
    "the same key twice": ({"api_keys": [digest("x9"), {**digest("x9"), "name": "b"}]}, "api_keys", "twice"),
    "the same name twice": ({"api_keys": [digest("x9"), digest("y9")]}, "api_keys", "twice"),
    "no folder": ({"programs_folder": "/nowhere/at/all"}, "programs_folder", "directory"),
    "more than all traces": ({"trace_share": 10}, "trace_share", "less than or equal to 1"),
    "no number": ({"port": PASSWORD}, "port", "integer"),
    "no role": ({"api_keys": [{**digest("x9"), "roles": ["root"]}]}, "api_keys", "ask"),
    "a key in plain text": ({"api_keys": [{**digest("x9"), PASSWORD: PASSWORD}]}, "api_keys", "permitted"),
    "not JSON": ({"api_keys": PASSWORD}, "api_keys", "refused"),
    "unknown keyword": ({"prot": 1}, "prot", "did you mean port?"),
}


@pytest.mark.parametrize(("change", "field", "words"), BAD.values(), ids=BAD)
def test_a_bad_setting_is_refused_with_field_variable_and_what_to_set(change, field, words):
    (problem,) = problems(**{**PRODUCTION, **change})

    assert problem.startswith(field)
    assert words in problem
    assert field not in DeploymentConfig.model_fields or f"({variable(field)})" in problem


@pytest.mark.parametrize("name", ["COURSE_LM_URL", "OPENAI_API_BASE", "OPENAI_BASE_URL", "GROQ_API_BASE"])
def test_a_model_is_asked_in_plain_text_on_this_machine_alone(name, monkeypatch):
    monkeypatch.setenv(name, "http://127.0.0.1:8000/v1")
    settings = {**PRODUCTION, "model": "groq/llama"}
    assert DeploymentConfig(**settings).model
    monkeypatch.setenv(name, f"http://u:{PASSWORD}@model.example/v1")

    (problem,) = problems(**settings)

    assert problem.startswith(f"model (COURSE_SERVICE_MODEL) is asked at {name}, which goes over the network")
    assert PASSWORD not in problem
    monkeypatch.setenv(name, "https://model.example/v1")
    assert DeploymentConfig(**settings).model


def test_keys_that_are_nested_without_end_are_refused(monkeypatch):
    monkeypatch.setenv("COURSE_SERVICE_API_KEYS", "[" * 100_000)

    (problem,) = problems()

    assert problem.startswith("api_keys (COURSE_SERVICE_API_KEYS) is no JSON list")


def test_development_is_for_this_machine_alone():
    assert "host (COURSE_SERVICE_HOST)" in problems(host="0.0.0.0")[0]
    assert DeploymentConfig(redis_url="redis://far.example/0", cors_origins="*").cors_origins == ("*",)


@pytest.mark.parametrize("url", [f"nonsense:{PASSWORD}", f"postgresql://bob:a@{PASSWORD}@127.0.0.1/x"])
def test_a_database_that_is_no_address_is_refused_in_development_too(url):
    (problem,) = problems(database_url=url)

    assert "database_url (DATABASE_URL) is no address" in problem
    assert PASSWORD not in problem


def test_addresses_on_this_machine_need_no_password():
    here = {
        "redis_url": "unix:///tmp/r/s",
        "database_url": "postgresql://u@/d?host=/tmp/p",
        "queue_url": "amqp://127.0.0.1",
    }

    assert DeploymentConfig(**{**PRODUCTION, **here}).redis_url


ELSEWHERE = {
    "PGHOST": "postgresql:///desk",
    "PGHOSTADDR": "postgresql://localhost/desk",
    "PGSERVICE": "postgresql:///desk",
    "PGAPPNAME": "postgresql:///desk?service=prod",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_database_whose_place_its_address_does_not_tell_may_be_on_the_network(name, monkeypatch):
    monkeypatch.setenv(name, "192.0.2.7")

    (problem,) = problems(**{**PRODUCTION, "database_url": ELSEWHERE[name]})

    assert "database_url (DATABASE_URL) goes over the network in plain text" in problem


def test_all_that_is_wrong_is_told_at_once():
    found = problems(profile="production", docs=True, cors_origins="*")

    assert [line.split(" ")[0] for line in found] == [
        *("jwt_secret", "signing_key", "redis_url", "database_url", "queue_url"),
        *("cors_origins", "docs"),
    ]


def test_a_variable_that_nobody_reads_is_told_with_the_nearest_name(monkeypatch):
    monkeypatch.setenv("COURSE_SERVICE_REQUEST_PER_MINUTE", "5")

    assert problems() == [
        "COURSE_SERVICE_REQUEST_PER_MINUTE is no setting; did you mean COURSE_SERVICE_REQUESTS_PER_MINUTE?"
    ]


@pytest.mark.parametrize("change", [{}, {"port": "x"}, {"docs": True}, {"api_keys": f"[{PASSWORD}"}])
def test_no_secret_is_shown_by_settings_errors_and_tracebacks(monkeypatch, caplog, change):
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(variable(name), str(value))
    for name, value in change.items():
        monkeypatch.setenv(variable(name), str(value))

    try:
        config = DeploymentConfig()
        shown = [repr(config), str(config), str(config.shown()), config.model_dump_json()]
        shown.append(str(config.model_dump()))
    except ConfigError as error:
        logging.getLogger().exception("refused")
        shown = [caplog.text, *traceback.format_exception(error), repr(error.__context__)]

    assert not [secret for secret in SECRETS for text in shown if secret in text]


def run_check(**variables):
    names = [variable(field) for field in DeploymentConfig.model_fields]
    kept = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-m", "course_lib.cli", "config", "check"]
    return subprocess.run(command, env={**kept, **variables}, capture_output=True, text=True, check=False)


def test_the_command_prints_the_settings_or_a_line_for_each_problem():
    good, bad = (
        run_check(REDIS_URL=f"redis://:{PASSWORD}@h/0"),
        run_check(COURSE_SERVICE_PROFILE="production"),
    )

    assert (good.returncode, good.stderr) == (0, "")
    assert "redis_url            h/0" in good.stdout
    assert PASSWORD not in good.stdout
    assert (bad.returncode, bad.stdout) == (1, "")
    assert len(bad.stderr.splitlines()) == 5


def test_settings_are_shown_with_the_hosts_of_addresses():
    shown = DeploymentConfig(**PRODUCTION).shown()

    assert (shown["redis_url"], shown["jwt_secret"]) == ("cache.example:6380/0", "set")
    assert (shown["database_url"], shown["api_keys"]) == ("db.example/desk", "none")
