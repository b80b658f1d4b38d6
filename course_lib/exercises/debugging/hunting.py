"""The bug hunt of exercise 4.5: what each repaired program must do, on data of the check's own.

Main path: EXERCISE -> engine.registry; PROGRAMS["inbox"] -> its object's name and its check; judge(name,
repaired) runs the check.
A check raises CheckFailed; it says what was seen, and not which line is to blame.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from itertools import groupby, islice
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import dspy
from dspy import lm15
from dspy.lm15 import Request, Response

from course_lib import desk, lm
from course_lib.exercises.debugging.spending import CheckEngine, response
from course_lib.exercises.engine.checks import (
    CheckFailed,
    expect,
    expect_equal,
    expect_error,
    run,
    show,
    without_error,
)
from course_lib.exercises.engine.registry import Exercise

KNOWN = (
    "How long is the warranty on a tent?",
    "Can I pay by bank transfer from Germany?",
    "What does the repair of a torn tent cost?",
    "How do I wash my sleeping bag?",
)


class _Citing(CheckEngine):
    """The engine of a model that gives its name as the answer, and cites what it is told to."""

    def __init__(self, name: str, citations: list[str]) -> None:
        self.name, self.asked, self._citations = name, 0, json.dumps(citations)

    def complete(self, request: Request) -> Response:
        """Answer with the fields of desk.Answer."""
        self.asked += 1
        return response(request, f"{self.name}\n\n[[ ## citations ## ]]\n{self._citations}")


def help_line(repaired: Any) -> None:
    """Cited answers of the small model go out as they are; for all others the large model is asked."""
    question = random.choice(KNOWN)
    found = desk.FindArticles()(question=question).articles
    other = next(each.id for each in desk.articles() if each.id not in found)
    cases = [(question, each) for each in ([found[0]], [], [other], [other, found[-1]], [found[0][:-1]])]
    for question, citations in (*cases, ("Qwrtz?", [])):  # for the last one, no article is found
        found = desk.FindArticles()(question=question).articles
        is_cited = not {*found}.isdisjoint(citations)
        small, large = _Citing("of the small model", citations), _Citing("of the large model", found)
        reply = repaired(small.lm("check/small"), large.lm("check/large"))(question=question)
        what = f"where {found} were found and the small model cites {citations}"
        asked, wanted = (small.asked, large.asked), (1, 0 if is_cited else 1)
        expect_equal(asked, wanted, f"requests to the small and to the large model, {what}")
        expect_equal(reply.answer, (small if is_cited else large).name, f"the answer, {what}")


def few_shots(repaired: Any) -> None:
    """No row is both a demo and left over, none is lost, and the same seed gives the same."""
    rows = desk.examples("train") + desk.examples("dev")
    for demos, seed in ((16, 0), (random.randint(5, 30), random.randint(1, 99))):
        picked = random.sample(rows, 60)
        program, held_out = repaired(picked, demos=demos, seed=seed)
        shown, left = {row.id for row in program.sort.demos}, [row.id for row in held_out]
        what = f"with {len(picked)} rows, demos={demos}, seed={seed}"
        expect_equal(len(shown & {*left}), 0, f"rows that are a demo and left over as well, {what}")
        expect_equal((len(shown), len(left)), (demos, len(picked) - demos), f"demos and rows left, {what}")
        expect_equal({*left} | shown, {row.id for row in picked}, f"all rows together, {what}")
        first = {row.id for row in picked[:demos]}
        expect(shown != first, f"demos {what}", observed="the first rows", expected="any rows, mixed")
        for other, is_same in ((seed, True), (seed + 1, False)):
            again = {row.id for row in repaired(picked, demos=demos, seed=other)[0].sort.demos}
            observed, expected = (
                "other ones" if is_same else "the same",
                "the same" if is_same else "other ones",
            )
            with_it = f"demos of {'the same' if is_same else 'another'} seed"
            expect((again == shown) == is_same, with_it, observed=observed, expected=expected)
        order = [row.id for row in picked if row.id in {*left}]
        what, observed, wanted = (
            "the rows that are left",
            "the order in which they came",
            "an order of their own",
        )
        expect(left != order, what, observed=observed, expected=wanted)
        kinds = [kind for kind, _ in groupby(row.category for row in held_out)]
        observed = "all of a category together"
        expect(len(kinds) > len({*kinds}), what, observed=observed, expected="categories mixed")


def inbox(repaired: Any) -> None:
    """Customers are answered at the same time, and each gets a greeting and an answer of their own."""
    customers = random.sample(desk.customers(), 8)
    tickets = 2 * random.sample(desk.tickets("dev"), 4)  # two customers may write the same words
    box, triage, answer = repaired(), desk.Triage(), desk.Answer()

    async def all_at_once() -> list[Any]:
        pairs = zip(customers, tickets, strict=True)
        return await asyncio.gather(*(box.acall(customer_id=c.id, ticket=t.text) for c, t in pairs))

    lm.profile("check-inbox", ttft_p50_ms=40.0, ttft_p99_ms=60.0)
    since = lm.ledger().requests
    with dspy.context(lm=lm.connect("sim-large@check-inbox", cache=False)):
        replies = run(all_at_once())
    most = max((call.at_once for call in lm.ledger(since).calls), default=0)
    what = f"requests under way at once, for {len(customers)} customers at once"
    expect(most > 1, what, observed=most, expected="several: nobody waits for another's answer")
    with dspy.context(lm=lm.connect("sim-large")):
        for customer, ticket, got in zip(customers, tickets, replies, strict=True):
            said = f"Dear {customer.name},\n\n{answer(question=ticket.text).answer}"
            expect_equal(got.reply, said, f"the reply to {customer.name}, of {len(customers)} at once")
            expect_equal(got.category, triage(ticket=ticket.text).category, f"the category of {ticket.id}")


class _Watched(desk.Session):
    """A session that keeps which orders were looked up, and with which numbers the carrier was asked."""

    looked_up: list[str]
    asked: list[str]

    def look_up_order(self, order_id: str) -> dict[str, Any]:
        self.looked_up.append(order_id.strip().upper())
        return super().look_up_order(order_id)

    def track_parcel(self, tracking_number: str) -> dict[str, Any]:
        self.asked.append(tracking_number)
        return super().track_parcel(tracking_number)

    look_up_order.__doc__ = desk.Session.look_up_order.__doc__  # an agent that has them as tools reads it
    track_parcel.__doc__ = desk.Session.track_parcel.__doc__


@contextmanager
def _session(**settings: Any) -> Iterator[_Watched]:
    with tempfile.TemporaryDirectory() as folder:
        session = _Watched(audit=Path(folder) / "audit.jsonl", **settings)
        session.looked_up, session.asked = [], []
        yield session


def order_board(repaired: Any) -> None:
    """After money was paid back the board shows it, and what has not changed is not looked up again."""
    mixed = random.sample([each.id for each in desk.orders()], len(desk.orders()))
    orders = list(islice(filter(_is_refundable, mixed), 3))
    with _session() as session:
        board = repaired(session)
        for order_id, written in zip(orders, (orders[0], f" {orders[1].lower()} ", orders[2]), strict=True):
            before = board.show(written)["refunded_eur"]
            board.show(order_id)
            expect_equal(session.looked_up.count(order_id), 1, f"look-ups of {order_id} that was shown twice")
            board.pay_back(written, 1.0, "a test")
            after = board.show(order_id)["refunded_eur"]
            expect_equal(after, before + 1.0, f"euros paid back for {order_id}, spelled {written!r}")
            board.show(written)
            expect_equal(session.looked_up.count(order_id), 2, f"look-ups of {order_id}, which changed once")
        for order_id in orders:
            refused = partial(board.pay_back, order_id, 1e6, "more than it cost")
            expect_error(desk.RefusedError, refused, f"a payback of a million euros for {order_id}")
            board.show(order_id)
        others = [session.looked_up.count(each) for each in orders]
        what = "look-ups of each order; one that has not changed stays kept, also where a payback was refused"
        expect_equal(others, [2, 2, 2], what)


def _is_refundable(order_id: str) -> bool:
    with _session() as session, suppress(desk.RefusedError):
        session.refund(order_id, 1.0, "a trial")
        return True
    return False


def parcel_watch(repaired: Any) -> None:
    """The carrier is asked with the number of the parcel, whether a ticket names the parcel or its order."""
    tickets = [ticket for ticket in desk.tool_tickets() if ticket.kind == "tracking"]
    by_parcel = random.sample([each for each in tickets if "NP4" in each.text], 2)
    by_order = random.sample([each for each in tickets if "O-1" in each.text], 2)
    with desk.running_carrier() as url, _session(carrier_url=url) as session:
        watch = repaired(session)
        for ticket in by_parcel:  # asked plainly: tools may have other docstrings
            asked = f"Where is my parcel {ticket.text[ticket.text.index('NP4') :][:11]}?"
            with dspy.context(lm=lm.connect("sim-large")):
                answer = str(watch(ticket=asked).answer)
            said = [any(each.casefold() in answer.casefold() for each in group) for group in ticket.says]
            expect(all(said), f"the answer to {asked!r}", observed=answer, expected=ticket.says[0][0])
        for ticket in by_order:
            session.asked, session.looked_up = [], []
            with dspy.context(lm=lm.connect("sim-large")):
                watch(ticket=ticket.text)
            if session.looked_up:  # whether it looks the order up is for the model to decide
                _expect_own_parcel(session, ticket.text)
        for order in random.sample([each for each in desk.orders() if each.shipments], 2):
            session.asked, session.looked_up, asked = [], [], f"Where is my order {order.id}?"
            with dspy.context(lm=lm.connect("sim-large")):
                watch(ticket=asked)
            expect_equal({*session.looked_up}, {order.id}, f"the orders that are looked up for {asked!r}")
            _expect_own_parcel(session, asked)
        for count in (1, 2):
            order = next(each for each in desk.orders() if len(each.shipments) == count)
            model, asked = lm.connect("sim-large"), f"Where are the parcels of order {order.id}?"
            session.asked, session.looked_up = [], []
            with dspy.context(lm=model):
                watch(ticket=asked)
            own = {each.tracking_number for each in order.shipments}
            read = own & {*re.findall(r"NP\d+", f"{model.history}"), *session.asked}
            if session.looked_up:  # whether it then asks the carrier is for the model to decide
                expect_equal(read, own, f"tracking numbers that the model can read, asked {asked!r}")


def _expect_own_parcel(session: _Watched, ticket: str) -> None:
    orders = [each for each in desk.orders() if each.id in ticket]
    own = {each.tracking_number for order in orders for each in order.shipments}
    what, last = f"the last number with which the carrier was asked for {ticket!r}", session.asked[-1:]
    expect({*last} <= own, what, observed=last, expected=f"one of {sorted(own)}")


class _Wordy(CheckEngine):
    """The engine of a model that has 300 words to say, in paragraphs, and stops where it has to."""

    def complete(self, request: Request) -> Response:
        """Answer with a word for each token."""
        words = [f"word-{number}" + "\n\n" * (number % 50 == 0) for number in range(1, 301)]
        return response(request, " ".join(words[: request.config.max_tokens]).strip())


def replies(repaired: Any) -> None:
    """Every answer is whole, also a long one."""
    with dspy.context(lm=lm.connect("sim-large")):
        whole, find = dspy.Predict(faulty("replies")().reply.signature), desk.FindArticles()
        program = repaired()
        for question in (*KNOWN, *(ticket.text for ticket in random.sample(desk.tickets("dev"), 4))):
            wanted = whole(context=find(question=question).context, question=question).answer
            got = program(question=question).answer
            is_whole, what = got.strip().endswith(wanted.strip()[-12:]), f"the answer to {question!r:.60}"
            end = f"an end such as {wanted[-40:]!r}"
            expect(is_whole, what, observed=f"it ends with {got[-40:]!r}", expected=end)
    with dspy.context(lm=_Wordy().lm("check/wordy")):
        said = repaired()(question=random.choice(KNOWN)).answer.split()
        what = "number of words and the last word of an answer of 300 words"
        expect_equal((len(said), said[-1:]), (300, ["word-300"]), what)


class _Refusing(CheckEngine):
    """The engine of a model that always fails."""

    def __init__(self, error: Exception) -> None:
        self.error, self.asked = error, 0

    def complete(self, request: Request) -> Response:  # noqa: ARG002  it fails, whatever is asked
        """Fail."""
        self.asked += 1
        raise self.error


def paybacks(repaired: Any) -> None:
    """The money goes once, whether the message succeeds at once, later, or never."""
    order_id, amount = random.choice(desk.orders()).id, random.randint(1, 99) + 0.5
    cases = ["ok"], ["rate_limited", "error"], ["unavailable", "error", *["rate_limited"] * 9]
    for first, wanted in zip(cases, ("a message", "a message", "LMRateLimitError"), strict=True):
        lm.profile("payback", first=first)
        paid, since = list[tuple[str, float]](), lm.ledger().requests
        with dspy.context(lm=lm.connect("sim-large@payback", cache=False, num_retries=0)):
            try:
                said = repaired(
                    order_id, amount, "it came broken", lambda *each, paid=paid: paid.append(each)
                )
                end = "a message" if isinstance(said, str) and said.strip() else f"{said!r}"
            except dspy.LMError as error:
                end = type(error).__name__
        what = f"where the model's first answers are {first[:3]}"
        expect_equal(paid, [(order_id, amount)], f"payments {what}")
        expect_equal(end, wanted, f"what came out {what}")
        tries = 1 if first == ["ok"] else 3
        expect_equal(lm.ledger(since).requests, tries, f"how often the model was asked {what}")
    for refused in (lm15.InvalidRequestError("no such field"), lm15.AuthError("wrong key")):
        engine, what = _Refusing(refused), f"where the model always fails with {type(refused).__name__}"
        with dspy.context(lm=engine.lm("check/refusing")):
            ask = partial(repaired, order_id, amount, "it came broken", Mock())
            expect_error(dspy.LMError, ask, f"what came out {what}")
        expect_equal(engine.asked, 3, f"how often the model was asked {what}")
    for own in (ConnectionError("the bank does not answer"), dspy.LMServerError("the bank asks a model")):
        pay = Mock(side_effect=own)
        with dspy.context(lm=lm.connect("sim-large")):
            ask, what = (
                partial(repaired, order_id, amount, "it came broken", pay),
                f"where `pay` raises {own!r}",
            )
            with suppress(type(own)):
                ask()
            expect_equal(pay.call_count, 1, f"how often `pay` was called {what}")
            expect_error(type(own), ask, f"what came out {what}")


def _saying(said: Mapping[str, str]) -> Callable[[str], dspy.Prediction]:
    """Return a program that says of each ticket what it is told to."""
    return lambda ticket: dspy.Prediction(category=said[ticket], urgency="low")


def scorecard(repaired: Any) -> None:
    """A program that is right scores 1, one that is wrong 0, and one that is half right a half."""
    rows = random.sample(desk.examples("dev"), 12)
    labels = {row.ticket: row.category for row in rows}
    wrong = {row.ticket: next(each for each in desk.CATEGORIES if each != row.category) for row in rows}
    half = {**wrong, **dict(list(labels.items())[:6])}
    loud = {ticket: f" {label.upper()} " for ticket, label in labels.items()}
    empty, part = ({ticket: label[:length] for ticket, label in labels.items()} for length in (0, 4))
    each = dict.fromkeys(labels, " or ".join(desk.CATEGORIES))
    for name, said, wanted in (
        ("right", labels, 1.0),
        ("wrong", wrong, 0.0),
        ("half right", half, 0.5),
        ("LOUD", loud, 1.0),
        ("empty", empty, 0.0),
        ("cut after four letters", part, 0.0),
        ("all categories in one", each, 0.0),
    ):
        what = f"the score of a program that is {name}"
        expect_equal(without_error(partial(repaired, _saying(said), rows), what), wanted, what)
    spelled, what = (
        [row.copy(category=f" {row.category.upper()} ") for row in rows],
        "where the rows are LOUD",
    )
    got = without_error(partial(repaired, _saying(labels), spelled), f"the score {what}")
    expect_equal(got, 1.0, f"the score of a program that is right, {what}")
    many = random.sample(desk.examples("dev"), 20)
    third = {
        **dict.fromkeys((row.ticket for row in many), ""),
        **{row.ticket: row.category for row in many[10:]},
    }
    many, what = (
        [*many[:10], *many],
        "the score of a program that is right for 10 of 30 rows, of which 10 come twice",
    )
    got = without_error(partial(repaired, _saying(third), many), what)
    expect(
        abs(got - 1 / 3) < 0.0005, what, observed=got, expected="0.333"
    )  # more digits are for it to decide
    half = dict(list(labels.items())[:6])
    with suppress(KeyError):  # to let the error out is right, too
        expect_equal(
            repaired(_saying(half), rows), 0.5, "the score of a program that fails for every second row"
        )


PROGRAMS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "help_line": ("HelpLine", help_line),
    "few_shots": ("prepare", few_shots),
    "inbox": ("Inbox", inbox),
    "order_board": ("OrderBoard", order_board),
    "parcel_watch": ("ParcelWatch", parcel_watch),
    "replies": ("Replies", replies),
    "paybacks": ("pay_back", paybacks),
    "scorecard": ("score", scorecard),
}
"""By the name of the module in `hunt`: the object that is to be repaired, and what judges it."""


def faulty(name: str) -> Any:
    """Return a program of the hunt as it is."""
    return getattr(import_module(f"course_lib.exercises.debugging.hunt.{name}"), PROGRAMS[name][0])


def judge(name: str, repaired: Any) -> None:
    """Run a repaired program of the hunt.

    Raises:
        CheckFailed: it does not do what its docstring says.
    """
    PROGRAMS[name][1](repaired)


def is_untouched(things: Any) -> bool:
    """Say whether all programs of a list are as they were given out."""
    given = [faulty(name) for name in PROGRAMS]
    return isinstance(things, list) and all(
        each is None or any(each is one for one in given) for each in things
    )


def finds_all(repaired: Any) -> None:
    """Each of the eight programs does what its docstring says."""
    what, wanted = "the list of programs", ", ".join(thing for thing, _ in PROGRAMS.values())
    is_list = isinstance(repaired, list) and len(repaired) == len(PROGRAMS)
    expect(is_list, what, observed=show(repaired), expected=f"a list of {wanted}")
    found, missing = [], []
    for (name, (thing, _)), program in zip(PROGRAMS.items(), repaired, strict=True):
        if said := _what_is_wrong(name, program):
            missing.append(f"{thing}: {said}")
        else:
            found.append(thing)
    count = f"{len(found)} of {len(PROGRAMS)} are repaired{': ' * bool(found)}{', '.join(found)}"
    hint = "A sentence of its docstring that the program does not keep; what breaks it is seen in its calls."
    expect(not missing, "the hunt", observed="\n".join([count, *missing]), expected="all 8", hint=hint)


def _what_is_wrong(name: str, program: Any) -> str:
    """Return what a program's check says, "" for a repaired one."""
    if is_untouched([program]):
        return "as it was given"
    try:
        judge(name, program)
    except CheckFailed as failed:
        return f"{failed.what}; expected {failed.expected}, got {failed.observed}"
    except Exception as error:  # border: the learner's code; the others are judged all the same
        return f"it raised {type(error).__name__}: {error!s:.300}"
    return ""


