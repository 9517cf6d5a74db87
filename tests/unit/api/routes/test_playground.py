"""Files of the playground that repeat each other: icons, their script and the manifest."""

import json

import pytest
from PIL import Image, ImageChops

from scripts.icons import FOLDER as ICON_FOLDER
from scripts.icons import ICONS, draw

PAGE = ICON_FOLDER.parent
MANIFEST = json.loads((PAGE / "manifest.webmanifest").read_text())


@pytest.mark.parametrize("name", ICONS)
def test_an_icon_is_what_its_script_draws(name):
    kept, drawn = Image.open(ICON_FOLDER / name), draw(ICONS[name])

    assert (kept.size, kept.mode) == (drawn.size, drawn.mode)
    assert ImageChops.difference(kept, drawn).getbbox() is None


def test_the_manifest_names_icons_that_exist():
    """The browser resolves the addresses by that of the manifest, so the page may be below any path."""
    sizes = {icon["src"]: icon["sizes"] for icon in MANIFEST["icons"]}

    assert sizes == {f"icons/{name}": f"{icon.size}x{icon.size}" for name, icon in ICONS.items() if "apple" not in name}
    assert (MANIFEST["start_url"], MANIFEST["scope"]) == ("../", "../")
    assert {icon.name for icon in ICON_FOLDER.iterdir()} == set(ICONS)
