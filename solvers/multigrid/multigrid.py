"""The multigrid method, as a step of the one loop."""

import math
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import as_count, as_number, expect
from solvers.iteration import AbstractIteration, Operator, stopping
from solvers.multigrid.accuracy import discretization_error
from solvers.multigrid.blocks import Blocks, join, split
from solvers.multigrid.cycle import (
    Cycle,
    Plan,
    add,
    full_multigrid,
    largest,
    never_of,
    run_cycle,
    size,
    written,
)
from solvers.multigrid.hierarchy import Hierarchy, build, finest_level
from solvers.multigrid.level import Level
from solvers.multigrid.lifting import Lifting, lifting_of
from solvers.multigrid.smoothing import SMOOTHERS
from solvers.operators import EllipticOperator


class MultigridSetup(NamedTuple):
    operator: EllipticOperator  # divided by the scale, as all levels are
    finest: Level
    hierarchy: Hierarchy  # in the operator's precision
    cycles: Hierarchy  # in that of the cycles
    scale: jax.Array
    lifting: Lifting | None

    def lowered(self, r: Blocks) -> tuple[Blocks, jax.Array | None]:
        """What the cycles are to correct, and the constant that they leave alone."""
        if self.lifting is None:
            return r, None
        return self.lifting.without_constant(self.finest, r)

    def raised(self, e: Blocks, s: jax.Array | None) -> Blocks:
        """Their correction, with that constant."""
        return e if self.lifting is None or s is None else self.lifting.with_constant(e, s)


class Estimates(NamedTuple):
    algebraic: jax.Array  # of max|u − u_h|
    discretization: jax.Array  # of max|u_h − u|


class MultigridCarry(NamedTuple):
    """Of (A/scale) (scale·u) = b, all of which is within float32's range where b is."""

    f: Blocks
    u: Blocks
    r: Blocks
    errors: Estimates | None = None  # if `error_fraction` asks for them


