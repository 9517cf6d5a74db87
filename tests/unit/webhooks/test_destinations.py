"""The addresses that an order may name."""

import hashlib

import pytest
from pydantic import ValidationError

from common.application.webhooks.destinations import Destinations, is_public
from common.domain.errors import Forbidden
from common.domain.requests import GenerationRequest
from common.runtime.reading_settings import read_settings
from common.store.documents import image_document, image_text, parse_image, read_image
from tests.making import an_image
from tests.unit.webhooks.support import SECRET

LOCAL = Destinations(True, ("hooks.internal", "*.test", "127.0.0.1"))


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org",
        "https://example.org:8443/a?b=c&d=%20",
        "https://93.184.215.14/",
        "http://hooks.internal/",
        "http://HOOKS.internal:1/",
        "http://a.test/",
        "https://127.0.0.1/",
        None,
    ],
)
def test_these_addresses_are_accepted(url):
    GenerationRequest(prompt="x", webhook=url)
    LOCAL.require(url)


@pytest.mark.parametrize(
    "url", ["http://example.org/", "http://93.184.215.14/", "https://127.0.0.2/", "https://10.0.0.1"]
)
def test_these_addresses_are_refused_by_the_rules(url):
    GenerationRequest(prompt="x", webhook=url)
    with pytest.raises(Forbidden, match="webhook"):
        LOCAL.require(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://example.org/",
        "https://",
        "https:///path",
        "https://user:password@example.org/",
        "https://example.org/#part",
        "https://example.org:0/",
        "https://example.org:65536/",
        "https://example.org/a b",
        "https://example.org/a\n",
        "https://exämple.org/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://127.1/",
        "https://256.1.1.1/",
        "https://[::1]/",
        "https://example.org/" + "x" * 2000,
        "https://example.org\\@127.0.0.1/",
        7,
    ],
)
def test_these_are_no_addresses_of_webhooks(url):
    with pytest.raises(ValidationError):
        GenerationRequest(prompt="x", webhook=url)


def test_without_secrets_no_order_may_have_a_webhook():
    with pytest.raises(Forbidden, match="WEBHOOK_SECRETS"):
        Destinations.of(read_settings({})).require("https://example.org/")
    Destinations.of(read_settings({"WEBHOOK_SECRETS": SECRET})).require("https://example.org/")


def test_an_order_has_its_own_webhook_or_that_of_its_key():
    of_order, of_key = "https://example.org/order", "https://example.org/key"
    plain, named = GenerationRequest(prompt="x"), GenerationRequest(prompt="x", webhook=of_order)

    assert LOCAL.addressed(plain, webhook_of_key=None) == plain
    assert LOCAL.addressed(plain, webhook_of_key=of_key).webhook == of_key
    assert LOCAL.addressed(named, webhook_of_key=of_key) == LOCAL.addressed(named, webhook_of_key=None) == named
    off = Destinations.of(read_settings({}))
    assert off.addressed(plain, webhook_of_key=None) == plain
    with pytest.raises(Forbidden, match=r"the webhook of this API key: .*WEBHOOK_SECRETS") as refused:
        off.addressed(plain, webhook_of_key=of_key)
    assert refused.value.code == "webhook_refused"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.215.14", True),
        ("2606:4700::1111", True),
        ("::ffff:93.184.215.14", True),
        *(
            (address, False)
            for address in (
                "0.0.0.0",
                "10.1.2.3",
                "100.64.0.1",
                "127.0.0.1",
                "169.254.169.254",
                "172.31.0.1",
                "192.168.1.1",
                "198.18.0.1",
                "224.0.0.1",
                "240.0.0.1",
                "255.255.255.255",
                "::",
                "::1",
                "::ffff:10.0.0.1",
                "::ffff:169.254.169.254",
                "2002:a00:1::1",
                "2001:0:a00:1::1",
                "64:ff9b::7f00:1",
                "fc00::1",
                "fe80::1",
                "fe80::1%eth0",
                "ff02::1",
                "nonsense",
            )
        ),
    ],
)
def test_only_addresses_of_the_public_internet_are_public(address, expected):
    assert is_public(address) is expected


def test_an_order_without_a_webhook_is_written_as_before():
    """The hash of an order is compared over upgrades, and records of older releases have no such field."""
    request = GenerationRequest(prompt="x", seed=7)

    assert "webhook" not in request.model_dump_json()
    assert hashlib.sha256(request.model_dump_json().encode()).hexdigest() == (
        hashlib.sha256(
            b'{"prompt":"x","negative_prompt":"","model":"sdxl","width":1024,"height":1024,"steps":30,"cfg_scale":7.5,'
            b'"sampler":"Euler","seed":7,"num_images":1,"hires_fix":false}'
        ).hexdigest()
    )
    image = an_image()
    assert "webhook" not in image_document(image)
    assert parse_image(image_text(image)) == read_image(image_document(image)) == image
