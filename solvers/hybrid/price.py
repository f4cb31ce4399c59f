"""What is left to do from a given guess, in seconds, told from the smooth modes of its residual."""

import math
import time
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from solvers.compiler import apart
from solvers.hybrid.combining import DOUBLINGS, best_coefficients, least_doublings
from solvers.hybrid.handover import smoothed_guess, smoothing_factor
from solvers.hybrid.smooth_modes import SmoothModes, root_of_squares, smooth_modes
from solvers.hybrid.timing import Clock, is_first_call, step_time, timed_solve, zero_guess
from solvers.iteration import has_succeeded, with_budget
from solvers.multigrid.multigrid import Multigrid
from solvers.operators import EllipticOperator
from solvers.placement import apply, like, spread
from solvers.problems import Poisson
from solvers.relaxation.gauss_seidel import GaussSeidel
from solvers.relaxation.jacobi import Jacobi
from solvers.solution import Problem, solve

ENDLESS = 2.0**DOUBLINGS
PROBE_CYCLES = 5
# Guesses that are combined at most, beside zero.
MOST_GUESSES = 8


class Price(NamedTuple):
    """What a guess still costs.

    Attributes:
        seconds: until the tolerance is met.
        steps: likewise; infinite where it never is.
        amplitudes: error e of the guess in the lowest modes, smoothest first, as far as known.
        energy: of the error in these modes, ∏h·½eᵀAe, if known.
    """

    seconds: float
    steps: float
    amplitudes: np.ndarray
    energy: float = math.nan


class Seen(NamedTuple):
    """A guess that has been looked at, its error in the smooth modes, and the size of all else.

    Of what a network has learned the rest is trusted to be nothing that matters: 0.
    """

    guess: jax.Array
    error: jax.Array
    rest: jax.Array


class RelaxationPrice:
    """Price of going on from a guess, for Jacobi, Gauss–Seidel and multigrid.

    The m that solves  max_x |Σ_k e_k ρ_k^m φ_k(x)| + rest·ρ_{K+1}^m ≤ target·max|u|, or, without a
    target, the solver's own rule ‖Σ_k ρ_k^m A e_kφ_k‖ + ‖rest‖ρ_{K+1}^m ≤ max(rtol·‖b‖, atol),
    times the measured time of a step, and what a call costs without any. e_k are the amplitudes of
    the error, yᵀZᵀr/yᵀZᵀAZy; the rest is what of the residual is not in the smooth modes, as if all
    of it were in the smoothest mode left out. ρ of multigrid is the factor of local Fourier
    analysis for all modes; where five cycles show less than half of its digits, the one they show.

    Args:
        problem: what is to be solved.
        method: `Jacobi`, `GaussSeidel` or `Multigrid`.
        target: None, or an algebraic error relative to max|u|.
        clock: seconds.

    Attributes:
        compile_seconds: spent on compiling, and on timing what is new, not to be charged.
        step_seconds: measured time of one step.
        start_seconds: of a call without any, set-up included.
        zero: price of the zero guess.
        tolerance: the part of it that may be left, `target` or the method's rtol.
    """

    def __init__(self, problem: Problem, method: Any, target: float | None, clock: Clock):
        self._problem = problem
        self._grid = like(problem).grid
        # An array: each new Python number would compile again.
        target_array = None if target is None else np.asarray(target, self._grid.dtype)
        self._rule = method, target_array
        measured = step_time(problem, method, clock)
        self.step_seconds, self.start_seconds = measured.seconds, measured.start
        self.compile_seconds = measured.compiling
        self.tolerance = float(method.rtol) if target is None else target
        if is_first_call(problem, self._rule):
            start = clock()
            self._find_modes()
            self._see_zero()
            jax.block_until_ready(self._look(self._zero_seen.guess))
            self.compile_seconds += clock() - start
        self._find_modes()
        if isinstance(method, Multigrid):
            self._modes = _as_probed(problem, method, self._modes)
        self._see_zero()

    def _find_modes(self) -> None:
        method, target = self._rule
        modes = smooth_modes(self._problem, method, with_norms=target is None)
        self._modes = jax.block_until_ready(modes)
        self._energies = np.asarray(modes.energies)

    def _see_zero(self) -> None:
        with jax.default_matmul_precision("highest"):
            steps, error, self._zero_seen = apply(
                _zero_seen, self._problem, self._modes, self._rule
            )
        self.zero = self._priced(steps, error)

    def remaining(self, u: jax.Array) -> Price:
        """Price of the smoothed guess `u`, shape `grid.shape`.

        Cost: two applications of A and K·N multiplications, without any full transform.
        """
        return self._priced(*self._look(u)[:2])

    def combined(self, u: jax.Array, earlier: Sequence[Seen]) -> tuple[Price, jax.Array, Seen]:
        """The best of `u`, zero and up to 7 earlier guesses together: its price, it, `u` as seen.

        It is the one from which the least steps remain by the smooth modes: `best_coefficients`.
        """
        steps, error, guess, seen = self._look(u, [self._zero_seen, *earlier])
        return self._priced(steps, error), guess, seen

    def _priced(self, steps: jax.Array, error: jax.Array) -> Price:
        count = float(steps)
        count = math.ceil(count) if count < ENDLESS / 2 else np.inf
        amplitudes = np.asarray(error)
        energy = float(np.sum(amplitudes**2 * self._energies)) * self._grid.cell_volume / 2
        seconds = self.start_seconds + count * self.step_seconds
        return Price(seconds, count, amplitudes, energy)

    def _look(self, u: jax.Array, others: Sequence[Seen] = ()) -> tuple[Any, ...]:
        # The same program for any number of them.
        seen = [*others, *[self._zero_seen] * MOST_GUESSES][:MOST_GUESSES]
        is_used = np.arange(MOST_GUESSES + 1) <= len(others)
        with jax.default_matmul_precision("highest"):
            return apply(_look, self._problem, self._modes, self._rule, u, seen, is_used)


