"""The solutions of section 2, broken in one place each: the check names the sentence that no longer holds.

The lesson ships an answer for each sentence of a task; these are other ways to break the same sentences.
"""

from __future__ import annotations

import dspy
import pytest

from course_lib.authoring import reading, regions
from course_lib.exercises.caching import PAIRS, Colleague
from course_lib.exercises.engine import registry
from course_lib.exercises.engine.checking import judge
from course_lib.paths import LESSONS

THINGS = {
    "2.1": ("why", "Again"),
    "2.2": ("LRU",),
    "2.3": ("RedisCache",),
    "2.4": ("SingleFlight",),
    "2.5": ("MySemanticCache",),
    "2.6": ("resumable",),
}
KEY = "self.cache_key(request, ignored_args_for_cache_key)"
TASK = "        task = self.flights.get(key)\n"
REPLACED = "            self.entries.pop(key, None)\n"
SHIELD = "return await asyncio.shield(task)"
AS_TEXT = "        key = str(key)\n"
AGAIN = "\n        except TimeoutError:\n            return await call()"
NEWEST = "            self.entries[key] = value, self"


def answered(exercise, *changes):
    """Return the names of the shipped solution after each `old` was replaced by its `new`."""
    (cell,) = reading.read(LESSONS / "02_caching.py").cells_of(exercise, "exercise")
    source = regions.solved(cell.source)
    for old, new in changes:
        assert old in source, f"the solution of {exercise} no longer holds {old!r}"
        source = source.replace(old, new)
    names = {"__name__": "answer", "dspy": dspy, "Colleague": Colleague, "PAIRS": PAIRS}
    exec(source, names)
    return names


def judged(exercise, *changes):
    names = answered(exercise, *changes)
    return judge(registry.get(exercise), *(names[name] for name in THINGS[exercise]))


BROKEN = [
    ("2.1", "pair d still draws", '"temperature": 1.0', '"temperature": 0.5'),
    ("2.1", "pair e still stops", '["###", "<end>"]', '"###<end>"'),
    ("2.1", "requests of pair e", '["###", "<end>"]', '{"###", "<end>"}'),
    ("2.1", "letters of the dict why", '"e": "no key"', '"f": "no key"'),
    ("2.2", "put b, put a, put a", REPLACED, "", NEWEST, REPLACED + NEWEST),
    ("2.2", "get(1) after", "(self, key):\n", "(self, key):\n" + AS_TEXT, "value):\n", "value):\n" + AS_TEXT),
    (
        "2.2",
        "another LRU object",
        "self.entries = OrderedDict()",
        "pass",
        "LRU:\n",
        "LRU:\n    entries = OrderedDict()\n",
    ),
    ("2.2", "wait 50%, put b, wait 48%", "self.ttl_s = ttl_s", "self.ttl_s = min(ttl_s, 60)"),
    (
        "2.2",
        "put a, none a, put c",
        REPLACED,
        "            if value is None:\n                return\n" + REPLACED,
    ),
    ("2.2", "in a cache of 1 after", "= max_entries\n", "= max(max_entries, 2)\n"),
    ("2.2", "four threads", " key):\n        with self.lock:", " key):\n        if 1:"),
    ("2.2", "four threads", "with self.lock:", "with threading.Lock():"),
    ("2.3", "in which the model's api_key", "json.dumps(value)", 'json.dumps({**value, "asked": request})'),
    ("2.3", "requests of the call after a value", "ex=self.ttl_s", "ex=self.ttl_s, nx=True"),
    ("2.3", "a list of Redis", "redis.RedisError", "redis.ConnectionError, redis.TimeoutError"),
    ("2.3", "another stop", KEY, "str(request['messages']) + str(request.get('temperature'))"),
    ("2.4", "what caller", SHIELD, "return str(await asyncio.shield(task))"),
    (
        "2.4",
        "calls under way for key",
        SHIELD,
        "try:\n            return await asyncio.wait_for(asyncio.shield(task), 600)" + AGAIN,
    ),
    (
        "2.4",
        "nothing is kept",
        "self.flights = {}",
        "self.flights, self.seen = {}, []",
        TASK,
        "        self.seen.append(key)\n" + TASK,
    ),
    (
        "2.5",
        "let through; expected",
        "        self.entries = {}\n",
        "",
        "    threshold",
        "    entries = {}\n    threshold",
    ),
    ("2.5", "what tenant", "(tenant, {})", "(tenant.lower(), {})"),
    ("2.5", "what tenant", "[question])\n", "[question])\n        tenant = tenant[:8]\n"),
    ("2.5", "let through; expected", "        vector = vector / np.linalg.norm(vector)\n", ""),
    ("2.5", "60% of the given", "threshold = 0.6", "threshold = 0.93"),
    ("2.6", "one that ask gave to its text", "{type(error).__name__}", "{error}"),
    (
        "2.6",
        "the answer to key",
        "json.loads(line) for line in lines)",
        "json.loads(line) for line in lines[-10:])",
    ),
    (
        "2.6",
        "the key of answer",
        "in items:\n",
        "in items:\n            if not key:\n                continue\n",
    ),
    ("2.6", "the answer to key", "    path.touch()\n", "    path = path.parent / 'all'\n    path.touch()\n"),
    (
        "2.5",
        "got the answer to",
        'd+", asked) !=',
        'd+", asked)[-1:] !=',
        'd+", cached):',
        'd+", cached)[-1:]:',
    ),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken[0]} {broken[1]}")
def test_a_broken_sentence_is_named(broken):
    exercise, message, *changes = broken

    result = judged(exercise, *zip(changes[::2], changes[1::2], strict=True))

    assert (result.outcome, message in result.message) == ("failed", True), result.text
    assert "Think about" in result.text


@pytest.mark.parametrize(
    ("exercise", "old", "new"),
    [
        ("2.4", "task = self.flights.get(key)", "task = self.flights[1 / 0]"),
        ("2.6", "path.touch()", "path.touch(1 / 0)"),
    ],
)
def test_an_error_of_the_learners_own_is_shown_with_its_line(exercise, old, new):
    result = judged(exercise, (old, new))

    assert (result.outcome, result.message.startswith("ZeroDivisionError")) == ("crashed", True), result.text


def test_a_task_is_not_answered_by_what_a_learner_did_to_the_given_class(monkeypatch):
    monkeypatch.setattr(Colleague, "b", lambda self, sort, ticket: [sort(ticket=ticket)] * 2)

    given = "class Again(Colleague):\n    b = Colleague.b\n\nclass Other:"

    result = judged("2.1", ("class Again(Colleague):", given))

    assert result.outcome == "failed", result.text
