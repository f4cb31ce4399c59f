"""Every way to start a solver, with and without a network, in seconds to the goal."""

import enum
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.replay import Goal, Pace, run_to
from benchmarks.suite import Entry
from solvers import (
    ConjugateGradient,
    Deflated,
    Deflation,
    FastDiagonalization,
    Galerkin,
    GaussSeidel,
    Guess,
    Jacobi,
    LineRelaxation,
    Multigrid,
    Poisson,
    ScaledGuess,
    optimal_over_relaxation,
    solve,
)
from solvers.gallery import Case
from solvers.hybrid.handover import Handover, smoothed
from solvers.hybrid.price import is_priced_by_modes, price_of
from solvers.hybrid.timing import run_steps, step_time
from solvers.snapshots import Snapshot

SWEEPS = 2**30
# So many sines or cosines per axis, about as many in all as a network has features.
MODES = {1: 64, 2: 8, 3: 4}
COARSENING = 8


class Source(enum.Enum):
    """Whose output and features are handed over."""

    TRAINED = enum.auto()
    UNTRAINED = enum.auto()
    NOTHING = enum.auto()


class Way(NamedTuple):
    """A way to start: its name for people, how, and from what."""

    label: str
    handover: Handover
    source: Source


def solvers_of() -> dict[str, Any]:
    """The solvers that a guess is given to."""
    return {
        "jacobi": Jacobi(max_steps=SWEEPS),
        "gauss_seidel": GaussSeidel(max_steps=SWEEPS),
        "cg": ConjugateGradient(),
        "multigrid": Multigrid(),
    }


def ways_of(ndim: int) -> dict[str, Way]:
    """Every way, each that uses a network with its twins without training, or without network."""
    n = MODES[ndim]
    modes = f"{n**ndim} modes, no network"
    trained, untrained, nothing = Source.TRAINED, Source.UNTRAINED, Source.NOTHING
    return {
        "guess": Way("guess", Guess(), trained),
        "scaled": Way("scaled guess", ScaledGuess(), trained),
        "galerkin": Way("Galerkin", Galerkin(), trained),
        "galerkin_untrained": Way("Galerkin, untrained", Galerkin(), untrained),
        "galerkin_modes": Way(f"Galerkin, {modes}", Galerkin(n, features=False), nothing),
        "deflation": Way("deflation", Deflation(), trained),
        "deflation_untrained": Way("deflation, untrained", Deflation(), untrained),
        "deflation_modes": Way(f"deflation, {modes}", Deflation(n, features=False), nothing),
        "hints": Way("every 25 sweeps, as HINTS", Deflation(every=25), trained),
    }


# What is run by default: all of it into Jacobi, and into the others what could help them.
CHOSEN = {
    "jacobi": tuple(ways_of(1)),
    "gauss_seidel": ("guess",),
    "cg": ("guess", "galerkin", "deflation", "deflation_untrained", "deflation_modes"),
    "multigrid": ("guess",),
}


