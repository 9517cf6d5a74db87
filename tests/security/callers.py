"""Callers of the api: an identity provider, valid tokens, known forgeries."""

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER = "https://id.example.org"
AUDIENCE = "darkroom"
SECRET = "the-shared-secret-of-the-tests-0123456789"
SIGNING = "the-signing-secret-of-the-tests-0123456789"


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_keys() -> list[dict]:
    return [
        {**json.loads(RSAAlgorithm.to_jwk(rsa_key().public_key())), "kid": "rsa-1", "use": "sig", "alg": "RS256"},
        {**json.loads(ECAlgorithm.to_jwk(ec_key().public_key())), "kid": "ec-1", "use": "sig"},
    ]


class Provider:
    """An identity provider over HTTP: `/jwks`, and `/trap`, which nothing should fetch."""

    def __init__(self) -> None:
        self.url = ""
        self.keys = public_keys()
        self.fetched = 0
        self.trapped = 0
        self.answer: web.Response | None = None

    async def jwks(self, _request: web.Request) -> web.Response:
        self.fetched += 1
        return self.answer or web.json_response({"keys": self.keys})

    async def trap(self, _request: web.Request) -> web.Response:
        self.trapped += 1
        return web.json_response({"keys": self.keys})


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    app = web.Application()
    app.router.add_get("/jwks", made.jwks)
    app.router.add_get("/{trap:.*}", made.trap)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = "http://{}:{}".format(*runner.addresses[0][:2])
        yield made
    finally:
        await runner.cleanup()


def settings_of(provider: Provider | None = None) -> dict[str, str]:
    """Settings of identity: the shared secret, and the provider if there is one."""
    found = {"JWT_SECRET": SECRET, "JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE, "MEDIA_SIGNING_KEYS": SIGNING}
    return found | ({"JWT_JWKS_URL": f"{provider.url}/jwks"} if provider else {})


def claims(**fields) -> dict:
    """Valid claims; a field of None is left out."""
    now = int(time.time())
    found = {"sub": "ada", "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 600, **fields}
    return {name: value for name, value in found.items() if value is not None}


def token(owner="ada", **fields) -> str:
    """Signed with the shared secret."""
    return jwt.encode(claims(sub=owner, **fields), SECRET, algorithm="HS256")


def signed(algorithm="RS256", headers=None, **fields) -> str:
    """Signed by the provider."""
    key, kid = (rsa_key(), "rsa-1") if algorithm == "RS256" else (ec_key(), "ec-1")
    return jwt.encode(claims(**fields), key, algorithm=algorithm, headers={"kid": kid, **(headers or {})})


def by_hand(header: dict, payload: object, signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def hs256_with_the_public_key(form: str) -> str:
    """Algorithm confusion: the RS256 public key as an HS256 secret."""
    import hashlib
    import hmac

    key = rsa_key().public_key()
    as_pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    secret = as_pem if form == "pem" else json.dumps(public_keys()[0]).encode()
    unsigned = by_hand({"alg": "HS256", "typ": "JWT", "kid": "rsa-1"}, claims()).rstrip(".")
    digest = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def flipped(good: str) -> str:
    """The token with one bit of its signature flipped."""
    head, _, signature = good.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
    raw[7] ^= 1
    return f"{head}.{base64.urlsafe_b64encode(bytes(raw)).decode().rstrip('=')}"


def forgeries(trap: str) -> dict[str, str]:
    """Invalid tokens by their defect. `trap` is a URL that must never be fetched."""
    now = int(time.time())
    other_rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    their_jwk = json.loads(RSAAlgorithm.to_jwk(other_rsa.public_key()))
    good = token()
    return {
        "nothing at all": "",
        "one word": "ada",
        "three dots": "...",
        "expired": token(exp=now - 3600, iat=now - 7200),
        "expired, RS256": signed(exp=now - 3600),
        "not yet valid": token(nbf=now + 3600),
        "made in the future": token(iat=now + 3600),
        "no exp": token(exp=None),
        "exp is text": by_hand({"alg": "none"}, claims(exp="tomorrow")),
        "exp is true": jwt.encode(claims(exp=True), SECRET, algorithm="HS256"),
        "exp without end": jwt.encode(claims(exp=10**400), SECRET, algorithm="HS256"),
        "no sub": jwt.encode(claims(sub=None), SECRET, algorithm="HS256"),
        "sub is a number": jwt.encode(claims(sub=7), SECRET, algorithm="HS256"),
        "sub is a list": jwt.encode(claims(sub=["ada"]), SECRET, algorithm="HS256"),
        "sub is blank": token(" "),
        "sub has a NUL": token("ada\x00"),
        "sub is half a character": token("\ud800"),
        "sub is very long": token("a" * 256),
        "no iss": token(iss=None),
        "wrong iss": token(iss="https://evil.example.org"),
        "no aud": token(aud=None),
        "wrong aud": token(aud="another service"),
        "another secret": jwt.encode(claims(), "x" * 40, algorithm="HS256"),
        "HS512": jwt.encode(claims(), SECRET * 2, algorithm="HS512"),
        "another RSA key": jwt.encode(claims(), other_rsa, algorithm="RS256", headers={"kid": "rsa-1"}),
        "alg none": by_hand({"alg": "none", "typ": "JWT"}, claims()),
        "alg nOnE": by_hand({"alg": "nOnE", "typ": "JWT"}, claims()),
        "alg none, with a signature": by_hand({"alg": "none"}, claims(), b"signature"),
        "HS256 by the public key (PEM)": hs256_with_the_public_key("pem"),
        "HS256 by the public key (JWK)": hs256_with_the_public_key("jwk"),
        "ES256 by name, RSA key": by_hand({"alg": "ES256", "kid": "rsa-1"}, claims(), b"x" * 64),
        "ES256 of zeros": by_hand({"alg": "ES256", "kid": "ec-1"}, claims(), bytes(64)),
        "unknown kid": jwt.encode(claims(), other_rsa, algorithm="RS256", headers={"kid": "rsa-9"}),
        "kid is a path": signed(headers={"kid": "../../../../dev/null"}),
        "kid is a URL": signed(headers={"kid": f"{trap}/key"}),
        "kid is a number": by_hand({"alg": "RS256", "kid": 7}, claims(), b"x" * 256),
        "jku": jwt.encode(claims(), other_rsa, algorithm="RS256", headers={"kid": "their", "jku": f"{trap}/jku"}),
        "x5u": jwt.encode(claims(), other_rsa, algorithm="RS256", headers={"kid": "their", "x5u": f"{trap}/x5u"}),
        "jwk in the header": jwt.encode(claims(), other_rsa, algorithm="RS256", headers={"jwk": their_jwk}),
        "crit": signed(headers={"crit": ["our-own"], "our-own": True}),
        "flipped signature": flipped(good),
        "flipped signature, RS256": flipped(signed()),
        "no signature": good.rpartition(".")[0] + ".",
        "another payload": ".".join([good.split(".")[0], token("bob").split(".")[1], good.split(".")[2]]),
        "8 kB": token(more="x" * 5900),
        "a deep header": f"{'W1tb' * 900}.e30.AAAA",
        "a key that never was": "darkroom_0123456789ab_" + "0" * 48,
        "a key's beginning": "darkroom_",
    }
