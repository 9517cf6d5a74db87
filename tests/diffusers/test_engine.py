"""The engine itself, on tiny models."""

import hashlib
import logging
import shutil
import threading
import types
import weakref
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
import torch
from PIL import Image

from common.runtime.clock import SystemClock
from services.diffusers_engine import pipelines
from services.diffusers_engine.engine import open_engine
from services.diffusers_engine.model_files import Family
from services.diffusers_engine.previews import LatentColours
from services.diffusers_engine.prompts import as_embeddings
from services.diffusers_engine.samplers import samplers_of
from services.inference.engine import InferenceRequest, OrderRefused, Stopped

FAMILIES = ("sd", "sdxl", "flux")
SAMPLERS = samplers_of(Family.SD)


@pytest.fixture(scope="module")
def engine(models):
    return open_engine(models, max_loaded=6, clock=SystemClock())


def ordered(model, **fields):
    order = {"prompt": "a lighthouse at dusk", "width": 64, "height": 64, "steps": 4, "seed": 7, "model": model}
    return InferenceRequest(**order | fields)


class Watched:
    """What an engine reports while it paints."""

    def __init__(self, *, look_at=(), stop_at=None):
        self.reports: list[tuple[int, int]] = []
        self.previews: list[bytes] = []
        self._look_at, self._stop_at = look_at, stop_at

    def __call__(self, step, steps, show=None):
        self.reports.append((step, steps))
        if step == self._stop_at:
            raise Stopped
        if step in self._look_at:
            self.previews.append(show().content)

    @property
    def steps(self):
        """The number of steps, if each was reported once and in order, after step 0."""
        (last, steps) = self.reports[-1]
        assert self.reports[1:] == [(step, steps) for step in range(1, steps + 1)]
        assert self.reports[0][0] == 0
        return last


def painted(engine, model, **fields):
    watched = Watched()
    picture = engine.paint(ordered(model, **fields), watched)
    return hashlib.sha256(picture.content).hexdigest(), watched.steps


def opened(content):
    image = Image.open(BytesIO(content))
    image.load()
    return image


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_has_the_size_and_format_of_the_order(engine, model, kind):
    picture = engine.paint(ordered(model, width=128, height=192, format=kind, steps=1), Watched())

    image = opened(picture.content)
    assert (image.format, image.size, image.mode) == (kind.upper(), (128, 192), "RGB")
    assert (picture.width, picture.height, picture.seed, picture.format) == (128, 192, 7, kind)


@pytest.mark.parametrize("model", FAMILIES)
def test_a_seed_is_a_picture(engine, model):
    first, again, other = (painted(engine, model, seed=seed) for seed in (7, 7, 8))

    assert first == again != other


@pytest.mark.parametrize("model", FAMILIES)
def test_the_prompt_makes_the_picture(engine, model):
    assert painted(engine, model, prompt="a cat") != painted(engine, model, prompt="a dog")


@pytest.mark.parametrize("model", FAMILIES)
def test_the_end_of_a_long_prompt_counts(engine, model):
    """400 letters are 400 tokens of the tiny models; the text encoders of Stable Diffusion read 77 at a time."""
    prompt = "abcdefghij " * 40

    assert painted(engine, model, prompt=prompt + "x") != painted(engine, model, prompt=prompt + "y")


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_the_end_of_a_long_negative_prompt_counts(engine, model):
    negative = "abcdefghij " * 20

    assert painted(engine, model, negative_prompt=negative + "x") != painted(
        engine, model, negative_prompt=negative + "y"
    )


@pytest.mark.parametrize("model", ["sd", "sdxl"])
@pytest.mark.parametrize("negative", ["", "blurry"])
def test_prompts_are_encoded_as_diffusers_does(engine, model, negative, monkeypatch):
    """Chunks change nothing for a prompt that fits into one."""
    plain = painted(engine, model, negative_prompt=negative)
    with engine._loaded.use(model) as loaded:
        pipeline = loaded.text_to_image
    monkeypatch.setattr(
        "services.diffusers_engine.engine.prompt_arguments",
        lambda *_: as_embeddings(pipeline, "a lighthouse at dusk", negative, count=1),
    )

    assert painted(engine, model, negative_prompt=negative) == plain


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_the_negative_prompt_changes_the_picture(engine, model):
    assert painted(engine, model, negative_prompt="blurry") != painted(engine, model)


def test_a_chosen_seed_is_returned(engine):
    picture = engine.paint(ordered("sd", seed=-1), Watched())

    assert picture.content == engine.paint(ordered("sd", seed=picture.seed), Watched()).content


