"""The settings of identity are checked together."""

import pytest

from common.domain.errors import Misconfigured
from common.runtime.reading_settings import read_settings
from services.api.auth.identity import require_valid_identity
from tests.security.callers import AUDIENCE, ISSUER, SECRET, SIGNING

COMPLETE = {"JWT_SECRET": SECRET, "JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE, "MEDIA_SIGNING_KEYS": SIGNING}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        COMPLETE,
        {"API_KEYS": "true", "MEDIA_SIGNING_KEYS": f"{SIGNING},{SECRET}"},
        {**COMPLETE, "API_HOST": "0.0.0.0"},
        {"ALLOW_ANONYMOUS": "true", "API_HOST": "0.0.0.0"},
        {"CORS_ORIGINS": "https://app.example.org,http://localhost:5173,http://[::1]:8000"},
    ],
)
def test_complete_settings_are_accepted(settings):
    require_valid_identity(read_settings(settings))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({**COMPLETE, "JWT_SECRET": "a-short-secret"}, "JWT_SECRET"),
        ({**COMPLETE, "JWT_ISSUER": ""}, "JWT_ISSUER"),
        ({**COMPLETE, "JWT_AUDIENCE": ""}, "JWT_AUDIENCE"),
        ({**COMPLETE, "MEDIA_SIGNING_KEYS": ""}, "MEDIA_SIGNING_KEYS"),
        ({**COMPLETE, "MEDIA_SIGNING_KEYS": f"{SIGNING},a-short-secret"}, "MEDIA_SIGNING_KEYS"),
        ({"JWT_JWKS_URL": "https://id.example.org/jwks", "JWT_ISSUER": ISSUER}, "JWT_AUDIENCE"),
        ({"JWT_JWKS_URL": "file:///etc/passwd"}, "JWT_JWKS_URL"),
        ({"API_KEYS": "true"}, "MEDIA_SIGNING_KEYS"),
        ({"CORS_ORIGINS": "*"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "https://app.example.org/path"}, "CORS_ORIGINS"),
        ({"API_HOST": "0.0.0.0"}, "API_HOST"),
        ({"API_HOST": "::"}, "API_HOST"),
    ],
)
def test_an_invalid_setting_is_named_without_its_value(settings, named):
    with pytest.raises(Misconfigured, match=named) as error:
        require_valid_identity(read_settings(settings))

    assert "short-secret" not in error.value.detail
    assert SECRET not in error.value.detail
    assert SIGNING not in error.value.detail
