"""The validation of a request: both spellings and exact types."""

import pytest
from pydantic import ValidationError

from common.domain.requests import MAX_SEED, GenerationRequest


def test_defaults_are_the_playgrounds():
    assert GenerationRequest(prompt="a").model_dump() == {
        "prompt": "a",
        "negative_prompt": "",
        "model": "sdxl",
        "width": 1024,
        "height": 1024,
        "steps": 30,
        "cfg_scale": 7.5,
        "sampler": "Euler",
        "seed": -1,
        "num_images": 1,
        "hires_fix": False,
    }


def test_snake_case_and_camel_case_are_alike():
    snake = GenerationRequest.model_validate({"prompt": "a", "cfg_scale": 5, "hires_fix": True, "num_images": 10})
    camel = GenerationRequest.model_validate({"prompt": "a", "cfgScale": 5, "hiresFix": True, "numImages": 10.0})

    assert snake == camel


def test_a_whole_float_is_an_integer_as_in_json_schema():
    assert GenerationRequest.model_validate({"prompt": "a", "width": 320.0}).width == 320


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ""},
        {"prompt": "   "},
        {"prompt": "a" * 4001},
        {"prompt": "nul \x00"},
        {"prompt": "bell \x07"},
        {"prompt": "\ud800"},
        {"prompt": None},
        {"width": "512"},
        {"width": 513},
        {"width": 8},
        {"width": 320.5},
        {"steps": 0},
        {"steps": True},
        {"seed": False},
        {"seed": -2},
        {"seed": MAX_SEED + 1},
        {"cfg_scale": float("nan")},
        {"cfg_scale": -1},
        {"num_images": 0},
        {"num_images": 11},
        {"num_images": 2.5},
        {"num_images": True},
        {"hires_fix": 1},
        {"styles": []},
    ],
    ids=str,
)
def test_what_cannot_be_taken_is_refused(fields):
    with pytest.raises(ValidationError):
        GenerationRequest.model_validate({"prompt": "a", **fields})


def test_a_seed_is_drawn_where_none_is_named():
    seeds = {GenerationRequest(prompt="a").parameters().seed for _ in range(5)}

    assert len(seeds) > 1
    assert all(0 <= seed <= MAX_SEED for seed in seeds)
