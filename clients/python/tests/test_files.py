"""The file of a picture: its name and its format."""

import pytest

from darkroom_client.errors import Misconfigured
from darkroom_client.files import target_of
from darkroom_client.models import Image

IMAGE = Image.model_validate({"id": "a", "status": "completed", "imageUrl": "/media/a.png", "format": "jpeg"})


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.png", "png"),
        ("a.JPG", "jpeg"),
        ("a.jpeg", "jpeg"),
        ("a.webp", "webp"),
        ("picture", None),
        ("picture.2", None),
    ],
)
def test_the_extension_names_the_format(tmp_path, name, wanted):
    assert target_of(IMAGE, tmp_path / name) == (tmp_path / name, wanted)


def test_a_folder_gets_the_file_as_it_is_stored(tmp_path):
    assert target_of(IMAGE, tmp_path) == (tmp_path / "a.jpg", None)
    assert target_of("b", tmp_path) == (tmp_path / "b.png", "png")


@pytest.mark.parametrize("name", ["a.gif", "a.tiff", "a.png.bak"])
def test_an_extension_of_another_format_is_refused(tmp_path, name):
    with pytest.raises(Misconfigured, match="is not supported"):
        target_of(IMAGE, tmp_path / name)


def test_a_quality_needs_a_format(core, world):
    with pytest.raises(Misconfigured, match="quality needs a format"):
        world.run(core.pictures.download(IMAGE, None, 80))

    assert world.sent == []
