"""Each program of the bug hunt fails its check, every right repair passes, and a wrong one fails."""

# ruff: noqa: E501  an edit is one line, as long as it is

from __future__ import annotations

import inspect
import types
from importlib import import_module
from typing import Any

import dspy
import pytest

from course_lib import desk, lm
from course_lib.exercises.debugging import hunt
from course_lib.exercises.debugging.hunting import PROGRAMS, faulty, judge
from course_lib.exercises.engine import checking, registry
from course_lib.exercises.engine.checks import CheckFailed

Edit = list[tuple[str, str]]


def edited(name: str, edits: Edit) -> Any:
    """Return the program with its source changed, as somebody who repairs it in a cell would."""
    source = inspect.getsource(import_module(f"{hunt.__name__}.{name}"))
    for old, new in edits:
        assert old in source
        source = source.replace(old, new)
    module = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
    return getattr(module, PROGRAMS[name][0])


def test_the_hunt_has_eight_programs_which_the_folder_names() -> None:
    assert len(PROGRAMS) == 8
    for name, (thing, _) in PROGRAMS.items():
        assert f"| {name} | {thing} |" in hunt.__doc__
        assert faulty(name).__doc__


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_as_it_is_fails_its_check(name: str) -> None:
    with pytest.raises(CheckFailed):
        judge(name, faulty(name))


LOOP = inspect.getsource(faulty("paybacks")).split('"""')[2]
AGAIN = """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return str(write(order_id=order_id, amount_eur=amount_eur, reason=reason).message)
        except dspy.LMError:
            if attempt == ATTEMPTS:
                raise
"""
ONCE = """            if attempt == 1:
                pay(order_id, amount_eur)
"""
RIGHT: dict[str, list[Edit]] = {
    "help_line": [
        [("cited in found.context for", "cited in found.articles for")],
        [("if any(cited in found.context for cited in reply.citations)", "if {*reply.citations} & {*found.articles}")],
    ],
    "few_shots": [
        [("_mixed(rows, seed + 1)[demos:]", "_mixed(_mixed(rows, seed)[demos:], seed + 1)")],
        [
            (
                "    held_out = _mixed(rows, seed + 1)[demos:]",
                "    used = {row.id for row in program.sort.demos}\n"
                "    held_out = [row for row in _mixed(rows, seed + 1) if row.id not in used]",
            )
        ],
    ],
    "inbox": [
        [
            ("def greeting(self) -> str", "def greeting(self, customer_id) -> str"),
            ("[self.customer_id]", "[customer_id]"),
            ("        self.customer_id = customer_id\n", ""),
            ("self.greeting()", "self.greeting(customer_id)"),
        ],
        [("return dspy.Prediction(category=category, reply", "self.customer_id = customer_id\n        return dspy.Prediction(category=category, reply")],
    ],
    "order_board": [
        [("self._kept.pop(order_id, None)", "self._kept.pop(order_id.strip().upper(), None)")],
        [("self._kept.pop(order_id, None)", "self._kept.pop(paid['order_id'], None)")],
    ],
    "parcel_watch": [
        [("number: number of the order, such as O-10001", "number: tracking number of the parcel, such as NP400213517")],
        [
            ("def track_parcel(number: str)", "def track_parcel(tracking_number: str)"),
            ("number: number of the order, such as O-10001", "tracking_number: number of the parcel, such as NP400213517"),
            ("session.track_parcel(number)", "session.track_parcel(tracking_number)"),
        ],
        [("number: number of the order, such as O-10001", "number: the parcel's tracking number")],
    ],
    "replies": [[(", max_tokens=32", "")], [("max_tokens=32", "max_tokens=2000")]],
    "paybacks": [
        [(LOOP, f"\n    pay(order_id, amount_eur){AGAIN}    raise AssertionError\n")],
    ],
    "scorecard": [
        [('example.get("label", category)', "example.category")],
        [('example.get("label", category)', 'example["category"]')],
    ],
}  # fmt: skip
WRONG: dict[str, list[Edit]] = {
    "help_line": [
        [("if any(cited in found.context for cited in reply.citations)", "if True")],
        [("if any(cited in found.context for cited in reply.citations)", "if reply.answer")],
        [("with dspy.context(lm=self.small)", "with dspy.context(lm=self.large)")],
        [("cited in found.context for", "cited in ' '.join(found.context) for")],
        [("if any(cited in found.context for cited in reply.citations)", "if reply.citations and reply.citations[0] in found.articles")],
    ],
    "few_shots": [
        [("_mixed(rows, seed + 1)[demos:]", "_mixed(rows, seed)[demos + 1:]")],
        [("program.sort.demos = _mixed(rows, seed)[:demos]", "program.sort.demos = []")],
        [("_mixed(rows, seed + 1)[demos:]", "[row for row in rows if row not in program.sort.demos]")],
        [("random.Random(seed).sample", "random.sample"), ("_mixed(rows, seed + 1)[demos:]", "[row for row in _mixed(rows, seed) if row not in program.sort.demos]")],
    ],
    "inbox": [
        [("        self.customer_id = customer_id\n", "        self.customer_id = customer_id\n        import asyncio; await asyncio.sleep(0)\n")],
        [('f"{self.greeting()}\\n\\n{answer}"', 'f"Dear customer,\\n\\n{answer}"')],
        [
            ("super().__init__()", "super().__init__()\n        import asyncio; self.one = asyncio.Lock()"),
            ("async def aforward(", "async def aforward(self, **given):\n        async with self.one:\n            return await self.one_by_one(**given)\n\n    async def one_by_one("),
        ],
    ],
    "order_board": [
        [("if key not in self._kept:", "if True:")],
        [("self._kept.pop(order_id, None)", "self._kept.clear()")],
        [("paid = self.session.refund(", "self._kept.pop(order_id.strip().upper(), None)\n        paid = self.session.refund(")],
        [("self._kept.pop(order_id, None)", "self._kept.pop(order_id.strip(), None)")],
    ],
    "parcel_watch": [
        [("number: number of the order, such as O-10001", "number: number of the order, such as O-10178")],
        [("tools=[look_up_order, track_parcel]", "tools=[look_up_order]")],
    ],
    "replies": [
        [("max_tokens=32", "max_tokens=48")],
        [("return self.reply(context=context, question=question)", 'return dspy.Prediction(answer="See our help centre.")')],
    ],
    "paybacks": [
        [("            pay(order_id, amount_eur)\n", "")],
        [("            pay(order_id, amount_eur)\n", ONCE)],
        [("ATTEMPTS = 3", "ATTEMPTS = 1")],
        [("            if attempt == ATTEMPTS:\n                raise", '            return "Your money is on its way."')],
        [
            ("            pay(order_id, amount_eur)\n", ""),
            ("            return str(", "            said = str("),
            (".message)", ".message)\n            pay(order_id, amount_eur)\n            return said"),
        ],
    ],
    "scorecard": [
        [("return category == wanted", "return False")],
        [('str(example.get("label", category)).strip().casefold()', "example.category"), ("str(pred.category).strip().casefold()", "pred.category")],
        [
            ('example.get("label", category)', "example.category"),
            ("    right = sum(", "    from contextlib import suppress\n    found = []\n    for row in rows:\n        with suppress(Exception):\n            found.append("),
            (" for row in rows)\n    return right / len(rows)", ")\n    return sum(found) / len(found)"),
        ],
        [("right / len(rows)", "right"), ('example.get("label", category)', "example.category")],
    ],
}  # fmt: skip


