"""Grids of nodes on a box: what is known where, how far apart, and how to measure it."""

import enum
import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import as_floating, as_real, is_traced, per_axis
from solvers.placement import is_spread, spread


class Boundary(enum.Enum):
    """What holds on a side of the box."""

    DIRICHLET = "u given"
    NEUMANN = "a ∂u/∂n given"  # Robin: with an α, a ∂u/∂n + αu
    PERIODIC = "wraps around"

    def __repr__(self) -> str:
        return f"Boundary.{self.name}"


class Cells(eqx.Module):
    """Values of the cells between nodes, constant in each: materials, the voxels of an image.

    Cell j of an axis lies between its nodes j and j + 1, the last one of a periodic axis between
    its last node and its first.

    Args:
        values: shape `grid.intervals`; may be traced.

    Example:
        >>> from solvers import FastDiagonalization, Poisson, solve
        >>> two = jnp.array([1.0, 1, 3, 3])  # −(a u′)′ = 0: the slopes are as 3 to 1
        >>> problem = Poisson(Grid(4), 0.0, diffusion=Cells(two), boundary_values=lambda x: 4 * x)
        >>> print(solve(problem).field)
        [0.  1.5 3.  3.5 4. ]
    """

    values: Any


class Grid(eqx.Module):
    """Vertex-centred grid on the box ∏ [lowerᵢ, upperᵢ] in 1-D, 2-D or 3-D.

    An axis of n intervals has the nodes xⱼ = lower + j·h, j = 0…n, h = (upper − lower)/n; on a
    periodic axis the last node is the first one and is left out. The *unknowns* are the nodes where
    u is not given: n − 1 between two Dirichlet sides, n + 1 between two Neumann sides, n on a mixed
    or periodic axis.

    Args:
        intervals: number of intervals, one per axis; in 1-D a plain integer does.
        lower: lower corner of the box, one number for all axes or one per axis.
        upper: upper corner, likewise.
        boundary: one `Boundary` for all sides, or one entry per axis, each a `Boundary` or a
            (low, high) pair. In 1-D a pair is (low, high).
        dtype: precision of the coordinates, float32 or float64. The default is JAX's.

    Raises:
        ValueError: if an argument has the wrong length, sign or type, or an axis has no unknown.

    Example:
        >>> grid = Grid((4, 6), boundary=(Boundary.DIRICHLET, Boundary.PERIODIC))
        >>> grid.shape, grid.full_shape
        ((3, 6), (5, 6))
        >>> Grid(10, lower=-1, upper=1).spacing
        (0.2,)
    """

    intervals: tuple[int, ...] = eqx.field(static=True)
    lower: tuple[float, ...] = eqx.field(static=True)
    upper: tuple[float, ...] = eqx.field(static=True)
    boundary: tuple[tuple[Boundary, Boundary], ...] = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(
        self,
        intervals: int | Sequence[int],
        lower: float | Sequence[float] = 0.0,
        upper: float | Sequence[float] = 1.0,
        boundary: Any = Boundary.DIRICHLET,
        *,
        dtype: Any = None,
    ):
        self.intervals = _counts(intervals)
        counts = self.intervals
        self.lower = _corner("lower", lower, len(counts))
        self.upper = _corner("upper", upper, len(counts))
        if any(low >= high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"upper: expected more than lower = {self.lower}, got {self.upper}")
        self.boundary = _sides(boundary, len(counts))
        self.dtype = _precision(dtype)
        self._check_range()
        for axis, (n, sides) in enumerate(zip(self.intervals, self.boundary, strict=True)):
            least = 1 if Boundary.NEUMANN in sides else 2
            if n < least:
                raise ValueError(
                    f"intervals: axis {axis} needs at least {least} of them between the sides "
                    f"{sides}, got {n}"
                )

    def _check_range(self) -> None:
        """Refuse boxes of which 1/h², ∏h or the volume is no number."""
        low, high = (float(x) for x in (np.finfo(self.dtype).tiny, np.finfo(self.dtype).max))
        for h in self.spacing:
            if not low < h * h < high:
                raise ValueError(
                    f"upper: expected a spacing whose square is within {self.dtype}'s range, got "
                    f"{h:.3g}; take another unit of length"
                )
        box = self.cell_volume * math.prod(self.intervals)
        if not (low < self.cell_volume and box < high):
            raise ValueError(
                f"upper: expected a box and cells whose volume is within {self.dtype}'s range, got "
                f"spacings {self.spacing}; take another unit of length"
            )

    @property
    def ndim(self) -> int:
        """Number of axes, 1 to 3."""
        return len(self.intervals)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance h of neighbouring nodes, per axis."""
        box = zip(self.lower, self.upper, self.intervals, strict=True)
        return tuple((high - low) / n for low, high, n in box)

    @property
    def cell_volume(self) -> float:
        """∏ h, the volume that belongs to an inner node."""
        return math.prod(self.spacing)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of unknowns, per axis."""
        return tuple(stop - start for start, stop in map(self._range, range(self.ndim)))

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return math.prod(self.shape)

    @property
    def full_shape(self) -> tuple[int, ...]:
        """Number of nodes, those on the boundary too, per axis."""
        axes = range(self.ndim)
        return tuple(self.intervals[d] + (0 if self.is_periodic(d) else 1) for d in axes)

    @property
    def unknowns(self) -> tuple[slice, ...]:
        """Slices that pick the unknowns out of a field on all nodes."""
        return tuple(slice(*self._range(axis)) for axis in range(self.ndim))

    def across(self, axis: int) -> tuple[slice, ...]:
        """Index of all nodes along an axis, at the unknowns of the others, into `full_shape`."""
        return tuple(slice(None) if d == axis else s for d, s in enumerate(self.unknowns))

    def is_periodic(self, axis: int) -> bool:
        """Say whether `axis` wraps around."""
        return self.boundary[axis][0] is Boundary.PERIODIC

    @property
    def has_dirichlet_side(self) -> bool:
        """Whether u is given anywhere; without that, −∇·(a∇u) is singular."""
        return any(Boundary.DIRICHLET in sides for sides in self.boundary)

    def nodes(self, axis: int) -> np.ndarray:
        """Coordinates of all nodes along `axis`, shape `(full_shape[axis],)`, in float64."""
        steps = np.arange(self.full_shape[axis]) / self.intervals[axis]
        return self.lower[axis] * (1 - steps) + self.upper[axis] * steps

    def coordinates(self) -> tuple[jax.Array, ...]:
        """One array per axis with that coordinate of every node, each of shape `full_shape`.

        On a mesh of devices each works out its own part.
        """
        lines = np.meshgrid(*map(self.nodes, range(self.ndim)), indexing="ij", sparse=True)
        if is_spread():
            shape = self.full_shape
            return spread(tuple(jnp.broadcast_to(jnp.asarray(x, self.dtype), shape) for x in lines))
        return tuple(jnp.asarray(np.broadcast_to(x, self.full_shape), self.dtype) for x in lines)

    def side(self, axis: int) -> "Grid":
        """The grid of both sides of an axis: all other axes, for integrals over a side.

        Raises:
            ValueError: in 1-D, where a side is a point.
        """
        if self.ndim == 1:
            raise ValueError("axis: the sides of a line are points, which have no grid")
        lower, upper = without(self.lower, axis), without(self.upper, axis)
        sides = without(self.boundary, axis)
        return Grid(without(self.intervals, axis), lower, upper, sides, dtype=self.dtype)

    def row_weights(self, axis: int) -> np.ndarray:
        """Share of a cell that each unknown has along `axis`: ½ on a Neumann side, else 1."""
        weights = np.ones(self.shape[axis])
        low, high = self.boundary[axis]
        weights[0] *= 0.5 if low is Boundary.NEUMANN else 1.0
        weights[-1] *= 0.5 if high is Boundary.NEUMANN else 1.0
        return weights

    def norm(self, u: jax.Array) -> jax.Array:
        """√(∏h)·‖u‖₂, the discrete L² norm of values at nodes."""
        u = self.floating(u)
        return square_root(jnp.sum(u * u)) * jnp.asarray(math.sqrt(self.cell_volume), u.dtype)

    def integral(self, field: jax.Array) -> jax.Array:
        """∫ of a field on all nodes by the trapezoidal rule; shape `full_shape` to a scalar.

        That of a condition, such as x > y, is the volume where it holds.

        Raises:
            ValueError: for another shape.
        """
        field = self.floating(field)
        if field.shape != self.full_shape:
            raise ValueError(
                f"field: expected all nodes, shape {self.full_shape}, got {field.shape}"
            )
        return _integral(self, field)

    def without_integral(self, field: jax.Array) -> jax.Array:
        """Shift a field on all nodes to ∫ = 0."""
        field = self.floating(field)
        return field - self.integral(field) / self.integral(jnp.ones_like(field))

    def derivative(self, field: jax.Array, axis: int) -> jax.Array:
        """∂u/∂xᵢ on all nodes: central differences, on the boundary one-sided ones of 3 nodes."""
        h = self.spacing[axis]
        u = jnp.moveaxis(field, axis, 0)
        if self.is_periodic(axis):
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

    def floating(self, u: Any) -> jax.Array:
        """Integers and conditions in the grid's precision; what is real keeps its own."""
        return as_floating(u, self.dtype)

    def sample(self, name: str, value: Any) -> jax.Array:
        """Values on all nodes of a number, an array on all nodes, or a callable of the coordinates.

        Args:
            name: of the argument, for the message.
            value: number (returned as a scalar array), array of shape `full_shape`, `Cells`, whose
                mean around each node is taken, or callable, called once with `ndim` arrays of shape
                `full_shape`.

        Raises:
            ValueError: if the result is not a scalar or of shape `full_shape`, or is not real.
        """
        if isinstance(value, Cells):
            return self.around(self.cells(name, value), range(self.ndim))
        sampled = value(*self.coordinates()) if callable(value) else value
        return as_real(name, sampled, self.dtype, ((), self.full_shape))

    def cells(self, name: str, value: Cells) -> jax.Array:
        """Read the values of `Cells`, shape `intervals`.

        Raises:
            ValueError: if they have another shape or are not real.
        """
        return as_real(name, value.values, self.dtype, (self.intervals,))

    def around(self, values: jax.Array, axes: Iterable[int]) -> jax.Array:
        """Mean of the cells around each node along `axes`, of those in the box: n to all nodes."""
        for axis in axes:
            if self.is_periodic(axis):
                values = (values + jnp.roll(values, 1, axis)) / 2
                continue
            count = np.full(self.full_shape[axis], 2.0)
            count[[0, -1]] = 1
            before, after = (
                jnp.pad(values, [ends if d == axis else (0, 0) for d in range(self.ndim)])
                for ends in ((1, 0), (0, 1))
            )
            shape = [-1 if d == axis else 1 for d in range(self.ndim)]
            values = (before + after) / jnp.asarray(count.reshape(shape), self.dtype)
        return values

    def on_all_nodes(self, u: jax.Array, given: Any) -> jax.Array:
        """Values at the unknowns, with one number where u is given: `shape` to `full_shape`."""
        pairs = zip(self.unknowns, self.full_shape, strict=True)
        return jnp.pad(u, [(s.start, n - s.stop) for s, n in pairs], constant_values=given)

    def restrict(self, name: str, u: Any) -> jax.Array:
        """Read `u`, given at the unknowns or on all nodes, at the unknowns: shape `shape`.

        Raises:
            ValueError: naming `name`, if it has neither shape or is not real.
        """
        array = as_real(name, u, self.dtype, (self.shape, self.full_shape))
        return array if array.shape == self.shape else array[self.unknowns]

    def _range(self, axis: int) -> tuple[int, int]:
        low, high = self.boundary[axis]
        stop = self.intervals[axis] + (1 if high is Boundary.NEUMANN else 0)
        return (1 if low is Boundary.DIRICHLET else 0), stop


