"""How a field becomes the start of a relaxation."""

from typing import Any

import equinox as eqx
import jax

from solvers.operators import EllipticOperator
from solvers.problems import Poisson
from solvers.relaxation.jacobi import Jacobi

SMOOTHING_SWEEPS = 2


def initial_guess(problem: Poisson, field: Any) -> jax.Array:
    """Take a field at the unknowns and smooth it by two half-damped Jacobi sweeps.

    Undamped Jacobi keeps the roughest modes as long as the smoothest, and rounding lives there: the
    exact solution in float32 would need millions of sweeps. Damped by ½ the mode at angle θ is
    multiplied by cos⁴(θ/2) in two sweeps: the roughest go, the smooth ones stay.

    Args:
        problem: what is to be solved.
        field: a guess at the unknowns or on all nodes.

    Returns:
        values at the unknowns, shape `grid.shape`.
    """
    return _smooth(problem.operator, problem.rhs, problem.grid.restrict("field", field))


@eqx.filter_jit
def _smooth(operator: EllipticOperator, b: jax.Array, u: jax.Array) -> jax.Array:
    method = Jacobi(0.5)
    setup = method.prepare(operator)
    carry = method.start(setup, b, u)
    for _ in range(SMOOTHING_SWEEPS):
        carry = method.step(setup, b, carry)
    return method.current(setup, carry)
