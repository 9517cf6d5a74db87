"""Receivers with https: the certificate is that of the name, the connection goes to the address that was checked."""

import socket

import pytest

from common.application.webhooks.deliveries import DeliveryState
from tests.unit.webhooks.certificates import Authority
from tests.unit.webhooks.support import delivering, receiving, recorded, tried


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "tls")


def heard_names(context):
    """The names that clients ask this server for; None for a client that sends none."""
    names = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    return names


async def test_tls_is_for_the_name_and_the_address_is_the_checked_one(store, clock, deliveries, authority):
    """The name has another address at each look-up, where a receiver has the same certificate: it gets nothing."""
    looked_up = []

    def look_up(host, port, **_):
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{len(looked_up)}", port))]

    context = authority.server("hooks.test")
    names = heard_names(context)
    async with (
        receiving(tls=context) as receiver,
        receiving(host="127.0.0.2", port=receiver.port, tls=context) as other,
    ):
        (delivery_id,) = await recorded(store, clock, receiver.url("hooks.test"))
        async with delivering(store, clock, look_up=look_up, tls=authority.client):
            delivery = await tried(deliveries, delivery_id)

    assert delivery.state is DeliveryState.DELIVERED
    assert (looked_up, names) == (["hooks.test"], ["hooks.test"])
    assert (receiver.ids, other.got) == ([delivery_id], [])
    assert receiver.got[0][0]["Host"] == f"hooks.test:{receiver.port}"


async def test_an_address_in_the_url_has_a_certificate_of_its_own(store, clock, deliveries, authority):
    context = authority.server("127.0.0.1")
    names = heard_names(context)
    async with receiving(tls=context) as receiver:
        (delivery_id,) = await recorded(store, clock, receiver.url("127.0.0.1"))
        async with delivering(store, clock, tls=authority.client):
            delivery = await tried(deliveries, delivery_id)

    assert delivery.state is DeliveryState.DELIVERED
    assert names == [None]


@pytest.mark.parametrize(
    "certificate",
    [
        lambda authority: authority.server("other.test"),
        lambda authority: authority.server("127.0.0.1"),
        lambda authority: authority.server("hooks.test", days=-1),
        lambda authority: Authority(authority.folder / "other").server("hooks.test"),
    ],
    ids=["of another name", "of the address only", "expired", "of another authority"],
)
async def test_nothing_is_sent_to_a_wrong_certificate(store, clock, deliveries, authority, certificate):
    async with receiving(tls=certificate(authority)) as receiver:
        (delivery_id,) = await recorded(store, clock, receiver.url("hooks.test"))
        async with delivering(store, clock, tls=authority.client):
            delivery = await tried(deliveries, delivery_id)

    assert (delivery.state, delivery.tries[0].error) == (DeliveryState.OPEN, "tls_failed")
    assert receiver.got == []


async def test_a_receiver_that_speaks_no_tls_gets_nothing(store, clock, deliveries, authority):
    async with receiving() as receiver:
        url = receiver.url("hooks.test").replace("http:", "https:")
        (delivery_id,) = await recorded(store, clock, url)
        async with delivering(store, clock, tls=authority.client):
            delivery = await tried(deliveries, delivery_id)

    assert (delivery.state, delivery.tries[0].error) == (DeliveryState.OPEN, "tls_failed")
    assert receiver.got == []
