from __future__ import annotations

import re

import dspy
import nbformat
import pytest
from dspy.utils import DummyLM
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from traitlets.config import Config

from course_lib import lm
from course_lib.errors import CourseError
from course_lib.labs.usage_meter import Meter, Reading

LINE = re.compile(r"^[\d,]+ calls?( \([\w ,]+\))? · [\d,]+ tokens? · \$[\d.]+ · [\d.]+ s$", re.MULTILINE)


@pytest.fixture(scope="module", autouse=True)
def _endpoint():
    yield
    lm.stop()


@pytest.fixture
def ask():
    """A program on a model of its own, whose cache is empty."""
    before = dspy.settings.copy()
    dspy.configure(lm=lm.connect(), callbacks=[])
    dspy.configure_cache(enable_disk_cache=False)
    yield dspy.Predict("question -> answer")
    dspy.configure(lm=before["lm"], callbacks=before["callbacks"])
    dspy.configure_cache()


@pytest.fixture
def meter():
    made = Meter()
    yield made
    made.off()


@pytest.fixture
def shell(ask, meter):
    """A notebook's shell, with `ask`, `meter`, `lm`, `dspy` and `DummyLM` in it."""
    config = Config()
    config.HistoryManager.enabled = False
    made = InteractiveShell.instance(config=config)
    made.push({"ask": ask, "meter": meter, "lm": lm, "dspy": dspy, "DummyLM": DummyLM})
    yield made
    meter.off()
    InteractiveShell.clear_instance()


def _run(shell, code: str, capsys) -> str:
    capsys.readouterr()
    shell.run_cell(code)
    return capsys.readouterr().out


LINES = {
    "2 calls (1 cached) · 412 tokens · $0.0003 · 0.21 s": Reading(2, 1, 0, 412, 0.0003, 0.21),
    "1 call · 1 token · $0 · 0.00 s": Reading(1, 0, 0, 1, 0.0, 0.001),
    "1,250 calls (3 cached, 40 failed) · 9 tokens · $1.50 · 12.30 s": Reading(1250, 3, 40, 9, 1.5, 12.3),
    "1 call · 9 tokens · $0.000012 · 0.10 s": Reading(1, 0, 0, 9, 0.0000123, 0.1),
}


@pytest.mark.parametrize("line", LINES)
def test_the_line_reads_plainly(line):
    assert str(LINES[line]) == line


def test_a_line_tells_calls_cache_hits_tokens_and_cost_of_the_ledger(shell, capsys):
    _run(shell, "lm.reset(); meter.on()", capsys)
    line = _run(shell, "for _ in range(2): ask(question='What is the capital of Peru?')", capsys)

    ledger = lm.ledger()
    tokens = ledger.prompt_tokens + ledger.completion_tokens
    assert line.startswith(str(Reading(2, 1, 0, tokens, ledger.cost_usd)).rpartition(" · ")[0])


CELLS = {
    "threads": (
        "pairs = [(ask, {'question': f'How much is {n} + {n}?'}) for n in range(12)]\n"
        "for _ in range(2): dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)",
        "24 calls (12 cached) ",
    ),
    "a reset loses only what was before it": (
        "ask(question='Before?'); lm.reset(); ask(question='After one?'); _ = ask(question='After two?')",
        "2 calls ",
    ),
    "a cell that raises": ("ask(question='Raises?')\n1 / 0", "1 call "),
}


@pytest.mark.parametrize(("cell", "counted"), CELLS.values(), ids=CELLS.keys())
def test_calls_are_counted_wherever_they_run(shell, capsys, cell, counted):
    _run(shell, "meter.on()", capsys)

    (line,) = LINE.finditer(_run(shell, cell, capsys))
    assert line[0].startswith(counted)
    assert _run(shell, "_ = ask(question='Later?')", capsys).startswith("1 call ")


def test_a_dummy_is_not_the_model(shell, capsys):
    _run(shell, "meter.on(); dummy = dspy.context(lm=DummyLM([{'answer': 'a'}]))", capsys)

    assert _run(shell, "with dummy: _ = ask(question='Who?')", capsys) == ""


def test_a_cell_that_used_the_model_gets_one_line_and_others_get_none(shell, ask, capsys):
    assert _run(shell, "meter.on(); meter.on()", capsys) == ""
    line = _run(shell, "ask(question='Which cell?'); await ask.acall(question='Which other?')", capsys)
    assert len(LINE.findall(line)) == 1
    assert "(1 cached) · 0 tokens · $0 ·" in _run(shell, "_ = ask(question='Which cell?')", capsys)

    ask(question="From a button, between two cells?")
    assert _run(shell, "x = 1", capsys) == ""
    assert _run(shell, "_ = ask(question='From a cell?')", capsys).startswith("1 call ")
    assert _run(shell, "meter.off(); _ = ask(question='Off?')", capsys) == ""


def test_a_stopped_endpoint_is_not_started_by_the_meter(shell, capsys):
    _run(shell, "meter.on(); lm.stop()", capsys)

    assert _run(shell, "x = 1", capsys) == ""
    assert not lm.process.is_up()


def test_outside_a_notebook_it_says_what_to_use(meter):
    with pytest.raises(CourseError, match=r"lm\.ledger"):
        meter.on()


# A kernel needs over two seconds to start; nothing else shows what happens before DSPy is imported.
def test_in_a_real_kernel_failures_alone_get_their_line(tmp_path):
    cells = [
        "from course_lib import lm\nfrom course_lib.labs import meter\nmeter.on()\n"
        "import dspy\ndspy.configure(lm=lm.connect(cache=False))\nask = dspy.Predict('question -> answer')",
        "_ = ask(question='Kernel?')",
        "lm.profile('down', error_rate=1.0)\ndspy.configure(lm=lm.connect('sim@down', num_retries=1))\n"
        "try:\n    ask(question='Down?')\nexcept dspy.LMError:\n    pass",
        "_ = dspy.Parallel(num_threads=3, disable_progress_bar=True)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()

    printed = ["".join(each.get("text", "") for each in cell.outputs) for cell in notebook.cells]
    assert [line.split(" ·")[0] for line in printed] == ["", "1 call", "2 calls (2 failed)", ""]