EXERCISE = Exercise(
    title="The bug hunt",
    minutes=30,
    difficulty="hard",
    hints=(
        "Take the docstring's sentences one by one, and ask of each: which run would show that it is not "
        "kept? Many at the same time, the same twice, another spelling, a model that fails, a wrong answer "
        "that should score 0. Then look at what each call got and gave: Tracer(content=True), lm.ledger().",
        "What to look at: HelpLine: which model is asked, how often. prepare: ids that are in both lists. "
        "Inbox: eight at once. OrderBoard: lower case. ParcelWatch: the arguments of the second tool, and "
        "from where the model knows them. Replies: the end of each answer, and why it stopped there. "
        "pay_back: a model that fails once. score: a program that says the same of every ticket.",
        "The eight faults, in no order: ids compared with texts; two orders of the same rows; the state of "
        "one task on an object of all; one thing under two names; a description that the model believes; "
        "a limit that cuts; an effect inside a retry; a default where a field is missing.",
    ),
    checks=(finds_all,),
    deadline_s=90.0,
    is_stub=is_untouched,
    why="None of the eight raises, and each is right in most runs: so each needs a run made for it. What "
    "found them is the same each time: a sentence to keep, a run that would break it, the calls in it, and "
    "then the first step whose result does not follow from what it got.",
)
