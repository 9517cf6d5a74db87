"""Reading the settings from the environment, `.env` or the file that `<NAME>_FILE` names.

environment, then .env ──▶ trailing line ends and surrounding quotes taken off ──▶ refused if it is not plain text
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from common.domain.errors import Misconfigured
from common.runtime.settings import Settings

MAX_SECRET_BYTES: Final = 65_536
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # how Python shows the bytes of a variable that are not UTF-8
_ENV_FILE: Final = Path(".env")
SECRETS: Final = frozenset(name for name, field in Settings.model_fields.items() if not field.repr)


def read_settings(environ: Mapping[str, str], env_file: Path | None = None) -> Settings:
    """Settings from a mapping of environment variables; a missing variable is read from `env_file`.

    An empty variable counts as not set. Variables of other programs are ignored.

    Raises:
        Misconfigured: names each variable whose value is not valid, and says what it must be.
    """
    values, wrong = read_values(environ, env_file, names=Settings.model_fields.keys(), secrets=SECRETS)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        wrong += [_reason(found) for found in error.errors(include_url=False)]
        raise Misconfigured("; ".join(wrong), code="bad_setting") from error
    if wrong:
        raise Misconfigured("; ".join(wrong), code="bad_setting")
    return settings


def _reason(found: ErrorDetails) -> str:
    return f"{str(found['loc'][0]).upper()}: {found['msg'].removeprefix('Value error, ')}"


def process_settings() -> Settings:
    """`read_settings` from the environment of this process and `.env` in its working directory."""
    return read_settings(os.environ, _ENV_FILE)


def wants_json_log() -> bool:
    """Whether errors of the settings are to be logged as JSON: LOG_FORMAT counts, whatever else is wrong."""
    try:
        values, _ = read_values(os.environ, _ENV_FILE, names={"log_format"}, secrets=frozenset())
    except Misconfigured:
        values = {"log_format": os.environ.get("LOG_FORMAT", "")}
    return values.get("log_format", "").strip() == "json"


def read_values(
    variables: Mapping[str, str], env_file: Path | None, *, names: Collection[str], secrets: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """The texts of the settings by name, and why others cannot be read. An empty text counts as not set.

    Raises:
        Misconfigured: `env_file` exists and cannot be read.
    """
    source = {**(_env_file(env_file) if env_file is not None else {}), **_set(variables)}
    values: dict[str, str] = {}
    wrong: list[str] = []
    for name in sorted(names):
        try:
            value = _value(name.upper(), source, is_secret=name in secrets)
        except ValueError as error:
            wrong.append(str(error))
        else:
            if value:
                values[name] = value
    return values, wrong


def clean(name: str, text: str) -> str:
    """The text without trailing line ends and surrounding quotes.

    Raises:
        ValueError: it holds a control character, or bytes that are not UTF-8.
    """
    text = text.rstrip("\r\n")
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    if found := _CONTROL.search(text):
        raise ValueError(f"{name}: must not contain control characters, such as U+{ord(found[0]):04X}")
    if _SURROGATE.search(text):
        raise ValueError(f"{name}: must be UTF-8")
    return text


def _set(variables: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value}


def _value(name: str, source: Mapping[str, str], *, is_secret: bool) -> str:
    value, file_name = clean(name, source.get(name, "")), f"{name}_FILE"
    if not is_secret or not (path := clean(file_name, source.get(file_name, ""))):
        return value
    if value:
        raise ValueError(f"{name}: is set, and so is {file_name}; set one of them")
    return clean(file_name, read_secret(file_name, Path(path)))


def read_secret(name: str, path: Path) -> str:
    """The text of a file that holds a secret; `name` begins the reason of a refusal. Raises ValueError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
        if len(content) > MAX_SECRET_BYTES:
            raise ValueError(f"{name}: the file is larger than {MAX_SECRET_BYTES} bytes")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: the file is not UTF-8") from None
    except OSError as error:
        raise ValueError(f"{name}: the file cannot be read: {error.strerror}") from None
    if not text.strip():
        raise ValueError(f"{name}: the file is empty")
    return text


def _env_file(path: Path) -> dict[str, str]:
    """The assignments of the file, with quotes and `${…}` as dotenv reads them; empty if there is no such file."""
    try:
        if not os.path.lexists(path):
            return {}
        if not (path.is_file() or path.is_char_device()):
            raise _unreadable(path, "it is not a file")
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise _unreadable(path, "it is not UTF-8") from None
    except OSError as error:
        raise _unreadable(path, error.strerror or type(error).__name__) from None
    if broken := [found.original.line for found in parse_stream(io.StringIO(text)) if found.error]:
        raise _unreadable(path, f"line {broken[0]} is not NAME=value")
    return _set(dotenv_values(stream=io.StringIO(text)))


def _unreadable(path: Path, reason: str) -> Misconfigured:
    return Misconfigured(f"{path}: cannot be read: {reason}", code="bad_setting")
