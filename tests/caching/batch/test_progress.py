from __future__ import annotations

import dspy
import pytest

from course_lib.caching import BatchProcessor
from course_lib.caching.batch import progress


def test_nothing_is_shown_in_tests(capsys):
    list(BatchProcessor(str, version="1").run([1, 2, 3]))

    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("variable", ["CI", "PYTEST_CURRENT_TEST"])
def test_nobody_looks_in_ci_and_in_tests(monkeypatch, variable):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for name in ("CI", "PYTEST_CURRENT_TEST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "1")

    assert not progress._is_watched()


@pytest.mark.parametrize(("items", "words"), [([1, 2, 0], "3/3"), ((n for n in (1, 2, 0)), "3item [")])
def test_a_bar_shows_items_failures_and_cost_also_without_a_known_length(monkeypatch, capsys, items, words):
    monkeypatch.setattr(progress, "_is_watched", lambda: True)
    monkeypatch.setattr("tqdm.auto.tqdm.monitor_interval", 0)  # no thread of tqdm's own

    list(BatchProcessor(lambda number: 1 / number).run(items))
    shown = capsys.readouterr().err

    assert words in shown
    assert "0.0000 USD, 1 failed" in shown


def test_the_bar_survives_a_program_that_uses_dspy_parallel(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_is_watched", lambda: True)
    monkeypatch.setattr("tqdm.auto.tqdm.monitor_interval", 0)

    def doubled(number):
        return dspy.Parallel(num_threads=1, disable_progress_bar=True)([(abs, (number,)), (abs, (number,))])

    items = list(BatchProcessor(doubled, concurrency=1).run([1, -2]))

    assert [item.result for item in items] == [[1, 1], [2, 2]]
    assert "2/2" in capsys.readouterr().err
