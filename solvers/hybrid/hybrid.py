"""The hybrid: train, hand over, relax; every second charged and every decision explained."""

import math
import time
from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx

from solvers.arguments import expect
from solvers.grid import Grid
from solvers.hybrid.handover import Guess, Handover, smoothed
from solvers.hybrid.picture import draw
from solvers.hybrid.price import is_priced_by_modes, price_of
from solvers.hybrid.relaxing import Limit, check, relax
from solvers.hybrid.scheduler import Handoff, Scheduler, SpectralHandoff
from solvers.hybrid.session import Look, Session
from solvers.hybrid.timing import Clock, doubt, is_first_call, run_steps, step_time
from solvers.iteration import AbstractIteration, has_succeeded, message, with_budget
from solvers.placement import like
from solvers.snapshots import Snapshot
from solvers.solution import PlacedSolution, Problem, Solution, solve
from solvers.threads import single_threaded_blas

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Costs(NamedTuple):
    """Where the seconds went. All but `compiling` are charged."""

    planning: float
    training: float
    looking: float
    compiling: float
    relaxing: float = 0.0

    @property
    def charged(self) -> float:
        return self.planning + self.training + self.looking + self.relaxing


class HybridPlan(NamedTuple):
    """What a scheduler decided.

    Attributes:
        handoff: the decision.
        trace: every look of the scheduler.
        costs: seconds by kind.
        method: the solver that goes on.
        is_interrupted: whether the user asked for an end.
    """

    handoff: Handoff
    trace: list[Look]
    costs: Costs
    method: lx.AbstractLinearSolver
    is_interrupted: bool = False

    def explain(self) -> str:
        """Tell what was seen and decided, a line a look."""
        return "\n".join(_account(self.handoff, self.trace))

    def plot(self) -> "Figure":
        """Draw what was seen: price and smooth modes against the seconds charged."""
        return draw(self.trace, self.handoff)


class HybridSolution(NamedTuple):
    """What a hybrid solve gives back.

    Attributes:
        solution: of the relaxation, as from `solve`.
        handoff: the decision.
        trace: every look of the scheduler.
        costs: seconds by kind.
        target: that was priced, where it is not the method's own tolerance.
    """

    solution: Solution | PlacedSolution
    handoff: Handoff
    trace: list[Look]
    costs: Costs
    target: float | None = None

    def explain(self) -> str:
        """Tell what was seen and decided, a line a look, and what came of it."""
        costs = self.costs
        aim = "" if self.target is None else f" to {self.target:.3g} of max|u|"
        took = "took" if self.target is None else "to the method's own tolerance it took"
        outcome = (
            f"Predicted {self.handoff.predicted_seconds:.3g} s of relaxation{aim}, {took} "
            f"{costs.relaxing:.3g} s; {costs.charged:.3g} s in all, {costs.compiling:.3g} s of "
            "compilation apart."
        )
        if not bool(has_succeeded(self.solution.reason)):
            outcome += f" {message(self.solution.reason)}"
        return "\n".join([*_account(self.handoff, self.trace), outcome])

    def plot(self) -> "Figure":
        """Draw what was seen: price and smooth modes against the seconds charged."""
        return draw(self.trace, self.handoff)


def _account(handoff: Handoff, trace: list[Look]) -> list[str]:
    lines = ["    step   seconds   remaining s   largest smooth error"]
    for look in trace:
        worst = f"{abs(look.amplitudes).max():.2e}" if look.amplitudes.size else "-"
        lines.append(
            f"{look.step:8d}  {look.seconds:8.3f}  {look.remaining_seconds:12.4g}   {worst:>20}"
        )
    return [*lines, handoff.explain()]


