import math

import pytest

from common.runtime.strict_json import InvalidJson, parse_json


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b' {"a": [1, 2.5, true, null, "\xc3\xa9"]}\n', {"a": [1, 2.5, True, None, "é"]}),
        (b'{"a": {"b": 1}, "c": {"b": 2}}', {"a": {"b": 1}, "c": {"b": 2}}),
        (b"7", 7),
        (b'"\\ud83e\\udd8a"', "\N{FOX FACE}"),
        (b'"\\ud800"', "\ud800"),
        (b"1e999", math.inf),
    ],
)
def test_parse_json_reads_what_rfc_8259_allows(body, value):
    assert parse_json(body) == value


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Expecting value at character 0"),
        (b"{", "Expecting property name enclosed in double quotes at character 1"),
        (b'{"a": 1} {}', "Extra data at character 9"),
        (b"{} x", "Extra data at character 3"),
        (b'{"a": 1, "a": 2}', "the key 'a' is repeated in one object"),
        (b'[{"b": {"a": 1, "a": 1}}]', "the key 'a' is repeated in one object"),
        (b'{"a": 1, "\\u0061": 2}', "the key 'a' is repeated in one object"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"Infinity", "Infinity is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b"[" * 60_000, "nested too deeply"),
        (b'{"a":' * 60_000, "nested too deeply"),
        (b"[" * 60_000 + b"]" * 60_000, "nested too deeply"),
        (b"9" * 5000, "a number is too long"),
        (b'"\xff"', "not UTF-8: byte 1"),
        (b'"\xed\xa0\x80"', "not UTF-8: byte 1"),
        ('{"a": 1}'.encode("utf-16-le"), "Expecting property name enclosed in double quotes at character 1"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8: byte 0"),
        (b'\xef\xbb\xbf{"a": 1}', "Unexpected UTF-8 BOM (decode using utf-8-sig) at character 0"),
    ],
)
def test_parse_json_refuses_what_is_not_strict_json(body, reason):
    with pytest.raises(InvalidJson) as caught:
        parse_json(body)

    assert str(caught.value) == reason


def test_only_the_beginning_of_a_repeated_key_is_quoted():
    key = b'"%s": 1' % (b"k" * 10_000)

    with pytest.raises(InvalidJson) as caught:
        parse_json(b"{%s, %s}" % (key, key))

    assert len(str(caught.value)) < 100
