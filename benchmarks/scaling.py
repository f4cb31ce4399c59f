"""What `--full` adds to the main job: growth with the grid, five seeds, and the regret."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.race import DISCRETIZATION
from benchmarks.replay import FIXED, Goal, Pace, Replay, replayed, run_to
from benchmarks.report import Stages
from benchmarks.rows import (
    RELAXATIONS,
    TARGET,
    TARGET_COLUMN,
    race,
    results_of,
    scheduler_row,
    speedup,
)
from benchmarks.suite import SUITE
from solvers import gallery

SIZES = {1: (1000, 2000, 4000, 8000), 2: (64, 128, 256, 512), 3: (24, 32, 48, 64)}
SEEDS = range(5)


def full(outcome: Any, results: dict[str, Any], settings: Any, stages: Stages) -> dict[str, Any]:
    """All three parts; also puts the worst regret into `results["handoff"]`."""
    seeds = _seeds(outcome, results, settings, stages)
    regret, worst = _regret(outcome, settings, stages)
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


def _seeds(outcome: Any, results: dict[str, Any], settings: Any, stages: Stages) -> dict[str, Any]:
    """The scheduler's hybrid on the wall clock from five networks."""
    rows, jacobi = [], results["methods"]["jacobi"]
    entry, method = SUITE[settings.problem], RELAXATIONS[settings.relaxation]()
    for seed in SEEDS:
        with stages(f"seed {seed}", outcome.cap) as report:
            track, plan = scheduler_row(
                outcome.ref, method, partial(entry.training, outcome.ref.case, seed),
                f"seed {seed}", cap=outcome.cap, report=report,
            )  # fmt: skip
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


def _regret(outcome: Any, settings: Any, stages: Stages) -> tuple[dict[str, Any], float | None]:
    """Scheduler against zero and ten fixed handoffs of the same recorded training, by replay."""
    ref, rows, regrets = outcome.ref, [], []
    entry, method = SUITE[settings.problem], RELAXATIONS[settings.relaxation]()
    case = ref.case
    target = min(TARGET, ref.discretization / ref.scale)
    goal = Goal(case.problem, ref.discrete, target, ref.scale)
    pace = Pace(case.problem, method)
    with stages("regret, from zero"):
        zero_steps = run_to(goal, method, jnp.zeros_like(ref.exact)).steps
    training = entry.training(case, 0)
    for seed in SEEDS:
        with stages(f"regret, seed {seed}", FIXED + 1) as report:
            replay = Replay(training if seed == 0 else training.restarted(entry.model(case, seed)))
            found = replayed(
                goal, method, replay, pace, zero_steps, first=training.every, report=report
            )
        regrets.append(found.regret)
        fixed = [found.fixed.get(training.every * 2**k) for k in range(FIXED)]
        times = [t if t is not None and np.isfinite(t) else None for t in fixed]
        rows.append([f"seed {seed}", found.scheduler, found.zero, *times, found.regret])
    steps = [str(training.every * 2**k) for k in range(FIXED)]
    return {
        "title": f"Replayed seconds to {target:.1e}, by handoff step (– more than one before)",
        "columns": ["network", "scheduler", "zero", *steps, "regret"],
        "rows": rows,
    }, max(regrets)
