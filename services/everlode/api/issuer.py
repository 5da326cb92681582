"""Who may ask for what, by an OpenID Connect issuer: tokens that it has signed with its keys.

    token ─► its key known? ──no──► the issuer's keys, anew (one asks, seldom; others: 503)
               └─► signature, by an algorithm of `ALGORITHMS` ─► iss, aud, exp, nbf ─► name, role

Invariants: the algorithm is one of ours, never only a token's word: `none` and those that sign with
a shared secret are unknown here; a key that the issuer has withdrawn counts for `KEYS_S` at most
while the issuer answers, for `STALE_S` while it does not; whoever sends unknown keys makes us ask
once in `AGAIN_S`. No token is kept, logged or named in an error. Shell: asks the issuer.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import urllib3
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from everlode.api.tokens import Member, Role
from everlode.errors import ConfigError, EverlodeError, Unavailable

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "Ed25519")
SMALLEST_RSA = 2048
"""Bits; smaller keys are passed over."""
KEYS_S = 600.0
STALE_S = 24 * 3600.0
AGAIN_S = 10.0
LEEWAY_S = 30
"""By so much clocks may differ."""
LONGEST_TOKEN = 3_800
"""A browser's cookie takes no more."""
LONGEST_ANSWER = 500_000
LONGEST_NAME = 64
WELL_KNOWN = "/.well-known/openid-configuration"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LOG = logging.getLogger(__name__)
_HTTP = urllib3.PoolManager(timeout=urllib3.Timeout(5.0), retries=False)


class Trust(NamedTuple):
    """Which tokens count, and where they say whose they are."""

    issuer: str
    """Its URL, exactly as its tokens name it in `iss`."""
    audience: str
    """That `aud` must name."""
    roles: str = "roles"
    """The claim with roles, a list or words; `realm_access.roles` is looked for inside, too."""
    name: str = "sub"
    """The claim with who it is."""


class Refused(EverlodeError):
    """A token does not count; says why, and nothing of what it holds."""

    default_code = "unauthorized"


class Issuer:
    """An issuer, and its keys as they were last given. Thread-safe.

    Raises: ConfigError: the URL is none that could be trusted.
    """

    def __init__(self, trust: Trust, clock: Callable[[], float] = time.monotonic) -> None:
        _check_url(trust.issuer)
        self._trust, self._clock = trust, clock
        self._guard = threading.Lock()
        self._keys: KeySet | None = None
        self._at = self._tried_at = float("-inf")

    def open(self) -> Issuer:
        """Ask for the keys. Raises: Unavailable; ConfigError: it is not what it was said to be."""
        self._fetch()
        self._tried_at = self._clock()
        return self

    def member_of(self, token: str) -> Member:
        """Whose token it is; may ask the issuer. Raises: Refused; Unavailable: no keys for it."""
        if len(token) > LONGEST_TOKEN:
            raise Refused(f"the token has more than {LONGEST_TOKEN} characters")
        keys = self._keys_for(key_id_of(token))
        try:
            claims = jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims
        except (JoseError, ValueError, TypeError):
            raise Refused("it is not signed by a key of the issuer") from None
        return member_by(claims, self._trust)

    def needs_asking(self, token: str) -> bool:
        """Whether `member_of` might ask the issuer, and so take its time."""
        try:
            return self._is_wanted(key_id_of(token), self._clock())
        except Refused:
            return False

    def _keys_for(self, kid: Any) -> KeySet:
        if self._is_wanted(kid, self._clock()) and self._guard.acquire(blocking=False):
            try:
                self._fetch()
            except EverlodeError as error:
                _LOG.warning("the keys that are known go on to count: %s", error.message)
            finally:
                self._tried_at = self._clock()
                self._guard.release()
        elif self._guard.locked() and not self._knows(kid):
            raise Unavailable("the issuer's keys are being asked for", code="no_issuer")
        if self._keys is None or self._clock() - self._at > STALE_S:
            raise Unavailable(f"{self._trust.issuer} has not given its keys", code="no_issuer")
        return self._keys

    def _is_wanted(self, kid: Any, now: float) -> bool:
        if now - self._tried_at < AGAIN_S:
            return False
        return not self._knows(kid) or now - self._at > KEYS_S

    def _knows(self, kid: Any) -> bool:
        keys = self._keys.keys if self._keys is not None else ()
        return bool(keys) if kid is None else any(key.kid == kid for key in keys)

    def _fetch(self) -> None:
        issuer = self._trust.issuer
        about = _asked(issuer.rstrip("/") + WELL_KNOWN)
        if about.get("issuer") != issuer:
            raise ConfigError(
                f"{issuer} calls itself {str(about.get('issuer'))[:200]!r}",
                hint="--issuer exactly as it names itself, with or without the last slash",
            )
        url = str(about.get("jwks_uri", ""))
        _check_url(url)
        self._keys, self._at = keys_of(_asked(url)), self._clock()


