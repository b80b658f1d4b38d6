"""Who has a key or a token of this service gets in as who it says, and nobody else."""

from __future__ import annotations

import base64
import json
import time

import jwt
import pytest

from course_lib.deployment import (
    Caller,
    Callers,
    DeploymentConfig,
    Forbidden,
    Unauthorized,
    make_key,
    make_token,
)
from tests.deployment.settings import JWT_SECRET, SIGNING_KEY

KEY, ENTRY = make_key("web", "lantern", ["ask"])
CONFIG = DeploymentConfig(jwt_secret=JWT_SECRET, api_keys=[ENTRY])
CLAIMS = {"sub": "lantern", "roles": ["ask"], "aud": "course-service", "iss": "course"}


def claims(**change):
    now = int(time.time())
    return {**CLAIMS, "iat": now, "exp": now + 60, **change}


def signed(secret=JWT_SECRET, algorithm="HS256", **change):
    return jwt.encode(claims(**change), secret, algorithm=algorithm)


def refusal(authorization=None, api_key=None, *, config=CONFIG):
    with pytest.raises(Unauthorized) as caught:
        Callers(config).identify(authorization, api_key)
    return str(caught.value)


def test_a_key_is_its_caller_and_only_its_digest_is_kept():
    assert Callers(CONFIG).identify(None, KEY) == Caller("lantern", "web", frozenset({"ask"}))
    assert Callers(CONFIG).identify(f"Bearer {KEY}", None) == Callers(CONFIG).identify(None, KEY)
    assert KEY not in repr(ENTRY) + repr(CONFIG) + str(CONFIG.environment())
    assert KEY.startswith("sk_web_")


@pytest.mark.parametrize(
    "key",
    ["", "sk_web_", f"{KEY}0", KEY[:-1], KEY.replace("web", "bew"), "ключ", "0"],
    ids=["empty", "prefix", "longer", "shorter", "renamed", "cyrillic", "0"],
)
def test_another_key_is_nobody_in_the_same_words(key):
    assert refusal(api_key=key) == "the API key is not known; ask the operator for a new one"
    assert refusal(f"Bearer {key}")


def test_a_token_is_its_tenant_with_its_roles():
    token = make_token(CONFIG, "lantern", ["ask", "audit"], name="anna")

    caller = Callers(CONFIG).identify(f"bearer {token}", None)

    assert caller == Caller("lantern", "anna", frozenset({"ask", "audit"}))


def unsigned():
    head, body = ({"alg": "none", "typ": "JWT"}, claims())
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (head, body)
    ]
    return f"{'.'.join(parts)}."


BAD = {
    "nothing": "",
    "no token": "a.b.c",
    "another secret": signed(SIGNING_KEY),
    "another algorithm": signed(JWT_SECRET * 2, "HS512"),
    "no signature": unsigned(),
    "another audience": signed(aud="shop"),
    "another issuer": signed(iss="somebody"),
    "no tenant": signed(sub=""),
    "a tenant that is a pattern": signed(sub="lantern:*"),
    "no roles": signed(roles=[]),
    "an unknown role": signed(roles=["ask", "root"]),
    "roles as text": signed(roles="ask"),
    "for years": signed(exp=int(time.time()) + 2 * 365 * 86_400),
    "from tomorrow": signed(iat=int(time.time()) + 86_400),
    "not yet": signed(nbf=int(time.time()) + 86_400),
    "no number": signed(exp=float("inf")),
    "too long": signed(name="x" * 5_000),
    **{f"no {name}": jwt.encode({k: v for k, v in claims().items() if k != name}, JWT_SECRET)
       for name in ("exp", "aud", "iss", "sub", "iat", "roles")},
}  # fmt: skip


@pytest.mark.parametrize("token", BAD.values(), ids=BAD)
def test_a_token_that_this_service_did_not_sign_for_now_is_refused(token):
    message = refusal(f"Bearer {token}")

    assert "token" in message.lower()
    assert not token or token not in message


def test_an_expired_token_is_told_so_once_the_clocks_cannot_be_to_blame():
    assert "expired" in refusal(f"Bearer {signed(exp=int(time.time()) - 60)}")
    assert Callers(CONFIG).identify(f"Bearer {signed(exp=int(time.time()) - 1)}", None)


def test_none_and_two_credentials_are_refused():
    assert "X-API-Key" in refusal()
    assert "not both" in refusal(f"Bearer {signed()}", KEY)
    assert "X-API-Key" in refusal(f"Basic {signed()}")


def test_without_a_secret_no_token_is_read():
    assert "jwt_secret" in refusal(f"Bearer {signed()}", config=DeploymentConfig(api_keys=[ENTRY]))
    with pytest.raises(ValueError, match="COURSE_SERVICE_JWT_SECRET"):
        make_token(DeploymentConfig(), "lantern", ["ask"])
    with pytest.raises(ValueError, match="86400 s"):
        make_token(CONFIG, "lantern", ["ask"], lifetime_s=90_000)


def test_a_role_that_the_caller_has_not_is_forbidden():
    caller = Callers(CONFIG).identify(None, KEY)
    caller.require("ask")

    with pytest.raises(Forbidden, match="'operate'"):
        caller.require("operate")