def cases(table: dict[str, list[Edit]]) -> list[Any]:
    return [
        pytest.param(name, edit, id=f"{name} {at}")
        for name in table
        for at, edit in enumerate(table[name], 1)
    ]


@pytest.mark.parametrize(("name", "edits"), cases(RIGHT))
def test_a_right_repair_passes(name: str, edits: Edit) -> None:
    for _ in range(3):  # the checks draw what they try
        judge(name, edited(name, edits))


@pytest.mark.parametrize(("name", "edits"), cases(WRONG))
def test_a_wrong_repair_fails(name: str, edits: Edit) -> None:
    with pytest.raises((CheckFailed, TypeError)):
        judge(name, edited(name, edits))


def test_a_faulty_program_runs_without_an_error_as_it_would_in_front_of_a_learner() -> None:
    with dspy.context(lm=lm.connect("sim-large")):
        question = "How long is the warranty on a tent?"
        assert faulty("help_line")(lm.connect("sim-small"), lm.connect("sim-large"))(question=question).answer
        assert faulty("replies")()(question=question).answer
        assert faulty("scorecard")(desk.Triage(), desk.examples("dev")[:3]) == 1


def test_the_card_says_how_many_are_repaired_and_what_is_seen_of_the_others() -> None:
    exercise, programs = registry.get("4.5"), [faulty(name) for name in PROGRAMS]

    assert checking.judge(exercise, list(programs)).outcome == "not attempted"

    programs[-1], programs[-2] = edited("scorecard", RIGHT["scorecard"][0]), None
    programs[1] = edited("few_shots", WRONG["few_shots"][0])
    result = checking.judge(exercise, programs)

    assert result.outcome == "failed"
    assert "1 of 8 are repaired: score" in result.text
    assert "prepare: rows that are a demo" in result.text or "prepare: demos and rows left" in result.text
    assert "Inbox: as it was given" in result.text
