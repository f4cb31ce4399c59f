"""How far the discrete solution is from the continuous one, estimated from itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from solvers.grid import Grid
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
    Where an interface cuts a line at θh from its last node, τ = −(1 − θ)/2 a ∂²u/∂x² there. Slopes
    of a coefficient that varies are left out; other nodes count as 0 where δ⁴ would need values on
    or beyond a side, an interface or a surface. A solution that is rough makes it pessimistic.

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
    """τ on all unknowns."""
    total, cuts, is_inner = jnp.zeros_like(u), jnp.zeros_like(u), True
    for axis in range(operator.grid.ndim):
        low, high = operator.face_pair(axis)
        before2, before, own, after, after2 = _around(operator.grid, u, axis, (2, 2))
        difference = (before2 + after2) - 4 * (before + after) + 6 * own
        total = total + (low + high) * difference / 24
        low2, to_low, to_high, high2 = faces = _around(
            operator.grid, _open_faces(operator, axis), axis, (1, 2)
        )
        is_inner = functools.reduce(jnp.logical_and, faces, is_inner)
        if operator.reaction is not None and operator.conductances[axis].ndim > 0:
            c, is_end = operator.reaction, (to_high & high2 & ~to_low, low2 & to_low & ~to_high)
            cuts = cuts + _at_cut(c, is_end[0], high, own - 2 * after + after2)
            cuts = cuts + _at_cut(c, is_end[1], low, own - 2 * before + before2)
    return jnp.where(is_inner, total, 0) + cuts


def _at_cut(c: jax.Array, is_end: jax.Array, coupling: jax.Array, second: jax.Array) -> jax.Array:
    """τ where a line ends at an interface, of its second difference.

    The cut is in c as a/(θh²): c is larger there than the `coupling` of whole lines, a/h².
    """
    is_cut = is_end & (c >= coupling)
    share = coupling / jnp.where(is_cut, c, 1)
    return jnp.where(is_cut, -(1 - share) / 2 * coupling * second, 0)


def _open_faces(operator: EllipticOperator, axis: int) -> jax.Array:
    """Whether the face before each unknown along an axis joins it to another one."""
    grid, conductance = operator.grid, operator.conductances[axis]
    size = grid.shape[axis]
    is_open = np.ones(size, bool)
    is_open[0] = grid.is_periodic(axis)
    is_open = is_open.reshape([-1 if d == axis else 1 for d in range(grid.ndim)])
    if conductance.ndim == 0:
        return jnp.asarray(is_open)
    return jnp.asarray(is_open) & (jax.lax.slice_in_dim(conductance, 0, size, axis=axis) > 0)


def _around(grid: Grid, values: jax.Array, axis: int, reach: tuple[int, int]) -> list[jax.Array]:
    """Values from so many places before to so many after each along an axis; 0 beyond sides."""
    size, mode = values.shape[axis], "wrap" if grid.is_periodic(axis) else "constant"
    padded = jnp.pad(values, [reach if d == axis else (0, 0) for d in range(values.ndim)], mode)
    return [jax.lax.slice_in_dim(padded, k, k + size, axis=axis) for k in range(sum(reach) + 1)]
