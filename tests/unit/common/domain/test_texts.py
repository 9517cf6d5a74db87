"""Texts from other services: one line of limited length and alphabet."""

import pytest

from common.domain.texts import MAX_DETAIL, UNKNOWN_CODE, clean_code, clean_text, clean_traceparent

pytestmark = pytest.mark.border(rule="B5")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        (" two\r\n lines\t", "two lines"),
        ("a\u2028b\u2029c\x85d", "a b c d"),
        ("\x1b[2J\x1b]0;title\x07", "[2J ]0;title"),
        ("\u202egnp.exe\u2066x\u2069", "gnp.exe x"),
        ("half \ud83d of a pair", "half of a pair"),
        ("\x00\ufffe\uffff", ""),
        ("灯台 — é 🏮", "灯台 — é 🏮"),
    ],
    ids=ascii,
)
def test_a_text_is_one_line_that_an_encoder_takes(text, shown):
    assert clean_text(text) == shown
    assert clean_text(text).encode() == shown.encode()


@pytest.mark.parametrize("text", ["x" * 10_000_000, "x " * 10_000, " " * 3000 + "x" * 600, "é" * (MAX_DETAIL + 1)])
def test_a_long_text_is_cut(text):
    assert len(clean_text(text)) <= MAX_DETAIL
    assert len(clean_text(text, 10)) <= 10


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("hourly_limit", "hourly_limit"),
        ("x" * 64, "x" * 64),
        *((text, UNKNOWN_CODE) for text in ["", "x" * 65, "Code", "a b", "a\n", "é", "1a", "_a", "a-b", "\ud800"]),
    ],
    ids=ascii,
)
def test_a_code_has_the_form_of_ours(text, code):
    assert clean_code(text) == code


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "",
        TRACE.upper(),
        TRACE + "\n",
        " " + TRACE,
        TRACE + "-more",
        TRACE[:-1],
        TRACE.replace("0af7", "gggg"),
        "\u0660\u0660" + TRACE[2:],
        TRACE * 1000,
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_malformed_trace_parent_is_ignored(value):
    assert clean_traceparent(value) is None
    assert clean_traceparent(TRACE) == TRACE
