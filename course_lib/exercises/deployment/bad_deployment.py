"""Exercise 5.1, settings that refuse a bad deployment: told at once, by variable, without a secret.

Main path: EXERCISE -> engine.registry; each check calls the learner's class in an environment of its own.
"""

from __future__ import annotations

import json
import os
import random
import re
import string
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from course_lib.exercises.engine.checks import CheckFailed, expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise, is_stub

DOCUMENTED = "shop-signing-key-0123456789-abcdefghij"
"""The key that stands in the documentation of the shop, as an example."""
_FIELDS = "PROFILE", "HOST", "DATABASE_URL", "SIGNING_KEY", "ORIGINS", "DEADLINE_S", "DRAIN_S"
VARIABLES = tuple(f"SHOP_{name}" for name in _FIELDS)
_SCHEMES = "mysql", "postgres", "postgresqlx", "postgresql+psycopg"
_TIMES = "SHOP_DEADLINE_S", "SHOP_DRAIN_S"
_HERE = "127.0.0.1", "localhost", "::1"
_RARE = "ሀለሐመሠረሰቀበተኀነአከወዐዘየደገ"
"""Letters that stand in no message and no source, so that one of them alone tells a leak."""


def _secret(count: int = 40) -> str:
    return "".join(random.choices(string.ascii_letters + string.digits, k=count))


def _url(host: str, query: str = "?sslmode=verify-full", password: str = "") -> str:
    return f"postgresql://desk:{password or _secret(12)}@{host}/desk{query}"


def _torn(password: str) -> tuple[str, str]:
    """Return addresses that urlsplit refuses; the error of the second shows the password."""
    return (
        f"postgresql://desk:{password}@[::1/desk",
        f"postgresql://desk:{password}\u2100{password}@db.example/desk",
    )


def _marked(secret: str) -> Iterator[str]:
    """Yield addresses that break a rule each, with the secret in each of their parts in turn."""
    for place in range(5):
        user, password, host, name, more = (secret if at == place else "x" for at in range(5))
        yield f"postgresql://{user}:{password}@{host}/{name}?sslmode=require&application_name={more}"
        yield f"mysql://{user}:{password}@{host}/{name}?application_name={more}"
        yield f"postgresql://{user}:{password}@/{name}?host={host}&application_name={more}"
    yield f"postgresql://x:x@db.example/x?sslmode={secret}"


def _production(**changes: str | None) -> dict[str, str]:
    """Return the variables of a good deployment, with changes; None takes one out."""
    good = {
        "PROFILE": "production",
        "HOST": random.choice(("0.0.0.0", "10.1.2.3", "127.0.0.1", "::")),  # noqa: S104  (text to be judged)
        "DATABASE_URL": _url(random.choice(("db.example", "10.0.0.7:5432", "[fd00::7]:5432"))),
        "SIGNING_KEY": _secret(random.randint(32, 50)),
        "ORIGINS": random.choice(("https://shop.example", "https://a.example,https://b.example")),
    }
    return {f"SHOP_{name}": text for name, text in {**good, **changes}.items() if text is not None}


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    others = {name: text for name, text in os.environ.items() if not name.upper().startswith("SHOP_")}
    with patch.dict(os.environ, {**others, **variables}, clear=True):
        before = dict(os.environ)
        yield
        changed = sorted(name for name, _ in {*before.items()} ^ {*os.environ.items()})
    expect_equal(changed, [], f"the environment after Settings() of {_told(variables)}")


def _told(variables: dict[str, str]) -> str:
    return " ".join(f"{name}={text}" for name, text in variables.items()) or "no variable at all"


def _made(settings_class: Any, variables: dict[str, str], hint: str = "A good one is let through.") -> Any:
    """Return the settings of a good deployment."""
    with _environment(variables):
        what = f"the settings of {_told(variables)}"
        return without_error(settings_class, what, expected="settings", hint=hint)


def _refusal(settings_class: Any, variables: dict[str, str], hint: str = "") -> Exception:
    """Return the BadSettings that a bad deployment raises."""
    with _environment(variables):
        try:
            observed = f"it returned {settings_class()!r:.200}"
        except Exception as error:  # border: the learner's code may raise anything
            if type(error).__name__ == "BadSettings" and isinstance(getattr(error, "problems", None), list):
                return error
            observed = f"it raised {type(error).__name__}: {error!s:.200}"
    what, wanted = f"what is made of {_told(variables)}", "BadSettings, with its problems"
    raise CheckFailed(what, observed=observed, expected=wanted, hint=hint)


