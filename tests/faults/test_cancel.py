"""Cancel by REST or by a published command in every state of an image."""

import time

from common.domain.images import new_image_id
from common.messages import CancelImage
from common.runtime.clock import SystemClock
from tests.cluster import FrontEnd
from tests.faults.checker import check, until_quiet
from tests.faults.faulty_inference import LONG_S
from tests.faults.follower import following
from tests.media_folder import files_in
from tests.waiting import until


async def test_cancel_by_rest_and_by_command_in_every_state(cluster, http):
    """Two running, two queued: one of each is cancelled by REST, the other by command; a fifth image is untouched."""
    await cluster.add_painter(paint_s=0.02)
    for service in ("api", "generator", "janitor"):
        await cluster.add_service(service, GENERATOR_CONCURRENCY="2", INFERENCE_TIMEOUT="60")
    await cluster.start()
    page = FrontEnd(http, cluster.urls["api"])
    async with following(http, [page.url]) as follower, cluster.bus() as bus:
        running = [(await page.order(prompt="takes long"))["id"] for _ in range(2)]
        await until(lambda: len(cluster.painted("painting")) == 2)
        queued = [(await page.order())["id"] for _ in range(2)]
        kept = (await page.order())["id"]

        async def commanded(image_id: str) -> None:
            now = SystemClock().now()
            cancel = CancelImage(id=new_image_id(now), source="api", owner="local", subject=image_id, time=now)
            await bus.send(cancel)

        began = time.monotonic()
        cancelled = [*queued, *running]
        answers = []
        for by_rest, by_command in (
            queued,
            running,
        ):  # in this order, else a generator would be free for the queued images
            answers.append(await page.post(f"/api/images/{by_rest}/cancel/"))
            await commanded(by_command)
            for image_id in (by_rest, by_command):
                await follower.until_final(image_id).wait()
        took_s = time.monotonic() - began
        again = await page.post(f"/api/images/{running[0]}/cancel/")
        await commanded(running[0])
        image = await page.final(kept)
        late = await page.post(f"/api/images/{kept}/cancel/")

        assert [(status, answer["was"]) for status, answer in answers] == [(200, "queued"), (200, "running")]
        assert took_s < LONG_S / 2  # long before the images could be finished
        assert [(status, answer["imageStatus"]) for status, answer in (again, late)] == [
            (409, "cancelled"),
            (409, "completed"),
        ]
        assert (image["status"], image["attempts"]) == ("completed", 1)
        await until_quiet(cluster.direct_settings)
        found = await check(
            cluster.direct_settings, accepted=[*cancelled, kept], shown=follower.shown, painted=cluster.painted()
        )
    assert found.violations == []
    assert set(cluster.painted()) == {kept}  # the calls were dropped: no cancelled image was painted to its end
    assert len(files_in(cluster.media)) == 2
