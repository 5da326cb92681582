"""Tokens of an OpenID Connect issuer, a real one on the loopback: which count, and for whom."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from everlode.api import issuer as module
from everlode.api.guard import COOKIE, Guard, House
from everlode.api.issuer import AGAIN_S, KEYS_S, STALE_S, Issuer, Refused, Trust
from everlode.api.tokens import Member, Role
from everlode.errors import ConfigError, Unavailable
from tests.support.world.issuing import AUDIENCE, Key, SmallIssuer


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def there() -> Iterator[SmallIssuer]:
    with SmallIssuer() as found:
        yield found


@pytest.fixture(scope="module")
def key(there: SmallIssuer) -> Key:
    return there.new_key("one")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trusted(there: SmallIssuer, key: Key, clock: Clock) -> Issuer:
    there.down, there.named = False, there.url
    there.publish(key)
    found = Issuer(Trust(there.url, AUDIENCE), clock).open()
    there.asked = 0
    return found


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(there: SmallIssuer, header: dict[str, Any], secret: bytes | None) -> str:
    """A token as somebody makes it who has no key: unsigned, or signed with what is public."""
    claims = {
        "iss": there.url, "aud": AUDIENCE, "sub": "eve", "exp": int(time.time()) + 300,
        "roles": ["admin"],
    }  # fmt: skip
    text = f"{part(header)}.{part(claims)}"
    if secret is None:
        return f"{text}."
    return f"{text}.{part(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


@pytest.mark.parametrize(("kind", "alg"), [("RSA", "RS256"), ("RSA", "PS256"), ("EC", "ES256")])
def test_token_that_the_issuer_signed_counts_for_its_name_and_role(
    there: SmallIssuer, trusted: Issuer, clock: Clock, kind: str, alg: str
) -> None:
    another = there.new_key("another", kind)
    there.publish(another)
    clock.now += AGAIN_S
    assert trusted.member_of(there.token(another, alg)) == Member("ann", Role.OPERATOR)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iss": "https://elsewhere"}, "iss"), ({"iss": None}, "iss"),
        ({"aud": "others"}, "aud"), ({"aud": ["others", "more"]}, "aud"), ({"aud": None}, "aud"),
        ({"exp": int(time.time()) - 60}, "expired"), ({"exp": None}, "exp"),
        ({"exp": "never"}, "exp"), ({"nbf": int(time.time()) + 3600}, "claim"),
        ({"sub": None}, "sub"), ({"sub": ""}, "sub"), ({"sub": 7}, "sub"),
        ({"sub": "a\nb"}, "sub"), ({"sub": "x" * 65}, "sub"),
        ({"roles": None}, "roles"), ({"roles": []}, "roles"), ({"roles": ["root"]}, "roles"),
        ({"roles": {"admin": 1}}, "roles"), ({"roles": "administrator"}, "roles"),
    ],
)  # fmt: skip
def test_claim_that_does_not_hold_is_named(
    there: SmallIssuer, trusted: Issuer, key: Key, claims: dict[str, Any], why: str
) -> None:
    token = there.token(key, **claims)
    with pytest.raises(Refused, match=why) as caught:
        trusted.member_of(token)
    assert token not in caught.value.message


@pytest.mark.parametrize(
    ("roles", "role"),
    [
        (["viewer", "admin", "x"], Role.ADMIN),
        ("viewer operator", Role.OPERATOR),
        ("viewer", "viewer"),
    ],
)
def test_highest_role_counts_of_a_list_or_of_words(
    there: SmallIssuer, trusted: Issuer, key: Key, roles: Any, role: str
) -> None:
    assert trusted.member_of(there.token(key, roles=roles)).role == role
    assert trusted.member_of(there.token(key, aud=["x", AUDIENCE])).name == "ann"


def test_claims_may_lie_deeper_and_have_other_names(there: SmallIssuer, key: Key) -> None:
    there.publish(key)
    trust = Trust(there.url, AUDIENCE, "realm_access.roles", "https://id/name")
    token = there.token(
        key, roles=None, realm_access={"roles": ["viewer"]}, **{"https://id/name": "bob"}
    )
    assert Issuer(trust).open().member_of(token) == Member("bob", Role.VIEWER)


def test_token_without_a_signature_or_with_one_by_a_public_key_does_not_count(
    there: SmallIssuer, trusted: Issuer, key: Key
) -> None:
    public = [
        key.as_pem(private=False),
        key.as_der(private=False),
        json.dumps(there.keys[0]).encode(),
    ]
    made = [forged(there, {"alg": alg, "kid": "one"}, None) for alg in ("none", "None", "NONE", "")]
    made += [forged(there, {"alg": "HS256", "kid": "one"}, secret) for secret in (*public, b"")]
    made += [forged(there, {"alg": "HS256"}, secret) for secret in public]
    made += [
        forged(there, {"kid": "one"}, None),
        forged(there, {"alg": "RS256", "kid": "one"}, b"x"),
    ]
    own = there.new_key("one")
    jwk = own.as_dict(private=False)
    made += [there.token(own)]  # the right id, another key
    header, _, rest = there.token(own).partition(".")
    made += [f"{part({'alg': 'RS256', 'kid': 'one', 'jwk': jwk, 'jku': 'http://x'})}.{rest}"]
    good = there.token(key)
    head, body, signature = good.split(".")
    changed = part({"sub": "eve", "roles": ["admin"], "iss": there.url, "aud": AUDIENCE,
                    "exp": int(time.time()) + 300})  # fmt: skip
    made += [f"{head}.{changed}.{signature}", f"{head}.{body}.", good[:-4], f"{good}.x.y", ".."]
    made += ["", "x", "\udcff", "ä", "x" * 10_000]
    for token in made:
        with pytest.raises(Refused):
            trusted.member_of(token)
    assert trusted.member_of(good).name == "ann"
    assert header


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_shared_secret_or_a_short_key_among_the_keys_of_the_issuer_does_not_count(
    there: SmallIssuer, trusted: Issuer, key: Key, clock: Clock
) -> None:
    secret = b"a-secret-of-thirty-two-characters"
    short = there.new_key("short", size=1024)
    there.publish(key, short)
    there.keys += [{"kty": "oct", "kid": "oct", "k": part(secret)}, {"kty": "RSA"}, {}, 7]  # type: ignore[list-item]
    there.keys += [key.as_dict(private=False) | {"kid": "enc", "use": "enc"}]
    clock.now += AGAIN_S
    for token in (forged(there, {"alg": "HS256", "kid": "oct"}, secret), there.token(short)):
        with pytest.raises(Refused):
            trusted.member_of(token)
    assert trusted.member_of(there.token(key)).name == "ann"


def test_new_key_is_asked_for_and_a_withdrawn_one_ends(
    there: SmallIssuer, trusted: Issuer, key: Key, clock: Clock
) -> None:
    second = there.new_key("two", "EC")
    there.publish(key, second)
    clock.now += AGAIN_S
    assert trusted.member_of(there.token(second, "ES256")).name == "ann"
    assert there.asked == 1
    there.publish(second)
    assert trusted.member_of(there.token(key)).name == "ann"  # not asked again yet
    clock.now += KEYS_S + 1
    with pytest.raises(Refused):
        trusted.member_of(there.token(key))
    assert there.asked == 2


def test_unknown_keys_make_us_ask_seldom_however_many_there_are(
    there: SmallIssuer, trusted: Issuer, clock: Clock
) -> None:
    for number in range(50):
        with pytest.raises(Refused):
            trusted.member_of(forged(there, {"alg": "RS256", "kid": f"k{number}"}, b"x"))
        clock.now += AGAIN_S / 10
    assert there.asked <= 5


def test_issuer_that_is_away_is_not_needed_for_known_keys_for_a_day(
    there: SmallIssuer, trusted: Issuer, key: Key, clock: Clock
) -> None:
    there.down = True
    clock.now += KEYS_S + 1
    assert trusted.member_of(there.token(key)).name == "ann"
    clock.now += STALE_S
    with pytest.raises(Unavailable):
        trusted.member_of(there.token(key))
    there.down = False
    clock.now += AGAIN_S
    assert trusted.member_of(there.token(key)).name == "ann"


def test_issuer_that_is_not_what_it_was_said_to_be_is_refused_at_the_start(
    there: SmallIssuer, key: Key
) -> None:
    there.named = "https://elsewhere"
    with pytest.raises(ConfigError, match="calls itself"):
        Issuer(Trust(there.url, AUDIENCE)).open()
    there.named, there.down = there.url, True
    with pytest.raises(Unavailable):
        Issuer(Trust(there.url, AUDIENCE)).open()
    there.down = False
    for url in ("http://id.example", "ftp://127.0.0.1", "id.example", "", "http://[", "file:///x"):
        with pytest.raises(ConfigError, match="https"):
            Issuer(Trust(url, AUDIENCE))


async def route(scope: Scope, receive: Receive, send: Send) -> None:
    member = Request(scope).state.member
    await PlainTextResponse(f"{member.name} {member.role}")(scope, receive, send)


def test_door_asks_the_issuer_for_headers_and_cookies_and_says_why_it_does_not_count(
    there: SmallIssuer, trusted: Issuer, key: Key
) -> None:
    entries: list[Any] = []
    app = Guard(route, House(trusted, None, 100, entries.append))

    async def ask(headers: dict[str, str]) -> httpx.Response:
        way: Any = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=way, base_url="http://h") as client:
            return await client.get("/scopes", headers=headers)

    good, old = there.token(key), there.token(key, exp=int(time.time()) - 60)
    assert asyncio.run(ask({"Authorization": f"Bearer {good}"})).text == "ann operator"
    assert asyncio.run(ask({"Cookie": f"{COOKIE}={good}"})).text == "ann viewer"
    refused = asyncio.run(ask({"Authorization": f"Bearer {old}"}))
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert "expired" in refused.json()["detail"]
    assert old not in refused.text + repr(entries)
    assert len(good) < module.LONGEST_TOKEN
