"""The parts with a network: training steps a second, and the hybrid's seconds to its tolerance."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.devices.backends import Device, why_not
from benchmarks.devices.cases import relative_error, relative_residual
from benchmarks.devices.fields import Row, failed, new_row, unsupported
from benchmarks.devices.timing import summary
from benchmarks.report import Stages
from benchmarks.suite import SUITE, Entry, adam
from nets import RitzTraining
from solvers import Hybrid, Jacobi, SpectralHandoff, gallery
from solvers.hybrid import HybridSolution
from solvers.hybrid.price import price_of
from solvers.iteration import has_succeeded, message


class Training(NamedTuple):
    """What is trained.

    Attributes:
        words: for people.
        ndim: dimension of the problem.
        entry: problem and recipe.
        is_quick: whether a quick run has it, too.
    """

    words: str
    ndim: int
    entry: Entry
    is_quick: bool = True

    @property
    def label(self) -> str:
        """With the widths of the network."""
        return f"{self.words}, {self.entry.recipe.words.split(',')[0]}"


SQUARE = SUITE["scales"]
# Recipes of the suite; Adam on the square is what the natural gradient is held against there.
TRAININGS: dict[str, Training] = {
    "adam": Training("Adam step", 1, SUITE["lifted"]),
    "natural_gradient": Training("natural gradient step", 1, SUITE["published"]),
    "adam_2d": Training(
        "Adam step", 2, dataclasses.replace(SQUARE, recipe=adam(3.0, 16)), is_quick=False
    ),
    "natural_gradient_2d": Training("natural gradient step", 2, SQUARE),
}
# What is timed: chunks of as many steps as are seen at once, 50 of Adam, at most so many seconds.
CHUNKS = {"quick": 10, "default": 20, "full": 20}
MOST_SECONDS = 10.0
# The hybrid: relative residual, and what it may take before it is stopped.
HYBRID = Training("hybrid into Jacobi", 1, SUITE["published"])
TOLERANCE = 1e-5
LIMIT_SECONDS = 60.0
SEEDS = {"quick": 3, "default": 5, "full": 5}


def measure(device: Device, run: Row, stages: Stages, save: Callable[[], None]) -> None:
    """Add the rows of all trainings and of the hybrid; `device` is the default one already."""
    mode, label = run["mode"], run["label"][:24]
    seeds = SEEDS[mode]
    chosen = {name: t for name, t in TRAININGS.items() if t.is_quick or mode != "quick"}
    with stages(f"{label}: training", len(chosen)) as report:

        def train(row: Row) -> Row:
            return training_row(row, CHUNKS[mode])

        for done, (name, training) in enumerate(chosen.items(), 1):
            row = planned("training", name, training, mode)
            run["rows"].append(_attempt(device, row, train))
            save()
            report(done)
    with stages(f"{label}: hybrid", seeds) as report:

        def relax(row: Row) -> Row:
            return hybrid_row(row, seeds, report)

        run["rows"].append(_attempt(device, planned("hybrid", "hybrid", HYBRID, mode), relax))
        save()


def _attempt(device: Device, row: Row, work: Callable[[Row], Row]) -> Row:
    reason = why_not(device, row["precision"])
    if reason is not None:
        return row | unsupported(reason)
    try:
        return row | work(row)
    except Exception as error:  # a failure is a row too
        return row | failed(error)


def planned(part: str, method: str, training: Training, mode: str) -> Row:
    """The row of a training or of the hybrid, without any number."""
    entry = training.entry
    return new_row(
        part=part,
        method=method,
        label=training.label,
        problem=entry.name,
        ndim=training.ndim,
        intervals=entry.intervals[mode],
        precision=np.dtype(entry.recipe.dtype).name,
    )


def _case(entry: Entry, intervals: int) -> gallery.Case:
    return gallery.CASES[entry.name](intervals, dtype=entry.recipe.dtype)


def training_row(row: Row, chunks: int) -> Row:
    """Seconds of a step by the median of the chunks, and the error of the network after them.

    The quadrature is not checked, so that all devices do the same steps.
    """
    entry = TRAININGS[row["method"]].entry
    case = _case(entry, row["intervals"])
    training = entry.training(case, 0, refinements=None)
    last = None
    for last in training:
        if last.step >= chunks * training.every or last.seconds >= MOST_SECONDS:
            break
    assert last is not None
    found = summary([seconds / training.every for seconds in training.chunk_seconds])
    grid = case.problem.grid
    return found | {
        "unknowns": grid.size,
        "steps": last.step,
        "steps_per_second": 1 / found["seconds"],
        "compile_seconds": training.compile_seconds,
        "error": _error(case, last.evaluate(grid)[grid.unknowns]),
    }


def hybrid_row(row: Row, seeds: int, report: Callable[[float], None]) -> Row:
    """Seconds charged from the start to the tolerance, by networks of several seeds."""
    entry = HYBRID.entry
    case = _case(entry, row["intervals"])
    method = Jacobi(rtol=TOLERANCE, max_steps=2**30)
    training = entry.training(case, 0)
    solved = []
    for seed in range(seeds):
        own = training if seed == 0 else training.restarted(entry.model(case, seed))
        solved.append(_solve(case, method, own))
        report(seed + 1)
    seconds = [found.costs.charged for found in solved]
    problem = case.problem
    values = [found.solution.value for found in solved]
    spacing, b = problem.grid.spacing, problem.rhs
    return summary(seconds) | _outcome(solved) | {
        "tolerance": TOLERANCE,
        "unknowns": problem.grid.size,
        "steps": int(np.median([found.handoff.step for found in solved])),
        "all_seconds": seconds,
        "unknowns_per_second": problem.grid.size / float(np.median(seconds)),
        "compile_seconds": solved[0].costs.compiling,
        "residual": max(relative_residual(spacing, b, u) for u in values),
        "error": max(_error(case, u) for u in values),
        "jacobi_predicted_seconds": price_of(problem, method).zero.seconds,
    }  # fmt: skip


def _solve(case: gallery.Case, method: Jacobi, training: RitzTraining) -> HybridSolution:
    hybrid = Hybrid(method, SpectralHandoff())
    return hybrid.solve(case.problem, training, max_seconds=LIMIT_SECONDS, throw=False)


def _outcome(solved: list[HybridSolution]) -> Row:
    """Whether all of them have converged, and else how many, and what the first other one says."""
    wrong = [s for s in solved if not bool(has_succeeded(s.solution.reason))]
    if not wrong:
        return {"status": "converged"}
    reason = message(wrong[0].solution.reason)
    return {"status": f"{len(solved) - len(wrong)} of {len(solved)} converged", "reason": reason}


def _error(case: gallery.Case, u: Any) -> float:
    return relative_error(u, np.asarray(case.exact_values(), np.float64))
