"""What is left to do from a given guess, in seconds, told from the smooth modes of its residual."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from solvers import transforms
from solvers.iteration import AbstractIteration, has_succeeded, with_budget
from solvers.multigrid.multigrid import Multigrid
from solvers.multigrid.prediction import predict_factor
from solvers.operators import EllipticOperator
from solvers.problems import Poisson
from solvers.relaxation.gauss_seidel import GaussSeidel
from solvers.relaxation.jacobi import Jacobi
from solvers.solution import solve
from solvers.spectrum import damping_of, jacobi_eigenvalues

Clock = Callable[[], float]
MODES_PER_AXIS = {1: 64, 2: 7, 3: 4}
# With one mode per axis only, a price may be that many times too low.
ONE_MODE_DOUBT = 4.0
RITZ_BLOCK = 2**17
ENDLESS = 2.0**40
PROBE_CYCLES = 5
# In least seconds: a run that needs no second one, and one after which nothing longer is tried,
# should the machine have stood still while a call without steps was timed.
LONG_ENOUGH, LONGEST = 5, 100


class Price(NamedTuple):
    """What a guess still costs.

    Attributes:
        seconds: until the tolerance is met.
        steps: likewise; infinite where it never is.
        amplitudes: error of the guess in the lowest modes, smoothest first, as far as known.
    """

    seconds: float
    steps: float
    amplitudes: np.ndarray


class SmoothModes(eqx.Module):
    """Rayleigh–Ritz on the lowest modes φ of the grid, ZᵀAZ y = ν ZᵀDZ y with D the diagonal of A.

    Undamped Jacobi multiplies the error along Zy by μ = 1 − ν. For constant coefficients the modes
    are eigenvectors and all of this is exact; else it is an approximation from above of ν.

    Attributes:
        bases: per axis the lowest 1-D modes, shape `(grid.shape[d], m_d)`.
        vectors: y in the columns, shape (K, K), K = ∏ m_d, scaled to max|Zy| = 1.
        energies: yᵀZᵀAZy, shape (K,).
        mu: 1 − ν, descending, shape (K,).
        row_norms: ‖A Z y‖₂, shape (K,).
        rest_mu: the largest μ that is not among them.
        factors: of one step of the method for each of the modes and for the rest, shape (K + 1,).
    """

    bases: tuple[jax.Array, ...]
    vectors: jax.Array
    energies: jax.Array
    mu: jax.Array
    row_norms: jax.Array
    rest_mu: jax.Array
    factors: jax.Array

    def project(self, r: jax.Array) -> jax.Array:
        """Zᵀr, shape (K,)."""
        for base in self.bases:
            r = jnp.tensordot(r, base, ((0,), (0,)))
        return r.reshape(-1)

    def synthesize(self, coefficients: jax.Array, every: int = 1) -> jax.Array:
        """Z c at every `every`-th node."""
        u = coefficients.reshape([base.shape[1] for base in self.bases])
        for base in self.bases:
            u = jnp.tensordot(u, base[::every], ((0,), (1,)))
        return u


@eqx.filter_jit
def smooth_modes(
    operator: EllipticOperator, method: Any, per_axis: int | None = None
) -> SmoothModes:
    """Compute the `SmoothModes` of an operator, and what `method` makes of them.

    Args:
        operator: A.
        method: whose damping factors are wanted.
        per_axis: m, by default 64 in 1-D, 7 in 2-D, 4 in 3-D.

    Cost: for constant coefficients next to nothing; else 2K applications of A and of D, K = m^ndim.
    """
    grid, dtype = operator.grid, operator.grid.dtype
    counts = [min(n, per_axis or MODES_PER_AXIS[grid.ndim]) for n in grid.shape]
    bases = tuple(
        jnp.asarray(transforms.modes(grid, d, count), dtype) for d, count in enumerate(counts)
    )
    blank = SmoothModes(bases, *[jnp.zeros((), dtype)] * 6)
    found = _eigenvectors(operator, blank) if operator.is_constant else _ritz(operator, blank)
    vectors, energies, mu, row_norms = found
    rest_mu = _rest(operator, counts, mu)
    return SmoothModes(
        bases=bases,
        vectors=vectors,
        energies=energies,
        mu=mu,
        row_norms=row_norms,
        rest_mu=rest_mu,
        factors=_factors(method, operator, jnp.append(mu, rest_mu)),
    )


def _factors(method: Any, operator: EllipticOperator, mu: jax.Array) -> jax.Array:
    """Damping of each mode by a step; a cycle's by local Fourier analysis, the same for all."""
    if isinstance(method, Multigrid):
        return jnp.full_like(mu, predict_factor(operator, method))
    return jnp.abs(damping_of(method, operator, mu))


