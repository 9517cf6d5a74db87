"""Health: each check by its name, with an answer in time whatever a check does."""

import asyncio
import json
from types import SimpleNamespace

from aiohttp.test_utils import TestClient, TestServer

from common.application.health import build_health_app, build_report, unready_reasons
from common.domain.errors import Unavailable


def a_bus(reason=""):
    return SimpleNamespace(unready_reason=reason, warning="")


async def ready():
    return None


async def fails():
    raise Unavailable("store", "gone")


async def hangs():
    await asyncio.Event().wait()


async def not_yet():
    return "still reading"


async def test_reasons_are_empty_when_every_check_passes():
    assert await unready_reasons(a_bus(), {"store": ready, "events": ready}) == {}


async def test_each_reason_is_reported_under_its_name():
    reasons = await unready_reasons(a_bus("not connected"), {"store": fails, "events": not_yet, "media": ready})

    assert reasons == {"bus": "not connected", "store": "store is unavailable: gone", "events": "still reading"}


async def test_a_check_that_hangs_is_reported_and_hides_no_other():
    reasons = await unready_reasons(a_bus(), {"media": hangs, "store": fails}, timeout_s=0.01)

    assert reasons == {"media": "no answer within 0.01 s", "store": "store is unavailable: gone"}


def test_a_report_has_a_status_and_the_reasons():
    assert build_report({}) == (200, {"status": "ok", "trouble": {}})
    warned = {"status": "ok", "trouble": {}, "warnings": {"bus": "a queue is full"}}
    assert build_report({}, warning="a queue is full") == (200, warned)
    assert build_report({"bus": "x"}) == (503, {"status": "unavailable", "trouble": {"bus": "x"}})


async def test_the_health_app_is_alive_while_it_is_not_ready():
    app = build_health_app(bus=a_bus(), store=SimpleNamespace(check=fails), media=SimpleNamespace(check=ready))

    async with TestClient(TestServer(app)) as client:
        alive = await client.get("/healthz")
        unready = await client.get("/readyz")
        metrics = await client.get("/metrics")

        assert (alive.status, json.loads(await alive.text())) == (200, {"status": "ok", "trouble": {}})
        assert unready.status == 503
        assert json.loads(await unready.text())["trouble"] == {"store": "store is unavailable: gone"}
        assert "python_gc_objects_collected_total" in await metrics.text()
