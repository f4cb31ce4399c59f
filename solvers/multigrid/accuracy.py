"""How far the discrete solution is from the continuous one, estimated from itself."""

import jax
import jax.numpy as jnp
import numpy as np

from solvers.multigrid.blocks import Blocks, join, split
from solvers.multigrid.cycle import Plan, largest, run_cycle
from solvers.multigrid.hierarchy import Hierarchy
from solvers.operators import EllipticOperator


def discretization_error(
    operator: EllipticOperator, hierarchy: Hierarchy, plan: Plan, u: Blocks
) -> jax.Array:
    """Estimate max|u_h − u|, u the continuous solution.

    u_h − u solves A e = τ with the truncation error τ = Σᵢ (a/hᵢ²) δᵢ⁴u_h/12 to leading order, of
    which one cycle on the second finest level is enough. (The difference of full multigrid's own
    solutions on two levels is no measure: full weighting of the source, exact in 1-D, hides it.)
    Slopes of a coefficient that varies are left out; two rows of nodes at each side, where δ⁴
    would need values on the side, count as 0. A solution that is rough makes it pessimistic.

    Args:
        operator: A.
        hierarchy: of A.
        plan: of the cycle.
        u: u_h on parity blocks.

    Cost: a fourth difference and a cycle on a level of a 2ᵈ-th of the nodes.
    """
    rows = split(_truncation(operator, join(u)))
    if not hierarchy.levels:
        return largest(hierarchy.solve(rows))
    return largest(run_cycle(hierarchy, plan, hierarchy.transfers[0].restrict(rows), depth=1))


def _truncation(operator: EllipticOperator, u: jax.Array) -> jax.Array:
    """Σᵢ (a/hᵢ²) δᵢ⁴u/12 on all unknowns."""
    grid, total = operator.grid, jnp.zeros_like(u)
    for axis in range(grid.ndim):
        low, high = operator.face_pair(axis)
        total = total + (low + high) * _fourth_difference(u, axis, grid.is_periodic(axis)) / 24
    for axis, size in enumerate(grid.shape):
        if not grid.is_periodic(axis):
            j = np.arange(size)
            shape = [-1 if d == axis else 1 for d in range(grid.ndim)]
            inner = np.reshape((j >= 2) & (j < size - 2), shape)
            total = jnp.where(inner, total, 0)
    return total


def _fourth_difference(u: jax.Array, axis: int, wraps: bool) -> jax.Array:
    """u_{j−2} − 4u_{j−1} + 6u_j − 4u_{j+1} + u_{j+2}, wrong within two nodes of a side."""
    mode = "wrap" if wraps else "edge"
    padded = jnp.pad(u, [(2, 2) if d == axis else (0, 0) for d in range(u.ndim)], mode=mode)
    size = u.shape[axis]
    terms = [
        weight * jax.lax.slice_in_dim(padded, k, k + size, axis=axis)
        for k, weight in enumerate((1, -4, 6, -4, 1))
    ]
    return sum(terms[1:], terms[0])
