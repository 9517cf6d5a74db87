"""Settings of identity are looked at as a whole, before anything listens."""

import pytest

from common.domain.errors import Misconfigured
from common.runtime.settings import read_settings
from services.api.auth.identity import require_valid_identity
from tests.security.callers import AUDIENCE, ISSUER, SECRET, SIGNING

WHOLE = {"JWT_SECRET": SECRET, "JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE, "MEDIA_SIGNING_KEYS": SIGNING}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        WHOLE,
        {"API_KEYS": "true", "MEDIA_SIGNING_KEYS": f"{SIGNING},{SECRET}"},
        {**WHOLE, "API_HOST": "0.0.0.0"},
        {"ALLOW_ANONYMOUS": "true", "API_HOST": "0.0.0.0"},
        {"CORS_ORIGINS": "https://app.example.org,http://localhost:5173,http://[::1]:8000"},
    ],
)
def test_what_is_whole_may_listen(settings):
    require_valid_identity(read_settings(settings))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({**WHOLE, "JWT_SECRET": "a-short-secret"}, "JWT_SECRET"),
        ({**WHOLE, "JWT_ISSUER": ""}, "JWT_ISSUER"),
        ({**WHOLE, "JWT_AUDIENCE": ""}, "JWT_AUDIENCE"),
        ({**WHOLE, "MEDIA_SIGNING_KEYS": ""}, "MEDIA_SIGNING_KEYS"),
        ({**WHOLE, "MEDIA_SIGNING_KEYS": f"{SIGNING},a-short-secret"}, "MEDIA_SIGNING_KEYS"),
        ({"JWT_JWKS_URL": "https://id.example.org/jwks", "JWT_ISSUER": ISSUER}, "JWT_AUDIENCE"),
        ({"JWT_JWKS_URL": "file:///etc/passwd"}, "JWT_JWKS_URL"),
        ({"API_KEYS": "true"}, "MEDIA_SIGNING_KEYS"),
        ({"CORS_ORIGINS": "*"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "https://app.example.org/path"}, "CORS_ORIGINS"),
        ({"API_HOST": "0.0.0.0"}, "API_HOST"),
        ({"API_HOST": "::"}, "API_HOST"),
    ],
)
def test_what_is_not_is_named_without_its_value(settings, named):
    with pytest.raises(Misconfigured, match=named) as error:
        require_valid_identity(read_settings(settings))

    assert "short-secret" not in error.value.detail
    assert SECRET not in error.value.detail
    assert SIGNING not in error.value.detail
