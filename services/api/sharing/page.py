"""The pages of a share link: the picture, or why there is none.

They need no JavaScript and load nothing but the picture. The style is in the page and allowed by its hash, so an
operator who makes only `/share/` public needs no other path.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Final

from aiohttp import web

from common.domain.errors import Gone, NotFound
from common.domain.images import Image
from common.domain.views import iso
from services.api.sharing.links import ShareLink

_TITLE_CHARS: Final = 80
_STYLE: Final = """
:root { color-scheme: dark light; --floor: #0f0d0c; --text: #efeae5; --soft: #b0a69d; --line: #4a423c; }
@media (prefers-color-scheme: light) {
  :root { --floor: #f5f3f0; --text: #1e1a17; --soft: #5b524a; --line: #a89e94; }
}
body { margin: 0; background: var(--floor); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { box-sizing: border-box; max-width: 1100px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { margin: 0 0 16px; font-size: 20px; }
figure { margin: 0; }
img { display: block; max-width: 100%; max-height: 80vh; width: auto; height: auto; border-radius: 4px; }
figcaption { margin-top: 16px; max-width: 70ch; overflow-wrap: anywhere; white-space: pre-line; }
.download { display: inline-block; margin: 20px 0 0; padding: 10px 18px; border: 1px solid var(--line);
  border-radius: 8px; color: inherit; text-decoration: none; }
.download:hover, .download:focus-visible { border-color: currentcolor; }
.soft { margin: 20px 0 0; font-size: 14px; color: var(--soft); }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; img-src 'self'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_REFUSALS: Final = {
    "share_not_found": ("This link does not exist", "Check that all of its address was copied."),
    "share_expired": ("This link has expired", "Ask the person who sent it for a new one."),
    "share_revoked": ("This link was withdrawn", "Ask the person who sent it for a new one."),
    "share_deleted": ("This picture was deleted", "There is nothing at this address any more."),
}


def picture_page(image: Image, link: ShareLink, *, source: str, headers: Mapping[str, str]) -> web.Response:
    """The picture with a link to download it."""
    unnamed = f"A generated picture, {image.width} × {image.height} pixels"
    title = _brief(image.prompt) if link.shows_prompt else "Shared picture"
    alt = _brief(image.prompt) if link.shows_prompt else unnamed
    caption = f'<figcaption dir="auto">{escape(image.prompt)}</figcaption>' if link.shows_prompt else ""
    address = escape(source)
    ends = f'<time datetime="{iso(link.expires_at)}">{link.expires_at:%d %B %Y, %H:%M} UTC</time>'
    return _page(
        title,
        f"""<h1>Shared picture</h1>
<figure>
<img src="{address}" width="{image.width}" height="{image.height}" alt="{escape(alt)}">
{caption}
</figure>
<a class="download" href="{address}?download=1" download>Download</a>
<p class="soft">Generated with Darkroom. This link works until {ends}, unless it is withdrawn before.</p>""",
        headers=headers,
    )


def refusal_page(error: NotFound | Gone, *, status: int, headers: Mapping[str, str]) -> web.Response:
    """Why the link does not work, and what a visitor can do."""
    title, advice = _REFUSALS[error.code]
    return _page(title, f"<h1>{title}</h1>\n<p>{advice}</p>", status=status, headers=headers)


def _page(title: str, content: str, *, headers: Mapping[str, str], status: int = 200) -> web.Response:
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="dark light">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{content}
</main>
</body>
</html>
"""
    policy = {"Content-Security-Policy": _POLICY}
    return web.Response(status=status, text=text, content_type="text/html", headers={**headers, **policy})


def _brief(prompt: str) -> str:
    words = " ".join(prompt.split())
    return words if len(words) <= _TITLE_CHARS else f"{words[: _TITLE_CHARS - 1].rstrip()}…"
