"""Log lines: one line for each record."""

import logging

import pytest

from common.runtime.logs import set_up_logs

HOSTILE = "x\n2025-01-15 [error] forged\r\x1b[31m\x00\u2028\u202e\ud800"


@pytest.fixture
def output(capsys):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield lambda: capsys.readouterr().err
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
