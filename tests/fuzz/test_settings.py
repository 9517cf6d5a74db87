"""Settings of any text: only Misconfigured is raised; what is taken can be computed with."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.domain.errors import Misconfigured
from common.runtime.reading_settings import read_settings
from common.runtime.settings import Settings
from tests.fuzz.budget import LIMIT_S, fuzzed

pytestmark = pytest.mark.timeout(LIMIT_S)

NAMES = sorted(name.upper() for name in Settings.model_fields)
NUMBERS = [name for name, field in Settings.model_fields.items() if isinstance(field.default, float | int)]
# As an environment holds them: no NUL, and surrogates for bytes that are not UTF-8.
environment_text = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff"), max_size=20
)
numbers = st.sampled_from(
    ["0", "-0", "1", "-1", "1e3", "1e999", "inf", "nan", "0x10", "1_000", "٣", "²", "1.5", ".5", "9" * 20, "9" * 400,
     "9" * 5000, "999999", "3000000", "1e-320", "never", "true", "no"]
)  # fmt: skip
units = st.sampled_from(["", "ms", "s", "m", "h", "d", "w", "D", " d", "d\n"])
values = st.one_of(
    environment_text,
    st.builds("".join, st.tuples(numbers, units)),
    st.builds(",".join, st.lists(st.builds("".join, st.tuples(numbers, units)), max_size=4)),
    st.sampled_from(
        ["https://[", "http://a,b", "amqp://", "amqp://a:b:c@/%2", "mongodb://", "sqlite://", "memory", "://", "\"x\"",
         "'x'", "x\r\n", "\r", "x" * 100_000, "/", "..", "a" * 31 + "é", ",".join(["s" * 32] * 50)]
    ),
)  # fmt: skip


@pytest.mark.border(rule="C2")
@fuzzed(300)
@given(environ=st.dictionaries(st.sampled_from(NAMES), values, max_size=4))
@example(environ={"RETENTION_DAYS": "999999"})
@example(environ={"RETENTION_DAYS": "9" * 400})
@example(environ={"GENERATION_DEADLINE": "9" * 20 + "d"})
@example(environ={"PURGE_INTERVAL": "9" * 400})
def test_any_setting_is_taken_or_refused_by_name(environ):
    try:
        settings = read_settings(environ)
    except Misconfigured as error:
        detail = error.detail
        assert any(name in detail for name in environ), "names the setting"
        detail.encode()
        return
    check_usable(settings)


def check_usable(settings: Settings) -> None:
    """Every number and duration can be computed with, as the services do at their first request."""
    now = datetime.now(UTC)
    for name in NUMBERS:
        value = getattr(settings, name)
        if isinstance(value, float):  # None: without an end
            seconds = value * 86400 if name == "retention_days" else value
            assert now - timedelta(seconds=seconds) <= now + timedelta(seconds=seconds), name
        elif value is not None:
            assert value < 2**63, name
    for delay_s in settings.retry_delays:
        assert now + timedelta(seconds=delay_s) > now
        assert delay_s * 1000 < 2**32, "the longest x-message-ttl"


@pytest.mark.border(rule="C2")
@fuzzed(60)
@given(content=st.binary(max_size=60) | environment_text.map(lambda text: text.encode(errors="surrogateescape")))
@example(content=b"API_PORT=\xff\n")
@example(content=b"\xff\xfeA\0P\0I\0")
@example(content=b"API_PORT='80\n")
def test_any_file_of_settings_is_taken_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "fuzz.env"
    file.write_bytes(content)
    try:
        read_settings({}, file)
    except Misconfigured as error:
        error.detail.encode()


def test_a_folder_in_place_of_the_file_is_taken_or_refused(tmp_path):
    (tmp_path / ".env").mkdir()
    try:
        read_settings({}, tmp_path / ".env")
    except Misconfigured as error:
        error.detail.encode()
