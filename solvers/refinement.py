"""Iterative refinement in pairs: twice the digits of the precision that a device has."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx

from solvers import pairs
from solvers.grid import as_count
from solvers.iteration import (
    AbstractIteration,
    Operator,
    fixed_steps,
    hold,
    norm,
    power_of_two,
    stopping,
    without_mean,
)
from solvers.krylov import ConjugateGradient
from solvers.operators import EllipticOperator


class RefinedSetup(NamedTuple):
    operator: EllipticOperator
    inner: Any


class RefinedCarry(NamedTuple):
    u: pairs.Pair
    r: jax.Array
    size: jax.Array  # norm of r


class Refined(AbstractIteration):
    """Solution and residual to twice the digits, where a device has single precision only.

    u is an unevaluated sum of two numbers at each node, some 48 bits of two float32. A step is

        r = b − A(u + u_low), rounded once;   e ≈ A⁻¹r by the method, in plain precision;
        u + u_low ← u + u_low + e,

    so that the residual falls by the method's own factor down to about ε²·‖A‖‖u‖, where it would
    have stopped at ε·‖A‖‖u‖. `solution.value` and `field` are u, and `solution.low` is u_low, both
    in the grid's precision: their sum, taken in double precision, is the solution.

        np.asarray(solution.value, np.float64) + np.asarray(solution.low, np.float64)

    What is solved is the system as it is stored: a/hᵢ², c and b are numbers of the grid's
    precision. That they were rounded to it stays in the answer, like a relative change of 6e-8 of
    coefficients and data in float32 (none of 1/hᵢ² where 1/hᵢ is a power of two). Without Dirichlet
    side or reaction b is what is left when its mean has been removed and the result rounded; the
    constant in the solution is right to single precision, all differences to twice that. In
    double precision it works likewise, with pairs of float64.

    Args:
        method: what corrects. Of a linear iteration `every` steps from zero on A e = r; of
            `ConjugateGradient`, `FastDiagonalization` and any other lineax solver a whole solve, of
            the former to its own rtol: 1e-2 to 1e-4, as single precision allows.
        every: steps of a linear iteration for each correction; its `check_every` by default.
        rtol, atol: stop when √(∏h)·‖b − A u‖₂ ≤ max(rtol·‖b‖, atol), the residual of the pair.
        max_steps: corrections at most.
        check_every: corrections between two looks at the residual.

    Raises:
        ValueError: for a method that is none, or an operator that is not an `EllipticOperator`.

    Cost: beside the method one residual in pairs, 60 to 130 operations an axis for each unknown;
    it reads u, u_low and b once.

    Reference: Goeddeke, Strzodka, Turek 2007, "Performance and accuracy of hardware-oriented
    native-, emulated- and mixed-precision solvers in FEM simulations", Int. J. Parallel Emergent
    Distrib. Syst. 22, 221–256, doi:10.1080/17445760601122076; Carson, Higham 2018, "Accelerating
    the solution of linear systems by iterative refinement in three precisions", SIAM J. Sci.
    Comput. 40, A817–A847, doi:10.1137/17M1140819.

    Example:
        >>> from solvers import Grid, Multigrid, Poisson, solve
        >>> problem = Poisson(Grid((32, 32), dtype="float32"), source=1.0)
        >>> solution = solve(problem, Refined(Multigrid()))
        >>> solution.value.dtype, bool(solution.residual_norms[solution.num_steps] < 1e-10)
        (dtype('float32'), True)
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
        rtol: Any = 1e-10,
        atol: Any = 0.0,
        max_steps: Any = 1000,
        check_every: int = 1,
    ):
        if not isinstance(method, lx.AbstractLinearSolver) or isinstance(method, Refined):
            raise ValueError(f"method: expected a solver such as Multigrid(), got {method!r}")
        self.method = method
        if every is not None and not self._is_stepped:
            raise ValueError("every: is for linear iterations, of this method it is a whole solve")
        default = method.check_every if isinstance(method, AbstractIteration) else 1
        self.every = as_count("every", default if every is None else every)
        self.rtol, self.atol, self.max_steps = stopping(rtol, atol, max_steps)
        self.check_every = as_count("check_every", check_every)

    @property
    def _is_stepped(self) -> bool:
        is_iteration = isinstance(self.method, AbstractIteration)
        return is_iteration and not isinstance(self.method, ConjugateGradient)

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
        u = pairs.add(carry.u, hold(e, self.max_steps))
        return _looked(setup, b, u)

    def _correction(self, setup: RefinedSetup, r: jax.Array) -> jax.Array:
        if self._is_stepped:
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
