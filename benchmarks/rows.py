"""The rows of the main job: one problem, raced by every method."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.race import (
    DISCRETIZATION,
    Reference,
    Track,
    reference,
    relax,
    relax_from,
    solve_to,
    train,
)
from benchmarks.report import Stages
from benchmarks.results import environment
from benchmarks.suite import SUITE
from nets import RitzTraining
from solvers import (
    ConjugateGradient,
    FastDiagonalization,
    GaussSeidel,
    Hybrid,
    Jacobi,
    SpectralHandoff,
    gallery,
    optimal_over_relaxation,
)
from solvers.hybrid import HybridPlan
from solvers.hybrid.handover import smoothed
from solvers.hybrid.price import price_of
from solvers.hybrid.timing import forget
from solvers.snapshots import Snapshot

TARGET_COLUMN = "1e-04"
TARGET = 1e-4
ROW_ENDS_AT = 1.2  # times the seconds of Jacobi alone
SWEEPS = 2**30
RELAXATIONS: dict[str, Callable[[], Any]] = {
    "jacobi": lambda: Jacobi(max_steps=SWEEPS),
    "gauss-seidel": lambda: GaussSeidel(max_steps=SWEEPS),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is asked to do; see `parse`."""

    mode: str
    intervals: int | None
    problem: str
    relaxation: str
    seed: int
    output: Path
    platform: str | None


@dataclasses.dataclass
class Race:
    """All tracks of one problem on one grid, and what the scheduler decided."""

    ref: Reference
    cap: float
    tracks: dict[str, Track]
    plan: HybridPlan
    snapshots: list[Snapshot]
    relaxed: list[tuple[int, Any]]


def scheduler_row(
    ref: Reference, method: Any, make: Callable[[], RitzTraining], label: str, **options: Any
) -> tuple[Track, HybridPlan]:
    """A whole hybrid on the wall clock: plan, hand over, relax, to the discretisation error.

    It compiles everything itself, whatever ran before.
    """
    forget()
    problem, training = ref.case.problem, make()
    set_up = training.compile_seconds
    target = min(TARGET, ref.discretization / ref.scale)
    plan = Hybrid(method, SpectralHandoff(target=target)).plan(problem, training)
    compiling = set_up + plan.costs.compiling
    track = Track(label, compile_seconds=compiling, handed_over=plan.costs.charged)
    track.details = {"handoff_step": plan.handoff.step}
    return relax(ref, method, track, plan.handoff.start(problem), **options), plan


def race(case: gallery.Case, settings: Settings, stages: Stages) -> Race:
    """Run every row."""
    ref, entry = reference(case), SUITE[settings.problem]
    zero = jnp.zeros_like(case.problem.rhs)
    relaxed: list[tuple[int, Any]] = []
    with stages("Jacobi alone") as report:
        jacobi = relax(
            ref, RELAXATIONS["jacobi"](), Track("Jacobi alone"), zero, cap=600.0, report=report,
            observe=lambda steps, u: relaxed.append((steps, u)),
        )  # fmt: skip
    cap = ROW_ENDS_AT * jacobi.seconds[-1]
    tracks = {"jacobi": jacobi} | _rivals(ref, zero, cap, stages)
    with stages("network, its first steps one by one"):
        # For the figure only: nothing of it is charged to a row.
        first = list(entry.training(case, settings.seed, every=1, max_steps=49))
    with stages("network alone", cap) as report:
        training = entry.training(case, settings.seed)
        least = 4 * training.least_steps
        network, kept = train(ref, training, cap=cap, least_steps=least, report=report)
        network.compile_seconds = training.compile_seconds
    tracks["network"] = network
    method = RELAXATIONS[settings.relaxation]()
    for name, snapshot in _handoffs(ref, method, kept).items():
        with stages(f"hybrid, {name} handoff", cap) as report:
            label = f"hybrid, {name} handoff (step {snapshot.step})"
            tracks[f"hybrid_{name}"] = relax_from(
                ref, method, snapshot, label, cap=cap, report=report
            )
            tracks[f"hybrid_{name}"].compile_seconds += training.compile_seconds
    make = partial(entry.training, case, settings.seed)
    with stages("hybrid, scheduler", cap) as report:
        tracks["hybrid_scheduler"], plan = scheduler_row(
            ref,
            method,
            make,
            "hybrid, scheduler",
            cap=cap,
            report=report,
        )
    with stages("hybrid into Gauss–Seidel", cap) as report:
        tracks["hybrid_gauss_seidel"], _ = scheduler_row(
            ref, RELAXATIONS["gauss-seidel"](), make, "hybrid into Gauss–Seidel", cap=cap,
            report=report,
        )  # fmt: skip
    later = [snapshot for snapshot in kept if snapshot.step > first[-1].step]
    return Race(ref, cap, tracks, plan, [*first, *later], relaxed)


