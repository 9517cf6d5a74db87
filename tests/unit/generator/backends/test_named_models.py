import pytest

from common.application.capabilities import Capabilities, Model
from common.domain.errors import Denied, Rejected
from services.generator.backends.named_models import NamedModels, renamed
from services.generator.inference.port import GeneratedImage
from tests.making import a_job

NAMES = {"sdxl": "sd_xl_base_1.0.safetensors", "anime": "anime.safetensors"}


class Recording:
    def __init__(self) -> None:
        self.jobs: list = []

    async def capabilities(self, *, fresh=False):
        return Capabilities(models=(Model(id=NAMES["sdxl"], grid=8), Model(id="other")))

    async def generate(self, job, on_progress, on_preview=None):
        self.jobs.append(job)
        return GeneratedImage(b"", model=job.model)

    async def stop(self, job) -> None:
        self.jobs.append(job)


async def test_models_are_offered_and_ordered_under_their_names():
    """Only those that have a name of ours; one that the server lacks is left out."""
    recording = Recording()
    backend = NamedModels(recording, NAMES)

    assert (await backend.capabilities()).models == (Model(id="sdxl", grid=8),)
    painted = await backend.generate(a_job(model="sdxl"), lambda *_: None)
    await backend.stop(a_job(model="sdxl"))
    assert (painted.model, {job.model for job in recording.jobs}) == ("sdxl", {NAMES["sdxl"]})
    with pytest.raises(Rejected, match="'other' is not one"):
        await backend.generate(a_job(model="other"), lambda *_: None)


async def test_wrong_names_fail_no_image():
    backend = NamedModels(Recording(), {"sdxl": "misspelt"})

    with pytest.raises(Denied):
        await backend.generate(a_job(model="sdxl"), lambda *_: None)


def test_a_server_without_a_list_has_the_named_models():
    assert renamed(Capabilities(), NAMES).models == (Model(id="sdxl"), Model(id="anime"))


def test_a_server_with_none_of_the_models_is_refused():
    """An empty list of models would mean that it takes all of them."""
    with pytest.raises(Denied) as raised:
        renamed(Capabilities(models=(Model(id="other"),)), NAMES)

    assert "it has other" in raised.value.reason
