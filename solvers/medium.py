"""A medium that fills part of the box: its share of each node's cell and of each face.

Reference: Purvis, Burkhalter 1979, "Prediction of critical Mach number for store configurations",
AIAA J. 17, 1170–1177, doi:10.2514/3.7617; Papac, Gibou, Ratsch 2010, "Efficient symmetric
discretization for the Poisson, heat and Stefan-type problems with Robin boundary conditions", J.
Comput. Phys. 229, 875–889, doi:10.1016/j.jcp.2009.10.017.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import checked, is_traced
from solvers.grid import Cells, Grid, square_root
from solvers.interface import checked_level, is_mask, sample_level

# Shares of a face below this are none, so that no row is made of rounding errors.
SLIVER = 1e-6


class Medium(NamedTuple):
    """What a medium fills of the cells of nodes, which end half-way to the next and at the box.

    Attributes:
        volume: V, its share of each node's cell, shape `grid.full_shape`; 0 where nothing joins a
            node to others.
        faces: its shares of the faces half-way between nodes, per axis: `grid.intervals` along the
            axis, all nodes across.
        sides: its shares of the low and the high side of the box, per axis; they wrap if periodic.
        area: S, its surface in a node's cell, over the volume of that cell.
        distance: d, how far beyond a node the surface lies along the normal, where S > 0.
        normal: n, outward, per axis.
    """

    volume: jax.Array
    faces: tuple[jax.Array, ...]
    sides: tuple[tuple[jax.Array, jax.Array], ...]
    area: jax.Array
    distance: jax.Array
    normal: tuple[jax.Array, ...]


def medium_on(grid: Grid, given: Any) -> Medium | None:
    """Read ψ, a level set, a mask of nodes or `Cells`; None where it is positive on all of them.

    Raises:
        ValueError: unless it is finite, and positive somewhere.
    """
    if given is None:
        return None
    if isinstance(given, Cells):
        values = jnp.asarray(given.values, grid.dtype) if is_mask(given.values) else given.values
        level, read = grid.cells("medium", Cells(values)), _of_cells
    else:
        values = given(*grid.coordinates()) if callable(given) else given
        level = sample_level(grid, "medium", values)
        read = _of_nodes if is_mask(values) else _of_level
    level = checked_level("medium", level)
    if not is_traced(level) and np.all(np.asarray(level) > 0):
        return None
    medium = read(grid, level)
    volume = medium.volume
    if not is_traced(volume) and not np.any(np.asarray(volume)[grid.unknowns] > 0):
        raise ValueError("medium: expected positive values where the equation holds, got none")
    return medium


def on_surface(
    grid: Grid, medium: Medium, a: tuple[jax.Array, ...], flux: Any, robin: Any
) -> tuple[jax.Array, jax.Array]:
    """What the surface adds to source and reaction, S q/(1 + αd/a) and S α/(1 + αd/a).

    That is q − αu on the surface, u there being that of the node and d times its slope; a is given
    for each axis. Shape `grid.full_shape`.

    Raises:
        ValueError: for values that are not finite on the surface, or a negative α.
    """
    q = _values("surface_flux", grid, medium, flux, signed=True)
    rate = _values("surface_robin", grid, medium, robin, signed=False)
    return _through_surface(medium, a, q, rate)


@jax.jit
def _through_surface(
    medium: Medium, a: tuple[jax.Array, ...], q: jax.Array, rate: jax.Array
) -> tuple[jax.Array, jax.Array]:
    along = sum(x * n**2 for x, n in zip(a, medium.normal, strict=True))
    # Of a node beyond the surface 1 + αd/a comes near 0 where α is large for the grid.
    share = medium.area / jnp.maximum(1 + rate * _ratio(medium.distance, along), 0.5)
    return share * q, share * rate


@jax.jit
def continued(grid: Grid, field: jax.Array, filled: jax.Array) -> jax.Array:
    """A field on all nodes, continued linearly along the axes to two nodes beyond those filled.

    Args:
        filled: at the unknowns; all other nodes are.
    """
    is_known = grid.on_all_nodes(filled, True)
    for _ in range(2):
        guesses = {1: [], 2: []}  # by how many nodes in line are known
        for axis, way in itertools.product(range(grid.ndim), (-1, 1)):
            near, far = (
                [_shifted(grid, x, axis, way * step) for x in (field, is_known)] for step in (1, 2)
            )
            guesses[1].append((near[0], near[1]))
            guesses[2].append((2 * near[0] - far[0], near[1] & far[1]))
        constant, linear = (_mean(guesses[count]) for count in (1, 2))
        best = jnp.where(linear[1], linear[0], constant[0])
        field, is_known = jnp.where(is_known, field, best), is_known | constant[1]
    return field


def _mean(guesses: list[tuple[jax.Array, jax.Array]]) -> tuple[jax.Array, jax.Array]:
    """Of values where they are there, and where any is."""
    total = sum(jnp.where(there, value, 0) for value, there in guesses)
    count = sum(there.astype(value.dtype) for value, there in guesses)
    return _ratio(jnp.asarray(total), count), jnp.asarray(count) > 0


def _shifted(grid: Grid, values: jax.Array, axis: int, step: int) -> jax.Array:
    """Each node's neighbour `step` nodes further along an axis; 0 or False beyond the sides."""
    if grid.is_periodic(axis):
        return jnp.roll(values, -step, axis)
    widths = [(max(-step, 0), max(step, 0)) if d == axis else (0, 0) for d in range(grid.ndim)]
    start, size = max(step, 0), values.shape[axis]
    return jax.lax.slice_in_dim(jnp.pad(values, widths), start, start + size, axis=axis)


