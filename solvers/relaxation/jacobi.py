"""Jacobi relaxation."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from solvers.grid import as_count, as_number, is_traced
from solvers.iteration import AbstractIteration, Operator, fixed_steps, stopping


class JacobiSetup(NamedTuple):
    operator: Operator
    diagonal: jax.Array
    damping: jax.Array


class Jacobi(AbstractIteration):
    """Damped Jacobi relaxation, u ← u + ω D⁻¹(b − A u).

    With ω = 1 on n Dirichlet intervals in 1-D the mode sin(jkπ/n) is multiplied by cos(kπ/n) in
    each sweep: smooth (k near 1) and roughest modes (k near n) stay, the ones between go.

    Args:
        damping: ω in (0, 2). The default is 1, or 0.8 where undamped Jacobi has the eigenvalue −1
            and would not converge: operators without Dirichlet side or reaction of which the nodes
            can be coloured in two colours. There an explicit 1 is refused.
        rtol, atol: stop when √(∏h)·‖b − A u‖₂ ≤ max(rtol·‖b‖, atol).
        max_steps: sweeps at most.
        check_every: sweeps between two looks at the residual.

    Any lineax operator with a diagonal will do; convergence is sure for symmetric positive definite
    A with 2D/ω − A positive definite.

    Raises:
        ValueError: for a damping outside (0, 2), or 1 where that cannot converge.

    Cost: a sweep reads u and b (and varying coefficients) once and writes u once.

    Reference: Saad 2003, Iterative Methods for Sparse Linear Systems, 2nd ed., §4.1.

    Example:
        >>> from solvers import Grid, Poisson, solve
        >>> print(solve(Poisson(Grid(16), source=1.0), Jacobi(rtol=1e-6)).num_steps)
        800
    """

    damping: jax.Array | None
    rtol: jax.Array
    atol: jax.Array
    max_steps: jax.Array
    check_every: int = eqx.field(static=True)
    works_in_place: ClassVar[bool] = False
    # Inside lineax's jit the damping is a tracer, so that what is known of it is kept here.
    is_undamped: bool = eqx.field(static=True)

    def __init__(
        self,
        damping: Any = None,
        *,
        rtol: Any = 1e-8,
        atol: Any = 0.0,
        max_steps: Any = 100_000,
        check_every: int = 100,
    ):
        self.damping, self.is_undamped = None, False
        if damping is not None:
            wanted = "a number between 0 and 2"
            omega = as_number("damping", damping, lambda x: (x <= 0) | (x >= 2), wanted)
            self.damping, self.is_undamped = omega, not is_traced(omega) and float(omega) == 1
        self.rtol, self.atol, self.max_steps = stopping(rtol, atol, max_steps)
        self.check_every = as_count("check_every", check_every)

    def prepare(self, operator: Operator) -> JacobiSetup:
        alternates = operator.is_singular and operator.is_bipartite
        if alternates and self.is_undamped:
            raise ValueError(
                "damping: 1 does not converge here, undamped Jacobi has the eigenvalue −1 (no "
                "Dirichlet side, no reaction); leave it out for 0.8"
            )
        default = 0.8 if alternates else 1.0
        diagonal = operator.diagonal()
        damping = default if self.damping is None else self.damping
        return JacobiSetup(operator, diagonal, jnp.asarray(damping).astype(diagonal.dtype))

    def start(self, setup: JacobiSetup, b: jax.Array, u: jax.Array) -> jax.Array:
        return u

    def step(self, setup: JacobiSetup, b: jax.Array, carry: jax.Array) -> jax.Array:
        operator, diagonal, damping = setup
        return carry + (damping / diagonal) * (b - operator.mv(carry))

    def current(self, setup: JacobiSetup, carry: jax.Array) -> jax.Array:
        return carry

    def precondition(self, setup: JacobiSetup, r: jax.Array, steps: int) -> jax.Array:
        return fixed_steps(self, setup, r, steps)
