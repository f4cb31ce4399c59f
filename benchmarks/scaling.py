"""What `--full` adds to the main job: growth with the grid, five seeds, and the regret."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.race import DISCRETIZATION, Reference, Track, relax
from benchmarks.report import Stages
from benchmarks.rows import (
    RELAXATIONS,
    TARGET,
    TARGET_COLUMN,
    make_training,
    race,
    results_of,
    scheduler_row,
    speedup,
)
from nets import RitzTraining
from solvers import Hybrid, SpectralHandoff, gallery
from solvers.hybrid.handover import smoothed
from solvers.hybrid.price import measure_step
from solvers.snapshots import Snapshot

SIZES = {1: (1000, 2000, 4000, 8000), 2: (64, 128, 256, 512)}
SEEDS = range(5)
HANDOFFS = tuple(50 * 2**k for k in range(10))


def full(outcome: Any, results: dict[str, Any], settings: Any, stages: Stages) -> dict[str, Any]:
    """All three parts; also puts the worst regret into `results["handoff"]`."""
    method = RELAXATIONS[settings.relaxation]()
    seeds = _seeds(outcome, results["methods"]["jacobi"], method, stages)
    regret, worst = _regret(outcome, method, stages)
    results["handoff"]["regret"] = worst
    return {"seeds": seeds, "regret": regret, "scaling": _growth(results, settings, stages)}


def _growth(results: dict[str, Any], settings: Any, stages: Stages) -> dict[str, Any]:
    """The same race on other grids, and the exponent p of seconds ~ intervals^p for each row."""
    make_case = gallery.CASES[settings.problem]
    own = results["problem"]["intervals"]
    sizes = SIZES[len(own)]
    races = {own[0]: results["methods"]}
    for n in sizes:
        if n not in races:
            outcome = race(make_case(n), settings, stages)
            races[n] = results_of(outcome, settings)["methods"]
    rows = []
    for name, row in results["methods"].items():
        # The step of a handoff and the best ω differ from grid to grid.
        label = row["label"].split(" (step")[0].split(" = ")[0]
        for column in (TARGET_COLUMN, DISCRETIZATION):
            times = [races[n].get(name, {}).get("seconds_to", {}).get(column) for n in sizes]
            rows.append([label, column, *times, growth_exponent(sizes, times)])
    return {
        "title": "Seconds by number of intervals, and their growth",
        "columns": ["method", "to", *map(str, sizes), "exponent"],
        "rows": rows,
        "intervals": sizes,
        "methods": races,
    }


def growth_exponent(sizes: tuple[int, ...], seconds: list[float | None]) -> float | None:
    """Slope of log seconds against log size by least squares; None with fewer than three points."""
    known = [(n, t) for n, t in zip(sizes, seconds, strict=True) if t is not None]
    if len(known) < 3:
        return None
    sizes_known, seconds_known = np.log(np.array(known)).T
    return float(np.polyfit(sizes_known, seconds_known, 1)[0])


def _seeds(outcome: Any, jacobi: dict[str, Any], method: Any, stages: Stages) -> dict[str, Any]:
    """The scheduler's hybrid on the wall clock from five networks."""
    rows = []
    for seed in SEEDS:
        with stages(f"seed {seed}", outcome.cap) as report:
            track, plan = scheduler_row(
                outcome.ref, method, seed, f"seed {seed}", cap=outcome.cap, report=report
            )
            row = track.summary(outcome.ref, outcome.cap)
            ratios = speedup(jacobi, row)
            rows.append(
                [
                    f"seed {seed}",
                    plan.handoff.step,
                    plan.handoff.seconds,
                    row["seconds_to"][TARGET_COLUMN],
                    ratios["to_1e-04"],
                    ratios["to_1e-04_with_compiling"],
                    row["seconds_to"][DISCRETIZATION],
                    ratios["to_discretization"],
                ]
            )
    columns = ["network", "handoff step", "at s", "s to 1e-4", "× Jacobi", "with compiling",
               "s to discr.", "× Jacobi"]  # fmt: skip
    return {"title": "The scheduler's hybrid, seed by seed", "columns": columns, "rows": rows}


