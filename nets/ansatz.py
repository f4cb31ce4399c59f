"""The ansatz u = G + d·N at fixed points: how a network sees the box and its sides."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nets.boundaries import BoundaryTreatment, UnitFunction
from solvers.grid import Grid
from solvers.problems import Poisson

Network = Callable[[jax.Array], jax.Array]  # inputs, shape (N, inputs), to (N,)


class Ansatz(eqx.Module):
    """u = G + d·N at fixed points, all but N worked out in advance.

    A network sees each axis scaled to ξ ∈ [−1, 1], and a periodic axis of length L as sin and cos
    of 2πx/L, so that u is periodic exactly. N is the number of points.

    Attributes:
        inputs: ξ, shape (N, inputs).
        slopes: dξ/dx, shape (N, inputs).
        lift, factor: G and d, shape (N,).
        lift_gradient, factor_gradient: ∇G and ∇d, one array (N,) per axis; empty without gradients.
        axes: static; the axis that each input belongs to.
    """

    inputs: jax.Array
    slopes: jax.Array
    lift: jax.Array
    factor: jax.Array
    lift_gradient: tuple[jax.Array, ...]
    factor_gradient: tuple[jax.Array, ...]
    axes: tuple[int, ...] = eqx.field(static=True)

    def values(self, network: Network) -> jax.Array:
        """u, shape (N,)."""
        return self.lift + self.factor * network(self.inputs)

    def values_and_gradient(self, network: Network) -> tuple[jax.Array, list[jax.Array]]:
        """u, shape (N,), and ∂u/∂x per axis, each (N,).

        ∇N is the reverse mode of ΣN over the points, one sweep whatever the dimension.
        """
        n, pull = jax.vjp(network, self.inputs)
        (dn,) = pull(jnp.ones_like(n))
        dn = dn * self.slopes
        gradient = []
        for axis, (dg, dd) in enumerate(zip(self.lift_gradient, self.factor_gradient, strict=True)):
            own = [dn[:, i] for i, owner in enumerate(self.axes) if owner == axis]
            gradient.append(dg + dd * n + self.factor * sum(own[1:], own[0]))
        return self.lift + self.factor * n, gradient


def input_size(grid: Grid) -> int:
    """Count the inputs of a network on `grid`: one for each axis, two for a periodic one.

    Example:
        >>> from solvers.grid import Boundary
        >>> input_size(Grid((8, 8), boundary=(Boundary.PERIODIC, Boundary.NEUMANN)))
        3
    """
    return grid.ndim + sum(map(grid.is_periodic, range(grid.ndim)))


def ansatz_at(
    problem: Poisson,
    boundary: BoundaryTreatment,
    grid: Grid,
    points: np.ndarray,
    *,
    gradients: bool,
) -> Ansatz:
    """Work out the ansatz at points of the unit cube, (N, ndim), in the precision of `grid`."""
    axes, inputs, slopes = [], [], []
    for axis in range(grid.ndim):
        length = grid.upper[axis] - grid.lower[axis]
        t = points[:, axis]
        if problem.grid.is_periodic(axis):
            angle = 2 * np.pi * (t % 1.0)  # the two ends are one point
            rate = 2 * np.pi / length
            axes += [axis, axis]
            inputs += [np.sin(angle), np.cos(angle)]
            slopes += [rate * np.cos(angle), -rate * np.sin(angle)]
        else:
            axes.append(axis)
            inputs.append(2 * t - 1)
            slopes.append(np.full_like(t, 2 / length))
    t = tuple(jnp.asarray(x, grid.dtype) for x in points.T)
    lengths = tuple(np.subtract(grid.upper, grid.lower).tolist()) if gradients else ()
    lift, factor = _expand(boundary.lift(problem), boundary.factor(problem.grid), t, lengths)
    return Ansatz(
        inputs=jnp.asarray(np.stack(inputs, axis=1), grid.dtype),
        slopes=jnp.asarray(np.stack(slopes, axis=1), grid.dtype),
        lift=lift[0],
        factor=factor[0],
        lift_gradient=lift[1:],
        factor_gradient=factor[1:],
        axes=tuple(axes),
    )


def cast(tree: Any, dtype: Any) -> Any:
    """Round all floating-point leaves of `tree` to `dtype`, and its grids with them."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, Grid):
            return Grid(leaf.intervals, leaf.lower, leaf.upper, leaf.boundary, dtype=dtype)
        is_array = isinstance(leaf, jax.Array | np.ndarray)
        is_float = is_array and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, dtype) if is_float else leaf

    return jax.tree.map(convert, tree, is_leaf=lambda leaf: isinstance(leaf, Grid))


def _expand(
    lift: UnitFunction,
    factor: UnitFunction,
    t: tuple[jax.Array, ...],
    lengths: tuple[float, ...],
) -> list[tuple[jax.Array, ...]]:
    """Values of both functions and, where there are lengths, their derivatives along the axes."""

    def expand(*t: jax.Array) -> list[tuple[jax.Array, ...]]:
        expansions = []
        for function in (lift, factor):
            values = [function(*t)]
            for axis, length in enumerate(lengths):
                tangents = tuple(jnp.full_like(x, float(d == axis)) for d, x in enumerate(t))
                values.append(jax.jvp(function, t, tangents)[1] / length)
            expansions.append(tuple(x.astype(t[0].dtype) for x in values))
        return expansions

    try:
        return jax.jit(expand)(*t)
    except jax.errors.TracerArrayConversionError:  # boundary data that only NumPy can work out
        pass
    try:
        return expand(*t)
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError(
            "boundary_values: expected a callable written with jax.numpy, which can be "
            "differentiated; otherwise train with quadrature=GridEnergy()"
        ) from error
