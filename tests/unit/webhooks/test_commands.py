"""What users are shown of webhooks: `darkroom webhooks`, the verification in docs/webhooks.md."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pytest

from common.application.webhooks.deliveries import Deliveries, DeliveryState, DeliveryTry
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from common.store.sqlite import SqliteStore
from services.cli.main import main
from services.webhooks.signing import new_secret, signed_headers
from tests.making import an_image
from tests.unit.webhooks.support import OLD_SECRET, SECRET, delivering, receiving, recorded, tried

DOCUMENT = Path(__file__).parents[3] / "docs/webhooks.md"


def test_deliveries_are_listed_and_replayed(tmp_path, monkeypatch, capsys):
    """One delivery has failed; the list shows it without its secret path, and a replay opens it again."""
    monkeypatch.setenv("STORE_URL", f"sqlite:///{tmp_path}/darkroom.db")
    clock = SystemClock()
    image = an_image(created_at=clock.now(), webhook="https://example.org/secret?token=7")

    async def prepare():
        async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=30) as store:
            ids = await recorded(store, clock, image.webhook, image=image, types=("image.started", "image.failed"))
            deliveries = Deliveries(store, clock)
            delivery = await deliveries.get(ids[0])
            assert delivery
            made = DeliveryTry(at=clock.now(), took_s=0.5, error="timeout")
            await deliveries.reschedule(delivery, None, state=DeliveryState.FAILED, tried=10, tries=(made,))
            return ids

    async def state_of(delivery_id):
        async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=30) as store:
            found = await Deliveries(store, clock).get(delivery_id)
            assert found
            assert found.due_at
            return found.state, found.tried, len(found.tries), found.due_at <= clock.now()

    first, second = asyncio.run(prepare())
    assert main(["webhooks", "list"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[:4] for line in listed.splitlines()] == [
        [first, "image.started", "example.org", "failed"],
        [second, "image.failed", "example.org", "open"],
    ]
    assert "secret" not in listed
    assert main(["webhooks", "list", image.id, "--state", "failed"]) == 0
    assert "timeout  0.500 s" in capsys.readouterr().out
    assert main(["webhooks", "replay", first]) == 0
    assert asyncio.run(state_of(first)) == (DeliveryState.OPEN, 0, 1, True)
    assert main(["webhooks", "replay", "0194684c-8a00-7c3e-9d3a-2f6f5a3b7c11.9"]) == 1
    assert "there is no delivery" in capsys.readouterr().err


def test_a_new_secret_is_one_that_the_settings_accept(capsys):
    assert main(["webhooks", "secret"]) == 0
    secret = capsys.readouterr().out.strip()

    assert read_settings({"WEBHOOK_SECRETS": f"{secret}, {SECRET}"}).webhook_secrets == (secret, SECRET)
    assert secret != new_secret()


async def test_the_documents_verification_accepts_what_is_delivered(store):
    """The function in Python; tests/client/test_verification.py runs that in JavaScript."""
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(block, DOCUMENT.name, "exec"), names)
    verified = names["verified"]
    clock = SystemClock()
    async with receiving() as receiver:
        image = an_image(created_at=clock.now(), prompt="a lighthouse, 灯台", webhook=receiver.url())
        (delivery_id,) = await recorded(store, clock, image.webhook, image=image)
        async with delivering(store, clock):
            await tried(Deliveries(store, clock), delivery_id)
    ((headers, body),) = receiver.got

    for secret in (SECRET, OLD_SECRET):
        assert verified(body, headers, secret)["data"]["prompt"] == image.prompt
    old = signed_headers(delivery_id, body.decode(), keys=[SECRET], now=clock.now() - timedelta(minutes=6))
    for changed in (
        {"body": body + b" "},
        {"secret": new_secret()},
        {"headers": {**headers, "webhook-id": "id.5"}},
        {"headers": {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}},
        {"headers": {**headers, "webhook-signature": "v1,"}},
        {"headers": old},
    ):
        with pytest.raises(ValueError, match=r"wrong|old"):
            verified(**{"body": body, "headers": headers, "secret": SECRET, **changed})