def key_id_of(token: str) -> Any:
    """Which key a token says that it was signed with, unchecked; None: it does not say. Pure.

    Raises: Refused: it is no signed token.
    """
    try:
        return jws.extract_compact(token.encode()).headers().get("kid")
    except (JoseError, ValueError):
        raise Refused("it is no signed token") from None


def keys_of(document: Mapping[str, Any]) -> KeySet:
    """The keys of a JWKS document that can check a signature of ours. Pure.

    Shared secrets, keys for encryption, short ones and what we cannot read are passed over.
    """
    found: list[Any] = []
    given = document.get("keys")
    for entry in given if isinstance(given, list) else ():
        kinds = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
        kind: Any = kinds.get(str(entry.get("kty"))) if isinstance(entry, dict) else None
        if kind is None or entry.get("use", "sig") != "sig":
            continue
        try:
            key: Any = kind.import_key(entry)
            public = key.public_key
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            continue
        if kind is not RSAKey or public.key_size >= SMALLEST_RSA:
            found.append(key)
    return KeySet(found)


def member_by(claims: Mapping[str, Any], trust: Trust) -> Member:
    """Who a token's claims say it is. Pure, but for the wall clock. Raises: Refused: names why."""
    rules = jwt.JWTClaimsRegistry(
        leeway=LEEWAY_S,
        iss={"essential": True, "value": trust.issuer},
        aud={"essential": True, "value": trust.audience},
        exp={"essential": True},
    )
    try:
        rules.validate(dict(claims))
    except JoseError as error:
        raise Refused(f"a claim does not hold: {error.error} {_claim(error)}".strip()) from None
    name = _at(claims, trust.name)
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise Refused(f"its claim {trust.name} is no name of at most {LONGEST_NAME} characters")
    given = _at(claims, trust.roles)
    words = given.split() if isinstance(given, str) else given
    roles = [role for role in Role if isinstance(words, list) and role.value in words]
    if not roles:
        raise Refused(f"its claim {trust.roles} has none of the roles {', '.join(Role)}")
    return Member(name, roles[-1])


def _claim(error: JoseError) -> str:
    found = getattr(error, "claim", "")
    return found if found in {"iss", "aud", "exp", "nbf", "iat", "sub"} else ""


def _at(claims: Mapping[str, Any], name: str) -> Any:
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _check_url(url: str) -> None:
    """Raises: ConfigError: what comes from it could be anybody's."""
    try:
        parts = urlsplit(url)
        lawful = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    except ValueError:
        lawful = False
    if not lawful:
        raise ConfigError(
            f"{url[:200]!r}: an issuer is asked over https", hint="--issuer https://…"
        )


def _asked(url: str) -> dict[str, Any]:
    """A JSON document. Raises: Unavailable."""
    try:
        answer = _HTTP.request("GET", url, redirect=False, preload_content=False)
        try:
            text = answer.read(LONGEST_ANSWER + 1)
        finally:
            answer.release_conn()
        found = json.loads(text) if answer.status == 200 and len(text) <= LONGEST_ANSWER else None
    except (urllib3.exceptions.HTTPError, ValueError, RecursionError) as error:
        raise Unavailable(
            f"{url}: {type(error).__name__}", code="no_issuer", hint="does the issuer answer?"
        ) from None
    if not isinstance(found, dict):
        raise Unavailable(
            f"{url}: {answer.status}, or no JSON object", code="no_issuer",
            hint="--issuer is the URL that stands before /.well-known",
        )  # fmt: skip
    return found