def _rivals(ref: Reference, zero: jax.Array, cap: float, stages: Stages) -> dict[str, Track]:
    """The classical rows beside Jacobi."""
    operator, tracks = ref.case.problem.operator, {}
    with stages("Gauss–Seidel alone", cap) as report:
        method = RELAXATIONS["gauss-seidel"]()
        track = Track("Gauss–Seidel alone")
        tracks["gauss_seidel"] = relax(ref, method, track, zero, cap=cap, report=report)
    if operator.is_constant and not operator.is_singular:
        with stages("Gauss–Seidel, over-relaxed", cap) as report:
            omega = optimal_over_relaxation(operator)
            method = GaussSeidel(omega, max_steps=SWEEPS, check_every=20)
            track = Track(f"Gauss–Seidel, best ω = {omega:.5f}")
            tracks["gauss_seidel_over_relaxed"] = relax(
                ref, method, track, zero, cap=cap, report=report
            )
    with stages("conjugate gradients"):
        methods = [ConjugateGradient(rtol=10.0**-k) for k in range(1, 9)]
        tracks["conjugate_gradient"] = solve_to(ref, "conjugate gradients", methods)
    if operator.is_constant:
        with stages("direct solver"):
            tracks["direct"] = solve_to(ref, "direct (sine transform)", [FastDiagonalization()])
    return tracks


def _handoffs(ref: Reference, method: Any, kept: list[Snapshot]) -> dict[str, Snapshot]:
    """The best handoff in hindsight, by price, and one far too early and one far too late."""
    problem = ref.case.problem
    price = price_of(problem, method, target=TARGET)
    candidates = [snapshot for snapshot in kept if snapshot.step > 0]

    def total(snapshot: Snapshot) -> float:
        guess = smoothed(problem, snapshot.evaluate(problem.grid))
        return snapshot.seconds + price.remaining(guess).seconds

    good = min(candidates, key=total)
    early = max((s for s in candidates if s.step <= good.step / 8), key=lambda s: s.step,
                default=candidates[0])  # fmt: skip
    late = min((s for s in candidates if s.step >= 16 * good.step), key=lambda s: s.step,
               default=candidates[-1])  # fmt: skip
    return {"early": early, "good": good, "late": late}


def results_of(race: Race, settings: Settings) -> dict[str, Any]:
    """The contents of `results.json`, as far as one race gives them."""
    ref, handoff = race.ref, race.plan.handoff
    recipe = SUITE[settings.problem].recipe
    grid = ref.case.problem.grid
    summaries = {name: track.summary(ref, race.cap) for name, track in race.tracks.items()}
    return {
        "problem": {
            "name": settings.problem,
            "title": ref.case.title,
            "intervals": grid.intervals,
            "max_u": ref.scale,
            "discretization_error": ref.discretization / ref.scale,
            "seed": settings.seed,
            "mode": settings.mode,
        },
        "methods": summaries,
        "handoff": {
            "step": handoff.step,
            "seconds": handoff.seconds,
            "reason": handoff.reason,
            "predicted_seconds": handoff.predicted_seconds,
            "trained": handoff.initial is not None,
            "costs": race.plan.costs._asdict(),
            "trace": [look._asdict() for look in race.plan.trace],
        },
        "speedup": speedup(summaries["jacobi"], summaries["hybrid_scheduler"]),
        "row_ends_at_seconds": race.cap,
        "curves": {name: track.curve() for name, track in race.tracks.items()},
        "scaling": None,
        "environment": environment(f"relaxation float64; {recipe.words}"),
    }


def speedup(jacobi: dict[str, Any], hybrid: dict[str, Any]) -> dict[str, float | None]:
    """Seconds of Jacobi alone over seconds of the hybrid; None where one did not get there."""

    def ratio(column: str, *, compiling: bool) -> float | None:
        times = []
        for row in (jacobi, hybrid):
            seconds = row["seconds_to"][column]
            if seconds is None:
                return None
            times.append(seconds + (row["compile_seconds"] if compiling else 0.0))
        return times[0] / times[1]

    return {
        "to_1e-04": ratio(TARGET_COLUMN, compiling=False),
        "to_1e-04_with_compiling": ratio(TARGET_COLUMN, compiling=True),
        "to_discretization": ratio(DISCRETIZATION, compiling=False),
        "to_discretization_with_compiling": ratio(DISCRETIZATION, compiling=True),
    }
