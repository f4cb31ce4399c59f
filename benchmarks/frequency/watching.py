"""Fits of several seeds, what is noted of them, and what the notes say."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.frequency.experiment import Report, Settings
from nets import Fit, FitSnapshot

Model = Callable[[nnx.Rngs], nnx.Module]


def fits(
    settings: Settings, name: str, model: Model, samples: tuple[Any, Any], **options: Any
) -> Iterator[Fit]:
    """A fit for each seed, of its parameters and of its shuffles; only the first one compiles."""
    first = None
    # In one program: that of each layer by itself would take a ResNet some 15 seconds.
    build = nnx.jit(lambda key: model(nnx.Rngs(key)))
    for seed in range(settings.seeds):
        network, folder = build(jax.random.key(seed)), settings.checkpoints / f"{name}_{seed}"
        if first is None:
            first = Fit(network, *samples, seed=seed, checkpoint=folder, **options)
            yield first
        else:
            yield first.restarted(network, seed=seed, checkpoint=folder)


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


def error_curves(
    notes: Sequence[dict[str, Any]], places: Sequence[int], threshold: float
) -> dict[str, Any]:
    """Loss and errors of a training over its steps, and when each error had settled.

    Args:
        notes: of `watch`, each with a list of `errors`.
        places: which of them.
        threshold: for `settled`.
    """
    steps = [note["step"] for note in notes]
    errors = [[note["errors"][i] for note in notes] for i in places]
    return {
        "steps": steps,
        "losses": [note["loss"] for note in notes],
        "errors": errors,
        "settled": [settled(steps, curve, threshold) for curve in errors],
    }


def settling_table(
    title: str, names: Sequence[str], runs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """A row a seed: when each error had settled, and the last loss; `runs` of `error_curves`."""
    rows = [[str(i), *run["settled"], run["losses"][-1]] for i, run in enumerate(runs)]
    return {"title": title, "columns": ["seed", *names, "loss at the end"], "rows": rows}


def is_rising(values: Sequence[float | None]) -> bool:
    """Whether each is higher than the one before; not if one is missing.

    Example:
        >>> is_rising([20, 100, 300]), is_rising([20, 20, 300]), is_rising([20, 100, None])
        (True, False, False)
    """
    known = [value for value in values if value is not None]
    return len(known) == len(values) and all(a < b for a, b in pairwise(known))


def median(values: Sequence[float | None]) -> float | None:
    """Median with None, not reached, as the largest; None if that is the median.

    Example:
        >>> median([10, None, 20]), median([10, None, None])
        (20.0, None)
    """
    middle = float(np.median([np.inf if value is None else value for value in values]))
    return middle if np.isfinite(middle) else None
