"""`solve`, the front door: a problem and a method in, a checked solution out."""

from typing import Any, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from solvers.arguments import expect, is_traced
from solvers.differences import derivatives, fluxes, interpolate
from solvers.direct import FastDiagonalization
from solvers.failures import explain_failure, slowness, with_prediction
from solvers.grid import Boundary, Grid
from solvers.implicit import linear_solve
from solvers.iteration import (
    Reason,
    has_succeeded,
    lineax_result,
    message,
    statistics_of,
)
from solvers.krylov import ConjugateGradient
from solvers.medium import continued
from solvers.multigrid.multigrid import Multigrid
from solvers.operators import EllipticOperator
from solvers.pairs import shifted_rest
from solvers.placement import Placed, is_spread, kept, on, placed, whole
from solvers.problems import Poisson
from solvers.relaxation.jacobi import Jacobi
from solvers.relaxation.lines import LineRelaxation
from solvers.stepping import initial_guess

# Unknowns from which multigrid is worth its compilation: 0.3 s of diagonally preconditioned
# conjugate gradients in 2-D, and ten times as many of them need thirty times the seconds. And the
# root of the condition number, nearly the steps of these, above which jumps may need all there are.
LARGE, LONG = 2**16, 1000
Problem = Poisson | Placed[Poisson]
Method = lx.AbstractLinearSolver | None