def _eigenvectors(operator: EllipticOperator, modes: SmoothModes) -> tuple[jax.Array, ...]:
    """Vectors, energies, μ and row norms for constant coefficients: the modes themselves.

    Aφ = λWφ with λ = d(1 − μ), so that φᵀAφ = λ Σwφ² and ‖Aφ‖² = λ² Σw²φ², products over the axes.
    """
    grid, counts = operator.grid, [base.shape[1] for base in modes.bases]
    block = tuple(slice(count) for count in counts)
    mu = jacobi_eigenvalues(operator)[block]
    reaction = 0.0 if operator.reaction is None else operator.reaction
    eigenvalues = (2 * sum(operator.conductances) + reaction) * (1 - mu)
    once, twice = jnp.ones((), grid.dtype), jnp.ones((), grid.dtype)
    for axis, base in enumerate(modes.bases):
        along = [-1 if d == axis else 1 for d in range(grid.ndim)]
        weights = jnp.asarray(grid.row_weights(axis), grid.dtype)[:, None]
        once = once * jnp.sum(weights * base**2, 0).reshape(along)
        twice = twice * jnp.sum((weights * base) ** 2, 0).reshape(along)
    order = jnp.argsort(-mu.reshape(-1))
    energies, norms = eigenvalues * once, eigenvalues * jnp.sqrt(twice)
    vectors = jnp.eye(order.size, dtype=grid.dtype)[:, order]
    ordered = [values.reshape(-1)[order] for values in (energies, mu, norms)]
    return vectors, *ordered


