from __future__ import annotations

import contextlib
import re

import dspy
import nbformat
import pytest
from dspy.utils import DummyLM
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from traitlets.config import Config

from course_lib import lm
from course_lib.labs.usage_meter import Meter, NoNotebookError, Reading

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
    """A notebook's shell, with `ask`, `meter`, `lm` and `dspy` in it."""
    config = Config()
    config.HistoryManager.enabled = False
    made = InteractiveShell.instance(config=config)
    made.push({"ask": ask, "meter": meter, "lm": lm, "dspy": dspy})
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


def test_a_block_counts_calls_cache_hits_tokens_and_cost_and_blocks_nest(ask, meter, capsys):
    lm.reset()
    with meter() as outer:
        ask(question="What is the capital of Peru?")
        with meter(is_quiet=True) as inner:
            ask(question="What is the capital of Peru?")

    ledger = lm.ledger()
    assert (outer.calls, outer.cached, outer.failed) == (2, 1, 0)
    assert (inner.calls, inner.cached) == (1, 1)
    assert outer.tokens == ledger.prompt_tokens + ledger.completion_tokens
    assert outer.cost_usd == pytest.approx(ledger.cost_usd)
    assert LINE.match(capsys.readouterr().out)


def test_calls_in_threads_are_counted(ask, meter):
    pairs = [(ask, {"question": f"How much is {n} + {n}?"}) for n in range(12)]
    with meter(is_quiet=True) as reading:
        for _ in range(2):
            dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)

    assert (reading.calls, reading.cached) == (24, 12)


def test_a_reset_within_the_block_loses_only_what_was_before_it(ask, meter):
    with meter(is_quiet=True) as reading:
        ask(question="Before?")
        lm.reset()
        ask(question="After one?")
        ask(question="After two?")

    assert reading.calls == 2
    with meter(is_quiet=True) as reading:
        ask(question="Later?")
    assert reading.calls == 1


def test_a_dummy_is_not_the_model_and_a_block_that_raises_is_still_read(meter, capsys):
    with contextlib.suppress(ZeroDivisionError), meter(), dspy.context(lm=DummyLM([{"answer": "a"}])):
        dspy.Predict("question -> answer")(question="Who?")
        raise ZeroDivisionError

    assert capsys.readouterr().out.startswith("0 calls ")


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
    with pytest.raises(NoNotebookError, match="with meter"):
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
