"""Error against seconds: methods run on one problem, each charged for all that it does."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from solvers import ConjugateGradient, FastDiagonalization, Jacobi, LineRelaxation, solve
from solvers.gallery import Case
from solvers.hybrid.handover import smoothed
from solvers.hybrid.timing import run_steps
from solvers.snapshots import Snapshot

TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4)
DISCRETIZATION = "discretization"
FIRST_CHUNK_SECONDS = 0.01
CHUNK_GROWTH = 1.03
Report = Callable[[float], None]


class Reference(NamedTuple):
    """What errors are measured against.

    Attributes:
        case: the problem.
        exact: true u at the unknowns.
        discrete: solution u_h of the discrete problem.
        scale: max|u|.
        discretization: max|u_h − u|.
    """

    case: Case
    exact: jax.Array
    discrete: jax.Array
    scale: float
    discretization: float

    def errors(self, u: jax.Array) -> tuple[float, float]:
        """Maximum error against the true and against the discrete solution, relative to max|u|."""
        true = float(jnp.max(jnp.abs(u - self.exact)))
        return true / self.scale, float(jnp.max(jnp.abs(u - self.discrete))) / self.scale


def reference(case: Case) -> Reference:
    """Solve the discrete problem as well as it can be."""
    operator = case.problem.operator
    if operator.is_constant:
        best: Any = FastDiagonalization()
    elif operator.grid.ndim == 1:
        best = LineRelaxation()
    else:
        best = ConjugateGradient(preconditioner=Jacobi(), rtol=1e-12)  # ends where rounding does
    discrete = solve(case.problem, best, throw=False).value
    exact = case.exact_values()
    field = case.exact(*case.problem.grid.coordinates())
    scale = float(jnp.max(jnp.abs(field)))
    return Reference(case, exact, discrete, scale, float(jnp.max(jnp.abs(discrete - exact))))


@dataclasses.dataclass
class Track:
    """One method's way: points of (seconds, steps, error, algebraic error).

    Attributes:
        label: for people.
        compile_seconds: not among the seconds.
        handed_over: seconds at which the relaxation took over; None without a handover.
        details: whatever else is to be told of the row.
    """

    label: str
    compile_seconds: float = 0.0
    handed_over: float | None = None
    seconds: list[float] = dataclasses.field(default_factory=list)
    steps: list[int] = dataclasses.field(default_factory=list)
    errors: list[float] = dataclasses.field(default_factory=list)
    algebraic: list[float] = dataclasses.field(default_factory=list)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    def add(self, seconds: float, steps: int, errors: tuple[float, float]) -> None:
        self.seconds.append(seconds)
        self.steps.append(steps)
        self.errors.append(errors[0])
        self.algebraic.append(errors[1])

    def seconds_to(self, ref: Reference, cap: float = np.inf) -> dict[str, float | None]:
        """First time at each tolerance, and at the discretisation error; None where not reached."""
        found = {f"{tol:.0e}": self._first(self.errors, tol, cap) for tol in TOLERANCES}
        limit = ref.discretization / ref.scale
        return found | {DISCRETIZATION: self._first(self.algebraic, limit, cap)}

    def _first(self, errors: list[float], tolerance: float, cap: float) -> float | None:
        points = zip(self.seconds, errors, strict=True)
        return min((t for t, e in points if e <= tolerance and t <= cap), default=None)

    def summary(self, ref: Reference, cap: float = np.inf) -> dict[str, Any]:
        """The row of `results.json`."""
        last = max((i for i, t in enumerate(self.seconds) if t <= cap), default=0)
        return {
            "label": self.label,
            "seconds_to": self.seconds_to(ref, cap),
            "final_error": self.errors[last],
            "final_seconds": self.seconds[last],
            "steps": self.steps[last],
            "compile_seconds": self.compile_seconds,
            **self.details,
        }

    def curve(self) -> dict[str, list[float]]:
        """The points, for whoever wants to plot them again."""
        return {"seconds": self.seconds, "error": self.errors, "algebraic_error": self.algebraic}


def silent(seconds: float) -> None:
    """Report nothing."""
    del seconds


def relax(
    ref: Reference,
    method: Any,
    track: Track,
    start: jax.Array,
    *,
    cap: float,
    until: float | None = None,
    report: Report = silent,
    observe: Callable[[int, jax.Array], None] | None = None,
) -> Track:
    """Relax from `start` in chunks that grow, adding a point to `track` after each.

    Only the chunks are charged, on top of what `track` has been charged (`handed_over`). Ends at
    the discretisation error (or where the true error is at most `until`), or after `cap` seconds.
    """
    problem = ref.case.problem

    def advance(u: jax.Array, steps: int) -> tuple[jax.Array, float]:
        begin = time.perf_counter()
        u, _ = run_steps(problem, method, steps, u)
        return u, time.perf_counter() - begin

    _, first = advance(start, 0)
    _, again = advance(start, 0)
    track.compile_seconds += max(first - again, 0.0)
    _, probe = advance(start, method.check_every)
    chunk = max(method.check_every, int(method.check_every * FIRST_CHUNK_SECONDS / probe))
    seconds, steps, u = track.handed_over or 0.0, 0, start
    track.add(seconds, steps, ref.errors(u))
    if observe is not None:
        observe(steps, u)
    limit = ref.discretization / ref.scale
    while seconds < cap:
        if track.errors[-1] <= until if until is not None else track.algebraic[-1] <= limit:
            break
        u, spent = advance(u, chunk)
        seconds, steps = seconds + spent, steps + chunk
        track.add(seconds, steps, ref.errors(u))
        if observe is not None:
            observe(steps, u)
        # At a fixed share of what has passed, or of the first chunk while that is more.
        passed = seconds - (track.handed_over or 0.0)
        wanted = max(FIRST_CHUNK_SECONDS, (CHUNK_GROWTH - 1) * passed)
        chunk = max(1, min(4 * chunk, int(chunk * wanted / max(spent, 1e-6))))
        report(seconds)
    return track


def relax_from(
    ref: Reference, method: Any, snapshot: Snapshot, label: str, **options: Any
) -> Track:
    """Hand `snapshot` over to `method`: training, evaluation and smoothing charged."""
    problem = ref.case.problem
    jax.block_until_ready(smoothed(problem, snapshot.evaluate(problem.grid)))
    begin = time.perf_counter()
    guess = jax.block_until_ready(smoothed(problem, snapshot.evaluate(problem.grid)))
    handed_over = snapshot.seconds + time.perf_counter() - begin
    track = Track(label, handed_over=handed_over, details={"handoff_step": snapshot.step})
    return relax(ref, method, track, guess, **options)


def train(
    ref: Reference,
    training: Iterable[Snapshot],
    *,
    cap: float,
    least_steps: int = 0,
    report: Report = silent,
) -> tuple[Track, list[Snapshot]]:
    """Train for `cap` seconds, keeping snapshots at steps 5 % apart; looking is not charged."""
    track, kept = Track("network alone"), []
    grid = ref.case.problem.grid
    for snapshot in training:
        if not kept or snapshot.step >= 1.05 * kept[-1].step:
            kept.append(snapshot)
            u = snapshot.evaluate(grid)[grid.unknowns]
            track.add(snapshot.seconds, snapshot.step, ref.errors(u))
        report(snapshot.seconds)
        if snapshot.seconds >= cap and snapshot.step >= least_steps:
            break
    return track, kept


def solve_to(ref: Reference, label: str, methods: Iterable[lx.AbstractLinearSolver]) -> Track:
    """Time whole solves by ever stricter `methods`, a point each: the median of three."""
    track = Track(label)
    for method in methods:
        times = []
        for _ in range(4):
            begin = time.perf_counter()
            solution = solve(ref.case.problem, method, throw=False)
            jax.block_until_ready(solution.value)
            times.append(time.perf_counter() - begin)
        seconds = float(np.median(times[1:]))
        if not track.seconds:
            track.compile_seconds = max(times[0] - seconds, 0.0)
        track.add(seconds, int(solution.num_steps), ref.errors(solution.value))
    # What a stricter one had met sooner, was met by then.
    track.seconds = np.minimum.accumulate(track.seconds[::-1])[::-1].tolist()
    return track