def _values(name: str, grid: Grid, medium: Medium, given: Any, *, signed: bool) -> jax.Array:
    """What is given on the surface, at the point of it next to each node."""
    if callable(given):
        given = given(*_nearest(medium, grid.coordinates()))
    values = grid.sample(name, given)
    values = values if values.ndim == 0 else where_positive(medium.area, values)
    wanted = "finite values" if signed else "finite numbers that are not negative"
    return checked(name, values, f"{wanted} on the surface", lambda x: (x < 0) & (not signed))


@jax.jit
def _nearest(medium: Medium, x: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Points of the surface, for each node one."""
    return tuple(c + medium.distance * n for c, n in zip(x, medium.normal, strict=True))


@jax.jit
def where_positive(weights: jax.Array, values: jax.Array) -> jax.Array:
    """Values where the weights are positive, elsewhere 0."""
    return jnp.where(weights > 0, values, 0)


@jax.jit
def _of_cells(grid: Grid, level: jax.Array) -> Medium:
    """Of cells that are full or empty, with their surfaces on grid lines."""
    full = (level > 0).astype(grid.dtype)
    faces, sides, area = [], [], jnp.zeros(grid.full_shape, grid.dtype)
    for axis in range(grid.ndim):
        others = [d for d in range(grid.ndim) if d != axis]
        faces.append(grid.around(full, others))
        n = grid.intervals[axis]
        low, high = (jax.lax.slice_in_dim(full, j, j + 1, axis=axis) for j in (0, n - 1))
        sides.append(tuple(grid.around(end, others) for end in (low, high)))
        before, after = _around_nodes(grid, axis, full, (low, high))
        area = area + grid.around(jnp.abs(after - before), others) / grid.spacing[axis]
    volume = grid.around(full, range(grid.ndim))
    return _trimmed(grid, _staircase(volume, faces, sides, area))


def _staircase(volume: jax.Array, faces: list[Any], sides: list[Any], area: jax.Array) -> Medium:
    nothing = jnp.zeros_like(volume)
    normal = (nothing,) * volume.ndim
    return Medium(volume, tuple(faces), tuple(sides), area, nothing, normal)


@jax.jit
def _of_nodes(grid: Grid, level: jax.Array) -> Medium:
    """Of nodes whose cells are full or empty, with surfaces between them."""
    full = (level > 0).astype(grid.dtype)
    faces, sides, area = [], [], jnp.zeros_like(full)
    for axis in range(grid.ndim):
        ring = full
        if grid.is_periodic(axis):
            ring = jnp.concatenate([full, jax.lax.slice_in_dim(full, 0, 1, axis=axis)], axis)
        n = grid.intervals[axis]
        first, second = (jax.lax.slice_in_dim(ring, j, j + n, axis=axis) for j in (0, 1))
        faces.append(first * second)
        sides.append(tuple(jax.lax.slice_in_dim(ring, j, j + 1, axis=axis) for j in (0, n)))
        before, after = _around_nodes(grid, axis, faces[axis], sides[axis])
        area = area + (2 * full - before - after) / _widths(grid, axis)
    return _trimmed(grid, _staircase(full, faces, sides, area))


@jax.jit
def _of_level(grid: Grid, level: jax.Array) -> Medium:
    """By linear interpolation in simplices of the nodes' cells."""
    corners = level
    for axis in range(grid.ndim):
        corners = _half_way(grid, axis, corners)
    faces, sides, missing = [], [], []
    for axis in range(grid.ndim):
        others, n = [d for d in range(grid.ndim) if d != axis], corners.shape[axis]
        shares = _shares(corners, others)
        between = 1 + grid.intervals[axis]  # a ring's seam is first and last
        faces.append(jax.lax.slice_in_dim(shares, 1, between, axis=axis))
        sides.append(tuple(jax.lax.slice_in_dim(shares, j, j + 1, axis=axis) for j in (0, n - 1)))
        before, after = (jax.lax.slice_in_dim(shares, j, n - 1 + j, axis=axis) for j in (0, 1))
        # ∮n = 0 of a closed surface, so that the other faces of a cell tell that in it.
        missing.append((before - after) / _widths(grid, axis))
    slopes = [-grid.derivative(level, axis) for axis in range(grid.ndim)]
    steepness = _length(slopes)
    normal = tuple(_ratio(slope, steepness) for slope in slopes)
    reach = sum(jnp.abs(n) * h / 2 for n, h in zip(normal, grid.spacing, strict=True))
    distance = jnp.clip(_ratio(level, steepness), -reach, reach)
    volume = _shares(corners, list(range(grid.ndim)))
    found = Medium(volume, tuple(faces), tuple(sides), _length(missing), distance, normal)
    return _trimmed(grid, found)


def _trimmed(grid: Grid, medium: Medium) -> Medium:
    """The same without what nothing joins to the rest; sides as arrays without their axis."""
    faces = tuple(jnp.where(share < SLIVER, 0, share) for share in medium.faces)
    is_joined = jnp.zeros(grid.full_shape, bool)
    for axis, share in enumerate(faces):
        nothing = jnp.zeros_like(jax.lax.slice_in_dim(share, 0, 1, axis=axis))
        before, after = _around_nodes(grid, axis, share, (nothing, nothing))
        is_joined = is_joined | (before > 0) | (after > 0)
    volume, area = (jnp.where(is_joined, x, 0) for x in (medium.volume, medium.area))
    distance = jnp.where(area > 0, medium.distance, 0)
    sides = []
    for axis, ends in enumerate(medium.sides):
        joined = (jax.lax.index_in_dim(volume, -end, axis) > 0 for end in (0, 1))
        pair = (jnp.where(x, end, 0) for x, end in zip(joined, ends, strict=True))
        sides.append(tuple(jnp.squeeze(end, axis) for end in pair))
    return Medium(volume, faces, tuple(sides), area, distance, medium.normal)


def _around_nodes(
    grid: Grid, axis: int, faces: jax.Array, ends: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """What lies before and after each node along an axis, with `ends` at the sides of the box."""
    if grid.is_periodic(axis):
        return jnp.roll(faces, 1, axis), faces
    low, high = ends
    return jnp.concatenate([low, faces], axis), jnp.concatenate([faces, high], axis)


def _widths(grid: Grid, axis: int) -> jax.Array:
    """Of the nodes' cells along an axis."""
    h = np.full(grid.full_shape[axis], grid.spacing[axis])
    if not grid.is_periodic(axis):
        h[[0, -1]] /= 2
    return jnp.asarray(h.reshape([-1 if d == axis else 1 for d in range(grid.ndim)]), grid.dtype)


def _half_way(grid: Grid, axis: int, values: jax.Array) -> jax.Array:
    """ψ where nodes' cells end along an axis: half-way to the next nodes and at the box."""
    size = grid.full_shape[axis]
    low, high = (jax.lax.slice_in_dim(values, j, j + 1, axis=axis) for j in (0, size - 1))
    if grid.is_periodic(axis):
        low, high = high, low
    before = jnp.concatenate([low, values], axis)
    return (before + jnp.concatenate([values, high], axis)) / 2


def _shares(corners: jax.Array, axes: list[int]) -> jax.Array:
    """The share of {ψ > 0} in cells along `axes`, of ψ at their corners.

    Cells fall into simplices, of which the edges go along the axes in any order.
    """
    total, orders = 0.0, list(itertools.permutations(axes))
    for order in orders:
        path = [_corner(corners, axes, order[:k]) for k in range(len(axes) + 1)]
        total = total + _share_of_simplex(path)
    return jnp.asarray(total) / len(orders)


def _corner(corners: jax.Array, axes: list[int], far: Sequence[int]) -> jax.Array:
    """At one corner of each cell, the far one along the axes in `far`."""
    for axis in axes:
        start, n = int(axis in far), corners.shape[axis] - 1
        corners = jax.lax.slice_in_dim(corners, start, start + n, axis=axis)
    return corners


def _share_of_simplex(corners: list[jax.Array]) -> jax.Array:
    """The share of a simplex where a linear function is positive.

    That is the divided difference of x₊ᵏ at its k + 1 values, φ₀ ≥ φ₁ ≥ … ≥ φ_k, which follows from
    those of all but the last and all but the first of them:

        F(i…j) = t F(i…j−1) + (1 − t) F(i+1…j),   t = φᵢ₊/(φᵢ₊ + (−φⱼ)₊).
    """
    values = list(corners)
    for i, j in itertools.combinations(range(len(values)), 2):
        values[i], values[j] = jnp.maximum(values[i], values[j]), jnp.minimum(values[i], values[j])
    shares = [(x > 0).astype(x.dtype) for x in values]
    for length in range(1, len(values)):
        above = [jnp.maximum(x, 0) for x in values[: len(values) - length]]
        below = [jnp.maximum(-x, 0) for x in values[length:]]
        t = [_ratio(high, high + low) for high, low in zip(above, below, strict=True)]
        shares = [w * x + (1 - w) * y for w, x, y in zip(t, shares[:-1], shares[1:], strict=True)]
    return shares[0]


def _length(vector: Sequence[jax.Array]) -> jax.Array:
    """√Σ x², with slope 0 at 0."""
    return square_root(jnp.asarray(sum(x**2 for x in vector)))


def _ratio(x: jax.Array, y: Any) -> jax.Array:
    """x/y, 0 where y is."""
    return jnp.where(y > 0, x / jnp.where(y > 0, y, 1), 0)
