"""The choice of the adapter by the scheme of the URL."""

import pytest

from common.bus.connect import open_bus
from common.bus.memory import MemoryBus
from common.domain.errors import Misconfigured
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings


async def test_the_scheme_of_the_url_chooses_the_adapter():
    async with open_bus(Settings(bus_url="memory://"), name="test", clock=SystemClock()) as bus:
        assert isinstance(bus, MemoryBus)


@pytest.mark.parametrize("url", ["", "http://localhost", "kafka://localhost"])
async def test_an_unknown_scheme_is_misconfigured(url: str):
    with pytest.raises(Misconfigured, match=r"BUS_URL: .* is not supported"):
        open_bus(Settings(bus_url=url), name="test", clock=SystemClock())


@pytest.mark.parametrize("url", ["amqp://", "amqp:///vhost", "amqp://guest:secret@host:port/", "amqp://a:secret@b:0/"])
async def test_a_url_without_an_address_is_refused_without_its_secret(url: str):
    with pytest.raises(Misconfigured, match="BUS_URL") as raised:
        async with open_bus(Settings(bus_url=url), name="test", clock=SystemClock()):
            pytest.fail("the bus opened")
    assert "secret" not in raised.value.detail
