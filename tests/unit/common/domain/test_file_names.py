"""The names of downloads and their header."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.file_names import content_disposition, first_words, picture_name, unlike
from tests.making import an_image


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a lighthouse at dusk, stormy sea", "a-lighthouse-at-dusk-stormy-sea"),
        ("one two three four five six seven eight nine", "one-two-three-four-five-six-seven-eight"),
        ('Cafe\u0301 / ../..\\x:*?"<>|\0\n', "Café-x"),
        ("夕焼けの灯台", "夕焼けの灯台"),
        ("हिन्दी चित्र", "हिन्दी-चित्र"),
        ("🦊 \u202e!", "picture"),
        ("x" * 99, "x" * 60),
    ],
)
def test_the_first_words_of_a_prompt(prompt, name):
    assert first_words(prompt) == name


def test_the_name_of_a_picture():
    image = an_image(prompt="a red, fox", image_file="generated_images/2025/01/x.webp")

    assert picture_name(image) == "a-red-fox-7.webp"
    assert picture_name(image, "jpg") == "a-red-fox-7.jpg"
    assert picture_name(an_image(prompt="fox")) == "fox-7.png"


def test_equal_names_get_a_number():
    taken: set[str] = set()

    assert [unlike(name, taken) for name in ("a.png", "A.png", "a.jpg", "a.png", "a-2.png")] == [
        "a.png",
        "A-2.png",
        "a.jpg",
        "a-3.png",
        "a-2-2.png",
    ]


@given(st.text(max_size=90))
def test_any_prompt_makes_a_header_that_gives_its_name(prompt):
    name = picture_name(an_image(prompt=prompt))
    header = content_disposition(name)

    assert header.isascii()
    assert header.isprintable()
    assert len(name.encode()) <= 255
    assert not set(name) & set('/\\:*?"<>|\0\r\n')
    kind, plain, *extended = header.split("; ")
    assert kind == "attachment"
    assert re.fullmatch(r'filename="[A-Za-z0-9][A-Za-z0-9._-]*"', plain)
    assert unquote(extended[0].removeprefix("filename*=UTF-8''") if extended else plain[10:-1]) == name


def test_old_clients_get_a_name_in_ascii():
    assert content_disposition("café-灯台-7.png") == (
        "attachment; filename=\"cafe--7.png\"; filename*=UTF-8''caf%C3%A9-%E7%81%AF%E5%8F%B0-7.png"
    )
    assert content_disposition("灯台.png").startswith('attachment; filename="picture.png"')
