"""What the experiments on frequencies have in common: settings, claims, and a table."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from matplotlib.figure import Figure

Report = Callable[[float], None]


class Settings(NamedTuple):
    """What to run.

    Attributes:
        is_full: the published setting, where that is known, instead of the quick one.
        seeds: networks of each kind, their seeds 0, 1, ….
        data: folder of the standard files of MNIST or CIFAR-10, or None for what is installed.
        checkpoints: folder from which an interrupted run goes on.
    """

    is_full: bool
    seeds: int
    data: Path | None
    checkpoints: Path


class Claim(NamedTuple):
    """A published claim, and in which of the runs it holds.

    Attributes:
        words: the claim, as a sentence.
        holds: for each seed, or for each of what is counted instead.
        counted: what `holds` has an entry for each of.
    """

    words: str
    holds: tuple[bool, ...]
    counted: str = "seeds"

    @property
    def verdict(self) -> str:
        """Whether it holds in this run, in words."""
        count, number = sum(self.holds), len(self.holds)
        found = "holds" if count == number else "does not hold" if count == 0 else "holds in part"
        return f"{self.words}: {found} ({count} of {number} {self.counted})."


class Experiment(Protocol):
    """A module of this package that does one experiment."""

    @property
    def NAME(self) -> str:  # noqa: N802, a constant of the module
        """What the command calls it."""
        ...

    @property
    def TITLE(self) -> str:  # noqa: N802
        """What it is about."""
        ...

    def run(self, settings: Settings, report: Report) -> dict[str, Any]:
        """Do it; `report` is told the share that is done.

        Returns:
            Numbers for JSON; `claims`, a list of `Claim`; `table`, with title, columns and rows.
        """
        ...

    def draw(self, results: dict[str, Any]) -> dict[str, Figure]:
        """Figures by name."""
        ...


def claims_of(words: Sequence[str], outcomes: Sequence[Sequence[bool]]) -> list[Claim]:
    """Claims from what each seed showed, a list of one outcome a claim.

    Example:
        >>> claims_of(["low before high"], [[True], [True], [False]])[0].verdict
        'low before high: holds in part (2 of 3 seeds).'
    """
    columns = zip(*outcomes, strict=True)
    return [Claim(word, tuple(map(bool, c))) for word, c in zip(words, columns, strict=True)]