class Solution(eqx.Module):
    """What `solve` gives back.

    Attributes:
        field: u on all nodes, the boundary too, shape `grid.full_shape`.
        value: u at the unknowns, shape `grid.shape`.
        low: what `value` lacks of the solution of `Refined`; None of other methods.
        result: lineax's result; `reason` is the exact one.
        reason: a `Reason`, whose message says what to do.
        num_steps: steps taken.
        residual_norms: √(∏h)·‖b − Au‖₂ at `residual_steps`, both padded with −1: the first belongs
            to the initial guess and the last used one to `value`. `history` is without the padding.
        removed_mean: what had to be taken from the source of a singular problem, else 0.
        stats: what else the method has found out; of `Multigrid` the `factor` per cycle,
            `work_units`, what it estimates of errors, and `predicted_factor` where the measured one
            is slow enough to ask (else −1; traced solves leave it out).
        operator: of the problem.
        method: name of the method, static.
    """

    field: jax.Array
    value: jax.Array
    low: jax.Array | None
    result: Any
    reason: Any
    num_steps: jax.Array
    residual_norms: jax.Array
    residual_steps: jax.Array
    removed_mean: jax.Array
    stats: dict[str, Any]
    operator: EllipticOperator
    method: str = eqx.field(static=True)

    @property
    def grid(self) -> Grid:
        return self.operator.grid

    def _expect_one(self) -> None:
        """Refuse what `vmap` or `scan` has stacked: its axis would pass for one of the grid."""
        if jnp.ndim(self.num_steps) > 0:
            raise ValueError(
                f"solution: a batch of {self.num_steps.shape}; take one of them, or look at all "
                "by jax.vmap(lambda s: s.gradient())"
            )

    def history(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps and residual norms without the padding; outside jit and vmap only."""
        self._expect_one()
        steps = np.asarray(self.residual_steps)
        used = steps >= 0
        return steps[used], np.asarray(self.residual_norms)[used]

    def gradient(self) -> tuple[jax.Array, ...]:
        """∂u/∂xᵢ on all nodes, one array of `grid.full_shape` per axis.

        Second order where u is smooth: central differences, one-sided ones of three nodes on the
        boundary. Where a jumps they are means of both sides' slopes; `flux` is right there, too.
        Beside the interface of a problem with `inside` they reach across it; beyond the surface of
        a medium u is continued linearly, so that they are of first order beside it.
        """
        return derivatives(self.grid, self._continued())

    def flux(self) -> tuple[jax.Array, ...]:
        """−a ∂u/∂xᵢ on the faces between nodes along axis i, low to high, at the unknowns across.

        These are the fluxes that the scheme balances; `grid.intervals[i]` faces along axis i. What
        goes through the boundary itself is told by `boundary_flux`, and through the interface of a
        problem with `inside`, whose faces have 0 here, by `interface_flux`.
        """
        self._expect_one()
        return fluxes(self.operator, self.field)

    def evaluate(self, *points: Any) -> jax.Array:
        """u at any points by multilinear interpolation, second order.

        Args:
            points: one array per axis, of equal shape; outside the box gives NaN, but for periodic
                axes, which wrap.
        """
        return interpolate(self.grid, self._continued(), points)

    def _continued(self) -> jax.Array:
        """The field, also where there is no medium next to one."""
        self._expect_one()
        filled = self.operator.filled
        return self.field if filled is None else continued(self.grid, self.field, filled)

    def __str__(self) -> str:
        norms, mean = self.history()[1], float(self.removed_mean)
        is_rounding = abs(mean) <= 100 * jnp.finfo(self.residual_norms.dtype).eps
        taken = "" if is_rounding else f" A mean of {mean:.2g} was taken from the source."
        return (
            f"{self.method}: {int(self.num_steps)} steps, "
            f"residual {norms[0]:.2e} → {norms[-1]:.2e}. "
            f"{message(self.reason)}{slowness(self.stats)}{taken}"
        )


class SolveError(RuntimeError):
    """A solve that failed, with the reason and the `solution` as far as it came."""

    def __init__(self, message: str, solution: "Solution | PlacedSolution"):
        super().__init__(message)
        self.solution = solution

    def __reduce__(self) -> tuple[Any, ...]:
        """From one process to another, as a pool does; of what lies on a mesh whole arrays go."""
        found = self.solution
        found = found.collect() if isinstance(found, PlacedSolution) else found
        return type(self), (str(self), found)


# Statistics that `Solution` has as attributes.
_SHOWN = {"num_steps", "max_steps", "reason", "residual_norms", "residual_steps", "low"}


@overload
def solve(problem: Poisson, method: Method = None, *, initial: Any = None, throw: bool = True) -> Solution: ...  # fmt: skip # noqa: E501
@overload
def solve(problem: Placed[Poisson], method: Method = None, *, initial: Any = None, throw: bool = True) -> "PlacedSolution": ...  # fmt: skip # noqa: E501


def solve(
    problem: Problem,
    method: Method = None,
    *,
    initial: Any = None,
    throw: bool = True,
) -> "Solution | PlacedSolution":
    """Solve A u = b.

    A problem without Dirichlet sides and reaction has a solution only if its data balance, Σb = 0,
    and then many. Data that balance exactly do so on the grid up to O(h²): an excess
    |Σb| ≤ max(10 Σ(h/L)², 100 ε)·Σ|b|, at most half of Σ|b|, is taken from the mean and reported, a
    larger one is refused. The solution with ∫u = 0 is returned.

    Args:
        problem: what to solve; one on a mesh of devices (`place`) is solved there.
        method: any method of this package, or any lineax solver. The default is
            `FastDiagonalization` for constant coefficients; else `LineRelaxation` in 1-D, and
            `ConjugateGradient` with Jacobi or, on large, long or very anisotropic grids, multigrid
            as preconditioner; `solution.method` names it. All but the first need double precision
            for 1e-8; in single precision pass a method with an rtol within reach, or `Refined`. The
            residual is held against ‖b‖, of which boundary values are a g/h²: beside jumps of a the
            error may be larger by far, and a smaller rtol is due.
        initial: initial guess, at the unknowns or on all nodes, or an earlier solution on the same
            grid. By default it is zero, and for full multigrid the `boundary_extension` of the
            problem. It changes the way to the solution only: no gradient goes through it.
        throw: raise when the solve fails. Inside jit, vmap and grad that is equinox's error;
            outside, `SolveError`. With False look at `solution.result`.

    Raises:
        SolveError: the method did not converge.
        ValueError: data that cannot be: shapes, NaN, no balance.

    Example:
        >>> from solvers import Grid
        >>> solution = solve(Poisson(Grid(8), source=2.0))
        >>> print(solution.field[4].round(6), solution.method)
        0.25 FastDiagonalization
    """
    if isinstance(problem, Placed):
        return _solve_placed(problem, method, initial, throw=throw)
    if not isinstance(problem, Poisson):
        raise ValueError(f"problem: expected a Poisson, got {type(problem).__name__}")
    operator, b = problem.operator, problem.rhs
    method = _pick(operator) if method is None else method
    expect("method", method, lx.AbstractLinearSolver, "a solver such as Jacobi()")
    guess = initial_guess(problem, method, initial)
    options = {} if guess is None else {"y0": guess}
    excess, balances = problem.mean_source(), problem.balances()
    if not is_traced(balances) and not bool(balances):
        raise ValueError(
            f"source: the mean of source and flux is {float(excess):.3g}, but without a Dirichlet "
            "side or a reaction only data of mean 0 have a solution; subtract it from the source"
        )
    b = problem.balanced()
    solved = linear_solve(operator, b, method, options)
    solution = _assemble(problem, method, b, options, solved, excess, balances)
    solution = with_prediction(solution, method)
    failed = ~has_succeeded(solution.reason)
    if not throw:
        return solution
    if any(map(is_traced, jax.tree.leaves((solution, failed)))):
        return solution.reason.error_if(solution, failed)
    if bool(failed):
        raise SolveError(explain_failure(solution, method, b), solution) from None
    return solution


class PlacedSolution(eqx.Module):
    """A solution on a mesh of devices.

    Attributes:
        parts: field, value, low and operator.
        rest: the `Solution` without them: all numbers and histories, on every device.
    """

    parts: Placed[tuple[jax.Array, jax.Array, jax.Array | None, EllipticOperator]]
    rest: Solution

    @property
    def field(self) -> jax.Array:
        """u on all nodes, with zeros at the high ends where the mesh does not divide them."""
        return self.parts.arrays[0]

    @property
    def value(self) -> jax.Array:
        """u at the unknowns, padded likewise."""
        return self.parts.arrays[1]

    @property
    def low(self) -> jax.Array | None:
        """What `value` lacks, padded likewise; None of most methods."""
        return jax.tree.unflatten(self.parts.structure, self.parts.arrays)[2]

    @property
    def grid(self) -> Grid:
        return self.parts.like[3].grid

    def gradient(self) -> tuple[Placed[jax.Array], ...]:
        """`Solution.gradient`, on the mesh."""
        return kept(_view, self.parts, self.rest, Solution.gradient)

    def flux(self) -> tuple[Placed[jax.Array], ...]:
        """`Solution.flux`, on the mesh."""
        return kept(_view, self.parts, self.rest, Solution.flux)

    def evaluate(self, *points: Any) -> jax.Array:
        """`Solution.evaluate`: each device looks up what lies with it, and gets the others'."""
        with on(self.parts.mesh):
            return _evaluated(self, points)

    def collect(self) -> Solution:
        """The solution with whole arrays, in every process."""
        return _with_parts(self.rest, *self.parts.collect())

    def __getattr__(self, name: str) -> Any:
        # What copies asks for before there is a `rest`.
        if name.startswith("__") or name in ("parts", "rest"):
            raise AttributeError(name)
        return getattr(self.rest, name)

    def __str__(self) -> str:
        return str(self.rest)


def _with_parts(solution: Solution, *parts: Any) -> Solution:
    return eqx.tree_at(
        lambda s: (s.field, s.value, s.low, s.operator),
        solution,
        parts,
        is_leaf=lambda x: x is None,
    )


def _view(parts: tuple[Any, ...], rest: Solution, method: Any) -> tuple[jax.Array, ...]:
    return method(_with_parts(rest, *parts))


@eqx.filter_jit
def _evaluated(solution: PlacedSolution, points: tuple[Any, ...]) -> jax.Array:
    return whole(_with_parts(solution.rest, *solution.parts.inside()).evaluate(*points))


def _solve_placed(
    problem: Placed[Poisson], method: Any, initial: Any, *, throw: bool
) -> PlacedSolution:
    with on(problem.mesh):
        solution = _on_mesh(problem, method, initial)
    failed = ~has_succeeded(solution.reason)
    if is_traced(failed) or not throw or not bool(failed):
        return solution
    raise SolveError(str(solution), solution)


@eqx.filter_jit
def _on_mesh(problem: Placed[Poisson], method: Any, initial: Any) -> PlacedSolution:
    if isinstance(initial, PlacedSolution):
        initial = initial.parts.inside()[0]
    guess = initial.inside() if isinstance(initial, Placed) else initial
    found = solve(problem.inside(), method, initial=guess, throw=False)
    parts = placed((found.field, found.value, found.low, found.operator), problem.mesh)
    return PlacedSolution(parts, whole(_with_parts(found, None, None, None, None)))


def _pick(operator: EllipticOperator) -> lx.AbstractLinearSolver:
    if operator.is_constant:
        return FastDiagonalization()
    if operator.grid.ndim == 1 and not is_spread():
        return LineRelaxation()  # exact in a step; of a line split over devices each has all
    is_large = operator.grid.size > LARGE or _steps_of_gradients(operator) > LONG
    return ConjugateGradient(preconditioner=Multigrid() if is_large else Jacobi())


def _steps_of_gradients(operator: EllipticOperator) -> float:
    """√(Σ a/h² / Σ a/L²), the second sum over axes with a Dirichlet side, or the least of all."""
    axes = zip(operator.coupling, operator.grid.intervals, operator.grid.boundary, strict=True)
    stiff = [(c / n**2, Boundary.DIRICHLET in sides) for c, n, sides in axes]
    least = sum(value for value, is_held in stiff if is_held) or min(value for value, _ in stiff)
    return (sum(operator.coupling) / least) ** 0.5


def _assemble(
    problem: Poisson,
    method: lx.AbstractLinearSolver,
    b: jax.Array,
    options: dict[str, Any],
    solved: Any,
    excess: jax.Array,
    balances: jax.Array,
) -> Solution:
    start = options.get("y0", jnp.zeros_like(b))
    stats = statistics_of(solved, method, problem.operator, b, start)
    reason = Reason.where(balances, stats["reason"], Reason.incompatible)
    low = stats.get("low")
    # Where nothing was done, zeros or the guess would pass for a solution.
    is_nothing = reason == Reason.nonfinite_input
    field, value = _spoiled(problem.grid, problem.solution_field(solved.value), is_nothing)
    if problem.operator.is_singular and low is not None:
        low = low + shifted_rest(solved.value, value, problem.operator.null)
    return Solution(
        field=field,
        value=value,
        low=low,
        result=lineax_result(reason),
        reason=reason,
        num_steps=stats["num_steps"],
        residual_norms=stats["residual_norms"],
        residual_steps=stats["residual_steps"],
        removed_mean=excess,
        stats={name: value for name, value in stats.items() if name not in _SHOWN},
        operator=problem.operator,
        method=type(method).__name__,
    )


@jax.jit
def _spoiled(grid: Grid, field: jax.Array, is_nothing: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A field on all nodes and at the unknowns, NaN where it is nothing."""
    field = jnp.where(is_nothing, jnp.nan, field)
    return field, field[grid.unknowns]
