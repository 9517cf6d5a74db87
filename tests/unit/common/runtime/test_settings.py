"""Settings: read from a mapping; an invalid value is named at the start, without its value."""

import pathlib

import pytest

from common.domain.errors import Misconfigured
from common.runtime.reading_settings import read_settings
from common.runtime.settings import Settings
from services.cli.settings import settings_table


def test_defaults_run_everything_in_one_process():
    settings = read_settings({})

    assert (settings.bus_url, settings.store_url) == ("memory://", "sqlite:///var/darkroom.db")
    assert settings == Settings()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1.5h", 5400), ("7d", 604800), ("250ms", 0.25)]
)
def test_a_duration_may_carry_its_unit(text, seconds):
    assert read_settings({"GENERATION_DEADLINE": text}).generation_deadline == seconds


def test_the_retry_delays_are_a_list():
    assert read_settings({"RETRY_DELAYS": "1,2s,1m"}).retry_delays == (1, 2, 60)


def test_an_empty_variable_counts_as_not_set():
    assert read_settings({"API_PORT": "", "INFERENCE_SERVICE_API_KEY": ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_PORT", "eighty"),
        ("API_PORT", "70000"),
        ("LEASE", "0"),
        ("LEASE", "soon"),
        ("RETRY_DELAYS", """ , """),
        ("MAX_IMAGE_FILE_SIZE", "-1"),
        ("ALLOW_ANONYMOUS", "perhaps"),
        ("LOG_LEVEL", "chatty"),
        ("THUMBNAIL_FORMAT", "gif"),
    ],
)
def test_a_bad_setting_fails_by_name(name, value):
    with pytest.raises(Misconfigured, match=name):
        read_settings({name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LEASE", "soon", "LEASE: must be a number of seconds, or a number with a unit: 90, 90s, 15m, 1h, 7d"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT: Input should be 'text' or 'json'"),
        (
            "CORS_ORIGINS",
            "https://app.example.org/path",
            "CORS_ORIGINS: must be origins in lower case without a path: https://app.example.org,http://localhost:3000",
        ),
    ],
)
def test_a_bad_setting_says_what_it_must_be(name, value, message):
    with pytest.raises(Misconfigured) as error:
        read_settings({name: value})
    assert error.value.detail == message


def test_every_bad_setting_is_named_at_once():
    with pytest.raises(Misconfigured) as error:
        read_settings({"API_PORT": "x", "LEASE": "y"})
    assert "API_PORT" in error.value.detail
    assert "LEASE" in error.value.detail


def test_what_the_environment_lacks_is_read_from_the_file(tmp_path):
    file = tmp_path / ".env"
    file.write_text("API_PORT=1234\nLEASE=5\n")

    settings = read_settings({"LEASE": "7"}, file)

    assert (settings.api_port, settings.lease) == (1234, 7)


def test_the_table_in_the_documentation_is_made_from_the_model():
    documented = (pathlib.Path(__file__).parents[4] / "docs" / "settings.md").read_text()

    assert settings_table() in documented
