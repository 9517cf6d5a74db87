"""The models to choose from, while generators come and go."""

import pytest
from playwright.async_api import expect

from common.application.capabilities import Model
from common.runtime.clock import SystemClock
from common.store.connect import open_store
from tests.announcing import FakeGenerator
from tests.browser.inference_stub import InferenceStub

CLOCK = SystemClock()


@pytest.mark.long
@pytest.mark.parametrize("settings", [{}])  # a server of its own: the models stay known
async def test_the_list_of_models_follows_the_generators(cluster, visit, inference):
    """A second generator comes, stops and comes back, while the workers of the first are busy."""
    page = visit.page
    model = page.get_by_label("Model", exact=True)
    await expect(model.locator("option")).to_have_text(["SDXL", "Plain"])
    async with open_store(cluster.settings["STORE_URL"], timeout_s=5) as store:
        generator = FakeGenerator(store, CLOCK, "another")
        flux = Model(id="flux", name="Flux", samplers=("simple",), grid=64, max_width=512, max_height=512)
        await generator.offer(flux)
        await expect(model.locator("option")).to_have_text(["SDXL", "Plain", "Flux"])
        await model.select_option("flux")
        await expect(page.get_by_label("Sampler", exact=True)).to_have_value("simple")
        await expect(page.get_by_label("Width", exact=True)).to_have_value("512")

        await model.select_option("sdxl")
        busy = [InferenceStub(), InferenceStub()]
        inference.will(*busy)
        for number, stub in enumerate(busy):
            await visit.order(f"busy {number}")
            await stub.begun.wait()
        await model.select_option("flux")
        await generator.stop()
        await expect(model.locator("option")).to_have_text(["SDXL", "Plain", "Flux (not running)"])
        await expect(model).to_have_value("flux")
        card = await visit.order("waits for its generator")
        await expect(card).to_contain_text("no generator with this model is running")

        await generator.beat()
        await expect(model.locator("option")).to_have_text(["SDXL", "Plain", "Flux"])
        await expect(card).to_contain_text("Waiting in the queue")
        await expect(card).not_to_contain_text("no generator")
        for stub in busy:
            stub.finish()
