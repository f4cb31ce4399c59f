"""All numbers of one problem: regret of the scheduler, ways, controls, classical solvers."""

from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.handoff.ways import (
    CHOSEN,
    Source,
    Timer,
    classical,
    coarse_guess,
    nothing,
    ways_of,
)
from benchmarks.race import reference
from benchmarks.replay import Goal, Regret, Replay, replayed, run_to
from benchmarks.suite import Entry
from nets import RitzTraining
from solvers import Galerkin, Guess, Hybrid, SpectralHandoff, advise
from solvers.hybrid.handover import Handover
from solvers.snapshots import Snapshot

# A way that takes more than this many times the scheduler's seconds is given up.
GIVEN_UP = 3.0
# Seconds for which a solver from zero is run, but for `--full`, which has no limit.
LONGEST = 2.0
# The goal is the discretisation error, or this relative to max|u| where it is smaller.
LEAST_TARGET = 1e-5
Report = Callable[[float], None]
Row = dict[str, Any]


def measure(entry: Entry, intervals: int, seeds: int, report: Report, *, all_ways: bool) -> Row:
    """Run everything on one problem; `report` is told the share that is done."""
    case = entry.case(intervals)
    ref = reference(case)
    target = max(ref.discretization / ref.scale, LEAST_TARGET)
    goal = Goal(case.problem, ref.discrete, target, ref.scale)
    advice = advise(case.problem, target=target)
    timer = Timer(goal, LONGEST if not all_ways else np.inf)
    report(0.1)
    controls = {name: timer.zero(name) for name in timer.solvers} | dict(classical(goal))
    coarse_seconds, coarse = coarse_guess(entry, case)
    report(0.2)
    training = entry.training(case, 0)
    training.prepare(case.problem.grid, features=True)
    rows = []
    for seed in range(seeds):
        own = training if seed == 0 else training.restarted(entry.model(case, seed))
        rows.append(_seed(timer, own, seed, all_ways=all_ways))
        report(0.2 + 0.75 * (seed + 1) / seeds)
    most = GIVEN_UP * float(np.median([row["scheduler"] for row in rows]))
    coarse_row = {name: timer.from_guess(name, coarse_seconds, coarse, most) for name in CHOSEN}
    zero_run = timer.zero_runs["jacobi"]
    pace = timer.paces["jacobi"].again()[0]
    return {
        "problem": entry.name,
        "title": case.title,
        "intervals": case.problem.grid.intervals,
        "unknowns": case.problem.grid.size,
        "discretization_error": ref.discretization / ref.scale,
        "target": target,
        "step_seconds": rows[0]["step_seconds"],
        "compile_seconds": training.compile_seconds,
        "advice": {"best": advice.best.name, "seconds": advice.best.seconds,
                   "verdict": advice.verdict},
        "zero": controls,
        "zero_is_predicted": timer.is_predicted,
        "coarse": coarse_row,
        "seeds": rows,
        "wall": _scheduled(timer, training, Guess()),
        "curves": {
            "jacobi": {"seconds": zero_run.counts * pace, "error": zero_run.errors},
            "network": rows[0].pop("network_curve"),
            "hybrid": rows[0].pop("hybrid_curve"),
        },
    }  # fmt: skip


def _seed(timer: Timer, training: RitzTraining, seed: int, *, all_ways: bool) -> dict[str, Any]:
    goal, method = timer.goal, timer.solvers["jacobi"]
    replay = Replay(training)
    first = min(training.every, 50)
    regret = replayed(
        goal, method, replay, timer.paces["jacobi"], timer.zero_steps["jacobi"], first=first
    )
    chosen, costs = _chosen(replay, regret), regret.plan.costs
    untrained = next(iter(replay))
    sources = {
        Source.TRAINED: chosen,
        Source.UNTRAINED: untrained,
        Source.NOTHING: nothing(goal.problem),
    }
    ways = ways_of(goal.problem.grid.ndim)
    most = GIVEN_UP * min(regret.scheduler, regret.best)
    found = {
        name: {
            way: timer.way(ways[way], name, sources, most, costs.planning + costs.looking)
            for way in (ways if all_ways else few)
        }
        for name, few in CHOSEN.items()
    }
    row: dict[str, Any] = {
        "seed": seed,
        "step_seconds": replay.step_seconds,
        "scheduler": regret.scheduler,
        "handoff_step": regret.plan.handoff.step,
        "trained": regret.plan.handoff.initial is not None,
        "reason": regret.plan.handoff.reason,
        "costs": costs._asdict(),
        "zero": regret.zero,
        "fixed": regret.fixed,
        "regret": regret.regret,
        "ways": found,
        "scheduled_galerkin": _scheduled(timer, replay, Galerkin(), 2 * most),
        "scheduled_alone": _scheduled(timer, replay, Guess(), 10 * most, combine=False),
    }
    if seed == 0:
        row |= _curves(timer, replay, regret, chosen)
    return row


def _chosen(replay: Replay, regret: Regret) -> Snapshot:
    """What the scheduler handed over, or where it did not train the best fixed handoff."""
    if regret.plan.handoff.snapshot is not None:
        return regret.plan.handoff.snapshot
    step = min(regret.fixed, key=lambda k: regret.fixed[k], default=0)
    snapshot = replay.at(step)
    assert snapshot is not None
    return snapshot


def _scheduled(
    timer: Timer,
    training: Iterable[Snapshot],
    handover: Handover,
    most: float = np.inf,
    *,
    combine: bool = True,
) -> float:
    """Seconds to the goal by the scheduler, from a replay or by the clock, training and all."""
    scheduler = SpectralHandoff(target=timer.goal.target, combine=combine)
    hybrid = Hybrid(timer.solvers["jacobi"], scheduler, handover=handover)
    plan = hybrid.plan(timer.goal.problem, training)
    start = plan.handoff.start(timer.goal.problem)
    return timer.from_guess("jacobi", plan.costs.charged, start, most)


def _curves(timer: Timer, replay: Replay, regret: Regret, chosen: Snapshot) -> dict[str, Any]:
    """Error against seconds of the network alone, and of the hybrid from its handover on."""
    goal, grid = timer.goal, timer.goal.problem.grid
    seconds, errors, due = [], [], 0.0
    for snapshot in replay:
        if snapshot.step > max(2 * chosen.step, 100):
            break
        if snapshot.step >= due:
            u = snapshot.evaluate(grid)[grid.unknowns]
            seconds.append(snapshot.seconds)
            errors.append(float(jnp.max(jnp.abs(u - goal.discrete))) / goal.scale)
            due = 1.1 * snapshot.step
    start = regret.plan.handoff.start(goal.problem)
    step, _ = timer.paces["jacobi"].again()
    run = run_to(goal, timer.solvers["jacobi"], start)
    charged = regret.plan.costs.charged
    return {
        "network_curve": {"seconds": seconds, "error": errors},
        "hybrid_curve": {"seconds": charged + run.counts * step, "error": run.errors},
    }
