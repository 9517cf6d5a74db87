"""The table of abilities in docs/inference.md; `python -m tests.contract.inference.abilities` prints it."""

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
    """The lines of the table, then those of the reasons."""
    names = list(DIALECTS)
    others = sorted({key for each in DIALECTS.values() for key in each.lacks} - ABILITIES.keys())
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for key in [*ABILITIES, *others]:
        cells = ["no" if key in DIALECTS[name].lacks else "yes" for name in names]
        lines.append(f"| {ABILITIES.get(key, key)} | {' | '.join(cells)} |")
    reasons = [
        f"- {name}: {ABILITIES.get(key, key)}: no, since {reason}"
        for name in names
        for key, reason in DIALECTS[name].lacks.items()
    ]
    return [*lines, "", *reasons]


if __name__ == "__main__":
    print("\n".join(table()))  # noqa: T201 - to be pasted into the page
