"""What is left to do from a given guess, in seconds, told from the smooth modes of its residual."""

import math
import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from solvers.hybrid.smooth_modes import SmoothModes, mode_count, smooth_modes
from solvers.hybrid.timing import Clock, is_first_call, step_time
from solvers.iteration import has_succeeded, with_budget
from solvers.multigrid.multigrid import Multigrid
from solvers.operators import EllipticOperator
from solvers.problems import Poisson
from solvers.relaxation.gauss_seidel import GaussSeidel
from solvers.relaxation.jacobi import Jacobi
from solvers.solution import solve

# With one mode per axis only, a price may be that many times too low; but to make sure must not
# cost more than this share of it.
ONE_MODE_DOUBT, SURETY = 4.0, 0.1
ENDLESS = 2.0**40
PROBE_CYCLES = 5


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
        worth: seconds from which the price of zero has to be right. Where it is less by one mode
            per axis, for sure or since more modes would cost a tenth of it, that will do.

    Attributes:
        compile_seconds: spent on compiling, and on timing what is new, not to be charged.
        step_seconds: measured time of one step.
        start_seconds: of a call without any, set-up included.
        zero: price of the zero guess.
        tolerance: the part of it that may be left, `target` or the method's rtol.
    """

    def __init__(
        self, problem: Poisson, method: Any, target: float | None, clock: Clock, worth: float = 0.0
    ):
        self._problem, self._method = problem, method
        # An array: each new Python number would compile again.
        self._target = None if target is None else jnp.asarray(target, problem.rhs.dtype)
        measured = step_time(problem, method, clock)
        self.step_seconds, self.start_seconds = measured.seconds, measured.start
        self.compile_seconds = measured.compiling
        self.tolerance = float(method.rtol) if target is None else target
        self._clock = clock
        if worth > 0 and not problem.operator.is_constant:
            taken = self._prepare(1)
            least, all_modes = self.zero.seconds, taken * mode_count(problem.grid)
            doubt = ONE_MODE_DOUBT if all_modes < SURETY * least else 1.0
            if doubt * least <= worth:
                return
        self._prepare(None)

    def _prepare(self, per_axis: int | None) -> float:
        """Find the smooth modes, and price zero; gives the seconds of the first."""
        problem, method, zero = self._problem, self._method, jnp.zeros_like(self._problem.rhs)
        if is_first_call(problem.operator, method, self._target, per_axis):
            start = self._clock()
            self._modes = self._smooth_modes(per_axis)
            self._left(zero)
            self.compile_seconds += self._clock() - start
        start = self._clock()
        self._modes = jax.block_until_ready(self._smooth_modes(per_axis))
        taken = self._clock() - start
        if isinstance(method, Multigrid):
            self._modes = _as_probed(problem, method, self._modes)
        self._is_rough = per_axis is not None
        self.zero = self._price(zero)
        return taken

    def _smooth_modes(self, per_axis: int | None) -> SmoothModes:
        has_own_rule = self._target is None
        return smooth_modes(self._problem.operator, self._method, per_axis, with_norms=has_own_rule)

    def _left(self, u: jax.Array) -> tuple[float, np.ndarray]:
        problem = self._problem
        steps, amplitudes = _remaining(
            problem.operator, problem.rhs, self._modes, self._method, u, self._target
        )
        return float(steps), np.asarray(amplitudes)

    def remaining(self, u: jax.Array) -> Price:
        """Price of the smoothed guess `u`, shape `grid.shape`.

        Cost: two applications of A and K·N multiplications, without any full transform.
        """
        if self._is_rough:
            self._prepare(None)
        return self._price(u)

    def _price(self, u: jax.Array) -> Price:
        count, amplitudes = self._left(u)
        count = math.ceil(count) if count < ENDLESS / 2 else np.inf
        twice = np.sum(amplitudes**2 * np.asarray(self._modes.energies))
        energy = float(twice) * self._problem.grid.cell_volume / 2
        return Price(self.start_seconds + count * self.step_seconds, count, amplitudes, energy)


class TimedPrice:
    """Price of a method that hardly profits from a guess: one solve, timed.

    A direct solver takes what it takes; multigrid and conjugate gradients lose a few steps at best.
    """

    def __init__(self, problem: Poisson, method: Any, clock: Clock):
        start = clock()
        jax.block_until_ready(solve(problem, method, throw=False))
        first = clock() - start
        start = clock()
        solution = jax.block_until_ready(solve(problem, method, throw=False))
        taken = clock() - start
        converged = bool(has_succeeded(solution.reason))
        # A solve that ends short of its tolerance is not a quick one.
        self.seconds = taken if converged else np.inf
        self.compile_seconds = max(first - taken, 0.0)
        self.steps = float(solution.num_steps) if converged else np.inf
        self.step_seconds = taken / max(int(solution.num_steps), 1)
        self.tolerance, self.start_seconds = math.nan, 0.0
        self.zero = self.remaining(jnp.zeros_like(problem.rhs))

    def remaining(self, u: jax.Array) -> Price:
        """The time of the timed solve, whatever `u`."""
        del u
        return Price(self.seconds, self.steps, np.zeros(0))


def price_of(
    problem: Poisson,
    method: lx.AbstractLinearSolver,
    *,
    target: float | None = None,
    clock: Clock = time.perf_counter,
    worth: float = 0.0,
) -> RelaxationPrice | TimedPrice:
    """Pick the way to price `method`, and measure on this device what it needs."""
    if target is not None and not 0 < target < 1:
        raise ValueError(f"target: expected None or a number in (0, 1), got {target!r}")
    if isinstance(method, Jacobi | GaussSeidel | Multigrid):
        return RelaxationPrice(problem, method, target, clock, worth)
    return TimedPrice(problem, method, clock)


def _as_probed(problem: Poisson, method: Multigrid, modes: SmoothModes) -> SmoothModes:
    """The modes with the factor that some cycles show, where it is far above the predicted one."""
    zero = jnp.zeros_like(problem.rhs)  # given, so that no other program has to be compiled
    probe = solve(problem, with_budget(method, PROBE_CYCLES), initial=zero, throw=False)
    seen = min(float(probe.stats["factor"]), 1.0)  # NaN where the first cycle was the last
    predicted = max(float(modes.factors[0]), np.finfo(np.float32).tiny)
    if not seen > 0 or np.log(seen) < 0.5 * np.log(predicted):
        return modes
    return eqx.tree_at(lambda m: m.factors, modes, jnp.full_like(modes.factors, seen))


@eqx.filter_jit
def _remaining(
    operator: EllipticOperator,
    b: jax.Array,
    modes: SmoothModes,
    method: Any,
    u: jax.Array,
    target: Any,
) -> tuple[jax.Array, jax.Array]:
    """Steps left, and the amplitudes of the error in the smooth modes."""
    grid, nu = operator.grid, 1 - modes.mu
    r = b - operator.mv(u)
    null = operator.is_singular & (nu < 1e-10)
    work = modes.vectors.T @ modes.project(r)
    error = jnp.where(null, 0, work / jnp.where(null, 1, modes.energies))
    low = modes.synthesize(modes.vectors @ error)
    rest = jnp.linalg.norm((r - operator.mv(low)).reshape(-1))
    rho, rho_rest = modes.factors[:-1], modes.factors[-1]
    if target is None:
        b_norm = jnp.linalg.norm(b.reshape(-1))
        root = jnp.asarray(np.sqrt(grid.cell_volume), b.dtype)
        rtol, atol = method.rtol.astype(b.dtype), method.atol.astype(b.dtype) / root
        wanted = jnp.maximum(rtol * b_norm, atol)

        def left(m: jax.Array) -> jax.Array:
            return jnp.linalg.norm(error * rho**m * modes.row_norms) + rest * rho_rest**m
    else:
        wanted = target * jnp.max(jnp.abs(u + low))
        stiffness = jnp.min(operator.diagonal()) * (1 - modes.rest_mu)
        # Three times its root mean square stands for the largest value of the rest.
        rest = 3 * rest / np.sqrt(grid.size) / stiffness

        def left(m: jax.Array) -> jax.Array:
            smooth = modes.synthesize(modes.vectors @ (error * rho**m), modes.stride)
            return jnp.max(jnp.abs(smooth)) + rest * rho_rest**m

    def halve(_: Any, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        middle = (bounds[0] + bounds[1]) / 2
        enough = left(2**middle - 1) <= wanted
        return jnp.where(enough, bounds[0], middle), jnp.where(enough, middle, bounds[1])

    bounds = jnp.zeros((), b.dtype), jnp.asarray(np.log2(ENDLESS), b.dtype)
    # 14 halvings of 40 doublings leave a relative error of 0.2 %.
    steps = 2 ** jax.lax.fori_loop(0, 14, halve, bounds)[1] - 1
    return jnp.where(left(jnp.zeros_like(steps)) <= wanted, 0, steps), error
