"""A recorded training, played back at one constant speed: what a scheduler is judged by."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nets import RitzTraining
from solvers import Hybrid, Poisson, SpectralHandoff
from solvers.hybrid import HybridPlan
from solvers.hybrid.handover import Guess, Handover
from solvers.hybrid.price import MOST_GUESSES, Seen, price_of
from solvers.hybrid.timing import measure_step
from solvers.iteration import AbstractIteration
from solvers.snapshots import Snapshot

FIXED = 10  # handoffs, each at twice the steps of the one before
# Stretches whose median is the pace, of at least so many steps: one takes a trial or six.
TIMED, LEAST_STRETCH = 4, 5
SAMPLES = 128
# Runs of the scheduler, of which the median is taken: its looks are of milliseconds.
RUNS = 3


class Replay:
    """A training recorded as far as anyone has asked, at seconds(step) = step × one step's seconds.

    Args:
        training: what is recorded.

    Attributes:
        step_seconds: the median stretch of the first so many, by the number of its steps.
        least_steps, has_noise: of the training.
    """

    def __init__(self, training: RitzTraining):
        self._training = training
        self._stream = iter(training)
        self._kept = [next(self._stream)]
        chunks = math.ceil(LEAST_STRETCH / training.every)
        while len(self._kept) <= TIMED * chunks and self._record():
            pass
        self.step_seconds = _pace(training.chunk_seconds, chunks) / training.every
        self.least_steps, self.has_noise = training.least_steps, training.has_noise

    def _record(self) -> bool:
        snapshot = next(self._stream, None)
        if snapshot is not None:
            self._kept.append(snapshot)
        return snapshot is not None

    def __iter__(self) -> Iterator[Snapshot]:
        index = 0
        while index < len(self._kept) or self._record():
            kept = self._kept[index]
            yield kept._replace(seconds=kept.step * self.step_seconds)
            index += 1

    def at(self, step: int) -> Snapshot | None:
        """The snapshot of exactly this step, or None where the training had ended before."""
        return next((s for s in self if s.step == step), None)

    def cool_down(self, snapshot: Snapshot, steps: int) -> Snapshot:
        cooled = self._training.cool_down(snapshot, steps)
        return cooled._replace(seconds=snapshot.seconds + steps * self.step_seconds)


def _pace(seconds: list[float], chunks: int) -> float:
    """Median of the means over stretches of so many chunks."""
    stretches = [seconds[i : i + chunks] for i in range(0, len(seconds), chunks)]
    return float(np.median([np.mean(stretch) for stretch in stretches]))


class Goal(NamedTuple):
    """What a solver is to reach: max|u − u_h| ≤ target · max|u|.

    Attributes:
        problem: with its right-hand side.
        discrete: u_h, the solution of the discrete problem.
        target: relative to `scale`.
        scale: max|u|.
    """

    problem: Poisson
    discrete: jax.Array
    target: float
    scale: float


class Pace:
    """The median over all calls of the seconds that a step of a method takes.

    Measured anew each time it is asked, so that the times are interleaved with all that is timed.
    """

    def __init__(self, problem: Poisson, method: AbstractIteration):
        self._problem, self._method = problem, method
        self._found: list[tuple[float, float]] = []

    def again(self) -> tuple[float, float]:
        """Seconds of a step, and of a call without any."""
        measured = measure_step(self._problem, self._method, time.perf_counter)
        self._found.append((measured.seconds, measured.start))
        step, start = np.median(self._found, 0)
        return float(step), float(start)


class Run(NamedTuple):
    """Steps of a solver to the goal, run for real.

    Attributes:
        steps: infinite where the goal was not met within what was allowed.
        counts, errors: steps and max|u − u_h|/scale on the way, at growing distances.
    """

    steps: float
    counts: np.ndarray
    errors: np.ndarray


def run_to(goal: Goal, method: AbstractIteration, start: jax.Array, most: float = np.inf) -> Run:
    """Run `method` from `start` to the goal, or for at most `most` steps."""
    limit = jnp.asarray(min(most, 2**31 - 1 - method.check_every), jnp.int32)
    problem, size = goal.problem, jnp.asarray(goal.target * goal.scale)
    count, is_met, counts, errors = _run_to(
        problem.operator, problem.rhs, method, start, goal.discrete, size, limit
    )
    used = np.asarray(counts) >= 0
    steps = float(count) if bool(is_met) else np.inf
    return Run(steps, np.asarray(counts)[used], np.asarray(errors)[used] / goal.scale)


@eqx.filter_jit
def _run_to(
    operator: Any,
    b: jax.Array,
    method: AbstractIteration,
    u: jax.Array,
    discrete: jax.Array,
    size: jax.Array,
    most: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    setup = method.prepare(operator)

    def error_of(carry: Any) -> jax.Array:
        error = method.current(setup, carry) - discrete
        if operator.is_singular:
            error = error - jnp.mean(error)
        return jnp.max(jnp.abs(error))

    def note(state: Any, error: jax.Array) -> Any:
        carry, count, _, (counts, errors, at, due) = state
        is_due = (count >= due) & (at < SAMPLES)
        counts = counts.at[at].set(jnp.where(is_due, count, counts[at]), mode="drop")
        errors = errors.at[at].set(jnp.where(is_due, error, errors[at]), mode="drop")
        later = jnp.maximum(count + 1, (1.2 * count).astype(count.dtype))
        kept = counts, errors, at + is_due, jnp.where(is_due, later, due)
        return carry, count, error, kept

    def goes_on(state: Any) -> jax.Array:
        _, count, error, _ = state
        return (error > size) & (count < most)

    def advance(state: Any) -> Any:
        carry, count, error, kept = state
        every = method.check_every
        carry = jax.lax.fori_loop(0, every, lambda _, c: method.step(setup, b, c), carry)
        return note((carry, count + every, error, kept), error_of(carry))

    carry = method.start(setup, b, u)
    zero = jnp.zeros((), jnp.int32)
    first = zero + (1 if method.starts_with_a_step else 0)
    kept = jnp.full(SAMPLES, -1, jnp.int32), jnp.zeros(SAMPLES, b.dtype), zero, zero
    error = error_of(carry)
    state = note((carry, first, error, kept), error)
    _, count, error, kept = jax.lax.while_loop(goes_on, advance, state)
    return count, error <= size, kept[0], kept[1]


class Regret(NamedTuple):
    """Seconds to the goal by replay.

    Attributes:
        scheduler: by the scheduler, all charged.
        zero: without training.
        fixed: by handoff step; infinite where it takes more than the scheduler or a better one.
        plan: of the scheduler.
        look_seconds: of one look, mean.
    """

    scheduler: float
    zero: float
    fixed: dict[int, float]
    plan: HybridPlan
    look_seconds: float

    @property
    def best(self) -> float:
        return min([self.zero, *self.fixed.values()])

    @property
    def regret(self) -> float:
        """The scheduler's seconds over the best of no training and the fixed handoffs.

        1 where none of these beats the scheduler, by however much it beats them.
        """
        return max(self.scheduler / self.best, 1.0)


def replayed(
    goal: Goal,
    method: AbstractIteration,
    replay: Replay,
    pace: Pace,
    zero_steps: float,
    *,
    handover: Handover = Guess(),
    first: int = 50,
    report: Callable[[float], None] = lambda done: None,
) -> Regret:
    """Hold the scheduler against no training and fixed handoffs of the same recorded training.

    Of three runs of the scheduler the one counts that is in the middle by what it charged and
    promised.

    A fixed handoff is of the one snapshot, or of its combination with zero and those of the fixed
    steps before, a look at each charged: whichever is there first.

    Args:
        goal: what to reach.
        method: that relaxes.
        replay: the training.
        pace: of the method.
        zero_steps: that the method takes from zero.
        handover: how.
        first: step of the first of the fixed handoffs, each at twice the step of the one before.
        report: is told how many parts are done.
    """
    problem = goal.problem
    hybrid = Hybrid(method, SpectralHandoff(target=goal.target), handover=handover)
    plans = [hybrid.plan(problem, replay) for _ in range(RUNS)]
    plan = sorted(plans, key=lambda p: p.costs.charged + p.handoff.predicted_seconds)[RUNS // 2]
    look = plan.costs.looking / max(len(plan.trace), 1)
    report(1)

    def relaxing(start: jax.Array, most_seconds: float) -> float:
        step, call = pace.again()
        most = (most_seconds - call) / step
        return call + step * run_to(goal, method, start, most).steps if most > 0 else np.inf

    step, call = pace.again()
    zero = call + step * zero_steps
    scheduler = plan.costs.charged
    scheduler += zero if plan.handoff.initial is None else relaxing(plan.handoff.initial, np.inf)
    price = price_of(problem, method, target=goal.target)
    fixed: dict[int, float] = {}
    seen: list[Seen] = []
    for k in range(FIXED):
        at = first * 2**k
        charged = at * replay.step_seconds + look
        left = min([zero, scheduler, *fixed.values()]) - charged
        snapshot = replay.at(at) if left > 0 else None
        if snapshot is None:
            break
        start = handover.start(problem, snapshot)
        starts = [(start, price.remaining(start), charged)]
        if handover.can_be_combined:
            together, guess, latest = price.combined(start, seen)
            starts.append((guess, together, charged + len(seen) * look))
            seen = [latest, *seen][: MOST_GUESSES - 1]
        fixed[at] = np.inf
        for guess, priced, cost in starts:
            left = min([zero, scheduler, *fixed.values()]) - cost
            # What is priced at twice as much as is left to win is not run.
            if priced.seconds <= 2 * left:
                fixed[at] = min(fixed[at], cost + relaxing(guess, left))
        report(k + 2)
    return Regret(scheduler, zero, fixed, plan, look)