class Timer:
    """Seconds of ways and controls on one problem; programs and paces serve all seeds.

    Args:
        goal: what to reach.
        longest: seconds that a solver from zero is run for; beyond, its price stands for it, if
            that knows the goal.
    """

    def __init__(self, goal: Goal, longest: float):
        self.goal, self.solvers = goal, solvers_of()
        self.paces = {name: Pace(goal.problem, method) for name, method in self.solvers.items()}
        zero = jnp.zeros_like(goal.discrete)
        self.zero_steps: dict[str, float] = {}
        self.zero_runs, self.is_predicted = {}, {}
        for name, method in self.solvers.items():
            step, _ = self.paces[name].again()
            run = run_to(goal, method, zero, most=longest / step)
            self.zero_runs[name], self.zero_steps[name] = run, run.steps
            self.is_predicted[name] = not np.isfinite(run.steps)
            if self.is_predicted[name]:
                self.zero_steps[name] = _predicted(goal, method)

    def zero(self, name: str) -> float:
        """Seconds of a solver from zero; predicted where it would take longer than allowed."""
        step, call = self.paces[name].again()
        return call + step * self.zero_steps[name]

    def from_guess(self, name: str, charged: float, guess: jax.Array, most: float) -> float:
        """Seconds of a solver from a guess that has cost `charged`; infinite beyond `most`."""
        step, call = self.paces[name].again()
        steps = run_to(self.goal, self.solvers[name], guess, max(most - charged, call) / step).steps
        return charged + call + step * steps

    def way(
        self,
        way: Way,
        name: str,
        sources: dict[Source, Snapshot],
        most: float,
        deciding: float = 0.0,
    ) -> dict[str, Any]:
        """Seconds of one way into one solver, and what they are made of.

        Args:
            way: how to start.
            name: of the solver.
            sources: by what they are.
            most: seconds after which it is given up.
            deciding: seconds of finding out when to hand over, for those that train.
        """
        problem, method = self.goal.problem, self.solvers[name]
        snapshot = sources[way.source]

        def measure(inner: Any) -> float:
            return step_time(problem, inner, time.perf_counter).seconds

        def choose() -> Any:
            return way.handover.solver(problem, snapshot, method, measure)

        starting, guess = timed(lambda: way.handover.start(problem, snapshot))
        choosing, chosen = timed(choose, rounds=1)
        step, call = self.paces[name].again()
        deciding = deciding if way.source is Source.TRAINED else 0.0
        charged = snapshot.seconds + deciding + starting + choosing
        # A step of a deflated relaxation is of so many, and a correction.
        every = int(chosen.every) if isinstance(chosen, Deflated) else 1
        run = run_to(self.goal, chosen, guess, max(most - charged, call) / (every * step))
        relaxing = call + step * run.steps
        if chosen is not method and np.isfinite(run.steps):
            # Its set-up may take as long as all of its steps.
            relaxing, _ = timed(lambda: run_steps(problem, chosen, int(run.steps), guess)[0])
        return {
            "seconds": charged + relaxing,
            "training": snapshot.seconds,
            "deciding": deciding,
            "starting": starting + choosing,
            "steps": run.steps,
            "first_error": float(run.errors[0]),
            "every": every if isinstance(chosen, Deflated) else None,
        }


def _predicted(goal: Goal, method: Any) -> float:
    """Steps from zero by the price; infinite where that does not look at the goal."""
    if not is_priced_by_modes(method):
        return np.inf
    return price_of(goal.problem, method, target=goal.target).zero.steps


def nothing(problem: Poisson) -> Snapshot:
    """The snapshot of no network at all: zero."""
    return Snapshot(0, 0.0, lambda grid: jnp.zeros(grid.full_shape, grid.dtype))


def timed(run: Callable[[], Any], rounds: int = 3) -> tuple[float, Any]:
    """The median of some runs after a first, and the result."""
    result = jax.block_until_ready(run())
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begin)
    return float(np.median(times)), result


def coarse_guess(entry: Entry, case: Case) -> tuple[float, jax.Array]:
    """A guess from a grid with an eighth of the intervals, and the seconds it takes."""
    grid = case.problem.grid
    coarse = entry.case(max(grid.intervals[0] // COARSENING, 4)).problem
    points = grid.coordinates()
    method = FastDiagonalization() if coarse.operator.is_constant else Multigrid(rtol=1e-8)
    interpolate = jax.jit(lambda solution: solution.evaluate(*points))

    def run() -> jax.Array:
        return smoothed(case.problem, interpolate(solve(coarse, method)))

    return timed(run)


def classical(goal: Goal) -> Iterator[tuple[str, float]]:
    """Label and seconds of the strong solvers that no network is needed for."""
    problem, operator = goal.problem, goal.problem.operator
    zero = jnp.zeros_like(goal.discrete)
    if operator.is_constant and not operator.is_singular:
        omega = optimal_over_relaxation(operator)
        method = GaussSeidel(omega, max_steps=SWEEPS, check_every=20)
        step, call = Pace(problem, method).again()
        yield "sor", call + step * run_to(goal, method, zero).steps
    if operator.is_constant:
        yield "direct", timed(lambda: solve(problem, FastDiagonalization()).value)[0]
    elif problem.grid.ndim == 1:
        once = LineRelaxation(max_steps=1)
        yield "direct", timed(lambda: solve(problem, once, throw=False).value)[0]
    else:
        # Done after some steps, so that there is no pace to measure.
        few = ConjugateGradient(preconditioner=FastDiagonalization())
        steps = run_to(goal, few, zero).steps
        if np.isfinite(steps):
            yield "direct_cg", timed(lambda: run_steps(problem, few, int(steps), zero))[0]
