"""What is noted of a training at geometrically spaced steps, and when an error has settled."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nets import Fit, FitSnapshot

Report = Callable[[float], None]


def geometric_steps(every: int, last: int, count: int) -> list[int]:
    """Give multiples of `every` from there to `last`, about `count`, each a like factor apart.

    Example:
        >>> geometric_steps(10, 1000, 5)
        [10, 30, 100, 320, 1000]
    """
    spaced = np.geomspace(1, last / every, count)
    return sorted({every * round(float(number)) for number in spaced} - {0})


def watch(
    fit: Fit, steps: Sequence[int], look: Callable[[FitSnapshot], dict[str, Any]], report: Report
) -> list[dict[str, Any]]:
    """Train, and note step and loss and what `look` sees at the start and at the given steps.

    An interrupted training that goes on from its checkpoint has the same notes in the end.

    Args:
        fit: with `every` such that its snapshots are at these steps.
        steps: where to look.
        look: from a snapshot to what JSON can hold.
        report: is told the share that is done.
    """
    wanted = {0, *steps}
    for snapshot in fit:
        if snapshot.step in wanted:
            note = {"step": snapshot.step, "loss": snapshot.loss}
            fit.records.append(note | look(snapshot))
        report(snapshot.step / fit.max_steps)
    return fit.records


def part(report: Report, done: int, number: int) -> Report:
    """Report the share of one of several equal parts as a share of the whole."""
    return lambda share: report((done + share) / number)


def settled(steps: Sequence[int], errors: Sequence[float], threshold: float) -> int | None:
    """Find the first step from which on every error is below the threshold, None if none is.

    Example:
        >>> settled([1, 2, 3, 4, 5], [0.9, 0.09, 0.2, 0.08, 0.03], 0.1)
        4
    """
    above = [i for i, error in enumerate(errors) if not error < threshold]
    first = above[-1] + 1 if above else 0
    return steps[first] if first < len(steps) else None


def is_rising(steps: Sequence[int | None]) -> bool:
    """Tell whether every step is known and later than the one before it.

    Example:
        >>> is_rising([20, 100, 300]), is_rising([20, 20, 300]), is_rising([20, 100, None])
        (True, False, False)
    """
    known = [step for step in steps if step is not None]
    return len(known) == len(steps) and all(np.diff(known) > 0)
