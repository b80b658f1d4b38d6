"""The cache in one block: DSPy's own is back afterwards, whatever happened inside."""

from __future__ import annotations

import contextlib

import dspy
import pytest
from dspy.utils.callback import BaseCallback

from course_lib import lm
from course_lib.caching import CacheManager, CacheMisuseError, scope
from course_lib.services import ServerError

predict = dspy.Predict("question -> answer")


def test_in_the_block_the_cache_and_its_watcher_are_dspys_and_no_longer_afterwards_also_if_it_fails():
    there, former, before = BaseCallback(), dspy.settings.callbacks, vars(dspy).get("cache")
    dspy.configure(callbacks=[there])
    with contextlib.suppress(ZeroDivisionError), CacheManager(redis=False) as manager:
        assert dspy.cache is manager.cache
        assert dspy.settings.callbacks == [there, manager.cache.watcher]
        with pytest.raises(CacheMisuseError, match="attached already"):
            manager.attach()
        raise ZeroDivisionError

    assert (dspy.settings.callbacks, vars(dspy).get("cache")) == ([there], before)
    dspy.configure(callbacks=former)


def test_dspys_own_cache_is_not_made_only_to_be_put_aside(monkeypatch):
    monkeypatch.delitem(vars(dspy), "cache", raising=False)
    CacheManager(redis=False).attach().close()

    assert "cache" not in vars(dspy)


def test_what_others_put_in_its_place_stays(monkeypatch):
    monkeypatch.setitem(vars(dspy), "cache", None)
    with CacheManager(redis=False) as manager:
        monkeypatch.setitem(vars(dspy), "cache", other := object())
        manager.close()

    assert dspy.cache is other


def test_a_whole_program_on_it(redis_url):
    model = lm.connect("sim-large")
    lm.reset()
    with CacheManager(redis_url=redis_url) as manager, dspy.context(lm=manager.front(model)):
        with scope(tenant="acme"):
            for n in [*range(5)] * 2:
                predict(question=f"What is {n} plus {n}?")
        assert lm.ledger().requests == 5
        assert manager.report().hits == {"memory": 5}
        assert manager.invalidate(tenant="acme") == 5
        with scope(tenant="acme"):
            predict(question="What is 0 plus 0?")

    assert lm.ledger().requests == 6


@pytest.mark.parametrize(
    "url", ["hunt", "redis://me:hunt@h:x/0", "redis://:hunt@h?hunt=1", "redis://:a/hunt@h"]
)
def test_an_address_that_is_malformed_or_in_the_wrong_place_is_refused_without_being_shown(url):
    with pytest.raises(ServerError, match="not of the form") as malformed:
        CacheManager(redis_url=url)
    with pytest.raises(CacheMisuseError, match="an address goes into redis_url=") as misplaced:
        CacheManager(redis=url)

    assert "hunt" not in f"{malformed.value} {misplaced.value}"
    assert malformed.value.__suppress_context__
