"""A setting is refused by its name, or it is one that the code can compute with."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, seed
from hypothesis import settings as profile
from hypothesis import strategies as st
from pydantic_core import PydanticUndefined

from common.bus.memory import MemoryBus
from common.domain.errors import Misconfigured
from common.domain.views import ImagePresenter
from common.runtime.clock import ManualClock
from common.runtime.reading_settings import SECRETS, read_settings
from common.runtime.settings import Settings
from services.api.auth.signing import Signing
from tests.making import an_image

NUMBERS = [
    name
    for name, field in Settings.model_fields.items()
    if isinstance(field.default, int | float) and not isinstance(field.default, bool)
]
TOO_MUCH = [
    "1" + "0" * 30,
    "9" * 16,
    "-1",
    "1e309",
    "nan",
    "inf",
    "-inf",
    "٣٠",
    "³",
    "1_000",
    "0x10",
    "9" * 5000,
    "1,5",
]


@pytest.mark.border(rule="C2")
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_bounds_is_refused_by_name(name):
    for text in TOO_MUCH:
        with pytest.raises(Misconfigured, match=f"^{name.upper()}: "):
            read_settings({name.upper(): text})


@pytest.mark.border(rule="C2")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RETENTION_DAYS", "999999"),
        ("RETENTION_DAYS", "0"),
        ("RETENTION_DAYS", "NEVER"),
        ("GENERATION_DEADLINE", "4000000d"),
        ("LEASE", "1e9"),
        ("RETRY_DELAYS", "5,30,60d"),
        ("RETRY_DELAYS", ",".join(["1"] * 21)),
        ("PURGE_INTERVAL", "50d"),
        ("STORE_TIMEOUT", "25d"),
        ("API_PORT", "65536"),
        ("REQUESTS_PER_HOUR", "1000000"),
        ("API_HOST", "a..b"),
        ("HEALTH_HOST", "x" * 64),
        ("INFERENCE_SERVICE_URL", "http://[::1"),
        ("INFERENCE_SERVICE_URL", "http://host:99999"),
        ("JWT_JWKS_URL", "https://"),
        ("MEDIA_ROOT", "var/\x00media"),
        ("BUS_URL", "amqp://host/\nvhost"),
        ("JWT_ISSUER", "issuer\x1b[2J"),
        ("MEDIA_ROOT", "var/\udcff"),
        ("JWT_AUDIENCE", "a\u2028b"),
    ],
)
def test_a_text_that_the_code_cannot_use_is_refused_by_name(name, text):
    with pytest.raises(Misconfigured, match=f"^{name}: "):
        read_settings({name: text})


def compute_with(settings: Settings) -> None:
    """What the services do with their settings: none of it may fail."""
    clock = ManualClock(datetime(2026, 1, 15, tzinfo=UTC))
    now = clock.now()
    for name in ("generation_deadline", "sweep_grace", "tombstone_age", "reconcile_grace", "event_lookback", "lease"):
        seconds = getattr(settings, name)
        assert now - timedelta(seconds=seconds) < now + timedelta(seconds=seconds)
    view = ImagePresenter(settings.media_prefix, settings.retention).view(an_image(created_at=now))
    assert json.loads(view.model_dump_json())["expiresAt"] is None or settings.retention
    signed = settings.model_copy(update={"media_signing_keys": ("k" * 32,), "api_keys": True})
    assert "expires=" in Signing(signed, clock).url("/media/x")
    MemoryBus(name="x", clock=clock, log_size=settings.event_backlog, retry_delays=settings.retry_delays)
    for delay_s in (*settings.retry_delays, settings.purge_interval, settings.sweep_interval):
        assert 1 <= round(delay_s * 1000) < 2**32  # RabbitMQ's longest time to live


TEXTS = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"\A-?[0-9]{1,25}(\.[0-9]{1,20})?(ms|s|m|h|d|e[0-9]{1,4})?\Z"),
    st.sampled_from(
        [*TOO_MUCH, "never", "true", "false", "1", "0.001", "36500d", "http://x", "'", '""', "\r\n", ",,", "[]", "{}"]
    ),
)


@pytest.mark.border(rule="C2")
@seed(20)
@profile(max_examples=400, deadline=None, database=None)
@given(values=st.dictionaries(st.sampled_from(sorted(Settings.model_fields)), TEXTS, max_size=4))
def test_any_text_gives_usable_settings_or_is_refused(values):
    try:
        settings = read_settings({name.upper(): text for name, text in values.items()})
    except Misconfigured as refused:
        named = [name for name in values if name.upper() in refused.detail]
        assert named, refused.detail  # noqa: PT017 - either outcome is right
        return
    compute_with(settings)


@pytest.mark.border(rule="C2")
@pytest.mark.parametrize("name", NUMBERS)
def test_both_bounds_themselves_can_be_computed_with(name):
    accepted = [text for text in _candidates() if _accepts(name, text)]

    assert accepted, "no candidate is within the bounds"
    for text in (accepted[0], accepted[-1]):
        compute_with(read_settings({name.upper(): text}))
    assert len(accepted) < len(_candidates()), "no upper bound"


def _candidates() -> list[str]:
    return [str(10**power) for power in range(20)]


def _accepts(name: str, text: str) -> bool:
    try:
        read_settings({name.upper(): text})
    except Misconfigured:
        return False
    return True


@pytest.mark.border(rule="C2")
def test_never_keeps_images_for_ever():
    settings = read_settings({"RETENTION_DAYS": "never"})

    assert settings.retention is None
    assert ImagePresenter("/media/", settings.retention).view(an_image()).expires_at is None


@pytest.mark.border(rule="C2")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("secret-of-a-test-that-is-32-characters-long\n", "secret-of-a-test-that-is-32-characters-long"),
        ("secret-of-a-test-that-is-32-characters-long\r\n", "secret-of-a-test-that-is-32-characters-long"),
        ('"secret-of-a-test-that-is-32-characters-long"', "secret-of-a-test-that-is-32-characters-long"),
        ("'secret of a test, with 32 \" characters'\n", 'secret of a test, with 32 " characters'),
    ],
)
def test_line_ends_and_quotes_are_taken_off(text, value):
    assert read_settings({"JWT_SECRET": text}).jwt_secret == value


def test_settings_have_defaults_and_secrets_are_not_printed():
    assert all(field.default is not PydanticUndefined for field in Settings.model_fields.values())
    assert {"bus_url", "store_url", "jwt_secret", "media_signing_keys", "darkroom_token"} <= SECRETS
    shown = repr(read_settings({"BUS_URL": "amqp://user:hunter2@host/", "JWT_SECRET": "hunter2" * 6}))
    assert "hunter2" not in shown
