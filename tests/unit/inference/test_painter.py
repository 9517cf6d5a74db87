import hashlib
import io
import os
import subprocess
import sys

import pytest
from PIL import Image, ImageStat

from services.inference.engine import InferenceRequest, PaintedPicture, Stopped
from services.inference.painter import PainterEngine


def ordered(prompt: str = "a red boat on the sea", **fields) -> InferenceRequest:
    return InferenceRequest(**{"prompt": prompt, "width": 128, "height": 96, "steps": 6, "seed": 7, **fields})


def paint(order: InferenceRequest) -> PaintedPicture:
    return PainterEngine().paint(order, lambda *_: None)


def opened(picture: PaintedPicture) -> Image.Image:
    return Image.open(io.BytesIO(picture.content))


def mean(**fields) -> tuple[float, ...]:
    red, green, blue = ImageStat.Stat(opened(paint(ordered(**fields))).convert("RGB")).mean
    return red, green, blue


def test_paint_gives_the_same_bytes_in_every_process():
    order = ordered("owl, quixotic snow over a village at night")
    script = (
        "import hashlib, sys\n"
        "from services.inference.engine import InferenceRequest\n"
        "from services.inference.painter import PainterEngine\n"
        "order = InferenceRequest.model_validate_json(sys.argv[1])\n"
        "picture = PainterEngine().paint(order, lambda *_: None)\n"
        "print(hashlib.sha256(picture.content).hexdigest())\n"
    )

    run = subprocess.run(
        [sys.executable, "-c", script, order.model_dump_json()],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert run.stdout.strip() == hashlib.sha256(paint(order).content).hexdigest()


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "the red boat on the sea"},
        {"negative_prompt": "ugly"},
        {"seed": 8},
        {"steps": 7},
        {"cfg_scale": 7.0},
        {"sampler": "DDIM"},
        {"hires_fix": True},
    ],
)
def test_paint_answers_to_every_field(changed):
    assert paint(ordered(**changed)).content != paint(ordered()).content


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("size", [(64, 64), (512, 72), (72, 512)])
def test_paint_is_true_to_size_and_format(kind, size):
    picture = paint(ordered(width=size[0], height=size[1], format=kind))

    image = opened(picture)
    image.load()
    assert (image.size, image.format, image.mode) == (size, kind.upper(), "RGB")
    assert (picture.width, picture.height, picture.format) == (*size, kind)


@pytest.mark.parametrize("steps", [1, 4, 150])
def test_paint_tells_each_step_once(steps):
    told = []

    PainterEngine().paint(ordered(width=64, height=64, steps=steps), lambda step, of, *_: told.append((step, of)))

    assert told == [(step, steps) for step in range(1, steps + 1)]


def test_paint_stops_where_on_step_says_so():
    told = []

    def on_step(step: int, steps: int, *_) -> None:
        told.append(step)
        if step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        PainterEngine().paint(ordered(steps=30), on_step)
    assert told == [1, 2]


def test_paint_pauses_at_each_step_when_told_to():
    pauses: list[float] = []

    PainterEngine(step_delay_s=0.5, pause=pauses.append).paint(ordered(steps=3), lambda *_: None)

    assert pauses == [0.5, 0.5, 0.5]


def test_paint_takes_a_seed_and_says_which():
    taken = paint(ordered(seed=-1))

    assert 0 <= taken.seed < 2**32
    assert paint(ordered(seed=taken.seed)).content == taken.content


def test_paint_says_in_the_file_that_it_is_a_stand_in():
    text = opened(paint(ordered())).info

    assert text["Software"] == "Darkroom painter 1 (development stand-in, not a model)"
    assert "no model is involved" in text["Comment"]
    assert text["Seed"] == "7"


def test_paint_answers_to_colour_and_light():
    red, _, blue = mean(prompt="red abstract")
    assert red > blue + 30
    red, _, blue = mean(prompt="blue abstract")
    assert blue > red + 30
    assert sum(mean(prompt="sea at night")) < sum(mean(prompt="sea at noon")) / 2


def test_paint_avoids_the_colours_of_the_negative_prompt():
    red, green, blue = mean(prompt="sunset sea", negative_prompt="orange, red, yellow")
    warm_red, warm_green, warm_blue = mean(prompt="sunset sea")

    assert red / (red + green + blue) < warm_red / (warm_red + warm_green + warm_blue) - 0.03


@pytest.mark.parametrize(
    "prompt", ["🦊" * 4_000, "лиса в лесу", "月亮", " ", "no", "no no no cats", "((cat:1.3)), [sea]"]
)
def test_paint_takes_any_prompt(prompt):
    assert opened(paint(ordered(prompt, width=64, height=64))).size == (64, 64)


def test_capabilities_name_the_default_model_and_the_stand_in():
    can = PainterEngine().capabilities()

    assert [card.id for card in can.models] == ["sdxl", "painter"]
    assert "Euler" in can.samplers
    assert "stand-in" in can.notice
