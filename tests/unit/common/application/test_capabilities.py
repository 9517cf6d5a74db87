"""The texts of an inference service's capabilities, as the api shows them."""

import json

import pytest

from common.application.capabilities import MAX_MODELS, MAX_NAME, MAX_SAMPLERS, parse_capabilities
from common.domain.texts import MAX_DETAIL

ODD = [
    "x" * 100_000,
    "two\r\nlines",
    "\x1b[2J\x1b]0;title\x07",
    "\u202egnp.exe",
    "a\u2028b",
    "nul\0",
    "\x9b31m",
    "half \ud800",
    "",
]


@pytest.mark.border(rule="B5")
@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_texts_of_capabilities_are_cleaned(text):
    model = {"id": "sdxl", "name": text, "samplers": ["Euler", text]}
    sent = {"engine": text, "notice": text, "models": [model, {"id": text}], "samplers": [text, "DDIM"]}

    found = parse_capabilities(json.dumps(sent).encode())

    (kept,) = found.models
    assert (kept.id, kept.samplers, found.samplers) == ("sdxl", ("Euler",), ("DDIM",))
    for shown in (found.engine, found.notice, kept.name):
        assert shown is None or (len(shown) <= MAX_DETAIL and shown.isprintable())


@pytest.mark.border(rule="B5")
def test_the_number_of_names_is_bounded():
    many = [f"{number}-{'n' * (MAX_NAME // 2)}" for number in range(2 * MAX_MODELS)]

    found = parse_capabilities(json.dumps({"models": [{"id": name} for name in many], "samplers": many}).encode())

    assert ([model.id for model in found.models], list(found.samplers)) == (many[:MAX_MODELS], many[:MAX_SAMPLERS])


@pytest.mark.border(rule="B5")
@pytest.mark.parametrize(
    "body",
    [
        "[",
        "[]",
        "null",
        '{"models": {"id": "a"}}',
        '{"models": [{"name": "no id"}]}',
        '{"samplers": ["a", 5]}',
        "[" * 100_000,
        b"\xff\xfe",
        b" " * 2_000_000,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_other_answers_are_no_capabilities(body):
    assert parse_capabilities(body if isinstance(body, bytes) else body.encode()) is None
