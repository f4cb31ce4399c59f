"""What is given on the sides of a grid: of which, and its values there."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import as_real, checked, is_traced, per_axis
from solvers.grid import Boundary, Grid, without

# Per axis of the (low, high) side: a number, values at its nodes, or None where they are 0.
SideValues = tuple[tuple[jax.Array | None, jax.Array | None], ...]


def side_pairs(name: str, given: Any, grid: Grid) -> tuple[tuple[Any, Any], ...]:
    """Spread what is given on Neumann sides to a (low, high) pair per axis; None elsewhere.

    Args:
        name: of the argument, for errors.
        given: one value for all Neumann sides, or one or a (low, high) pair per axis, each a
            number, an array, a callable or None; in 1-D a pair is (low, high).
        grid: of which sides.

    Raises:
        ValueError: for a value on another side, and for pairs that are none.
    """
    pairs = []
    is_one = not isinstance(given, tuple | list)
    if is_one and is_given(given) and not any(Boundary.NEUMANN in pair for pair in grid.boundary):
        raise ValueError(f"{name}: given, but no side of the grid is Boundary.NEUMANN")
    for axis, entry in enumerate(per_axis(name, given, grid.ndim)):
        is_pair = isinstance(entry, tuple)
        if not (is_one or is_pair or Boundary.NEUMANN in grid.boundary[axis]) and is_given(entry):
            raise ValueError(f"{name}: given on axis {axis}, of which no side is Boundary.NEUMANN")
        pair = entry if is_pair else (entry, entry)
        if len(pair) != 2:
            raise ValueError(f"{name}: expected a (low, high) pair for axis {axis}, got {entry!r}")
        kept = []
        for end, value, side in zip(("low", "high"), pair, grid.boundary[axis], strict=True):
            is_neumann = side is Boundary.NEUMANN
            if is_pair and not is_neumann and is_given(value):
                raise ValueError(
                    f"{name}: given on the {end} side of axis {axis}, which is {side!r}"
                )
            kept.append((0.0 if value is None else value) if is_neumann else None)
        pairs.append(tuple(kept))
    return tuple(pairs)


def is_given(value: Any) -> bool:
    """Say whether boundary data are more than the default, 0."""
    return value is not None and (callable(value) or is_traced(value) or is_nonzero(value))


def is_nonzero(values: Any) -> bool:
    """Whether they are known and not all 0."""
    return not is_traced(values) and bool(np.asarray(values).any())


def read_sides(
    name: str, pairs: tuple[tuple[Any, Any], ...], grid: Grid, *, signed: bool = True
) -> SideValues:
    """Values at the nodes of the sides on which any are given; None where they are known to be 0.

    Raises:
        ValueError: for values of the wrong shape, or that are known and not finite, or negative
            where they are not `signed`.
    """

    def read(axis: int, end: int) -> jax.Array | None:
        given = pairs[axis][end]
        if not is_given(given):
            return None
        values = side_values(name, grid, axis, end, given, signed=signed)
        return values if is_given(values) else None

    return tuple((read(axis, 0), read(axis, 1)) for axis in range(grid.ndim))


def add_on_sides(grid: Grid, rows: jax.Array, values: SideValues) -> jax.Array:
    """Rows + Σ q/(wᵢhᵢ), of shape `grid.shape`, q the values on Neumann sides."""
    for axis, pair in enumerate(values):
        for end, q in enumerate(pair):
            if q is not None:
                share = 2 / grid.spacing[axis]  # 1/(wᵢhᵢ), wᵢ = ½
                whole = jnp.broadcast_to(q, without(grid.full_shape, axis))
                there = share * whole[without(grid.unknowns, axis)]
                rows = rows + on_side(there, axis, end, grid.shape[axis])
    return rows


def on_side(values: jax.Array, axis: int, side: int, size: int) -> jax.Array:
    """Put values at the low (0) or the high (1) end of `size` nodes along `axis`, else zeros.

    On a mesh a scatter into these nodes would change others: XLA moves it into the part of a device
    that has none of them.
    """
    widths = [(0, 0)] * (values.ndim + 1)
    widths[axis] = (0, size - 1) if side == 0 else (size - 1, 0)
    return jnp.pad(jnp.expand_dims(values, axis), widths)


def side_values(
    name: str, grid: Grid, axis: int, side: int, given: Any, *, signed: bool = True
) -> jax.Array:
    """What is given on one side, a number or of `grid.full_shape` without `axis`."""
    if callable(given):
        given = given(*_coordinates(grid, axis, side))
    shape = without(grid.full_shape, axis)
    values = as_real(name, given, grid.dtype, ((), shape))
    wanted = "finite values" if signed else "finite numbers that are not negative"
    wanted += f" on the {('low', 'high')[side]} side of axis {axis}"
    return checked(name, values, wanted, lambda x: (x < 0) & (not signed))


def _coordinates(grid: Grid, axis: int, side: int) -> list[jax.Array]:
    """Those of the nodes on a side."""
    lines = [grid.nodes(d) for d in range(grid.ndim)]
    lines[axis] = lines[axis][-side, None]
    nodes = np.meshgrid(*lines, indexing="ij")
    return [jnp.asarray(np.squeeze(x, axis), grid.dtype) for x in nodes]