@dataclasses.dataclass(frozen=True)
class Replay:
    """A recorded training, played back at one constant speed."""

    training: RitzTraining
    snapshots: list[Snapshot]
    step_seconds: float

    def __iter__(self) -> Iterator[Snapshot]:
        for snapshot in self.snapshots:
            yield snapshot._replace(seconds=snapshot.step * self.step_seconds)

    def cool_down(self, snapshot: Snapshot, steps: int) -> Snapshot:
        cooled = self.training.cool_down(snapshot, steps)
        return cooled._replace(seconds=snapshot.seconds + steps * self.step_seconds)


def _record(ref: Reference, seed: int, report: Any) -> Replay:
    training = make_training(ref.case, seed, max_steps=HANDOFFS[-1])
    training.prepare(ref.case.problem.grid)
    snapshots = []
    for snapshot in training:
        snapshots.append(snapshot)
        report(snapshot.step)
    step_seconds = float(np.median(training.chunk_seconds)) / training.every
    return Replay(training, snapshots, step_seconds)


def _regret(outcome: Any, method: Any, stages: Stages) -> tuple[dict[str, Any], float | None]:
    """Scheduler against zero and ten fixed handoffs of the same recorded training, to 1e-4.

    Seconds are step × the median time of a step; relaxations run for real and are charged their
    sweeps × the median sweep; looks are the real ones; a fixed handoff pays for one.
    """
    ref, rows, regrets = outcome.ref, [], []
    for seed in SEEDS:
        with stages(f"regret, recording seed {seed}", HANDOFFS[-1]) as report:
            replay = _record(ref, seed, report)
        with stages(f"regret, seed {seed}", len(HANDOFFS) + 2) as report:
            scheduler, fixed = _totals(ref, method, replay, report)
        best = min(fixed.values())
        # None of the fixed ones within twice the scheduler's time: the regret is below one half.
        regret = scheduler / best if np.isfinite(best) else None
        regrets.append(regret)
        times = [t if np.isfinite(t) else None for t in fixed.values()]
        rows.append([f"seed {seed}", scheduler, *times, regret])
    return {
        "title": "Replayed seconds to 1e-4, by handoff step (– more than twice the best)",
        "columns": ["network", "scheduler", "zero", *map(str, HANDOFFS), "regret"],
        "rows": rows,
    }, max((regret for regret in regrets if regret is not None), default=None)


def _totals(
    ref: Reference, method: Any, replay: Replay, report: Any
) -> tuple[float, dict[int, float]]:
    problem = ref.case.problem
    sweeps = []

    def relaxing(start: Any, charged: float, limit: float) -> float:
        """Charged seconds plus sweeps × the median sweep so far; infinite beyond `limit`."""
        sweeps.append(measure_step(problem, method, time.perf_counter)[0])
        track = Track("", handed_over=charged)
        track = relax(ref, method, track, start, cap=limit, until=TARGET)
        if track.errors[-1] > TARGET:
            return np.inf
        return charged + track.steps[-1] * float(np.median(sweeps))

    plan = Hybrid(method, SpectralHandoff(target=TARGET)).plan(problem, replay)
    scheduler = relaxing(plan.handoff.start(problem), plan.costs.charged, np.inf)
    report(1)
    looks = plan.costs.looking / max(len(plan.trace), 1)
    totals = {0: relaxing(jnp.zeros_like(ref.exact), 0.0, 2 * scheduler)}
    by_step = {snapshot.step: snapshot for snapshot in replay.snapshots}
    for done, step in enumerate(HANDOFFS, 2):
        guess = smoothed(problem, by_step[step].evaluate(problem.grid))
        limit = 2 * min(scheduler, *totals.values())
        charged = step * replay.step_seconds + looks
        totals[step] = relaxing(guess, charged, limit) if charged < limit else np.inf
        report(done)
    return scheduler, totals
