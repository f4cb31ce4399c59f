"""Where the domain ends within the box: a level set, and the grid lines that it cuts.

Reference: Gibou, Fedkiw, Cheng, Kang 2002, "A second-order-accurate symmetric discretization of the
Poisson equation on irregular domains", J. Comput. Phys. 176, 205–227, doi:10.1006/jcph.2001.6977.
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import checked, is_traced
from solvers.grid import Boundary, Grid

# Of a spacing: a node nearer to the interface counts as this far from it, so that its row is not
# beyond all others.
NEAREST = 0.01


class Crossing(NamedTuple):
    """Where lines from the unknowns to their neighbours along one axis, one way, are cut.

    Attributes:
        axis, end: of the neighbour, the low (0) or the high (1) one.
        share: θ, that of the spacing which lies within, in (0, 1]; shape `grid.shape`, as all.
        strength: a/(wᵢθhᵢ²), 0 where the line is whole.
    """

    axis: int
    end: int
    share: jax.Array
    strength: jax.Array


def level_on(grid: Grid, inside: Any) -> jax.Array | None:
    """φ on all nodes; None where none is given, or a known one is positive on all nodes.

    Raises:
        ValueError: unless it is finite and positive at some unknown.
    """
    if inside is None:
        return None
    level = checked_level("inside", sample_level(grid, "inside", inside))
    if is_traced(level):
        return level
    if not np.any(np.asarray(level)[grid.unknowns] > 0):
        raise ValueError("inside: expected positive values where the equation holds, got none")
    return None if np.all(np.asarray(level) > 0) else level


def sample_level(grid: Grid, name: str, given: Any) -> jax.Array:
    """A level set on all nodes; of a mask 1 where it holds and 0 elsewhere."""
    values = given(*grid.coordinates()) if callable(given) else given
    values = jnp.asarray(values, grid.dtype) if is_mask(values) else values
    return jnp.broadcast_to(grid.sample(name, values), grid.full_shape)


def checked_level(name: str, level: jax.Array) -> jax.Array:
    """Give φ, negative everywhere if it is traced and not finite: to comparisons NaN is outside.

    Raises:
        ValueError: if it is known and not finite.
    """
    level = checked(name, level, "finite values")
    return jnp.where(jnp.isnan(level).any(), -1, level) if is_traced(level) else level


def is_mask(values: Any) -> bool:
    """Whether values are conditions."""
    return isinstance(values, np.ndarray | jax.Array) and values.dtype == np.bool_


def crossings(
    grid: Grid, level: jax.Array, conductances: tuple[jax.Array, ...]
) -> Iterator[Crossing]:
    """All cuts; `conductances` a/hᵢ² are those of lines without any, per axis on its faces."""
    for axis, end in itertools.product(range(grid.ndim), (0, 1)):
        own, other = _both_ends(grid, axis, end, level)
        size = grid.shape[axis]
        along = [-1 if d == axis else 1 for d in range(grid.ndim)]
        wide = jnp.asarray(1 / grid.row_weights(axis).reshape(along), grid.dtype)
        a = jax.lax.slice_in_dim(conductances[axis], end, end + size, axis=axis)
        is_cut = (own > 0) & (other <= 0)
        share = jnp.where(is_cut, own / jnp.where(is_cut, own - other, 1), 1)
        share = jnp.maximum(share, NEAREST)
        yield Crossing(axis, end, share, jnp.where(is_cut, a * wide / share, 0))


def cut(grid: Grid, level: jax.Array, conductances: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Conductances of the operator on the domain: nothing joins it to nodes outside."""
    kept = []
    for axis, conductance in enumerate(conductances):
        before, after = _faces(grid, axis, level)
        kept.append(jnp.where((before > 0) & (after > 0), conductance, 0))
    return tuple(kept)


def interface_pull(grid: Grid, level: jax.Array, conductances: tuple[jax.Array, ...]) -> jax.Array:
    """Σ a/(wᵢθhᵢ²) over the cuts of each unknown."""
    strengths = (crossing.strength for crossing in crossings(grid, level, conductances))
    return sum(strengths, jnp.zeros(grid.shape, grid.dtype))


def interface_load(
    grid: Grid,
    level: jax.Array,
    conductances: tuple[jax.Array, ...],
    values: jax.Array,
    slopes: list[jax.Array] | None,
) -> jax.Array:
    """Σ a g/(wᵢθhᵢ²) over the cuts of each unknown, g at the interface.

    That is g at the neighbour outside and its slope from there: g may be made of pieces, each
    smooth around what it belongs to. Of an array the slope is not known.
    """
    load = jnp.zeros(grid.shape, grid.dtype)
    values = jnp.broadcast_to(values, grid.full_shape)
    for axis, end, share, strength in crossings(grid, level, conductances):
        _, there = _both_ends(grid, axis, end, values)
        if slopes is not None:
            back = (1 - share) * grid.spacing[axis] * (1 - 2 * end)
            there = there + back * _both_ends(grid, axis, end, slopes[axis])[1]
        load = load + jnp.where(strength > 0, strength * there, 0)
    return load


def slopes_of(grid: Grid, g: Any) -> list[jax.Array] | None:
    """The derivatives of g on all nodes along each axis; None unless it is a function."""
    if not callable(g):
        return None
    x = grid.coordinates()

    def along(axis: int) -> jax.Array:
        ways = tuple(jnp.ones_like(c) if d == axis else jnp.zeros_like(c) for d, c in enumerate(x))
        found = jax.jvp(lambda *x: jnp.asarray(g(*x), grid.dtype), x, ways)[1]
        return jnp.broadcast_to(found, grid.full_shape)

    try:
        return [along(axis) for axis in range(grid.ndim)]
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError(
            "boundary_values: with `inside`, expected a function in jax.numpy, of which slopes can "
            "be had, or an array"
        ) from error


def _faces(grid: Grid, axis: int, field: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A field on all nodes before and after each face along an axis, at the unknowns across."""
    u = field[grid.across(axis)]
    first, last = (jax.lax.slice_in_dim(u, j, j + 1, axis=axis) for j in (0, u.shape[axis] - 1))
    # The ring's seam is held twice; a closed face lies between a node and itself.
    if grid.is_periodic(axis):
        first, last = last, first
    low, high = (side is not Boundary.DIRICHLET for side in grid.boundary[axis])
    u = jnp.concatenate([*[first] * low, u, *[last] * high], axis)
    size = u.shape[axis]
    return (
        jax.lax.slice_in_dim(u, 0, size - 1, axis=axis),
        jax.lax.slice_in_dim(u, 1, size, axis=axis),
    )


def _both_ends(grid: Grid, axis: int, end: int, field: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A field at each unknown and at its low (0) or high (1) neighbour along an axis."""
    size = grid.shape[axis]
    pair = [jax.lax.slice_in_dim(u, end, end + size, axis=axis) for u in _faces(grid, axis, field)]
    return (pair[1], pair[0]) if end == 0 else (pair[0], pair[1])
