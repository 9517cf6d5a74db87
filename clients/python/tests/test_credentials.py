"""No credential leaves the origin that it is for."""

import pytest

from darkroom_client.errors import Misconfigured, Redirected, UnexpectedAnswer
from darkroom_client.models import Image
from darkroom_client.origin import Origin

OWN = "https://darkroom.example"
PNG = {"content-type": "image/png"}


def picture(url: str) -> Image:
    return Image.model_validate({"id": "a", "status": "completed", "imageUrl": url})


def authorized(world) -> list[bool]:
    return ["Authorization" in request.headers for request in world.sent]


@pytest.mark.parametrize(
    ("url", "is_own"),
    [
        ("/media/a.png", True),
        (f"{OWN}/media/a.png", True),
        (f"{OWN}:443/media/a.png", True),
        ("https://DARKROOM.example/media/a.png", True),
        ("http://darkroom.example/media/a.png", False),
        (f"{OWN}:8443/media/a.png", False),
        ("https://darkroom.example.evil/media/a.png", False),
        ("https://media.darkroom.example/a.png", False),
        ("//cdn.example/a.png", False),
        ("https://cdn.example/a.png?X-Amz-Signature=1", False),
    ],
)
def test_a_picture_elsewhere_is_fetched_without_a_credential(core, world, url, is_own):
    world.replies = [(200, b"PNG", PNG)]

    assert world.run(core.pictures.download(picture(url), None, None)) == b"PNG"
    assert authorized(world) == [is_own]


def test_a_redirect_takes_no_credential_along(core, world):
    world.replies = [
        (302, b"", {"location": "https://cdn.example/a.png"}),
        (307, b"", {"location": f"{OWN}/b.png"}),
        (200, b"PNG", PNG),
    ]

    assert world.run(core.pictures.download(picture("/media/a.png"), "png", None)) == b"PNG"
    assert authorized(world) == [True, False, False], "not even on its way back"


def test_a_picture_does_not_lead_from_https_to_http(core, world):
    world.replies = [(302, b"", {"location": "http://darkroom.example/a.png"})]

    with pytest.raises(Redirected):
        world.run(core.pictures.download(picture("/media/a.png"), None, None))


def test_redirects_end(core, world):
    world.replies = [(302, b"", {"location": "/again"})] * 20

    with pytest.raises(Redirected):
        world.run(core.pictures.download(picture("/media/a.png"), None, None))

    assert len(world.sent) == 6


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b", "https://user:pw@darkroom.example/a"])
def test_only_web_addresses_are_fetched(core, world, url):
    with pytest.raises(UnexpectedAnswer):
        world.run(core.pictures.download(picture(url), None, None))

    assert world.sent == []


def test_routes_do_not_follow_redirects(core, world):
    for operation in (core.images.get("a"), core.images.models(), core.images.cancel("a", batch=False)):
        world.replies = [(307, b"", {"location": "https://evil.example/"})]
        with pytest.raises(Redirected, match=r"a redirect to https://evil\.example/"):
            world.run(operation)

    assert len(world.sent) == 3


def test_a_signature_that_has_expired_is_renewed(core, world, done, problem):
    world.replies = [problem(401, "unauthorized"), (200, done), (200, b"PNG", PNG)]

    assert world.run(core.pictures.download(picture("https://cdn.example/old"), None, None)) == b"PNG"


def test_an_id_cannot_change_the_path(core, world, done):
    world.replies = [(200, done)]

    world.run(core.images.get("../../v1?x=1#"))

    assert world.sent[0].url == f"{OWN}/api/images/..%2F..%2Fv1%3Fx%3D1%23/"


def test_errors_show_no_signature(core, world):
    world.replies = [(404, b"")]

    with pytest.raises(UnexpectedAnswer) as caught:
        world.run(core.pictures.download(picture("/media/a.png?expires=1&signature=abc"), None, None))

    assert "abc" not in str(caught.value)


def test_the_token_of_the_environment_is_for_its_server(monkeypatch):
    monkeypatch.setenv("DARKROOM_URL", "https://one.example/")
    monkeypatch.setenv("DARKROOM_TOKEN", "secret")

    assert Origin.of(None, None, None) == Origin("https://one.example", {"Authorization": "Bearer secret"})
    assert Origin.of("https://two.example", None, None).headers == {}


@pytest.mark.parametrize(
    "url",
    [
        "darkroom.example",
        "ftp://a",
        "http://",
        "http://a:0",
        "http://a:x",
        "http://a?b=1",
        "https://u:p@a",
        "http://[a",
    ],
)
def test_a_url_that_cannot_work_is_named(url):
    with pytest.raises(Misconfigured):
        Origin.of(url, None, None)


@pytest.mark.parametrize("token", ["a\nb", "ü", "\x7f", "two words", " padded", "padded ", "tab\t", "line\n", " "])
def test_a_token_that_cannot_be_sent_is_not_shown(token):
    with pytest.raises(Misconfigured, match="the token must consist of visible ASCII") as caught:
        Origin.of(OWN, token, None)

    assert token == " " or token not in str(caught.value)


@pytest.mark.parametrize("value", ["a\nb", "sécret", "\x7f", " padded", "padded ", "line\n"])
def test_an_unsendable_header_is_named_without_its_value(value):
    with pytest.raises(Misconfigured, match="header 'X-Key'") as caught:
        Origin.of(OWN, None, {"X-Key": value})

    assert value not in str(caught.value)


@pytest.mark.parametrize("name", ["", "X Key", "X:Key", "X-Kéy", "X-Key\n"])
def test_a_name_of_a_header_that_cannot_be_sent_is_refused(name):
    with pytest.raises(Misconfigured):
        Origin.of(OWN, None, {name: "a"})


def test_headers_may_have_spaces_inside_or_be_empty():
    headers = {"X-Key": "two words", "X-Empty": ""}

    assert Origin.of(OWN, None, headers).headers == headers