def square_root(square: jax.Array) -> jax.Array:
    """√, with slope 0 at 0."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


@jax.jit
def _integral(grid: Grid, field: jax.Array) -> jax.Array:
    for axis in reversed(range(grid.ndim)):
        weights = np.full(grid.full_shape[axis], grid.spacing[axis])
        if not grid.is_periodic(axis):
            weights[[0, -1]] *= 0.5
        # A product of matrices would be cut to 10 bits on a GPU.
        row = jnp.asarray(weights.reshape([1] * axis + [-1]), field.dtype)
        field = jnp.sum(field * row, axis)
    return field


def _counts(intervals: Any) -> tuple[int, ...]:
    counts = tuple(intervals) if isinstance(intervals, Iterable) else (intervals,)
    if not all(isinstance(n, Integral) and not isinstance(n, bool) for n in counts):
        raise ValueError(f"intervals: expected positive integers, got {intervals!r}")
    if not 1 <= len(counts) <= 3:
        raise ValueError(f"intervals: expected 1, 2 or 3 axes, got {intervals!r}")
    if min(counts) < 1:
        raise ValueError(f"intervals: expected positive integers, got {intervals!r}")
    return tuple(int(n) for n in counts)


def _precision(dtype: Any) -> np.dtype:
    if dtype is None:
        return np.dtype(jnp.result_type(float))
    try:
        precision = np.dtype(dtype)
    except TypeError as error:
        raise ValueError(f"dtype: expected float32 or float64, got {dtype!r}") from error
    if precision not in (np.dtype("float32"), np.dtype("float64")):
        raise ValueError(f"dtype: expected float32 or float64, got {precision}")
    if precision == np.dtype("float64") and not jax.config.read("jax_enable_x64"):
        raise ValueError('dtype: float64 needs jax.config.update("jax_enable_x64", True) first')
    return precision


def _corner(name: str, value: Any, ndim: int) -> tuple[float, ...]:
    if is_traced(value):
        raise ValueError(f"{name}: expected known numbers, got the traced {value}")
    corner = np.ravel(np.asarray(value, object))
    corner = np.repeat(corner, ndim) if np.ndim(value) == 0 else corner
    if len(corner) != ndim:
        raise ValueError(f"{name}: expected {ndim} numbers, got {value!r}")
    if not all(isinstance(x, Real) and math.isfinite(x) for x in corner):
        raise ValueError(f"{name}: expected finite numbers, got {value!r}")
    return tuple(float(x) for x in corner)


def _sides(boundary: Any, ndim: int) -> tuple[tuple[Boundary, Boundary], ...]:
    sides = []
    for axis, entry in enumerate(per_axis("boundary", boundary, ndim)):
        pair = (entry, entry) if isinstance(entry, Boundary) else entry
        if not (isinstance(pair, tuple) and all(isinstance(side, Boundary) for side in pair)):
            raise ValueError(
                f"boundary: expected members of Boundary, got {entry!r} on axis {axis}"
            )
        if len(pair) != 2 or (Boundary.PERIODIC in pair and pair[0] is not pair[1]):
            raise ValueError(f"boundary: axis {axis} has the impossible sides {pair!r}")
        sides.append(pair)
    return tuple(sides)


def without(items: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    """Leave out the entry of an axis."""
    return items[:axis] + items[axis + 1 :]
