"""The lifetime of tokens and the keys of the provider; forged tokens are tested in tests/security."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from common.domain.errors import Unauthorized, Unavailable
from common.runtime.clock import ManualClock
from common.runtime.reading_settings import read_settings
from services.api.auth.jwks import COOLDOWN_S, STALE_S, Jwks, usable
from services.api.auth.tokens import Tokens
from tests.security import callers

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def clock():
    return ManualClock(NOW)


@pytest.fixture
def tokens(clock):
    return Tokens(read_settings(callers.settings_of()), jwks=None, clock=clock)


def at(seconds):
    return int((NOW + timedelta(seconds=seconds)).timestamp())


async def test_a_token_is_valid_until_its_expiry_and_the_leeway(tokens, clock):
    token = callers.token(exp=at(60), iat=at(0))

    claims = await tokens.verify(token)
    assert (claims.owner, claims.until) == ("ada", NOW + timedelta(seconds=90))
    clock.advance(89)
    await tokens.verify(token)
    clock.advance(1)
    with pytest.raises(Unauthorized):
        await tokens.verify(token)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_a_token_from_the_future_is_valid_within_the_leeway(tokens, claim):
    await tokens.verify(callers.token(**{"exp": at(600), "iat": at(0), claim: at(29)}))

    with pytest.raises(Unauthorized):
        await tokens.verify(callers.token(**{"exp": at(600), "iat": at(0), claim: at(31)}))


async def test_one_of_several_audiences_is_enough(tokens):
    assert (await tokens.verify(callers.token(exp=at(60), iat=at(0), aud=["another", "darkroom"]))).owner == "ada"


@pytest.fixture
async def provider():
    async with callers.provider() as provider:
        yield provider


@pytest.fixture
async def jwks(provider, clock):
    async with aiohttp.ClientSession() as http:
        yield Jwks(http, url=f"{provider.url}/jwks", clock=clock)


async def test_the_keys_are_fetched_once_for_many(provider, jwks):
    found = await asyncio.gather(*(jwks.key("rsa-1", "RS256") for _ in range(50)))

    assert {key.key_id for key in found} == {"rsa-1"}
    assert provider.fetched == 1


async def test_keys_are_replaced_without_a_restart(provider, jwks, clock):
    await jwks.key("rsa-1", "RS256")
    provider.keys = [{**provider.keys[0], "kid": "rsa-2"}]
    assert await jwks.key("rsa-2", "RS256") is None, "fetched a moment ago"

    clock.advance(COOLDOWN_S)

    assert (await jwks.key("rsa-2", "RS256")).key_id == "rsa-2"
    assert await jwks.key("rsa-1", "RS256") is None


async def test_unknown_kids_do_not_flood_the_provider(provider, jwks):
    for number in range(100):
        assert await jwks.key(f"forged-{number}", "RS256") is None

    assert provider.fetched == 1


async def test_a_key_serves_one_algorithm_only(jwks):
    assert await jwks.key("rsa-1", "ES256") is None
    assert await jwks.key("rsa-1", "HS256") is None
    assert (await jwks.key(None, "ES256")).key_id == "ec-1", "the only key for this algorithm"


async def test_keys_are_used_for_a_limited_time_without_the_provider(provider, jwks, clock):
    await jwks.key("rsa-1", "RS256")
    provider.answer = web.Response(status=500)

    clock.advance(COOLDOWN_S)
    assert await jwks.key("forged", "RS256") is None
    assert (await jwks.key("rsa-1", "RS256")).key_id == "rsa-1"
    clock.advance(STALE_S)
    with pytest.raises(Unavailable):
        await jwks.key("rsa-1", "RS256")


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500},
        {"status": 302, "headers": {"Location": "/trap"}},
        {"text": "<html>"},
        {"text": "[" * 100_000},
        {"text": '{"keys": 7}'},
        {"body": b" " * 300_000},
    ],
    ids=["500", "redirect", "html", "deep", "no list", "huge"],
)
async def test_an_answer_without_a_key_set_gives_no_key(provider, jwks, answer):
    provider.answer = web.Response(**answer)

    with pytest.raises(Unavailable):
        await jwks.key("rsa-1", "RS256")
    assert provider.trapped == 0, "a redirect is not followed"


def test_only_public_keys_for_signatures_are_used():
    good, ec = callers.public_keys()
    weak = RSAAlgorithm.to_jwk(
        rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key(), as_dict=True
    )
    private = RSAAlgorithm.to_jwk(callers.rsa_key(), as_dict=True)
    ignored = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "rsa-1"},
        {**good, "use": "enc"},
        {**good, "alg": "RS512"},
        {**good, "n": "!!"},
        {"kty": "RSA"},
        {**weak, "kid": "weak"},
        {**private, "kid": "private"},
        "a text",
        None,
    ]

    assert [key.key_id for key in usable({"keys": [*ignored, good, ec]})] == ["rsa-1", "ec-1"]
