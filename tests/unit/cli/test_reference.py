"""docs/cli.md and --help, which both come from the parser."""

import argparse

import pytest

from scripts.cli_reference import MARKER, PAGE, updated
from services.cli.main import main, make_parser


def test_the_page_is_made_from_the_parser():
    """`make cli-docs` writes it again."""
    page = PAGE.read_text()

    assert page == updated(page)


def test_a_page_without_its_marker_is_refused():
    with pytest.raises(ValueError, match="make cli-docs"):
        updated("# The command line\n")


def test_every_argument_of_every_command_is_explained():
    commands, unexplained = [make_parser()], []
    for parser in commands:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                commands += action.choices.values()
            elif not action.help:
                unexplained.append(f"{parser.prog} {action.dest}")

    assert unexplained == []
    assert len(commands) > 20


def test_the_page_names_every_command_and_option():
    made = PAGE.read_text().partition(MARKER)[2]

    for text in ("### darkroom generate\n", "### darkroom keys create\n", "`-n N`, `--num-images N`", "`--version`"):
        assert text in made


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("darkroom 0.")


def test_the_help_names_the_exit_statuses(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])

    shown = " ".join(capsys.readouterr().out.split())
    assert "0 done, 1 failed, 2 wrong arguments or settings, 130 stopped by Ctrl-C" in shown
