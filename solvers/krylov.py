"""The conjugate gradient method, as a step of the one loop."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx

from solvers.arguments import as_count, expect
from solvers.iteration import (
    AbstractIteration,
    AbstractPreconditioner,
    Operator,
    stopping,
    without_mean,
)
from solvers.operators import EllipticOperator


class ConjugateGradientSetup(NamedTuple):
    operator: Operator
    preconditioner: Any


class ConjugateGradientCarry(NamedTuple):
    u: jax.Array
    r: jax.Array
    p: jax.Array
    rho: jax.Array


class ConjugateGradient(AbstractIteration):
    """Preconditioned conjugate gradients for symmetric positive (semi)definite operators.

        z = M⁻¹r,  ρ = rᵀz,  p ← z + (ρ/ρ₋)p,  α = ρ/pᵀAp,  u ← u + αp,  r ← r − αAp.

    Args:
        preconditioner: a method, of which `preconditioner_steps` fixed steps from zero are M⁻¹
            (`GaussSeidel`: each a sweep and its reverse), or `FastDiagonalization()`, the direct
            solver for the means of the coefficients; None for M = I.
        preconditioner_steps: how many.
        rtol, atol: stop when √(∏h)·‖b − A u‖₂ ≤ max(rtol·‖b‖, atol); the residual is the true one.
        max_steps: steps at most.
        check_every: steps between two looks at the residual; 1 by default with a preconditioner,
            10 without.

    Unlike `lx.CG` it tests the norm of the residual and not its components, and fails on NaN.

    Cost: one A, one M⁻¹, and about ten passes over memory a step; each check one more A.

    Reference: Saad 2003, Iterative Methods for Sparse Linear Systems, 2nd ed., algorithm 9.1.

    Example:
        >>> from solvers import Grid, Jacobi, Poisson, solve
        >>> problem = Poisson(Grid((32, 32)), source=1.0, diffusion=lambda x, y: 1 + 100 * x)
        >>> int(solve(problem, ConjugateGradient(preconditioner=Jacobi())).num_steps) < 100
        True
    """

    preconditioner: AbstractPreconditioner | None
    preconditioner_steps: int = eqx.field(static=True)
    rtol: jax.Array
    atol: jax.Array
    max_steps: jax.Array
    check_every: int = eqx.field(static=True)
    works_in_place: ClassVar[bool] = True

    def __init__(
        self,
        *,
        preconditioner: AbstractPreconditioner | None = None,
        preconditioner_steps: int = 1,
        rtol: Any = 1e-8,
        atol: Any = 0.0,
        max_steps: Any = 10_000,
        check_every: int | None = None,
    ):
        if isinstance(preconditioner, ConjugateGradient):
            raise ValueError("preconditioner: conjugate gradients are not linear, take another")
        kinds = AbstractPreconditioner | None
        expect("preconditioner", preconditioner, kinds, "a method of solvers")
        self.preconditioner = preconditioner
        self.preconditioner_steps = as_count("preconditioner_steps", preconditioner_steps)
        self.rtol, self.atol, self.max_steps = stopping(rtol, atol, max_steps)
        default = 10 if preconditioner is None else 1
        self.check_every = as_count("check_every", default if check_every is None else check_every)

    def prepare(self, operator: Operator) -> ConjugateGradientSetup:
        is_tagged = isinstance(operator, EllipticOperator) or lx.is_positive_semidefinite(
            operator.operator
        )
        if not is_tagged:
            raise ValueError(
                "operator: ConjugateGradient needs a symmetric positive semidefinite one; if yours "
                "is, give it lineax.positive_semidefinite_tag"
            )
        method = self.preconditioner
        setup = None if method is None else method.prepare(operator)
        return ConjugateGradientSetup(operator, setup)

    def start(
        self, setup: ConjugateGradientSetup, b: jax.Array, u: jax.Array
    ) -> ConjugateGradientCarry:
        r = b - setup.operator.mv(u)
        return ConjugateGradientCarry(u, r, jnp.zeros_like(r), jnp.zeros((), r.dtype))

    def step(
        self, setup: ConjugateGradientSetup, b: jax.Array, carry: ConjugateGradientCarry
    ) -> ConjugateGradientCarry:
        u, r, p, rho = carry
        z = self._solve_preconditioner(setup, r)
        rho, rho_before = jnp.sum(r * z), rho
        p = z + _ratio(rho, rho_before) * p
        q = setup.operator.mv(p)
        curvature = jnp.sum(p * q)
        # An operator or preconditioner that is not positive definite must not pass for converged.
        alpha = jnp.where((curvature < 0) | (rho < 0), jnp.nan, _ratio(rho, curvature))
        # A mean of rounding errors would stay in r for ever and soon be all of it.
        r = without_mean(setup.operator, r - alpha * q)
        return ConjugateGradientCarry(u + alpha * p, r, p, rho)

    def current(self, setup: ConjugateGradientSetup, carry: ConjugateGradientCarry) -> jax.Array:
        return carry.u

    def precondition(self, setup: ConjugateGradientSetup, r: jax.Array, steps: int) -> jax.Array:
        raise ValueError("method: conjugate gradients are not linear, take another preconditioner")

    def _solve_preconditioner(self, setup: ConjugateGradientSetup, r: jax.Array) -> jax.Array:
        if self.preconditioner is None:
            return r
        z = self.preconditioner.precondition(setup.preconditioner, r, self.preconditioner_steps)
        return without_mean(setup.operator, z)


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    """a/b, and 0 for b = 0: at the first step, and once the residual is exactly zero."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))
