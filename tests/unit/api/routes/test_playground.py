"""Files of the playground that repeat each other: icons and their script, colours of both themes."""

import json
import re

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


def test_the_bar_of_the_browser_has_the_colour_of_the_page():
    floor = re.search(r"--floor: light-dark\((\S+), (\S+)\);", (PAGE / "base.css").read_text())
    assert floor is not None
    light, dark = floor.groups()

    assert f'const BARS = {{ light: "{light}", dark: "{dark}" }};' in (PAGE / "theme.js").read_text()
    assert (MANIFEST["background_color"], MANIFEST["theme_color"]) == (dark, dark)
    for page in (PAGE / "index.html", PAGE.parent / "status_page" / "index.html"):
        bars = re.findall(r'"theme-color" media="\(prefers-color-scheme: (\w+)\)" content="(\S+)"', page.read_text())
        assert dict(bars) == {"light": light, "dark": dark}
