"""What makes two requests the same question, and what keeps them apart."""

from __future__ import annotations

import asyncio
import copy
import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import dspy
import pydantic
import pytest

from course_lib.caching import keys
from course_lib.caching.keys import NOBODY, Scope, ScopeError, UnkeyableError, key_of, scope, tags_of

REQUEST = {
    "model": "course/sim-large",
    "messages": [{"role": "user", "content": "Where is my parcel?"}],
    "temperature": None,
    "_fn_identifier": "dspy.clients.lm.litellm_completion",
}


class Customer(pydantic.BaseModel):
    name: str


class Supplier(pydantic.BaseModel):
    name: str


class Account(pydantic.BaseModel):
    password: pydantic.SecretStr | None = None
    row: int = pydantic.Field(default=0, exclude=True)
    rate: float | None = None


@dataclass
class Part:
    weight: float | None


def module_function(text: str) -> str:
    return text


ENTRY = "dspy.clients.lm.litellm_"
EMBEDDING = "dspy.clients.embedding._cached_"
SAME = {
    "another object": (REQUEST, copy.deepcopy(REQUEST)),
    "another order": (REQUEST, dict(reversed(REQUEST.items()))),
    "async": (REQUEST, REQUEST | {"_fn_identifier": "dspy.clients.lm.alitellm_completion"}),
    "async embedding": tuple(
        {"_fn_identifier": f"{EMBEDDING}{name}compute_embeddings", "input": ["a"]} for name in ("", "a")
    ),
    "base_url": (REQUEST | {"api_base": "https://a/v1"}, REQUEST | {"base_url": "https://a/v1/"}),
    "credentials": (REQUEST, REQUEST | {"api_key": "hunter2", "aws_secret_access_key": "hunter2"}),
    "numbers as keys": ({"logit_bias": {50256: -100}}, {"logit_bias": {50256: -100}}),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_the_same_question_has_the_same_key(pair):
    one, other = map(key_of, pair)

    assert re.fullmatch("[0-9a-f]{64}", one)
    assert one == other


@pytest.mark.parametrize(
    "other",
    [
        {"model": "course/sim-small"},
        {"messages": [{"role": "user", "content": "Where is my parcel? "}]},
        {"temperature": 0.0},
        {"rollout_id": 1},
        {"api_base": "https://other.example/v1"},
        {"_fn_identifier": f"{ENTRY}responses_completion"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_is_different_has_another_key(other):
    assert key_of(REQUEST | other) != key_of(REQUEST)


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ({"a", "b"}, {"a"}),
        (b"a", b"b"),
        (module_function, key_of),
        ([Customer(name="Ada")], [Customer(name="Bob")]),
        ([Customer(name="Ada")], [Supplier(name="Ada")]),
        (Customer, Supplier.model_construct(name="Customer")),
        ({None}, set()),
        (Part(None), Part(0.5)),
    ],
    ids=[
        "sets",
        "bytes",
        "functions",
        "models",
        "of two classes",
        "a class and a model",
        "None",
        "dataclass",
    ],
)
def test_values_of_other_types_are_keyed_by_class_and_content(value, other):
    assert key_of({"x": value}) == key_of({"x": copy.copy(value)}) != key_of({"x": other})


def test_the_namespace_and_each_part_of_a_scope_are_part_of_the_key_and_do_not_run_together():
    scopes = [Scope("ab", "c"), Scope("a", "bc"), Scope("abc"), Scope(None, "abc"), Scope(None, None, "abc")]
    keys_made = {key_of(REQUEST, each) for each in (NOBODY, *scopes)} | {key_of(REQUEST, namespace="b")}

    assert len(keys_made) == 7
    assert len({tag for each in scopes for tag in tags_of(each)}) == sum(len(tags_of(s)) for s in scopes)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "builtins.object"),
        ([2**70], "in 'x'"),
        ("\ud800", "in 'x'"),
        ((lambda factor: lambda text: text * factor)(2), "'x'"),
        ("a".join, "'x'"),
        (Account(password="hunter2"), "Account"),
        ([Account(row=1)], "Account"),
        ({"of": Account(rate=math.nan)}, "Account"),
        ([{"penalty": math.nan}], "JSON lacks"),
        (-math.inf, "JSON lacks"),
        ({math.nan}, "JSON lacks"),
        (Part(math.nan), "JSON lacks"),
        ({"\0set": []}, "NUL"),
        ([{"\0model": f"{__name__}.Customer", "\0is": {"name": "Ada"}}], "NUL"),
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, str) else None,
)
def test_what_has_no_stable_form_is_refused_with_its_field(value, named):
    with pytest.raises(UnkeyableError, match="no cache key") as refused:
        key_of(REQUEST | {"x": value})

    assert named in refused.value.reason
    assert "'x'" in refused.value.reason
    assert "hunter2" not in str(refused.value)


def test_scopes_nest_and_end_and_another_tenant_forgets_the_customer():
    with scope(tenant="acme", version="2"):
        with scope(customer="C-001") as inner:
            assert inner == keys.current_scope() == Scope("acme", "C-001", "2")
        assert keys.current_scope() == Scope("acme", None, "2")
    assert keys.current_scope() == NOBODY
    with scope(tenant="acme", customer="C-001"), scope(tenant="bolt") as inner:
        assert inner == Scope("bolt")


@pytest.mark.parametrize("name", ["", 0, b"acme"], ids=str)
def test_an_empty_name_is_refused(name):
    with pytest.raises(ScopeError, match="names nobody"), scope(tenant=name):
        pass


def test_a_scope_reaches_asyncify_and_parallel_but_no_plain_thread_pool():
    def tenant() -> str | None:
        return keys.current_scope().tenant

    parallel = dspy.Parallel(num_threads=2, disable_progress_bar=True)
    with scope(tenant="acme"), ThreadPoolExecutor(1) as pool:
        seen = [asyncio.run(dspy.asyncify(tenant)()), *parallel([(tenant, {})] * 2)]
        assert pool.submit(tenant).result() is None

    assert seen == ["acme"] * 3
