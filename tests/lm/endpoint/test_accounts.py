from dataclasses import dataclass

import pytest

from course_lib.lm.calls import Ledger
from course_lib.lm.endpoint import accounts
from course_lib.lm.endpoint.accounts import Account, Accounts, Exchange, Usage
from course_lib.lm.endpoint.wire import ApiError
from course_lib.lm.profiles import build


@dataclass
class ManualClock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def account() -> Account:
    return Account(ManualClock())


def ended(account: Account, **values: object) -> None:
    exchange = Exchange(begun_s=100.0, status=200)
    account.begin(exchange)
    for name, value in values.items():
        setattr(exchange, name, value)
    account.finish(exchange)


def test_totals_add_up_from_the_first_request_or_since_a_later_one(account: Account) -> None:
    ended(account, prompt_tokens=10, completion_tokens=2, cost_usd=0.5)
    ended(account, status=503, fault="unavailable")
    ended(account, prompt_tokens=5)

    ledger, later = (Ledger.from_json(account.view(since)) for since in (0, 1))
    assert (ledger.requests, ledger.prompt_tokens, ledger.completion_tokens) == (3, 15, 2)
    assert (ledger.cost_usd, later.cost_usd) == (0.5, 0)
    assert (ledger.statuses, ledger.faults) == ({200: 2, 503: 1}, {"unavailable": 1})
    assert (later.requests, later.prompt_tokens, later.is_complete) == (2, 5, True)
    assert [call.number for call in later.calls] == [2, 3]


def test_the_ledger_stays_small_however_many_requests_there_are(account: Account) -> None:
    for n in range(accounts.MAX_LINES + 500):
        ended(account, reply=str(n))

    ledger = Ledger.from_json(account.view(0))
    assert ledger.requests == accounts.MAX_LINES + 500
    assert len(ledger.calls) == accounts.MAX_CALLS
    assert ledger.calls[-1].reply == str(accounts.MAX_LINES + 499)
    assert not Ledger.from_json(account.view(1)).is_complete


def test_long_messages_push_older_ones_out(account: Account) -> None:
    for _ in range(10):
        ended(account, reply="x" * (accounts.MAX_BYTES // 5))

    assert len(account.view(0)["calls"]) == 4
    ended(account, reply="x" * accounts.MAX_BYTES * 2)
    assert not account.view(0)["calls"]


def test_a_reset_forgets_all_but_the_profiles(account: Account) -> None:
    ended(account, prompt_tokens=5)
    next(account.usage("sim-large", "storm", 100.0).numbers)
    account.sample(b"request", 1)
    under_way = Exchange(100.0)
    account.begin(under_way)

    account.reset()
    account.finish(under_way)

    assert account.view(0)["requests"] == 0
    assert next(account.usage("sim-large", "storm", 100.0).numbers) == 0
    assert account.sample(b"request", 1) == 0


def test_a_call_says_when_it_came_after_the_first_one_since_the_last_reset(account: Account) -> None:
    for begun_s in (100.0, 103.5):
        exchange = Exchange(begun_s)
        account.begin(exchange)
        account.finish(exchange)
    seen = Ledger.from_json(account.view(0, has_texts=False)).calls
    account.reset()
    ended(account)

    assert [call.at_s for call in seen] == [0.0, 3.5]
    assert Ledger.from_json(account.view(0)).calls[0].at_s == 0.0


def test_figures_are_there_of_more_calls_than_texts(account: Account) -> None:
    for n in range(accounts.MAX_CALLS + 5):
        ended(account, reply=str(n), question=str(n))

    figures = Ledger.from_json(account.view(0, has_texts=False)).calls
    assert [call.question for call in figures] == [str(n) for n in range(accounts.MAX_CALLS + 5)]
    assert {call.reply for call in figures} == {None}


def test_samples_count_identical_requests_in_bounded_memory(account: Account) -> None:
    asked = [(b"a", 1), (b"a", 3), (b"a", 1), (b"b", 1)]

    assert [account.sample(request, choices) for request, choices in asked] == [0, 1, 4, 0]
    for n in range(accounts.MAX_SAMPLES):
        account.sample(str(n).encode(), 1)
    assert account.sample(b"a", 1) == 0  # the longest unused is forgotten


def test_the_longest_unseen_client_without_an_open_request_gives_way_to_a_new_one() -> None:
    kept = Accounts(ManualClock())
    for n in range(accounts.MAX_CLIENTS):
        for _ in range(2):
            ended(kept.of(str(n)))
    kept.of("0")
    kept.of("1").begin(Exchange(100.0))

    for n in range(accounts.MAX_CLIENTS * 2):  # keys that are used once
        ended(kept.of(f"new {n}"))

    lost = [n for n in range(accounts.MAX_CLIENTS) if kept.of(str(n)).view(0)["requests"] == 0]
    assert 0 < len(lost) <= accounts.MAX_NEW + 1
    assert not {0, 1} & {*lost}


def test_a_new_client_is_refused_only_where_all_others_have_requests_under_way() -> None:
    kept = Accounts(ManualClock())
    for n in range(accounts.MAX_CLIENTS):
        kept.of(str(n)).begin(Exchange(100.0))

    with pytest.raises(ApiError, match="have requests under way") as caught:
        kept.of("one more")
    assert caught.value.status == 429


def test_the_ledgers_of_all_clients_together_are_bounded() -> None:
    kept = Accounts(ManualClock())

    for n in range(accounts.MAX_CLIENTS):
        for _ in range(3):
            ended(kept.of(str(n)), reply="x" * (accounts.MAX_BYTES // 16))

    assert kept._kept["bytes"] < 1.1 * accounts.MAX_BYTES_OF_ALL
    assert kept.of("0").view(0)["requests"] == 3


def test_a_limit_that_goes_up_and_down_again_leaves_no_debt() -> None:
    clock = ManualClock()
    usage = Usage(clock.now_s, clock)
    slow, fast = (build("mine", {"limit_requests_per_s": rate}) for rate in (10, 40))
    for profile in (slow, fast, slow):
        for _ in range(200):  # for five seconds, as many as the fast one lets through
            usage.limit_wait_s(profile)
            clock.now_s += 1 / 40
    clock.now_s += 1.0
    assert usage.limit_wait_s(slow) == 0
