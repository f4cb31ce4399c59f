"""Iterative refinement: twice the digits of the precision that a device has."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx

from solvers import pairs
from solvers.arguments import as_count
from solvers.compiler import apart
from solvers.iteration import (
    AbstractIteration,
    Operator,
    fixed_steps,
    norm,
    power_of_two,
    stopping,
    without_mean,
)
from solvers.operators import EllipticOperator


class RefinedSetup(NamedTuple):
    operator: EllipticOperator
    inner: Any


class RefinedCarry(NamedTuple):
    u: pairs.Pair
    r: jax.Array
    size: jax.Array  # norm of r


class Refined(AbstractIteration):
    """Iterative refinement in pairs of numbers: single precision reaches 1e-10 without a double.

    The solution is an unevaluated sum of two numbers at each node, some 48 bits of two float32. A
    step is

        r = b − A(u + u_low), rounded once,   e ≈ A⁻¹r in plain precision by a method,
        u + u_low ← u + u_low + e,

    so that the residual falls by the method's own factor, to about ε²‖A‖‖u‖ where it would have
    stopped at ε‖A‖‖u‖. `solution.value` is u and `solution.low` is u_low; only their sum in double
    precision is the solution:

        np.asarray(solution.value, np.float64) + np.asarray(solution.low, np.float64)

    Solved is the system as it is stored: A and b of a/hᵢ², c and a source that were rounded to the
    grid's precision. In float32 that changes each of them by up to 6e-8, and u as much as it would
    change if they were given so. Without Dirichlet side and reaction b is what is left when its
    mean was taken from it and the result rounded; differences in u have all their digits, the
    constant those of the grid's precision. With a grid in float64 pairs are of float64.

    Args:
        method: what corrects: an iteration, by `every` steps from zero on A e = r whatever its
            tolerance; `FastDiagonalization` or another lineax solver, by a whole solve.
        every: steps for each correction, by default the method's `check_every`. Conjugate gradients
            begin anew each time: give them 5 steps with `Multigrid()` as preconditioner, hundreds
            without.
        rtol, atol: stop when √(∏h)·‖b − A u‖₂ ≤ max(rtol·‖b‖, atol), the residual of the pair.
        max_steps: corrections at most.
        check_every: corrections between two looks at the residual.

    Raises:
        ValueError: for a method that is none, or an operator that is not an `EllipticOperator`.

    Cost: a step of the method, a residual in pairs (50 operations for each unknown and axis with
    constant a, else 100), and 8 arrays read or written to add e.

    Reference: Goeddeke, Strzodka, Turek 2007, "Performance and accuracy of hardware-oriented
    native-, emulated- and mixed-precision solvers in FEM simulations", Int. J. Parallel Emergent
    Distrib. Syst. 22, 221–256, doi:10.1080/17445760601122076; Carson, Higham 2018, "Accelerating
    the solution of linear systems by iterative refinement in three precisions", SIAM J. Sci.
    Comput. 40, A817–A847, doi:10.1137/17M1140819.

    Example:
        >>> import numpy as np
        >>> from solvers import Grid, Multigrid, Poisson, Reason, solve
        >>> problem = Poisson(Grid((32, 32), dtype="float32"), source=1.0)
        >>> solution = solve(problem, Refined(Multigrid(), rtol=1e-10))
        >>> u = np.asarray(solution.value, np.float64) + np.asarray(solution.low, np.float64)
        >>> print(solution.value.dtype, solution.reason == Reason.converged)
        float32 True
    """

    method: Any
    every: int = eqx.field(static=True)
    rtol: jax.Array
    atol: jax.Array
    max_steps: jax.Array
    check_every: int = eqx.field(static=True)
    works_in_place: ClassVar[bool] = True
    patience: ClassVar[int] = 4
    parts: ClassVar[int] = 2

    def __init__(
        self,
        method: lx.AbstractLinearSolver,
        *,
        every: int | None = None,
        rtol: Any = 1e-8,
        atol: Any = 0.0,
        max_steps: Any = 1000,
        check_every: int = 1,
    ):
        if not isinstance(method, lx.AbstractLinearSolver) or isinstance(method, Refined):
            raise ValueError(f"method: expected a solver such as Multigrid(), got {method!r}")
        self.method = method
        is_iteration = isinstance(method, AbstractIteration)
        if every is not None and not is_iteration:
            raise ValueError("every: is for iterations, of this method it is a whole solve")
        default = method.check_every if is_iteration else 1
        self.every = as_count("every", default if every is None else every)
        self.rtol, self.atol, self.max_steps = stopping(rtol, atol, max_steps)
        self.check_every = as_count("check_every", check_every)

    def prepare(self, operator: Operator) -> RefinedSetup:
        if not isinstance(operator, EllipticOperator):
            raise ValueError("operator: Refined needs an EllipticOperator")
        return RefinedSetup(operator, self.method.init(operator, {}))

    def start(self, setup: RefinedSetup, b: jax.Array, u: jax.Array) -> RefinedCarry:
        return _looked(setup, b, (u, jnp.zeros_like(u)))

    def step(self, setup: RefinedSetup, b: jax.Array, carry: RefinedCarry) -> RefinedCarry:
        # Of size 1: cycles of less precision than r have no numbers for a small one.
        unit = power_of_two(carry.size)
        e = self._correction(setup, carry.r / unit) * unit
        # As a product in two places e could be two numbers; see `pairs`.
        u = pairs.add(carry.u, apart(e, self.max_steps < 0))
        return _looked(setup, b, u)

    def _correction(self, setup: RefinedSetup, r: jax.Array) -> jax.Array:
        if isinstance(self.method, AbstractIteration):
            _, inner = setup.inner
            return fixed_steps(self.method, inner, r, self.every)
        return self.method.compute(setup.inner, r, {})[0]

    def current(self, setup: RefinedSetup, carry: RefinedCarry) -> jax.Array:
        return carry.u[0]

    def low(self, setup: RefinedSetup, carry: RefinedCarry) -> jax.Array:
        return carry.u[1]

    def norms(
        self, operator: Operator, setup: RefinedSetup, b: jax.Array, carry: RefinedCarry
    ) -> tuple[jax.Array, jax.Array]:
        return carry.size, norm(operator, carry.u[0])

    def precondition(self, setup: RefinedSetup, r: jax.Array, steps: int) -> jax.Array:
        raise ValueError("method: a preconditioner needs no refinement, take the method itself")


def _looked(setup: RefinedSetup, b: jax.Array, u: pairs.Pair) -> RefinedCarry:
    # A mean of rounding errors of b is not in the range, and would stay.
    r = without_mean(setup.operator, pairs.residual(setup.operator, b, u))
    return RefinedCarry(u, r, norm(setup.operator, r))
