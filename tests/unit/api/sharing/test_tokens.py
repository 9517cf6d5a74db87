"""The signed token of a share link."""

from datetime import timedelta

import pytest

from common.domain.images import new_image_id
from common.runtime.reading_settings import read_settings
from services.api.sharing.tokens import ShareClaim, ShareTokens, new_link_id
from tests.making import NOON

NEW, OLD, OTHER = (f"a-signing-secret-of-the-tests-0123456789-{name}" for name in ("new", "old", "other"))
CLAIM = ShareClaim(new_image_id(NOON), new_link_id(), NOON + timedelta(days=30))


def tokens(*keys):
    return ShareTokens(read_settings({"MEDIA_SIGNING_KEYS": ",".join(keys)}))


def test_a_token_is_read_with_each_key_of_a_rotation():
    token = tokens(OLD).make(CLAIM)

    assert tokens(OLD).read(token) == CLAIM
    assert tokens(NEW, OLD).read(token) == CLAIM
    assert tokens(NEW).read(token) is None
    assert tokens(NEW, OLD).make(CLAIM) == tokens(NEW).make(CLAIM) != token
    assert len(token) < 100


def test_a_signature_of_a_picture_signs_no_link():
    """The same key signs the URLs of pictures, under another salt."""
    from services.api.auth import signing

    token = tokens(OLD).make(CLAIM)
    assert signing._SALT.encode() not in token.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.api.sharing.tokens._SALT", signing._SALT)
        as_picture = tokens(OLD).make(CLAIM)
    assert tokens(OLD).read(as_picture) is None


def test_nothing_but_a_whole_token_is_read():
    token = tokens(OLD).make(CLAIM)
    text, signature = token.split(".")
    changed = [f"{token[:place]}{'A' if token[place] != 'A' else 'B'}{token[place + 1 :]}" for place in range(80)]

    for forged in [
        *changed,
        "",
        ".",
        text,
        f"{text}.",
        f".{signature}",
        f"{text}.{signature}.{signature}",
        f"{text[:-4]}.{signature}",
        f"{text}AAAA.{signature}",
        f"{text}.{'A' * 5000}",
        f"{text}.{signature}é",
        f"{text}.{signature}<",
        f"{text}.{signature}!!!!",
        tokens(OTHER).make(CLAIM),
        "\ud800" * 40 + f".{signature}",
    ]:
        assert tokens(OLD).read(forged) is None, forged