def _expect_problems(
    settings_class: Any, variables: dict[str, str], *names: str, also: bool = False, hint: str = ""
) -> None:
    """Fail the check unless there is one problem for each name, and it says only variables of its own.

    The line of the drain may name the deadline beside it. With `also` a line may say that the drain is
    below the deadline, too.
    """
    lines = [str(line) for line in getattr(_refusal(settings_class, variables, hint), "problems", [])]
    left, what = list(lines), f"problems of {_told(variables)}"
    drains = [line for line in lines if {"SHOP_DRAIN_S"} <= _named(line) <= set(_TIMES)]
    if also and drains and len(lines) > len(names):
        left.remove(drains[-1])
    for name in names:
        both = set(_TIMES) if name == "SHOP_DRAIN_S" else {name}
        named = [line for line in left if _is_of(_named(line, name), name, both)]
        expect(len(named) == 1, what, observed=lines, expected=f"one line that names {name}", hint=hint)
        left.remove(named[0])
    expect(not left, what, observed=lines, expected=f"{len(names)}, of {', '.join(names)}", hint=hint)


def _named(line: str, name: str = "") -> set[str]:
    """Return the variables in a line; SHOP_ alone is only one of them where it is the name."""
    return {*re.findall(r"SHOP_(?:\w|-(?=\w))*", line)} - ({"SHOP_"} - {name})


def _is_of(found: set[str], name: str, own: set[str]) -> bool:
    """Say whether a line is about its own variable; beside it may stand one that somebody perhaps meant."""
    return name in found and (found <= own or (not own <= set(VARIABLES) and len(found) <= 2))


def reads_variables(settings_class: Any) -> None:
    """Each variable sets its field, anew at each call; one that is empty or not there leaves the default."""
    hint = "An empty variable is what compose files make of one that is not set: env_ignore_empty=True."
    default: dict[str, object] = {"profile": "development", "host": "127.0.0.1", "origins": ()}
    default |= {"database_url": None, "signing_key": None, "deadline_s": 10.0, "drain_s": 15.0}
    nothing: tuple[dict[str, str], ...] = (
        {},
        dict.fromkeys(VARIABLES, ""),
        {f"SHOP_{_secret(5).upper()}": ""},
        {"SHOPPING": "1", f"shop_{_secret(5).lower()}": "1"},
    )
    for variables in nothing:
        made = _made(settings_class, variables, hint)
        got = {name: getattr(made, name, "not there") for name in default}
        expect_equal(got, default, f"fields for {_told(variables)}", hint=hint)
    for deadline_s in (*random.sample(range(1, 60), 2), 90_000):
        limits = {"DEADLINE_S": f"{deadline_s}.5", "DRAIN_S": "90060.5"}
        variables = _production(**limits, ORIGINS="https://c.D/, https://a.b;c d")
        made = _made(settings_class, variables)
        fields = (made.profile, made.host, made.origins, made.deadline_s, made.drain_s)
        want = (
            "production",
            variables["SHOP_HOST"],
            ("https://c.D/", "https://a.b;c d"),
            deadline_s + 0.5,
            90060.5,
        )
        expect_equal(fields, want, f"profile, host, origins, deadline_s and drain_s for {_told(variables)}")
        for name in ("database_url", "signing_key"):
            value = getattr(getattr(made, name), "get_secret_value", lambda: "no SecretStr")()
            expect_equal(value, variables[f"SHOP_{name.upper()}"], f"{name}.get_secret_value()")


def refuses_unreadable(settings_class: Any) -> None:
    """A value that its field cannot take is a problem, and so is an unknown variable beginning with SHOP_."""
    profiles = "prod", "Production!", "Development", "PRODUCTION", "staging", " production"
    bad: dict[str, tuple[str, ...]] = {
        "SHOP_PROFILE": profiles,
        "SHOP_DRAIN_S": ("15s", "nan", "1e999", "-3"),
    }
    bad["SHOP_DEADLINE_S"] = ("ten", "nan", "inf", "1e999", "0", "-1")
    hints = {"nan": "float takes 'nan', which is neither more nor less than any other number."}
    for name, values in bad.items():
        for value in values:
            hint = hints.get(value, "Two profiles, as they are written; numbers above 0, and finite.")
            _expect_problems(settings_class, {name: value}, name, also=name.endswith("_S"), hint=hint)
    hint = "urlsplit raises a ValueError that quotes the address: catch it, and use words of your own."
    schemes = (f"{scheme}://desk@db.example/desk" for scheme in _SCHEMES)
    no_host = "postgresql:///desk", f"postgresql://desk:{_secret(12)}@/desk", "no address"
    for url in (*schemes, *no_host, *_torn(_secret(12))):
        for others in ({}, _production()):
            bad_url = {**others, "SHOP_DATABASE_URL": url}
            _expect_problems(settings_class, bad_url, "SHOP_DATABASE_URL", hint=hint)
    hint = "pydantic-settings looks for what it knows; os.environ has the other names."
    odd = "SHOP_", "SHOP_A-B", f"SHOP_{_secret(5).upper()}"
    for name in ("SHOP_DRAIN", "SHOP_SIGNINGKEY", "SHOP_DEADLINE_SECONDS", *odd):
        _expect_problems(settings_class, {name: "1"}, name, hint=hint)
    _expect_problems(settings_class, {"SHOP_DRAIN": " "}, "SHOP_DRAIN", hint="A space is not empty.")
    for name, text in (("SHOP_host", "127.0.0.1"), ("SHOP_Origins", "https://a.example")):
        _expect_problems(settings_class, {name: text}, name, hint="The name is compared as it stands.")