# Two half steps for one, except for the last: Heun, DPM2 and DPM++ SDE; PNDM takes one more.
EXTRA = {"Heun": 4, "DPM2": 4, "DPM2 a": 4, "DPM++ SDE": 4, "PNDM": 1}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_paints(engine, sampler):
    """With and without hires fix: each step is reported once, and a seed gives its bytes after other samplers too."""
    order = {"sampler": sampler, "steps": 5}
    plain, high = painted(engine, "sd", **order), painted(engine, "sd", **order, hires_fix=True, width=128, height=128)
    painted(engine, "sd", sampler="DPM++ 2M SDE Karras", steps=2)

    extra = EXTRA.get(sampler.removesuffix(" Karras"), 0)
    assert plain[1] == 5 + extra
    assert high[1] == plain[1] + 2 + {4: 1, 1: 1}.get(extra, 0)
    assert painted(engine, "sd", **order) == plain
    assert painted(engine, "sd", **order, hires_fix=True, width=128, height=128) == high


@pytest.mark.parametrize("sampler", ["LCM", "TCD", "Euler", "PNDM"])
def test_many_steps_are_taken(engine, sampler):
    """LCM and TCD choose their steps among 50, unless more are ordered."""
    assert painted(engine, "sd", sampler=sampler, steps=150)[1] == 150 + EXTRA.get(sampler, 0)


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_one_step_of_any_scale_paints(engine, model, scale):
    assert painted(engine, model, steps=1, cfg_scale=scale)[1] == 1
    assert painted(engine, model, steps=1, cfg_scale=scale, hires_fix=True, width=80)[1] == 2


def test_samplers_paint_different_pictures(engine):
    pictures = {sampler: painted(engine, "sd", sampler=sampler, steps=5)[0] for sampler in SAMPLERS}

    same = [one for one in pictures for other in pictures if one < other and pictures[one] == pictures[other]]
    assert same == []


@pytest.mark.parametrize("model", ["sdxl", "flux"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_hires_fix_is_two_passes(engine, model, steps):
    order = {"steps": steps, "hires_fix": True, "width": 128, "height": 192}
    first, again = painted(engine, model, **order), painted(engine, model, **order)

    assert first == again
    assert first[1] == {1: 2, 3: 5}[steps]
    assert first[0] != painted(engine, model, **order | {"hires_fix": False})[0]


@pytest.mark.parametrize("model", FAMILIES)
def test_previews_are_small_pictures(engine, model):
    watched = Watched(look_at=(1, 3))
    engine.paint(ordered(model, width=128, height=64), watched)

    first, later = (opened(content) for content in watched.previews)
    assert (first.format, first.size) == ("JPEG", (256, 128))
    assert later.tobytes() != first.tobytes()
    assert max(map(len, watched.previews)) < 64 * 1024


class LinearVAE:
    """Latents that are colours, mixed: the map of previews can be exact."""

    dtype = torch.float16
    config = types.SimpleNamespace(shift_factor=0.1, scaling_factor=0.5)
    mix = torch.tensor([[0.9, 0.1, -0.4], [-0.3, 0.8, 0.2], [0.5, -0.2, 0.7], [0.1, 0.1, 0.1]])

    def to(self, dtype):
        self.dtype = dtype

    def encode(self, pictures):
        assert self.dtype is torch.float32
        small = torch.nn.functional.avg_pool2d(pictures, 8)
        mean = torch.einsum("lc,ncyx->nlyx", self.mix, small)
        return types.SimpleNamespace(latent_dist=types.SimpleNamespace(mode=lambda: mean))


def test_previews_have_the_colours_of_the_picture():
    vae = LinearVAE()
    colours = LatentColours.of(vae)
    picture = torch.zeros(1, 3, 128, 128)
    picture[:, 0, :64], picture[:, 2, 64:] = 1, 0.5  # red above, dark blue below
    vae.to(torch.float32)
    latents = (vae.encode(picture * 2 - 1).latent_dist.mode() - 0.1) * 0.5

    preview = opened(colours.preview(latents, (128, 128)).content)

    for place, expected in (((128, 60), (255, 0, 0)), ((128, 200), (0, 0, 128))):
        assert all(abs(got - want) <= 4 for got, want in zip(preview.getpixel(place), expected, strict=True))


def test_models_are_painted_with_at_the_same_time(models):
    """Two threads, two models: the pictures are those that each paints by itself."""
    engine = open_engine(models, max_loaded=2, clock=SystemClock())
    both = threading.Barrier(2)

    def paint(model):
        def on_step(step, _steps, _show=None):
            if step == 1:
                both.wait(60)

        return engine.paint(ordered(model), on_step).content

    for model in ("sd", "sdxl"):
        engine.paint(ordered(model), Watched())
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(paint, ("sd", "sdxl")))

    assert together == [engine.paint(ordered(model), Watched()).content for model in ("sd", "sdxl")]


def test_orders_for_many_models_load_one_at_a_time(models):
    """Four threads, room for two: loading changes torch for the whole process, so nothing else runs meanwhile."""
    engine = open_engine(models, max_loaded=2, clock=SystemClock())
    wanted = [*FAMILIES, "sd-file"] * 2

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda model: engine.paint(ordered(model), Watched()).content, wanted))

    assert together == [engine.paint(ordered(model), Watched()).content for model in wanted]


