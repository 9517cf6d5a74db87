"""Log lines: one line for each record."""

import json
import logging
import re
import sys
import threading
from pathlib import Path

import jsonschema
import pytest
import structlog

from common.runtime.logs import image_fields, log_context, set_up_logs

HOSTILE = "x\n2025-01-15 [error] forged\r\x1b[31m\x00\u2028\u202e\ud800"


@pytest.fixture
def output(capsys):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hook = sys.excepthook
    yield lambda: capsys.readouterr().err
    sys.excepthook = hook
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.fault(row=68)
def test_a_line_stays_one_line(output, as_json):
    set_up_logs(service="test", level="INFO", as_json=as_json)

    logging.getLogger("test").info("it said: %s", HOSTILE)

    text = output()
    assert len(text.splitlines()) == 1
    assert not set(text.rstrip("\n")) & set(HOSTILE[1:2] + "\r\x1b\x00\u2028\u202e\ud800")
    assert "forged" in text


@pytest.mark.fault(row=68)
def test_the_lines_of_a_trace_are_marked(output):
    set_up_logs(service="test", level="INFO", as_json=False)

    try:
        int(HOSTILE)
    except ValueError:
        logging.getLogger("test").exception("it broke")

    first, *trace = output().splitlines()
    assert "it broke" in first
    assert trace
    assert all(line.startswith("  | ") for line in trace)


def test_every_line_in_json_is_as_the_schema_says(output):
    """Also those of a thread, which has no context, and the traceback of an error that nobody has caught."""
    set_up_logs(service="generator", level="INFO", as_json=True)
    log, trace_id = logging.getLogger("test"), "0af7651916cd43dd8448eb211c80319c"

    with log_context("an image", f"00-{trace_id}-b7ad6b7169203331-01"):
        log.info("within")
    log.info("one", extra=image_fields("an image", "odd"))
    thread = threading.Thread(target=log.warning, args=("of a thread",))
    thread.start()
    thread.join()
    try:
        int("unforeseen")
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)

    schema = json.loads(Path("docs/log-line.schema.json").read_text())
    lines = [json.loads(line) for line in output().splitlines()]
    for line in lines:
        jsonschema.validate(line, schema)
    assert [line.get("image_id") for line in lines] == ["an image", "an image", None, None]
    assert [line.get("trace_id") for line in lines] == [trace_id, None, None, None]
    assert "ValueError: invalid literal" in lines[-1]["exception"]


def test_lines_of_text_are_those_of_structlog(output):
    set_up_logs(service="api", level="INFO", as_json=False)
    formatter = logging.getLogger().handlers[0].formatter
    assert isinstance(formatter, structlog.stdlib.ProcessorFormatter)
    error = ValueError("broken").with_traceback(None)
    plain = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, pad_level=False)
    lines = []
    for renderer in (formatter.processors[-1], plain):
        formatter.processors = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        with log_context('it\'s "odd"', f"00-{'1' * 32}-{'2' * 16}-01"):
            logging.getLogger("services.api").error("failed = %d", 3, exc_info=error)
        lines.append(re.sub(r"^\S+Z ", "", output(), flags=re.MULTILINE))

    assert lines[0] == lines[1] != ""
