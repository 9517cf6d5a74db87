"""JSON that nearly fits: a valid document in which some values, names or characters are replaced."""

import json
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

# Values that a careless program of another language writes.
ODD_TEXTS = [
    "", " ", "\0", "\ud800", "\u202e", "é" * 300, "x" * 70_000, "null", "0", "-1", "1e999", "NaN", "../../etc/passwd",
    "0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "1970-01-01T00:00:00Z",
    "2025-01-15T14:00:00+02:00",
    "2025-01-15T12:00:00", "2025-02-30T12:00:00Z", "2025-01-15T24:00:00Z", "2025-01-15T12:00:60Z", "1736942400",
    "application/json; charset=utf-8", "image.generate", "timer.purge", "image.failed", "\r\nX-Header: 1",
    "01945E8C-7D00-7000-8000-000000000001", "{01945e8c-7d00-7000-8000-000000000001}",
    "00000000-0000-0000-0000-000000000000",
]  # fmt: skip
NAMES = ["subject", "time", "comexampleextension", "owner", "data_base64"]
ODD_NUMBERS = [0, -1, -1e-9, 1e308, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, 1.5, float("inf"), float("nan")]
ODD_TIMES = [text for text in ODD_TEXTS if text[:1].isdigit() and "-" in text]
odd_values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.sampled_from(ODD_NUMBERS),
    st.sampled_from([None, True, False, [], {}, [[]], {"a": None}, ["x"] * 1000]),
    st.text(max_size=30),
    st.integers(),
    st.floats(),
)


def paths_in(tree: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in the tree, but of the tree itself."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, value in inner for path in [(*prefix, key), *paths_in(value, (*prefix, key))]]


@st.composite
def nearly(draw: st.DrawFn, *documents: dict) -> bytes:
    """One of the documents as JSON, with up to four values replaced, removed or added."""
    tree = json.loads(json.dumps(draw(st.sampled_from(documents))))
    for _ in range(draw(st.integers(0, 4))):
        paths = paths_in(tree)
        if not paths:
            break
        *path, last = draw(st.sampled_from(paths))
        place = tree
        for key in path:
            place = place[key]
        match draw(st.integers(0, 5)):
            case 0:
                del place[last]
            case 1 if isinstance(place, dict):
                place[draw(st.sampled_from(NAMES))] = deepcopy(draw(odd_values))
            case _:
                values = st.sampled_from(ODD_TIMES) if last == "time" else odd_values
                place[last] = deepcopy(draw(values))  # the lists of odd values are shared by all examples
    return draw(damaged(json.dumps(tree).encode()))


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes as they are, or cut, or with a byte changed, or with something around them."""
    match draw(st.integers(0, 12)):
        case 0:
            return content[: draw(st.integers(0, len(content)))]
        case 1 if content:
            position = draw(st.integers(0, len(content) - 1))
            return content[:position] + bytes([draw(st.integers(0, 255))]) + content[position + 1 :]
        case 2:
            return draw(st.sampled_from([b"\xef\xbb\xbf", b" ", b"\n", b"\0", b"[" * 5000])) + content
        case 3:
            return content + draw(st.sampled_from([b"\0", b"}", b" ", content]))
        case 4:
            return content.decode(errors="replace").encode("utf-16")
        case _:
            return content