class TimedPrice:
    """Price of a method that hardly profits from a guess: one solve, timed, the better of two.

    A direct solver takes what it takes; multigrid and conjugate gradients lose a few steps at best.
    """

    def __init__(self, problem: Problem, method: Any, clock: Clock):
        start = clock()
        solution = jax.block_until_ready(solve(problem, method, throw=False))
        taken = min(timed_solve(problem, method, clock) for _ in range(2))
        converged = bool(has_succeeded(solution.reason))
        # A solve that ends short of its tolerance is not a quick one.
        self.seconds = taken if converged else np.inf
        self.compile_seconds = max(clock() - start - taken, 0.0)  # one solve is charged
        self.steps = float(solution.num_steps) if converged else np.inf
        self.step_seconds = taken / max(int(solution.num_steps), 1)
        self.tolerance, self.start_seconds = math.nan, 0.0
        self.zero = self.remaining(zero_guess(problem))

    def remaining(self, u: jax.Array) -> Price:
        """The time of the timed solve, whatever `u`."""
        del u
        return Price(self.seconds, self.steps, np.zeros(0))

    def combined(self, u: jax.Array, earlier: Sequence[Seen]) -> tuple[Price, jax.Array, Seen]:
        """The same, and `u` itself."""
        del earlier
        return self.remaining(u), u, Seen(u, jnp.zeros(0), jnp.zeros(()))


def price_of(
    problem: Problem,
    method: lx.AbstractLinearSolver,
    *,
    target: float | None = None,
    clock: Clock = time.perf_counter,
) -> RelaxationPrice | TimedPrice:
    """Pick the way to price `method`, and measure on this device what it needs."""
    check_target(target)
    if is_priced_by_modes(method):
        return RelaxationPrice(problem, method, target, clock)
    return TimedPrice(problem, method, clock)


def is_priced_by_modes(method: Any) -> bool:
    """Whether the price of a method depends on the guess, and on a target."""
    return isinstance(method, Jacobi | GaussSeidel | Multigrid)


def check_target(target: Any) -> None:
    """Refuse what is no relative error.

    Raises:
        ValueError: if `target` is neither None nor a number in (0, 1).
    """
    is_number = isinstance(target, Real | jax.Array | np.ndarray)
    if target is not None and not (is_number and 0 < float(target) < 1):
        raise ValueError(f"target: expected None or a number in (0, 1), got {target!r}")


def _as_probed(problem: Problem, method: Multigrid, modes: SmoothModes) -> SmoothModes:
    """The modes with the factor that some cycles show, where it is far above the predicted one."""
    zero = zero_guess(problem)  # given, so that no other program has to be compiled
    probe = solve(problem, with_budget(method, PROBE_CYCLES), initial=zero, throw=False)
    seen = min(float(probe.stats["factor"]), 1.0)  # −1 where the first cycle was the last
    norms = probe.history()[1]
    met = np.flatnonzero(norms <= float(method.rtol) * norms[0])
    if met.size and met[0] > 0:  # cycles after that may have met the rounding
        seen = (norms[met[0]] / norms[0]) ** (1 / met[0])
    predicted = max(float(modes.factors[0]), np.finfo(np.float32).tiny)
    if not seen > 0 or np.log(seen) < 0.5 * np.log(predicted):
        return modes
    return eqx.tree_at(lambda m: m.factors, modes, jnp.full_like(modes.factors, seen))


