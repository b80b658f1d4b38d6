"""The whole stack: one command starts it, any part may be killed, and nothing of it is left.

One stack serves all tests of this file, since starting it takes some ten seconds.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial

import httpx
import psutil
import pytest

from course_lib import lm
from course_lib.deployment import RolloutError, observing
from course_lib.deployment.callers import make_token
from course_lib.deployment.config import DeploymentConfig
from course_lib.deployment.stack import Process, Stack, StackError, running_stack
from course_lib.paths import ROOT
from course_lib.services import running_alertmanager, running_prometheus, running_queue
from tests.deployment.oncall import receiver, routes_to
from tests.deployment.working import needs_rabbitmq
from tests.services.installed import need_prometheus
from tests.services.processes import running

TEXTS = ["What does shipping cost?", "How long is the warranty on a tent?"]
SHIPPING = "Standard shipping"


QUEUES = ["nats", pytest.param("rabbitmq", marks=[pytest.mark.soak, needs_rabbitmq])]


@pytest.fixture(scope="module", params=QUEUES)
def stack(request) -> Iterator[Stack]:
    lm.profile("weather")  # as without; a test may set faults
    options = {"model": "sim-large@weather", "max_waiting_jobs": 1_000}
    with running_stack(queue=request.param, **options) as running:
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, headers=stack.headers, timeout=30) as opened:
        yield opened


def until(holds, within_s: float = 30.0) -> None:
    give_up_at = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up_at, f"not so within {within_s} s"
        time.sleep(0.05)


def is_done(client: httpx.Client, place: str) -> bool:
    return client.get(place).json()["status"] == "done"


def is_whole(client: httpx.Client) -> bool:
    told = client.get("/health/ready")
    return told.status_code == 200 and told.json()["status"] == "ok"


def is_whole_alone(url: str) -> bool:
    return httpx.get(f"{url}/health/ready").json()["status"] == "ok"


def test_what_a_version_answered_is_seen_over_a_restart_of_its_replica(stack, client):
    observe = observing(stack, "answer")
    before = observe("1").requests
    for number in range(3):
        client.post("/v1/answers", json={"question": f"How long is the warranty, number {number}?"})
    seen = observe("1")
    stack.kill("replica-2")
    lost = observe("1")
    stack.start("replica-2")
    found = observe("1")

    assert seen.requests - before == 3
    assert lost == seen  # unknown is not failed
    assert found.requests == seen.requests
    client.get("/v1/answers").raise_for_status()
    assert observe("1").requests == seen.requests  # who reads the history has asked no program
    with pytest.raises(RolloutError, match="no bucket"):
        observing(stack, "answer", slow_s=0.3)("1")


def test_a_replica_is_started_again_while_a_part_is_away_and_is_whole_when_that_is_back(stack):
    stack.kill("database")
    stack.kill("replica-2")
    stack.start("replica-2")  # it answers, and says that it is not ready

    assert httpx.get(f"{stack.replicas[1]}/health/ready").json()["status"] != "ok"
    stack.start("database")
    until(lambda: is_whole_alone(stack.replicas[1]))


def test_it_answers_through_the_gateway_and_does_jobs(client):
    answer = client.post("/v1/answers", json={"question": "What does shipping cost?"})
    job = client.post("/v1/jobs", json={"program": "answer", "inputs": TEXTS})
    place = job.headers["location"]
    until(lambda: is_done(client, place))

    assert answer.json()["answer"].startswith(SHIPPING)
    results = client.get(place).json()["results"]
    assert [each["index"] for each in results] == [0, 1]
    assert results[0]["answer"] == answer.json()["answer"]


def test_a_part_whose_port_is_taken_says_so():
    replica = Process("replica-2", DeploymentConfig(), listens=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        replica.port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"replica-2 cannot be started on port {replica.port}"):
            replica.start()
    with pytest.raises(StackError, match="replica-2 does not answer"):
        replica.wait()


def test_a_stack_of_no_version_is_refused_at_once():
    with pytest.raises(StackError, match="versions is"), running_stack(versions=()):
        pass


def test_it_shows_addresses_and_no_secret_but_the_demo_key(stack):
    shown = str(stack)

    assert stack.url in shown
    for secret in (stack.config.signing_key, stack.config.jwt_secret, stack.config.queue_url):
        assert secret.get_secret_value() not in shown
    with pytest.raises(StackError, match="the parts are: redis"):
        stack.kill("rabbit")


# Six seconds: Prometheus looks for its targets after five.
def test_a_model_that_fails_is_told_within_two_evaluations_and_nothing_else_is(stack, client, tmp_path):
    need_prometheus()
    token = make_token(stack.config, "lantern", ["operate"])
    rules = ROOT / "deploy/prometheus/rules/desk.yml"
    with (
        receiver() as (address, told),
        running_alertmanager(routes_to(address, tmp_path)) as alertmanager,
        running_prometheus(
            {"desk": stack.replicas}, token=token, rules=rules, alertmanager=alertmanager.url
        ) as prometheus,
    ):

        def ask(question: str) -> dict:
            return client.post("/v1/answers", json={"question": question}).json()

        answered = 'service_requests_total{route="/v1/answers",status="200"}'
        until(lambda: ask("What does shipping cost?") and len(prometheus.query(answered)) == 2)
        begun_s, number = time.time(), 0
        for _ in range(600):  # so that few failures burn no budget
            assert "answer" in ask("What does shipping cost?")
        lm.profile("weather", error_rate=1.0)
        while all(map(is_whole_alone, stack.replicas)):  # until a breaker is open
            assert ask(f"Is {number} a number?")["code"] == "model_down"
            number += 1
        until(lambda: told)

        (alert,) = [each for each in prometheus.alerts() if each["state"] == "firing"]
        ((_, samples),) = prometheus.query_range(
            "max(dspy_breaker_open) > 0", begun_s, time.time(), step_s=0.1
        )
        active_s = datetime.fromisoformat(alert["activeAt"][:23] + "+00:00").timestamp()
        assert active_s - samples[0][0] < 2.0
        lm.profile("weather")
        until(
            lambda: (
                "answer" in ask(f"Is it cured? {time.time()}")
                and not prometheus.query("dspy_breaker_open > 0")
            )
        )
        until(lambda: len(told) == 2)
        assert told == [("/desk/pages", "ModelUnavailable", state) for state in ("firing", "resolved")]


def stream(client: httpx.Client, asked: dict) -> str:
    return client.post("/v1/answers/stream", json=asked).text


def records(stack: Stack) -> dict[str, str]:
    return {path.name: path.read_text() for path in stack.config.records_folder.iterdir()}


def test_a_customer_is_erased_from_the_files_of_all_processes_and_nobody_else_is(stack, client):
    asked = {"question": "What does shipping cost? I am anna@example.com"}
    for who in ("anna-0815", "bert-4711"):
        for url in stack.replicas:  # each replica, whatever the gateway chooses
            with httpx.Client(base_url=url, headers=stack.headers, timeout=30) as one:
                answer = one.post("/v1/answers", json={**asked, "customer": who}).json()
                assert "event: final" in stream(one, {**asked, "customer": who})
        job = {"program": "answer", "inputs": [f"{asked['question']}, {who}"], "customer": who}
        place = client.post("/v1/jobs", json=job).headers["location"]
        until(lambda place=place: is_done(client, place))
        given = {"answer_id": answer["id"], "score": 5, "comment": "anna@example.com"}
        until(lambda given=given: client.post("/v1/feedback", json=given).status_code == 201)

    def subjects() -> list[str]:
        """Return the pseudonyms of both, once each process has written of them."""
        lines = [json.loads(line) for line in records(stack).get("requests.jsonl", "").splitlines()]
        found = [line["user.id"] for line in lines if "user.id" in line]
        jobs = [
            line
            for line in records(stack)["spans.jsonl"].splitlines()
            if "job input" in line and "user.id" in line
        ]
        return [*dict.fromkeys(found)] if len(found) == 10 and len(jobs) == 2 else []

    until(subjects)
    anna, bert = subjects()
    before = records(stack)
    lines = [json.loads(line) for line in before["requests.jsonl"].splitlines()]
    assert len({line["process.pid"] for line in lines if line.get("user.id") == anna}) == 2
    held = client.get("/v1/customers/anna-0815/export").json()["held"]
    assert len(held["logs"]) == 5
    assert {"job input", "POST /v1/answers", "POST /v1/answers/stream"} <= {
        span["name"] for span in held["traces"]
    }
    for word in ("anna-0815", "bert-4711", "anna@", "shipping cost"):
        assert word not in "".join(before.values())

    erased = client.delete("/v1/customers/anna-0815").json()["held"]

    assert erased["logs"] == 5
    assert erased["traces"] >= 5
    after = records(stack)
    for name, text in before.items():
        assert anna not in after[name]
        theirs = [line for line in text.splitlines() if bert in line]
        assert theirs
        assert [line for line in after[name].splitlines() if bert in line] == theirs


@contextmanager
def load(stack: Stack) -> Iterator[Counter]:
    """Ask and queue without a pause; count what came back, and what was wrong in it."""
    seen, stop = Counter(), threading.Event()
    jobs: list[str] = []

    def ask(number: int) -> None:
        with httpx.Client(base_url=stack.url, headers=stack.headers, timeout=30) as client:
            while not stop.is_set():
                seen["asked"] += 1
                customer = f"c{number}.{seen['asked']}"  # of their own, so that a program answers each
                reply = client.post("/v1/answers", json={"question": TEXTS[0], "customer": customer})
                seen[f"answer {reply.status_code}"] += 1
                told = reply.json()
                if reply.status_code == 200 and not told["answer"].startswith(SHIPPING):
                    seen["wrong"] += 1
                elif reply.status_code != 200 and not told.get("code"):
                    seen["unclear"] += 1
                queued = client.post("/v1/jobs", json={"program": "triage", "inputs": TEXTS[:1]})
                seen[f"job {queued.status_code}"] += 1
                if queued.status_code == 202:
                    jobs.append(queued.headers["location"])
                elif queued.json()["code"] != "dependency":
                    seen["unclear"] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    with httpx.Client(base_url=stack.url, headers=stack.headers, timeout=30) as client:
        for place in jobs:  # what was accepted is done
            until(lambda place=place: is_done(client, place), within_s=60)
        seen["jobs done"] = len(jobs)


@pytest.mark.parametrize("name", ["redis", "database", "queue"])
def test_a_part_that_is_killed_under_load_loses_nothing_and_comes_back(stack, client, name):
    # Killing, starting again and the load take some seconds each.
    with load(stack) as seen:
        until(lambda: seen["job 202"] >= 5)
        stack.kill(name)
        before = seen["answer 200"]
        until(lambda: seen["answer 200"] >= before + 5)  # answers go on without it
        stack.start(name)
        until(lambda: is_whole(client))
        queued = seen["job 202"]
        until(lambda: seen["job 202"] >= queued + 5)

    assert seen["wrong"] == seen["unclear"] == 0, seen
    assert {key for key in seen if key.startswith("answer")} == {"answer 200"}, seen
    assert {key for key in seen if key.startswith("job 5")} <= {"job 503"}, seen
    assert seen["jobs done"] == seen["job 202"]
    assert client.post("/v1/audit/verify").json()["status"] == "verified"


def test_a_replica_that_is_told_to_end_answers_what_it_has_and_ends_by_itself(stack, client):
    with load(stack) as seen:
        until(lambda: seen["answer 200"] >= 5)
        stack.stop("replica-1")  # it says so for two and a half seconds first
        before = seen["answer 200"]
        until(lambda: seen["answer 200"] >= before + 5)

    assert stack.parts["replica-1"].code == -signal.SIGTERM
    assert {key for key in seen if key.startswith("answer")} == {"answer 200"}, seen


def test_a_worker_that_is_told_to_end_does_so_by_itself(stack, client):
    job = client.post("/v1/jobs", json={"program": "triage", "inputs": ["The stove leaks gas!"]})
    until(lambda: is_done(client, job.headers["location"]))
    stack.stop("worker")

    assert stack.parts["worker"].code == 0


WORDS = {"killed": signal.SIGKILL, "Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}


@pytest.mark.parametrize("name", WORDS)
def test_nothing_is_left_of_the_command_however_it_ends(name):
    # It starts a stack of its own: once all of it, then with less, since each process takes two seconds.
    number, with_all = WORDS[name], name == "killed"
    command = [sys.executable, "-m", "course_lib.cli", "serve", *([] if with_all else ["--replicas", "1"])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if not with_all:
        environment["AMQP_URL"] = running_queue(kind="nats").url
    with running(
        command,
        stdout=subprocess.PIPE,
        env=environment,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell may have it ignored
    ) as serving:
        assert serving.stdout
        line = serving.stdout.readline()
        assert "answers on http://127.0.0.1:" in line
        started = psutil.Process(serving.pid).children(recursive=True)
        for each in started if with_all and sys.platform == "linux" else ():
            if "course_lib" in str(each.cmdline()):  # ours: also who is paused ends with the command
                each.suspend()
        serving.send_signal(number)
        _, alive = psutil.wait_procs(started, timeout=10)

        assert len(started) >= (8 if with_all else 6)
        assert not alive
        assert serving.wait(10) == (0 if number != signal.SIGKILL else -number)
