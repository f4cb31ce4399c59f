"""Derivatives and fluxes of a field on all nodes."""

import jax
import jax.numpy as jnp

from solvers.grid import Grid
from solvers.operators import EllipticOperator


def derivative(field: jax.Array, grid: Grid, axis: int) -> jax.Array:
    """∂u/∂xᵢ on all nodes: central differences, one-sided ones of three nodes on the boundary."""
    h = grid.spacing[axis]
    u = jnp.moveaxis(field, axis, 0)
    if grid.is_periodic(axis):
        slope = (jnp.roll(u, -1, 0) - jnp.roll(u, 1, 0)) / (2 * h)
    elif u.shape[0] == 2:
        slope = jnp.broadcast_to((u[1:] - u[:-1]) / h, u.shape)
    else:
        inner = (u[2:] - u[:-2]) / (2 * h)
        low = (-3 * u[:1] + 4 * u[1:2] - u[2:3]) / (2 * h)
        high = (3 * u[-1:] - 4 * u[-2:-1] + u[-3:-2]) / (2 * h)
        # A sum of padded slices, not one array of them, which a mesh would gather.
        rest, across = u.shape[0] - 1, [(0, 0)] * (u.ndim - 1)
        places = (low, (0, rest)), (inner, (1, 1)), (high, (rest, 0))
        slope = sum(jnp.pad(part, [place, *across]) for part, place in places)
    return jnp.moveaxis(slope, 0, axis)


def face_flux(operator: EllipticOperator, field: jax.Array, axis: int) -> jax.Array:
    """−a ∂u/∂xᵢ on the faces between nodes along an axis, as the scheme balances it."""
    grid = operator.grid
    across = tuple(slice(None) if d == axis else s for d, s in enumerate(grid.unknowns))
    u = field[across]
    if grid.is_periodic(axis):
        u = jnp.concatenate([u, jax.lax.slice_in_dim(u, 0, 1, axis=axis)], axis)
    conductance = operator.conductances[axis]
    if conductance.ndim > 0:
        # Periodic arrays hold the wrapping face twice; Neumann sides a closed one.
        first = 1 if grid.is_periodic(axis) or grid.unknowns[axis].start == 0 else 0
        conductance = jax.lax.slice_in_dim(
            conductance, first, first + grid.intervals[axis], axis=axis
        )
    return -conductance * grid.spacing[axis] * jnp.diff(u, axis=axis)
