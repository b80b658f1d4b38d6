"""The doctor finds what is wrong and says the remedy; secrets stay out of its report."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from course_lib import doctor as doctors


def test_a_read_only_work_folder_is_found_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    blocker = tmp_path / "file"
    blocker.write_text("a file where a folder should be")
    monkeypatch.setenv("COURSE_WORK", str(blocker / "work"))

    finding = doctors.check_work_folder()

    assert not finding.is_fine
    assert "COURSE_WORK" in finding.remedy


def test_a_damaged_progress_file_is_found(work: Path):
    work.mkdir()
    (work / "progress.sqlite3").write_bytes(b"not a database, but long enough to look like one" * 40)

    finding = doctors.check_progress()

    assert not finding.is_fine
    assert finding.remedy.startswith("mv ")


def test_a_whole_progress_file_is_fine(work: Path):
    work.mkdir()
    sqlite3.connect(work / "progress.sqlite3").execute("create table t (x)").connection.close()

    assert doctors.check_progress().is_fine


def test_a_proxy_in_front_of_loopback_is_found(monkeypatch: pytest.MonkeyPatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://ann:secret@proxy.example.com:3128")

    finding = doctors.check_loopback()

    assert "NO_PROXY=127.0.0.1" in finding.remedy


def test_no_copies_of_the_notebooks_is_found(work: Path):
    finding = doctors.check_notebooks()

    assert "00_start_here.ipynb" in finding.found
    assert "make setup" in finding.remedy


def test_a_hosted_model_without_its_key_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COURSE_LM", "openai/gpt-4o-mini")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    finding = doctors.check_language_model()

    assert not finding.is_fine
    assert "OPENAI_API_KEY" in finding.found


def test_the_report_is_written_without_secrets(work: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("SOME_API_KEY", "very-secret-value-1")
    leak = doctors.Finding("leak", is_fine=False, found="key very-secret-value-1 in ~", remedy="none")
    monkeypatch.setattr(doctors, "CHECKS", (lambda: leak,))

    report = doctors.doctor()

    assert not report.is_fine
    assert "very-secret-value-1" not in (work / "doctor.txt").read_text()
    assert "FIX  leak" in capsys.readouterr().out


def test_a_check_that_breaks_does_not_hide_the_others(work: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    def check_broken() -> doctors.Finding:
        raise RuntimeError("boom")

    monkeypatch.setattr(doctors, "CHECKS", (check_broken, doctors.check_loopback))

    report = doctors.doctor()

    assert [finding.name for finding in report.findings] == ["broken", "loopback"]
    assert "RuntimeError: boom" in capsys.readouterr().out


def test_the_redis_server_of_the_course_is_found():
    finding = doctors.check_redis_server()

    assert finding.is_fine
    assert finding.found.endswith("the course's own")


def test_a_redis_server_that_is_not_there_is_found_without_its_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDIS_URL", "redis://ann:pa55word@127.0.0.1:1/0")

    finding = doctors.check_redis_server()

    assert not finding.is_fine
    assert "pa55word" not in str(finding)
    assert finding.remedy.startswith("unset REDIS_URL")


def test_the_weights_of_the_embeddings_are_the_published_ones():
    assert doctors.check_embeddings().is_fine
