"""It learns from the prompt and from nothing else: demos and instructions help, wrong demos hurt.

Figures are of the desk's test tickets; what the simulator weighs was set on train and dev tickets.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import dspy
import pytest

from course_lib import desk, lm
from course_lib.desk.programs import SortTicket
from course_lib.lm.simulator.engine import answer
from course_lib.lm.simulator.skills import words
from tests.lm.wire import body_for

Demos = list[dict[str, Any]]
SIZE = 8
MARGIN = 0.04

DESCRIBED = SortTicket.with_instructions(
    """Sort a support ticket of a shop for camping gear.
    shipping: where a parcel is, delivery times and costs, customs, the delivery address
    returns: sending something back, refunds, exchanges, wrong or damaged items on arrival
    billing: payments, a card charged twice, invoices, promo codes, gift cards
    account: login, password, e-mail address, newsletter, deleting the profile, points
    product: questions about choosing, sizing, using or washing gear
    warranty: something broke or wore out in use, guarantee, repairs"""
)


def _demos(tickets: Sequence[Any]) -> Demos:
    return [{"ticket": t.text, "category": t.category, "urgency": t.urgency} for t in tickets]


def _shuffled(demos: Demos, seed: int) -> Demos:
    """Give every demo the label of another, as far as labels differ."""
    shuffler = random.Random(seed)
    labels = [demo["category"] for demo in demos]
    shuffler.shuffle(labels)
    return [{**demo, "category": label} for demo, label in zip(demos, labels, strict=True)]


def _accuracy(
    demos_for: Callable[[Any], Demos],
    signature: type[dspy.Signature] = SortTicket,
    tickets: Sequence[Any] = tuple(desk.tickets("test")),
) -> float:
    adapter, right = dspy.ChatAdapter(), 0
    for ticket in tickets:
        reply = answer(body_for(adapter, signature, {"ticket": ticket.text}, demos=demos_for(ticket)))
        right += adapter.parse(signature, reply.text)["category"] == ticket.category
    return right / len(tickets)


def _nearest(ticket: desk.Ticket) -> Demos:
    """The train tickets most like this one, by cosine over words: what dspy.KNN does."""
    one = words.features(ticket.text)

    def cosine(other: desk.Ticket) -> float:
        b = words.features(other.text)
        return sum(weight * b.get(feature, 0.0) for feature, weight in one.items()) / math.hypot(*b.values())

    return _demos(sorted(desk.tickets("train"), key=cosine, reverse=True)[:SIZE])


def _mean(draws: list[Demos]) -> float:
    return sum(_accuracy(lambda _, demos=demos: demos) for demos in draws) / len(draws)


@cache
def _none() -> float:
    return _accuracy(lambda _: [])


@pytest.mark.parametrize("count", [6, pytest.param(20, marks=pytest.mark.soak)])
def test_demos_and_described_labels_help_well_chosen_demos_more_and_shuffled_labels_hurt(count: int) -> None:
    train = desk.tickets("train")
    draws = [_demos(random.Random(seed).sample(train, SIZE)) for seed in range(count)]
    shuffled = [_shuffled(demos, seed) for seed, demos in enumerate(draws)]

    figures = [_mean(shuffled), _none(), _mean(draws), _accuracy(_nearest)]

    assert all(after > before + MARGIN for before, after in pairwise(figures)), figures
    assert _accuracy(lambda _: [], DESCRIBED) > _none() + MARGIN


def test_bootstrap_few_shot_improves_on_no_demos() -> None:
    optimizer = dspy.BootstrapFewShot(
        metric=lambda example, prediction, trace=None: example.category == prediction.category,
        max_bootstrapped_demos=SIZE,
        max_labeled_demos=SIZE,
    )
    with dspy.context(lm=lm.connect(cache=False)):
        compiled = optimizer.compile(dspy.Predict(SortTicket), trainset=desk.examples("train"))
        right = [compiled(ticket=t.text).category == t.category for t in desk.tickets("test")]

    assert sum(right) / len(right) > _none() + MARGIN
