"""The table of abilities in docs/inference.md; `python -m tests.contract.inference.abilities` prints it."""

from collections.abc import Mapping

from tests.contract.inference.dialect import DialectUnderTest
from tests.contract.inference.dialects import DIALECTS

ABILITIES = {
    "progress": "reports its progress",
    "previews": "sends previews",
    "negative_prompt": "takes a negative prompt",
    "hires_fix": "takes a hires fix",
    "seed": "takes the seed",
    "model_list": "lists its models",
    "models": "refuses an unknown model",
    "samplers": "refuses an unknown sampler",
    "cancel": "stops our work within a second",
    "survival": "works on after a lost lease",
    "adoption": "the next attempt takes over work in progress",
    "finished": "the next attempt takes over a finished picture",
}


def table() -> list[str]:
    """The lines of the table, then those of the reasons; the fakes of a dialect with a real server are left out."""
    shown = {name: each for name, each in DIALECTS.items() if not name.endswith(", fake")}
    lines = [f"| | {' | '.join(shown)} |", f"|---|{'---|' * len(shown)}"]
    for key, text in ABILITIES.items():
        cells = ["no" if key in each.lacks else "yes" for each in shown.values()]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return [*lines, "", *_reasons(shown)]


def _reasons(shown: Mapping[str, DialectUnderTest]) -> list[str]:
    """What each dialect lacks, and why; the same reason of several dialects stands once."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, each in shown.items():
        for key, reason in each.lacks.items():
            if key in ABILITIES:
                found.setdefault((ABILITIES[key], reason), []).append(name)
    return [f"- {text}: not {', '.join(names)}; {reason}" for (text, reason), names in found.items()]


if __name__ == "__main__":
    print("\n".join(table()))  # noqa: T201 - to be pasted into the page