class Hybrid:
    """Train, hand over, relax.

    Args:
        method: the solver that gets the guess; `Jacobi`, `GaussSeidel` and `Multigrid` are priced
            by modes, others by one timed solve.
        scheduler: `SpectralHandoff` or `FixedHandoff`, or any with their `decide`.
        handover: `Guess()`, the output; `ScaledGuess()`, never worse than zero; `Galerkin()`, the
            best combination of output and last-layer features; `Deflation()`, these as a coarse
            space of the solver. What a start costs is part of every look.
        clock: seconds; for looks, handover and relaxation. The training measures itself.

    Example:
        >>> import jax.numpy as jnp
        >>> from solvers import Grid, Jacobi, Poisson
        >>> from solvers.snapshots import Snapshot
        >>> problem = Poisson(Grid(64), source=8.0)
        >>> def parabola(grid):
        ...     return 4 * grid.coordinates()[0] * (1 - grid.coordinates()[0])
        >>> training = [Snapshot(0, 0.0, parabola)]
        >>> from solvers.hybrid.scheduler import FixedHandoff
        >>> hybrid = Hybrid(Jacobi(), FixedHandoff(0)).solve(problem, training)
        >>> int(hybrid.solution.num_steps), hybrid.handoff.reason
        (0, 'fixed handoff at step 0')
    """

    def __init__(
        self,
        method: lx.AbstractLinearSolver,
        scheduler: Scheduler | None = None,
        *,
        handover: Handover = Guess(),
        clock: Clock = time.perf_counter,
    ):
        expect("method", method, lx.AbstractLinearSolver, "a solver such as Jacobi()")
        decides = callable(getattr(scheduler, "decide", None)) and not isinstance(scheduler, type)
        if scheduler is not None and not decides:
            raise ValueError(
                f"scheduler: expected one such as SpectralHandoff(), got {scheduler!r}"
            )
        expect("handover", handover, Handover, "one such as Guess()")
        self.method = method
        self.scheduler = SpectralHandoff() if scheduler is None else scheduler
        self.handover = handover
        self.clock = clock

    def plan(
        self,
        problem: Problem,
        training: Iterable[Snapshot],
        *,
        max_seconds: float = math.inf,
    ) -> HybridPlan:
        """Train and decide, without relaxing: a dry run; arguments as for `solve`."""
        _check_seconds(max_seconds)
        with single_threaded_blas():
            return self._plan(problem, training, max_seconds)

    def solve(
        self,
        problem: Problem,
        training: Iterable[Snapshot],
        *,
        max_seconds: float = math.inf,
        throw: bool = True,
    ) -> HybridSolution:
        """Solve `problem` from the output of `training`.

        Ctrl-C ends training and relaxing, and so does the limit: what there is then is given back,
        with `Reason.interrupted`.

        Args:
            problem: what to solve; one on a mesh of devices is relaxed there.
            training: any iterable of snapshots, such as `nets.RitzTraining`. One with a
                `prepare(grid, features=…)` compiles itself first; one with `cool_down` is cooled
                down.
            max_seconds: that may be charged; compilation is apart.
            throw: as in `solve`.

        Raises:
            SolveError: if the relaxation failed of itself.
            ValueError: for a limit that is not positive, or a training without snapshots.
        """
        plan = self.plan(problem, training, max_seconds=max_seconds)
        start = self.clock()
        initial = plan.handoff.start(problem)
        left = 0.0 if plan.is_interrupted else max(max_seconds - plan.costs.charged, 0.0)
        # What is predicted is the way to the target, and what runs goes to the method's tolerance.
        is_aimed = self.scheduler.target is not None and is_priced_by_modes(self.method)
        limit = Limit(left, math.inf if is_aimed else plan.handoff.predicted_seconds)
        with single_threaded_blas():
            solution = relax(problem, plan.method, initial, limit, self.clock)
            jax.block_until_ready(solution.value)
        costs = plan.costs._replace(relaxing=self.clock() - start)
        doubt(problem, plan.method, self.clock, costs.relaxing, int(solution.num_steps))
        target = self.scheduler.target if is_aimed else None
        found = HybridSolution(solution, plan.handoff, plan.trace, costs, target)
        if throw:
            check(problem, plan.method, solution, plan.handoff.explain())
        return found

    def _plan(
        self, problem: Problem, training: Iterable[Snapshot], max_seconds: float
    ) -> HybridPlan:
        expect("training", training, Iterable, "an iterable of snapshots, such as a RitzTraining")
        compiling = self._compile(problem, training)
        start = self.clock()
        price = price_of(
            problem,
            self.method,
            target=self.scheduler.target,
            clock=self.clock,
        )
        planning = self.clock() - start - price.compile_seconds
        session = Session(
            problem, price, training, self.clock, planning, self.handover, max_seconds
        )
        handoff = self.scheduler.decide(session)
        start = self.clock()
        method, measuring = self._solver(problem, handoff)
        costs = Costs(
            planning=session.planning_seconds,
            training=session.training_seconds,
            looking=session.looking_seconds + self.clock() - start - measuring,
            compiling=compiling + price.compile_seconds + measuring,
        )
        return HybridPlan(handoff, session.trace, costs, method, session.is_interrupted)

    def _solver(self, problem: Problem, handoff: Handoff) -> tuple[lx.AbstractLinearSolver, float]:
        """The solver that goes on, and the seconds of compiling that it took to choose it."""
        compiling = 0.0

        def measure(method: AbstractIteration) -> float:
            nonlocal compiling
            found = step_time(problem, method, self.clock)
            compiling += found.compiling
            return found.seconds

        if handoff.initial is None or handoff.snapshot is None:
            return self.method, compiling
        method: Any = self.handover.solver(problem, handoff.snapshot, self.method, measure)
        if method is not self.method and isinstance(method, AbstractIteration):
            start = self.clock()
            if is_first_call(problem, method):
                run_steps(problem, method, 0, handoff.initial)
            compiling += self.clock() - start
        return method, compiling

    def _compile(self, problem: Problem, training: Any) -> float:
        """Compile all that is to run, so that what is charged is work; give the seconds."""
        start = self.clock()
        if hasattr(training, "prepare"):
            training.prepare(like(problem).grid, features=self.handover.needs_features)
            # One that compiles itself can be started again; its first snapshot costs no training.
            jax.block_until_ready(self.handover.start(problem, next(iter(training))))
        elif not self.handover.needs_features:
            jax.block_until_ready(self.handover.start(problem, Snapshot(0, 0.0, _zero)))
        method: Any = self.method
        if isinstance(method, AbstractIteration):
            method = with_budget(method, 0)
        grid = like(problem).grid
        zero = smoothed(problem, jnp.zeros(grid.full_shape, grid.dtype))
        jax.block_until_ready(solve(problem, method, initial=zero, throw=False).value)
        return self.clock() - start


def _zero(grid: Grid) -> jax.Array:
    return jnp.zeros(grid.full_shape, grid.dtype)


def _check_seconds(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value) > 0:
        raise ValueError(f"max_seconds: expected a positive number of seconds, got {value!r}")