def guards_production(settings_class: Any) -> None:
    """In production: a signing key of 32 characters, not the documented one, and no `*` in an origin."""
    for key in (None, "", _secret(31), "é" * 20, "x", DOCUMENTED):
        variables = _production(SIGNING_KEY=key)
        _expect_problems(settings_class, variables, "SHOP_SIGNING_KEY", hint="Missing, short, documented.")
    inside = "https://*.example,https://b.example", "https://a*.example", "https://a.example*"
    for origins in ("*", "https://a.example,*", " * ", *inside):
        hint = "Any page may ask, with the cookies of whoever looks at it."
        _expect_problems(settings_class, _production(ORIGINS=origins), "SHOP_ORIGINS", hint=hint)
    _made(settings_class, _production(ORIGINS="http://a.example"), "Which scheme it has is not asked.")
    for key in (_secret(32), DOCUMENTED[:-1] + "Z", DOCUMENTED + "Z"):
        _made(settings_class, _production(SIGNING_KEY=key), "32 characters are enough.")
    for key in ("short", DOCUMENTED):
        _made(settings_class, {"SHOP_SIGNING_KEY": key, "SHOP_ORIGINS": "*"}, "In development all may be.")


def guards_database(settings_class: Any) -> None:
    """In production a database on another machine is asked with sslmode=verify-full, which its query says."""
    hint = "urlsplit(url).hostname is where it goes, parse_qs(urlsplit(url).query) what is asked for."
    trick = f"{_secret(4)}sslmode=verify-full"
    queries = (
        "",
        "?sslmode=require",
        "?sslmode=disable",
        "?sslmode=verify-ca",
        "?sslcert=verify-full",
        "?sslmode=verify-full0",
        "?options=sslmode=verify-full",
    )
    for url in (
        *(_url("db.example", query) for query in queries),
        *(_url("db.example", "", password) for password in (trick, "p@localhost")),
        "postgresql://db.example/127.0.0.1",
        *(_url(f"{host}.evil.example", "") for host in ("localhost", "127.0.0.1")),
        "postgresql://localhost@db.example/desk",
    ):
        _expect_problems(settings_class, _production(DATABASE_URL=url), "SHOP_DATABASE_URL", hint=hint)
    here = [_url(host, "") for host in ("127.0.0.1", "localhost:5432", "[::1]:5432", "127.0.0.1:6000")]
    for other in (*here, _url("db.example", "?connect_timeout=3&sslmode=verify-full"), None):
        _made(settings_class, _production(DATABASE_URL=other), "On this machine nothing can listen in.")
    _made(settings_class, {"SHOP_DATABASE_URL": _url("db.example", "")}, "In development it may be.")


def guards_development(settings_class: Any) -> None:
    """In development a host that other machines reach is a problem; in both, a drain below the deadline."""
    hint = "A notebook's service has no keys: who reaches it can use it."
    names = "desk.example", "localhost.example"
    for host in ("0.0.0.0", "::", "10.1.2.3", "127.0.0.2", *names):  # noqa: S104  (text)
        _expect_problems(settings_class, {"SHOP_HOST": host}, "SHOP_HOST", hint=hint)
    for host in _HERE:
        _made(settings_class, {"SHOP_HOST": host})
    for alone in ({"SHOP_DRAIN_S": "9.5"}, {"SHOP_DEADLINE_S": "15.5"}):
        _expect_problems(settings_class, alone, "SHOP_DRAIN_S", hint="The other one has its default.")
    _made(settings_class, {"SHOP_DEADLINE_S": "0.00001", "SHOP_DRAIN_S": "0.0001"}, "Both are above 0.")
    for less, more in (("9.9", "10"), ("15", "15.1"), ("1", "59")):
        for others in ({}, _production()):
            bad = {**others, "SHOP_DRAIN_S": less, "SHOP_DEADLINE_S": more}
            hint = "Who stops before the deadline cuts answers off that would have come."
            _expect_problems(settings_class, bad, "SHOP_DRAIN_S", hint=hint)
            _made(settings_class, {**others, "SHOP_DRAIN_S": more, "SHOP_DEADLINE_S": more})