class Multigrid(AbstractIteration):
    """Geometric multigrid for an `EllipticOperator`: any size and sides, constant or varying a, c.

    A step adds one cycle's answer to the residual, u ← u + M(b − A u). A cycle relaxes `pre` times,
    solves what is left on a grid of twice the spacing by the same means, and relaxes `post` times.

    Coarser grids keep every other node of those axes along which couplings aᵢ/hᵢ² are strongest
    (semicoarsening), so that point relaxation is right for any anisotropy. For constant
    coefficients the coarse operators are those of the graded coarse axes; for varying ones they are
    Galerkin products with interpolation that follows the operator, right across jumps. The coarsest
    grid is solved directly.

    Args:
        cycle: `Cycle.V`, `Cycle.W` or `Cycle.F`.
        pre, post: sweeps before and after the correction.
        smoother: `GaussSeidel(ω)`, `Jacobi(ω)`, `Chebyshev(degree)` or `LineRelaxation(axes)`, used
            on all levels; its tolerances do not matter. The default is Gauss–Seidel by colours with
            over-relaxation 1.15 where all axes are coarsened, else 1. `LineRelaxation` coarsens all
            axes: for traced anisotropy, which a rule cannot see.
        full: start with full multigrid, nested iteration from the coarsest grid with cubic
            interpolation; it counts as the first step. The initial guess should have the values
            on Dirichlet sides, as `solve` sees to: next to a jump there it would start far off.
        error_fraction: stop when the estimated algebraic error is below this fraction of the
            estimated discretization error, both in the maximum norm, from the change of the last
            cycle and from fourth differences of the solution, which take half a cycle each time;
            needs `full`. `rtol` and `atol` hold beside it.
        precision: of the cycles, `float32` or `float64`. By default float32: residuals and solution
            are in the operator's precision all the same, so that it costs no digit.
        rtol, atol: stop when √(∏h)·‖b − A u‖₂ ≤ max(rtol·‖b‖, atol).
        max_steps: cycles at most.
        check_every: cycles between two looks at the residual.

    As a preconditioner it is the symmetric cycle with `post` sweeps before and, reversed, after.

    Its statistics are `factor`, the reduction of the residual per cycle towards the end, −1 before
    the second cycle; `work_units` in all, sweeps and residuals on the finest grid; with an
    `error_fraction` the estimates `algebraic_error` and `discretization_error`.

    Raises:
        ValueError: for an operator that is not an `EllipticOperator`, or arguments out of range.

    Cost: a V-cycle is (pre + post + 1)/(1 − 2⁻ᵈ) sweeps, and one residual.

    Reference: Trottenberg, Oosterlee, Schüller 2001, Multigrid; Yavneh 1996, "On red-black SOR
    smoothing in multigrid", SIAM J. Sci. Comput. 17, 180–192, doi:10.1137/0917013; McCormick,
    Benzaken, Tamstorf 2021, "Algebraic error analysis for mixed-precision multigrid solvers",
    SIAM J. Sci. Comput. 43, S392–S419, doi:10.1137/20M1348571.

    Example:
        >>> from solvers import Grid, Poisson, solve
        >>> problem = Poisson(Grid((100, 90)), source=1.0, diffusion=lambda x, y: 1 + 9 * x * y)
        >>> int(solve(problem, Multigrid(rtol=1e-8)).num_steps) <= 12
        True
    """

    cycle: Cycle = eqx.field(static=True)
    pre: int = eqx.field(static=True)
    post: int = eqx.field(static=True)
    smoother: AbstractIteration | None
    full: bool = eqx.field(static=True)
    error_fraction: jax.Array | None
    precision: type | None = eqx.field(static=True)  # a np.dtype would equal None
    rtol: jax.Array
    atol: jax.Array
    max_steps: jax.Array
    check_every: int = eqx.field(static=True)
    works_in_place: ClassVar[bool] = True
    patience: ClassVar[int] = 2
    progress: ClassVar[float] = 0.97

    def __init__(
        self,
        cycle: Cycle = Cycle.V,
        *,
        pre: int = 1,
        post: int = 1,
        smoother: AbstractIteration | None = None,
        full: bool = False,
        error_fraction: Any = None,
        precision: Any = None,
        rtol: Any = 1e-8,
        atol: Any = 0.0,
        max_steps: Any = 100,
        check_every: int = 1,
    ):
        expect("cycle", cycle, Cycle, "a member of Cycle")
        self.cycle = cycle
        self.pre, self.post = as_count("pre", pre), as_count("post", post)
        if smoother is not None:
            expect("smoother", smoother, SMOOTHERS, "Jacobi, red-black GaussSeidel, Chebyshev or "
                   "LineRelaxation")  # fmt: skip
        self.smoother = smoother
        expect("full", full, bool | np.bool_, "True or False")
        self.full = bool(full)
        if error_fraction is not None:
            if not full:
                raise ValueError("error_fraction: needs full=True, of which the estimates come")
            wanted = "a positive number"
            error_fraction = as_number("error_fraction", error_fraction, wanted, lambda x: x <= 0)
        self.error_fraction = error_fraction
        self.precision = _precision(precision)
        self.rtol, self.atol, self.max_steps = stopping(rtol, atol, max_steps)
        self.check_every = as_count("check_every", check_every)

    @property
    def starts_with_a_step(self) -> bool:
        return self.full

    def prepare(self, operator: Operator) -> MultigridSetup:
        if not isinstance(operator, EllipticOperator):
            raise ValueError(
                "operator: Multigrid needs an EllipticOperator; ConjugateGradient takes any"
            )
        dtype = operator.grid.dtype
        precision = np.dtype(np.float32 if self.precision is None else self.precision)
        if precision.itemsize > dtype.itemsize:
            raise ValueError(f"precision: expected at most the operator's {dtype}, got {precision}")
        # Divided by a power of two near its largest entry, it is within float32's range.
        scale = _power_of_two(jnp.max(operator.diagonal()))
        scaled = _divided(operator, scale)
        lifting = lifting_of(scaled)
        hierarchy = build(scaled, self.smoother, None if lifting is None else lifting.is_needed)
        cycles = hierarchy if precision == dtype else hierarchy.astype(precision)
        return MultigridSetup(scaled, finest_level(scaled), hierarchy, cycles, scale, lifting)

    def start(self, setup: MultigridSetup, b: jax.Array, u: jax.Array) -> MultigridCarry:
        level = setup.finest
        f, v = level.weigh(split(b), -1), split(u * setup.scale)
        carry = MultigridCarry(f, v, level.residual(f, v))
        return self._full(setup, carry) if self.full else carry

    def _full(self, setup: MultigridSetup, carry: MultigridCarry) -> MultigridCarry:
        """Full multigrid for the correction, in the operator's precision."""
        lowered, s = setup.lowered(carry.r)
        nest = full_multigrid(setup.hierarchy, self._plan(), lowered)
        u = add(carry.u, setup.raised(nest.solution, s))
        r = setup.finest.residual(carry.f, u)
        if self.error_fraction is None:
            return MultigridCarry(carry.f, u, r)
        algebraic = _still_to_come(nest.change, nest.reduction)
        return MultigridCarry(carry.f, u, r, Estimates(algebraic, self._discretization(setup, u)))

    def _discretization(self, setup: MultigridSetup, u: Blocks) -> jax.Array:
        return discretization_error(setup.operator, setup.hierarchy, self._plan(), u)

    def step(self, setup: MultigridSetup, b: jax.Array, carry: MultigridCarry) -> MultigridCarry:
        f, u, r, errors = carry
        lowered, s = setup.lowered(r)
        e = run_cycle(setup.cycles, self._plan(), _cast(lowered, setup.cycles.dtype))
        e = setup.raised(e, s)
        u = written(add(u, _cast(e, b.dtype)), never_of(r))
        before, r = r, written(setup.finest.residual(f, u), never_of(r))
        if errors is not None:
            algebraic = _still_to_come(largest(e).astype(b.dtype), size(r) / size(before))
            errors = Estimates(algebraic, self._discretization(setup, u))
        return MultigridCarry(f, u, r, errors)

    def current(self, setup: MultigridSetup, carry: MultigridCarry) -> jax.Array:
        return join(carry.u) / setup.scale

    def norms(
        self, operator: Operator, setup: MultigridSetup, b: jax.Array, carry: MultigridCarry
    ) -> tuple[jax.Array, jax.Array]:
        root = jnp.asarray(math.sqrt(setup.operator.grid.cell_volume), b.dtype)
        return root * size(setup.finest.weigh(carry.r)), root * size(carry.u) / setup.scale

    def is_done(self, setup: MultigridSetup, carry: MultigridCarry) -> jax.Array | None:
        if self.error_fraction is None or carry.errors is None:
            return None
        algebraic, discretization = carry.errors
        return algebraic <= self.error_fraction.astype(algebraic.dtype) * discretization

    def statistics(
        self, setup: MultigridSetup, carry: MultigridCarry, stats: dict[str, Any], unit: jax.Array
    ) -> dict[str, Any]:
        norms, steps = stats["residual_norms"], stats["residual_steps"]
        last = jnp.sum(steps >= 0) - 1
        # The first cycles find easy errors; the last may have met the rounding.
        first = jnp.maximum(last - 4, jnp.minimum(last, 1))
        cycles = jnp.maximum(steps[last] - steps[first], 1).astype(norms.dtype)
        ratio = norms[last] / jnp.where(norms[first] > 0, norms[first], 1)
        unit = unit / setup.scale
        units = self.work_units(setup.operator.grid.ndim)
        full_units = units / (1 - 0.5**setup.operator.grid.ndim) if self.full else units + 1
        found = {
            "factor": jnp.where(last > first, ratio ** (1 / cycles), -1),
            "work_units": (units + 1) * (stats["num_steps"] - 1).astype(norms.dtype)
            + full_units
            + 1,
        }
        if carry.errors is not None:
            found["algebraic_error"] = carry.errors.algebraic * unit
            found["discretization_error"] = carry.errors.discretization * unit
        return found

    def work_units(self, ndim: int) -> float:
        """Sweeps and residuals of one cycle, in those of the finest grid, all axes coarsened."""
        share = 0.5**ndim
        visits = {Cycle.V: 1 - share, Cycle.W: 1 - 2 * share, Cycle.F: (1 - share) ** 2}
        # In 1-D each level of a W-cycle costs the same; there are few.
        return (self.pre + self.post + 1) / max(visits[self.cycle], 0.1)

    def precondition(self, setup: MultigridSetup, r: jax.Array, steps: int) -> jax.Array:
        if self.cycle is Cycle.F:
            raise ValueError("cycle: an F-cycle is not symmetric; as a preconditioner take V or W")
        plan = Plan(self.cycle, self.post, self.post, symmetric=True)
        hierarchy = setup.cycles
        # Divided by a power of two near its largest entry, r too is within float32's range.
        unit = _power_of_two(jnp.max(jnp.abs(r)))
        lowered, s = setup.lowered(setup.finest.weigh(split(r / unit), -1))
        f = _cast(lowered, hierarchy.dtype)
        u = run_cycle(hierarchy, plan, f)

        def again(_: Any, u: Blocks) -> Blocks:
            return run_cycle(hierarchy, plan, f, u)

        u = jax.lax.fori_loop(0, steps - 1, again, u) if steps > 1 else u
        u = setup.raised(u, s)
        return join(u).astype(r.dtype) * (unit / setup.scale)

    def _plan(self) -> Plan:
        return Plan(self.cycle, self.pre, self.post)


def _still_to_come(change: jax.Array, rate: jax.Array) -> jax.Array:
    """What is left of an error that falls by `rate` and has just changed by `change`."""
    rate = jnp.minimum(rate, 0.9)
    return change * rate / (1 - rate)


def _cast(blocks: Blocks, dtype: Any) -> Blocks:
    return {parity: x.astype(dtype) for parity, x in blocks.items()}


def _divided(operator: EllipticOperator, scale: jax.Array) -> EllipticOperator:
    """The operator divided by a number."""
    arrays, static = eqx.partition(operator, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda x: x / scale, arrays), static)


def _precision(precision: Any) -> type | None:
    if precision is None:
        return None
    try:
        return {np.dtype(kind): kind for kind in (np.float32, np.float64)}[np.dtype(precision)]
    except (KeyError, TypeError) as error:
        raise ValueError(f"precision: expected float32 or float64, got {precision!r}") from error


def _power_of_two(x: jax.Array) -> jax.Array:
    _, exponent = jnp.frexp(x)
    limit = jnp.finfo(x.dtype).maxexp - 2
    return jnp.ldexp(jnp.ones((), x.dtype), jnp.clip(exponent, -limit, limit))
