import pytest

from common.runtime.accept import Accept

PNG, JPEG, WEBP = "image/png", "image/jpeg", "image/webp"


@pytest.mark.parametrize(
    ("lines", "quality"),
    [
        ([], 1.0),
        ([""], 1.0),
        (["json"], 1.0),
        (["*/json"], 1.0),
        (["application/json"], 1.0),
        (["APPLICATION/JSON ; Q=0.5"], 0.5),
        (["application/json;version=1;q=0.25"], 0.25),
        (["application/json;q=0"], 0.0),
        (["application/json; q=0.000"], 0.0),
        (["text/html"], 0.0),
        (["application/*;q=0.3"], 0.3),
        (["*/*;q=0.1"], 0.1),
        (["*/*, application/*;q=0.5, application/json;q=0"], 0.0),
        (["application/json;q=0, */*"], 0.0),
        (["*/*;q=0, application/json"], 1.0),
        (["application/json;q=0.2, application/json;q=0.4"], 0.4),
        (["text/html", "application/json;q=0.7"], 0.7),
        (["text/html,", ", application/json"], 1.0),
        (["application/json;q=2"], 1.0),
        (["application/json;q=0.1234"], 1.0),
        (["application/json;q="], 1.0),
        (["application/json;q=nan"], 1.0),
    ],
)
def test_quality_is_that_of_the_most_specific_range(lines, quality):
    assert Accept.parse(lines).quality("application/json") == quality


@pytest.mark.parametrize(
    ("line", "best"),
    [
        ("", PNG),
        ("*/*", PNG),
        ("image/*", PNG),
        ("image/webp, image/jpeg", WEBP),
        ("image/webp;q=0.5, image/jpeg", JPEG),
        ("*/*, image/webp", WEBP),
        ("image/png;q=0, */*", JPEG),
        ("image/*;q=0.9, image/png;q=0.1", JPEG),
        ("text/html", None),
        ("image/*;q=0", None),
    ],
)
def test_best_is_the_offer_of_the_highest_quality(line, best):
    assert Accept.parse([line]).best([PNG, JPEG, WEBP]) == best


@pytest.mark.parametrize(
    ("lines", "is_named"),
    [
        (["text/event-stream"], True),
        (["image/png", "text/event-stream;q=0.1"], True),
        (["text/event-stream;q=0"], False),
        (["text/*", "*/*"], False),
        ([], False),
    ],
)
def test_names_needs_the_type_itself(lines, is_named):
    assert Accept.parse(lines).names("text/event-stream") is is_named
