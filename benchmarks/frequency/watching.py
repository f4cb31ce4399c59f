"""What is noted of a training at geometrically spaced steps, and when an error has settled."""

import math
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
    fit: Fit,
    look: Callable[[FitSnapshot], dict[str, Any]],
    report: Report,
    *,
    steps: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Train to the end, and note step, seconds and loss, and what `look` sees.

    An interrupted training that goes on from its checkpoint has the same notes in the end.

    Args:
        fit: which keeps the notes, and those from before an interruption.
        look: from a snapshot to what JSON can hold.
        report: is told the share of this fit that is done.
        steps: where to look, beside the start, all of them snapshots; None for every snapshot.
    """
    for snapshot in fit:
        if steps is None or snapshot.step in {0, *steps}:
            own = {"step": snapshot.step, "seconds": snapshot.seconds, "loss": snapshot.loss}
            fit.records.append(own | look(snapshot))
        report(_share(fit, snapshot))
    return fit.records


def _share(fit: Fit, snapshot: FitSnapshot) -> float:
    """Of the steps, or of the way of the loss, on a logarithmic scale, to where it stops."""
    share = snapshot.step / fit.max_steps
    if fit.stop_at is not None and fit.records:
        start = fit.records[0]["loss"]
        way = math.log(start / fit.stop_at)
        share = max(share, math.log(start / snapshot.loss) / way if way > 0 else 1.0)
    return min(max(share, 0.0), 1.0)


def part_of(report: Report, index: int, count: int) -> Report:
    """Report the share of one of `count` parts as that of the whole."""
    return lambda share: report((index + share) / count)


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
