"""Who asks: API keys and signed tokens become a Caller, or nobody gets in.

Main path: Callers(config).identify(authorization, api_key) -> Caller; caller.require(role).
Source: PyJWT 2.15, RFC 7519, RFC 8725 (the algorithm is ours to say, never the token's).

Of an API key the service keeps the SHA-256 alone: a key has 256 random bits, so that nobody can try them all,
and what leaks from the settings opens no door.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from course_lib.deployment.config import ApiKey, DeploymentConfig, Name, Role, Roles
from course_lib.errors import CourseError

_ALGORITHM, _AUDIENCE, _ISSUER = "HS256", "course-service", "course"
_RULES: dict[str, Any] = {
    "algorithms": [_ALGORITHM],
    "audience": _AUDIENCE,
    "issuer": _ISSUER,
    "leeway": 10,  # so many seconds the clocks of two machines may be apart
    "options": {"require": ["exp", "iat", "aud", "iss", "sub"]},
}
MOST_LIFETIME_S = 24 * 3_600
"""No token is good for longer: one that leaks is of use for a day at most."""
_NOBODY = bytes(32)  # no key has this digest


class Unauthorized(CourseError):  # noqa: N818  (the word of HTTP)
    """Nobody is known by what was sent; the message says what to send, and nothing of what was."""


class Forbidden(CourseError):  # noqa: N818  (the word of HTTP)
    """The caller is known, and has not the role."""


@dataclass(frozen=True, slots=True, config=ConfigDict(hide_input_in_errors=True))
class Caller:
    """Whoever asks: a tenant, by one of its keys or tokens; ValueError where one cannot be so."""

    tenant: Name
    name: Name
    """Of the key, for the audit log."""
    roles: Roles

    def require(self, role: str) -> None:
        """Raise Forbidden where this caller has not the role."""
        if role not in self.roles:
            raise Forbidden(f"this needs the role {role!r}, and the key {self.name!r} does not have it")


class Callers:
    """All who may ask, by the settings."""

    def __init__(self, config: DeploymentConfig) -> None:
        self._secret = config.jwt_secret
        self._keys = {
            key.name: (bytes.fromhex(key.sha256), Caller(key.tenant, key.name, key.roles))
            for key in config.api_keys
        }

    def identify(self, authorization: str | None, api_key: str | None) -> Caller:
        """Return who sent these two headers.

        Raises:
            Unauthorized: neither or both are there, or what is there is not valid.
        """
        if authorization is not None and api_key is not None:
            raise Unauthorized("two credentials were sent; send Authorization or X-API-Key, not both")
        if api_key is not None:
            return self._by_key(api_key)
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and (token := token.strip()):
            # Prometheus can send a key in no other header, and no token begins so.
            return self._by_key(token) if token.startswith("sk_") else self._by_token(token)
        raise Unauthorized("no credentials were sent; send X-API-Key: KEY or Authorization: Bearer TOKEN")

    def _by_key(self, key: str) -> Caller:
        """Compare in the same time whether or not there is a key of this name."""
        kept, caller = self._keys.get(key[3:].rpartition("_")[0], (_NOBODY, None))
        if not hmac.compare_digest(_digest(key).digest(), kept) or caller is None:
            raise Unauthorized("the API key is not known; ask the operator for a new one")
        return caller

    def _by_token(self, token: str) -> Caller:
        if self._secret is None:
            raise Unauthorized("the token cannot be read, since no jwt_secret is set; send an API key")
        import jwt  # with the first token: it brings megabytes of cryptography that HS256 does not need

        try:
            claims = jwt.decode(token, self._secret.get_secret_value(), **_RULES)
            if claims["exp"] - time.time() <= MOST_LIFETIME_S + _RULES["leeway"]:
                return Caller(claims["sub"], claims.get("name", "token"), claims["roles"])
            why = f"is good for more than the {MOST_LIFETIME_S // 3_600} hours that a token may have"
        except jwt.ExpiredSignatureError:
            why = "has expired"
        except Exception:  # border: whatever a token holds is refused in the same words
            why = "is not valid"
        raise Unauthorized(f"the token {why}; ask for a new one")


def make_token(
    config: DeploymentConfig,
    tenant: str,
    roles: Iterable[Role],
    *,
    name: str = "token",
    lifetime_s: int = 3_600,
) -> str:
    """Return a signed token for a tenant, good for an hour unless said otherwise.

    Raises:
        ValueError: no jwt_secret is set, there is no such role, or the lifetime is above MOST_LIFETIME_S.
    """
    if config.jwt_secret is None:
        raise ValueError("a token needs jwt_secret (COURSE_SERVICE_JWT_SECRET); set it")
    if lifetime_s > MOST_LIFETIME_S:
        raise ValueError(f"a token may be good for {MOST_LIFETIME_S} s, not {lifetime_s}")
    import jwt

    caller, now = Caller(tenant, name, frozenset(roles)), int(time.time())
    who = {"sub": caller.tenant, "name": caller.name, "roles": sorted(caller.roles)}
    claims = {**who, "aud": _AUDIENCE, "iss": _ISSUER, "iat": now, "exp": now + lifetime_s}
    return jwt.encode(claims, config.jwt_secret.get_secret_value(), algorithm=_ALGORITHM)


def make_key(name: str, tenant: str, roles: Iterable[Role]) -> tuple[str, ApiKey]:
    """Return a new API key, to be shown once, and what the service keeps of it (for `api_keys`)."""
    key = f"sk_{name}_{secrets.token_hex(32)}"
    kept = {"name": name, "tenant": tenant, "roles": set(roles), "sha256": _digest(key).hexdigest()}
    return key, ApiKey.model_validate(kept)


def _digest(key: str) -> hashlib._Hash:
    return hashlib.sha256(key.encode(errors="replace"))