def test_a_stopped_picture_leaves_the_model_usable(engine):
    expected, watched = painted(engine, "sd"), Watched(stop_at=2)

    with pytest.raises(Stopped):
        engine.paint(ordered("sd"), watched)

    assert watched.reports == [(0, 4), (1, 4), (2, 4)]
    assert painted(engine, "sd") == expected


def test_the_models_in_memory_are_bounded(models, caplog):
    """Three models with room for one: the one before is released, and comes back with the same picture."""
    caplog.set_level(logging.INFO)
    engine = open_engine(models, max_loaded=1, clock=SystemClock())
    first = {}
    for model in FAMILIES:
        first[model] = painted(engine, model)
        assert engine._loaded.loaded == (model,)
    again = {model: painted(engine, model) for model in FAMILIES}

    assert again == first
    said = [record.getMessage() for record in caplog.records]
    assert "loading model sd (sd) on cpu ..." in said
    assert sum(text.startswith("released model") for text in said) == 5


def test_released_weights_leave_the_memory(models):
    engine, held = open_engine(models, max_loaded=1, clock=SystemClock()), []
    for model in ("sd", "sdxl", "flux", "sd"):
        engine.paint(ordered(model, steps=1), Watched())
        with engine._loaded.use(model) as loaded:
            held.append(weakref.ref(loaded.text_to_image.vae))
        del loaded

    assert [vae() is not None for vae in held] == [False, False, False, True]


@pytest.mark.parametrize("model", FAMILIES)
def test_a_single_file_paints_as_its_folder(engine, model):
    """Written with the names of the original checkpoints, and read with the configuration of the folder beside it."""
    order = {"sampler": "Euler", "hires_fix": True, "width": 128}

    assert painted(engine, f"{model}-file", **order) == painted(engine, model, **order)


def test_capabilities_name_the_models_and_their_limits(engine):
    cards = {card.id: card for card in engine.capabilities().models}

    assert set(cards) == {*FAMILIES, *(f"{model}-file" for model in FAMILIES)}
    assert {name: (card.grid, card.negative_prompt, card.hires_fix) for name, card in cards.items()} == {
        **dict.fromkeys(("sd", "sd-file", "sdxl", "sdxl-file"), (8, True, True)),
        **dict.fromkeys(("flux", "flux-file"), (16, False, True)),
    }
    assert cards["flux"].samplers == cards["flux-file"].samplers == ("Euler",)
    assert engine.capabilities().engine.startswith("diffusers ")


def test_weights_that_do_not_fit_the_model_are_refused(models, tmp_path, caplog):
    shutil.copytree(models / "sd", tmp_path / "odd")
    shutil.copytree(models / "sd", tmp_path / "sound")
    unet = "unet/diffusion_pytorch_model.safetensors"
    shutil.copyfile(models / "sdxl" / unet, tmp_path / "odd" / unet)
    engine = open_engine(tmp_path, max_loaded=1, clock=SystemClock())

    for _ in range(2):
        with pytest.raises(OrderRefused, match="the model odd cannot be loaded"):
            engine.paint(ordered("odd"), Watched())

    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True, True]
    assert painted(engine, "sound")[1] == 4


def test_files_that_disappear_are_refused(models, tmp_path):
    shutil.copytree(models / "sd", tmp_path / "gone")
    engine = open_engine(tmp_path, max_loaded=1, clock=SystemClock())
    shutil.rmtree(tmp_path / "gone")

    with pytest.raises(OrderRefused, match="the model gone cannot be loaded"):
        engine.paint(ordered("gone"), Watched())


@pytest.fixture
def memory(monkeypatch):
    """The number of passes through a UNet that fail for want of memory."""
    left = {"failures": 0}
    forward = torch.nn.Conv2d.forward

    def limited(module, latents):
        if left["failures"] > 0:
            left["failures"] -= 1
            raise torch.OutOfMemoryError("out of memory")
        return forward(module, latents)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", limited)
    return left


def test_a_picture_too_large_for_the_memory_is_refused(models, memory):
    engine = open_engine(models, max_loaded=1, clock=SystemClock())
    expected = painted(engine, "sd")
    memory["failures"] = 1

    with pytest.raises(OrderRefused, match="out of memory: a picture of 64 × 64"):
        engine.paint(ordered("sd"), Watched())

    assert painted(engine, "sd") == expected


def test_idle_models_are_released_before_giving_up(models, memory):
    engine = open_engine(models, max_loaded=2, clock=SystemClock())
    expected = painted(engine, "sd")
    painted(engine, "sdxl")
    memory["failures"] = 1

    assert engine.paint(ordered("sd"), Watched()).content
    assert engine._loaded.loaded == ("sd",)
    assert painted(engine, "sd") == expected


def test_out_of_memory_is_told_from_other_errors():
    big = 2**62

    with pytest.raises(RuntimeError) as caught:
        torch.empty(big, dtype=torch.uint8)

    assert pipelines.is_out_of_memory(caught.value)
    assert pipelines.is_out_of_memory(MemoryError())
    assert not pipelines.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
