"""The report of a round of chaos: faults, outcomes and findings, as one table."""

from collections import Counter
from dataclasses import dataclass, field

from tests.faults.checker import Findings

SHOWN = 20  # violations of each kind


@dataclass
class Report:
    """Faults, outcomes and findings of a round."""

    seed: int
    jobs: int
    faults: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)
    foreign_images: int = 0
    foreign_letters: int = 0
    findings: Findings = field(default_factory=Findings)
    painted_by: Counter[str] = field(default_factory=Counter)
    redeliveries: int = 0
    retries: int = 0
    repainted: int = 0
    painted_elsewhere: int = 0
    reconnects: int = 0
    swept: int = 0
    recovery_s: float = 0.0
    slowest_s: float = 0.0
    most_waiting: int = 0
    longest_idle_s: float = 0.0
    took_s: float = 0.0

    @property
    def rows(self) -> list[tuple[str, object]]:
        """The table, in the order it is printed."""
        found, faults = self.findings, self.faults
        kills = faults["kill"] + sum(self.points.values())
        return [
            ("jobs", self.jobs),
            ("images by outcome", _counted(self.outcomes)),
            ("completed by pool", _counted(self.painted_by)),
            ("kills (of these at named points)", f"{kills} ({sum(self.points.values())})"),
            ("orderly stops under load", faults["term"]),
            ("processes stopped past their lease", faults["freeze"]),
            ("pools without a running generator", faults["lose a pool"]),
            ("cuts, silences and refusals of connections", faults["cut"] + faults["silence"] + faults["refuse"]),
            ("broker restarts, broker kills", f"{faults['restart']}, {faults['crash']}"),
            ("foreign messages", _counted(self.foreign)),
            ("images of these, dead letters of these", f"{self.foreign_images}, {self.foreign_letters}"),
            ("other trouble from outside", _counted(self.outside)),
            ("redeliveries", self.redeliveries),
            ("retries", self.retries),
            ("paintings started and dropped", self.repainted),
            ("painted again, since their back end was lost", self.painted_elsewhere),
            ("websocket reconnects", self.reconnects),
            ("files of dead attempts, swept", self.swept),
            ("duplicates", len(found.duplicates)),
            ("lost", len(found.lost)),
            ("orphans", len(found.orphans)),
            ("other violations", len(found.others)),
            ("slowest recovery, s", f"{self.recovery_s:.1f}"),
            ("slowest image, s", f"{self.slowest_s:.1f}"),
            ("images that waited at once, at most", self.most_waiting),
            ("longest wait beside a free slot, s", f"{self.longest_idle_s:.1f}"),
            ("the round took, s", f"{self.took_s:.0f}"),
        ]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.rows)
        lines = [f"{'seed':<{width}}  {self.seed}", *(f"{name:<{width}}  {value}" for name, value in self.rows)]
        found = self.findings
        kinds = (found.lost, found.duplicates, found.orphans, found.others)
        violations = [f"  {violation}" for kind in kinds for violation in kind[:SHOWN]]
        return "\n".join([*lines, *(["violations:", *violations] if violations else [])])


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common()) or "none"