def _zero_seen(
    problem: Poisson, modes: SmoothModes, rule: tuple[Any, Any]
) -> tuple[jax.Array, jax.Array, Seen]:
    """Steps left from zero, its error, and zero smoothed, as seen.

    In its roughest modes, which are as slow as the smoothest, zero is as wrong as can be.
    """
    zero = jnp.zeros_like(problem.rhs)
    error = _smooth_error(problem.operator, problem.rhs, modes, zero)
    steps, rest = _steps_from(problem, modes, rule, zero, error)
    seen = Seen(smoothed_guess(problem, zero), smoothing_factor(modes.mu) * error, rest)
    return steps, error, seen


def _look(
    problem: Poisson,
    modes: SmoothModes,
    rule: tuple[Any, Any],
    u: jax.Array,
    others: Sequence[Seen],
    is_used: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, Seen]:
    """Steps left from the best combination, its error, it, and the new guess as seen.

    Args:
        problem: what is to be solved.
        modes: of its operator.
        rule: the method, and the target or None.
        u: a new guess.
        others: guesses to combine it with.
        is_used: whether `u` and the others count.
    """
    b, never = problem.rhs, rule[0].max_steps < 0
    latest = Seen(u, _smooth_error(problem.operator, b, modes, u), jnp.zeros((), b.dtype))
    wanted, sizes = _tolerance(problem, modes, rule, u)
    seen = [latest, *others]
    # The rest is as one mode more.
    rows = jnp.stack([jnp.append(s.error, s.rest) for s in seen])
    alpha = best_coefficients(rows, is_used, jnp.append(sizes, 1), modes.factors, wanted)
    guess = sum((a * s.guess for a, s in zip(alpha, seen, strict=True)), jnp.zeros_like(u))
    # Written out: fused with what reads it, each is worked out for every neighbour anew, and a look
    # at 47³ nodes took 5.3 ms where it takes 1.6.
    guess = apart(spread(guess), never)
    remaining = alpha @ rows[:, :-1]
    return _steps_from(problem, modes, rule, guess, remaining)[0], remaining, guess, latest


def _tolerance(
    problem: Poisson, modes: SmoothModes, rule: tuple[Any, Any], u: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What may be left where the solution is about `u`, and what a mode of size 1 has of it."""
    method, target = rule
    b = problem.rhs
    if target is not None:
        return target * jnp.max(jnp.abs(u)), jnp.ones_like(modes.mu)
    root = jnp.asarray(np.sqrt(problem.grid.cell_volume), b.dtype)
    rtol, atol = method.rtol.astype(b.dtype), method.atol.astype(b.dtype) / root
    return jnp.maximum(rtol * root_of_squares(b), atol), modes.row_norms


def _steps_from(
    problem: Poisson, modes: SmoothModes, rule: tuple[Any, Any], guess: jax.Array, error: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Steps left from a guess with that error in the smooth modes, and the size of the rest."""
    method, target = rule
    operator, grid, never = problem.operator, problem.grid, method.max_steps < 0
    rho, rho_rest = modes.factors[:-1], modes.factors[-1]
    corrected = guess + spread(modes.synthesize(modes.vectors @ error))
    r = problem.rhs - operator.mv(apart(corrected, never))
    rest = root_of_squares(apart(r, never))
    wanted, sizes = _tolerance(problem, modes, rule, corrected)
    if target is None:

        def left(m: jax.Array) -> jax.Array:
            return jnp.linalg.norm(error * rho**m * sizes) + rest * rho_rest**m
    else:
        stiffness = jnp.min(operator.diagonal()) * (1 - modes.rest_mu)
        # Three times its root mean square stands for the largest value of the rest.
        rest = 3 * rest / np.sqrt(grid.size) / stiffness

        def left(m: jax.Array) -> jax.Array:
            smooth = modes.synthesize(modes.vectors @ (error * rho**m), modes.stride)
            return jnp.max(jnp.abs(smooth)) + rest * rho_rest**m

    return _steps_until(left, wanted), rest


def _smooth_error(
    operator: EllipticOperator, b: jax.Array, modes: SmoothModes, u: jax.Array
) -> jax.Array:
    """Amplitudes of the error of `u` in the smooth modes, yᵀZᵀr/yᵀZᵀAZy."""
    null = operator.is_singular & (1 - modes.mu < 1e-10)
    work = modes.vectors.T @ modes.project(b - operator.mv(u))
    return jnp.where(null, 0, work / jnp.where(null, 1, modes.energies))


def _steps_until(left: Callable[[jax.Array], jax.Array], wanted: jax.Array) -> jax.Array:
    """The least m with left(m) ≤ wanted, to 0.2 %; 2^40 where there is none."""
    doublings = least_doublings(lambda d: left(2**d - 1) <= wanted, 14, wanted.dtype)
    steps = 2**doublings - 1
    return jnp.where(left(jnp.zeros_like(steps)) <= wanted, 0, steps)