def _ritz(operator: EllipticOperator, modes: SmoothModes) -> tuple[jax.Array, ...]:
    """The same by Rayleigh–Ritz, for coefficients that vary."""
    size = int(np.prod([base.shape[1] for base in modes.bases]))
    diagonal = operator.diagonal()
    unit = jnp.eye(size, dtype=operator.grid.dtype)
    # As many modes at once as make long loops, and fit the cache.
    batch = max(1, min(size, RITZ_BLOCK // operator.grid.size))

    def row(c: jax.Array) -> tuple[jax.Array, jax.Array]:
        u = modes.synthesize(c)
        return modes.project(operator.mv(u)), modes.project(diagonal * u)

    stiff, mass = jax.lax.map(row, unit, batch_size=batch)
    factor = jnp.linalg.cholesky((mass + mass.T) / 2)
    half = jax.scipy.linalg.solve_triangular(factor, (stiff + stiff.T) / 2, lower=True)
    nu, turned = jnp.linalg.eigh(jax.scipy.linalg.solve_triangular(factor, half.T, lower=True))
    vectors = jax.scipy.linalg.solve_triangular(factor.T, turned, lower=False)

    def sizes(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        u = modes.synthesize(y)
        return jnp.max(jnp.abs(u)), jnp.linalg.norm(operator.mv(u).reshape(-1))

    largest, norms = jax.lax.map(sizes, vectors.T, batch_size=batch)
    return vectors / largest[None, :], nu / largest**2, 1 - nu, norms / largest


def _rest(operator: EllipticOperator, counts: list[int], mu: jax.Array) -> jax.Array:
    """The largest eigenvalue of Jacobi beyond the lowest `counts` modes per axis."""
    if not operator.is_constant:
        return mu[-1]
    block = tuple(slice(count) for count in counts)
    return jnp.max(jacobi_eigenvalues(operator).at[block].set(0))


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
        worth: seconds from which the price of zero has to be right; where it is less for sure by
            one mode per axis, that will do.

    Attributes:
        compile_seconds: spent on compiling, not to be charged.
        step_seconds: measured time of one step.
        start_seconds: of a call without any, set-up included.
        zero: price of the zero guess.
    """

    def __init__(
        self, problem: Poisson, method: Any, target: float | None, clock: Clock, worth: float = 0.0
    ):
        self._problem, self._method, self._target = problem, method, target
        measured = measure_step(problem, method, clock)
        self.step_seconds, self.start_seconds = measured.seconds, measured.start
        self.compile_seconds = measured.compiling
        self._clock = clock
        if worth > 0 and not problem.operator.is_constant:
            self._prepare(1)
            if ONE_MODE_DOUBT * self.zero.seconds <= worth:
                return
        self._prepare(None)

    def _prepare(self, per_axis: int | None) -> None:
        """Find the smooth modes; the first run of each program is its warm-up."""
        problem, method, zero = self._problem, self._method, jnp.zeros_like(self._problem.rhs)
        start = self._clock()
        self._modes = smooth_modes(problem.operator, method, per_axis)
        self._left(zero)
        self.compile_seconds += self._clock() - start
        self._modes = jax.block_until_ready(smooth_modes(problem.operator, method, per_axis))
        if isinstance(method, Multigrid):
            self._modes = _as_probed(problem, method, self._modes)
        self._is_rough = per_axis is not None
        self.zero = self._price(zero)

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
        return Price(self.start_seconds + count * self.step_seconds, count, amplitudes)


class TimedPrice:
    """Price of a method that hardly profits from a guess: one solve, timed.

    A direct solver takes what it takes; multigrid and conjugate gradients lose a few steps at best.
    """

    def __init__(
        self, problem: Poisson, method: Any, target: float | None, clock: Clock, worth: float = 0.0
    ):
        del target, worth
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
    is_known = isinstance(method, Jacobi | GaussSeidel | Multigrid)
    return (RelaxationPrice if is_known else TimedPrice)(problem, method, target, clock, worth)


def _as_probed(problem: Poisson, method: Multigrid, modes: SmoothModes) -> SmoothModes:
    """The modes with the factor that some cycles show, where it is far above the predicted one."""
    zero = jnp.zeros_like(problem.rhs)  # given, so that no other program has to be compiled
    probe = solve(problem, with_budget(method, PROBE_CYCLES), initial=zero, throw=False)
    seen = min(float(probe.stats["factor"]), 1.0)  # NaN where the first cycle was the last
    predicted = max(float(modes.factors[0]), np.finfo(np.float32).tiny)
    if not seen > 0 or np.log(seen) < 0.5 * np.log(predicted):
        return modes
    return eqx.tree_at(lambda m: m.factors, modes, jnp.full_like(modes.factors, seen))


def run_steps(problem: Poisson, method: AbstractIteration, steps: int, u: jax.Array) -> jax.Array:
    """Do `steps` steps of `method` from `u`, shape `grid.shape`, and wait for the result."""
    # The very call that `solve` makes, so that it is compiled once.
    budget, options = with_budget(method, steps), {"y0": u}
    solved = lx.linear_solve(problem.operator, problem.rhs, budget, options=options, throw=False)
    return jax.block_until_ready(solved.value)


class StepTime(NamedTuple):
    """Seconds of a step, of a call without any, and of compiling."""

    seconds: float
    start: float
    compiling: float


def measure_step(
    problem: Poisson, method: AbstractIteration, clock: Clock, *, least: float = 0.001
) -> StepTime:
    """Time one step as the loop does it, in runs of at least `least` seconds, the better of two.

    Looks at the residual are part of a step. What a call costs once is not. It takes some five
    milliseconds, or the steps to two looks if these are longer: who plans pays for it.
    """
    zero = jnp.zeros_like(problem.rhs)

    def run(steps: int) -> float:
        start = clock()
        run_steps(problem, method, steps, zero)
        return clock() - start

    compiling, overhead = run(0), min(run(0), run(0))
    # With as many steps as there are to a look, which may cost as much as twenty of them.
    steps = method.check_every
    while (taken := run(steps)) - overhead < least and taken < LONGEST * least and steps < 2**24:
        steps = int(steps * min(max(1.5 * least / max(taken - overhead, 1e-6), 1.5), 20))
    if taken - overhead < LONG_ENOUGH * least:
        taken = min(taken, run(steps))
    seconds = taken - overhead if taken > overhead else taken
    return StepTime(max(seconds, 1e-9) / steps, overhead, compiling)


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
        pairs = zip(grid.shape, modes.bases, strict=True)
        every = max(1, min(n // (8 * base.shape[1]) for n, base in pairs))

        def left(m: jax.Array) -> jax.Array:
            smooth = modes.synthesize(modes.vectors @ (error * rho**m), every)
            return jnp.max(jnp.abs(smooth)) + rest * rho_rest**m

    def halve(_: Any, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        middle = (bounds[0] + bounds[1]) / 2
        enough = left(2**middle - 1) <= wanted
        return jnp.where(enough, bounds[0], middle), jnp.where(enough, middle, bounds[1])

    bounds = jnp.zeros((), b.dtype), jnp.asarray(np.log2(ENDLESS), b.dtype)
    # 20 halvings of 40 doublings leave a relative error of 3e-5.
    steps = 2 ** jax.lax.fori_loop(0, 20, halve, bounds)[1] - 1
    return jnp.where(left(jnp.zeros_like(steps)) <= wanted, 0, steps), error