def tells_all(settings_class: Any) -> None:
    """All rules that are broken are told at once, one line for each."""
    rules = {
        "SHOP_SIGNING_KEY": {"SIGNING_KEY": _secret(9)},
        "SHOP_ORIGINS": {"ORIGINS": "*"},
        "SHOP_DATABASE_URL": {"DATABASE_URL": _url("db.example", "")},
        "SHOP_DRAIN_S": {"DRAIN_S": "3"},
        "SHOP_DRIAN_S": {"DRIAN_S": "20"},
        "SHOP_HOTS": {"HOTS": "127.0.0.1"},
    }
    hint = "Collect what each rule says, and raise once."
    for broken in (list(rules)[-2:], random.sample(list(rules), 3), list(rules)):
        changes = {name: text for rule in broken for name, text in rules[rule].items()}
        _expect_problems(settings_class, _production(**changes), *broken, hint=hint)


def keeps_secrets(settings_class: Any) -> None:
    """No secret is shown by the settings or the error, nor by its traceback, even in the wrong variable."""
    good = _production()
    secrets = [good["SHOP_SIGNING_KEY"], re.findall(r":(\w+)@", good["SHOP_DATABASE_URL"])[0]]
    made = _made(settings_class, good)
    for name in ("__repr__", "__str__", "model_dump_json"):
        shown = getattr(made, name, str)()
        hint = "The type SecretStr shows stars; get_secret_value() gives the text to who needs it."
        _expect_hidden(shown, secrets, f"{name}() of the settings", hint)
    hint = "The error of pydantic shows what it was given. An error raised in `except` carries it along."
    secret = _secret(30)
    wrong = [(name, secret) for name in ("PROFILE", *_FIELDS[-2:], "HOST", "SIGNING_KEY", "SIGNING_KYE")]
    wrong += [("ORIGINS", f"https://{secret}.*"), ("DATABASE_URL", secret)]
    wrong += [("DATABASE_URL", url) for url in _torn(secret)]
    wrong += [("DATABASE_URL", url) for url in _marked(secret.lower())]
    few = "".join(random.sample(_RARE, 9))
    wrong += [("SIGNING_KEY", few)]
    for name, text in wrong:
        variables = _production(**{name: text}) | ({"SHOP_PROFILE": "development"} if name == "HOST" else {})
        variables = {"SHOP_DRAIN_S": "1"} | variables  # so that something is wrong in each case
        error = _refusal(settings_class, variables)
        told = [*getattr(error, "problems", []), repr(error.args), json.dumps(str(error))]
        shown = "".join([*traceback.format_exception(error), *map(str, told)])
        others = [each for each in (variables["SHOP_SIGNING_KEY"], secret, secret.lower()) if len(each) > 20]
        expect(not {*few} & {*shown}, "the error of a short SHOP_SIGNING_KEY",
               observed=f"...{shown[-400:]}", expected="no character of it", hint=hint)  # fmt: skip
        _expect_hidden(shown, others, f"the error, with its traceback, of a secret in SHOP_{name}", hint)


def _expect_hidden(shown: str, secrets: list[str], what: str, hint: str) -> None:
    leaks = [secret for secret in secrets for at in range(len(secret) - 5) if secret[at : at + 6] in shown]
    expect(not leaks, what, observed=f"...{shown[-400:]}", expected="nothing of a secret", hint=hint)


def _is_untouched(thing: Any) -> bool:
    """Say whether it is as it was given; `__init__`, which a class may have alone, was not."""
    return is_stub(thing) and "__init__" not in getattr(thing, "__dict__", ())


EXERCISE = Exercise(
    title="Settings that refuse a bad deployment",
    minutes=15,
    difficulty="medium",
    hints=(
        "SettingsConfigDict(env_prefix='SHOP_', env_ignore_empty=True) reads the variables; NoDecode and a "
        "BeforeValidator split a text at its commas. SecretStr hides what it holds.",
        "In `__init__`, collect lines: names in os.environ without a field; `each['loc']` and `each['msg']` "
        "of error.errors() where pydantic raised; else a line for each broken rule.",
        "Raise BadSettings after the `try`, not in its `except`: an error raised there carries pydantic's "
        "along, which shows what it was given. The message of an error may show it, too: use fixed words.",
    ),
    checks=(
        *(reads_variables, refuses_unreadable, guards_production, guards_database, guards_development),
        *(tells_all, keeps_secrets),
    ),
    is_stub=_is_untouched,
    why="Whoever deploys sees every mistake at the first start, by the name to set, and nothing that a log "
    "must not hold. DeploymentConfig has the same shape: types, then rules that are functions, then one "
    "error. Its rules know more: repeated keys, Redis, the queue, traces, limits that contradict each other.",
)
