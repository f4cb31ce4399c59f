"""How a network meets Dirichlet data: built into the ansatz u = G + d·N, or by a penalty."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from solvers.grid import Boundary, Cells, Grid
from solvers.problems import Poisson

# A function of the unit cube: one array of coordinates in [0, 1] per axis, all of one shape.
UnitFunction = Callable[..., jax.Array]


@runtime_checkable
class BoundaryTreatment(Protocol):
    """The ansatz u = G + d·N, and what its Dirichlet sides add to the energy.

    Attributes:
        strength: β of the penalty β∫(u − g)² on Dirichlet sides; 0 adds none.
    """

    @property
    def strength(self) -> float: ...

    def lift(self, problem: Poisson) -> UnitFunction:
        """G, in the grid's precision."""
        ...

    def factor(self, grid: Grid) -> UnitFunction:
        """d, in the grid's precision."""
        ...


@dataclass(frozen=True)
class HardBoundary:
    """Dirichlet data built in: u = G(x) + d(x)·N(x), where G = g and d = 0 on Dirichlet sides.

    d is a product over the axes: with t running over [0, 1], 4t(1 − t) between two Dirichlet sides,
    t or 1 − t with one, 1 without. G interpolates g from the Dirichlet sides (transfinite
    interpolation), with Pᵢ linear in tᵢ between the sides of axis i, or constant from a single one:

        G = P₁g + P₂(g − P₁g) + P₃(g − P₁g − P₂(g − P₁g)).

    So g need only make sense on the sides, and u meets it to rounding, at edges and corners too.
    Nodal g is taken as linear between the nodes of a side. Neumann sides are free, their condition
    being natural.

    Reference: Gordon, Hall 1973, Numer. Math. 21, 109 (G); Lagaris, Likas, Fotiadis 1998,
    IEEE Trans. Neural Netw. 9, 987 (the ansatz).

    Example:
        >>> problem = Poisson(Grid(4), source=0.0, boundary_values=lambda x: 2 + x)
        >>> t = jnp.linspace(0.0, 1.0, 3)
        >>> print(HardBoundary().lift(problem)(t), HardBoundary().factor(problem.grid)(t))
        [2.  2.5 3. ] [0. 1. 0.]
    """

    @property
    def strength(self) -> float:
        """0: there is nothing to penalise."""
        return 0.0

    def lift(self, problem: Poisson) -> UnitFunction:
        """G."""
        g, grid = problem.boundary_values, problem.grid
        if not isinstance(g, Callable) and not is_array(g):
            number = g if grid.has_dirichlet_side else 0.0
            return lambda *t: jnp.full_like(t[0], number)
        lift: UnitFunction = lambda *t: jnp.zeros_like(t[0])  # noqa: E731
        for axis in range(grid.ndim):
            if Boundary.DIRICHLET in grid.boundary[axis]:
                lift = _correct(lift, boundary_function(problem), grid, axis)
        return lift

    def factor(self, grid: Grid) -> UnitFunction:
        """d."""

        def factor(*t: jax.Array) -> jax.Array:
            d = jnp.ones_like(t[0])
            for x, (low, high) in zip(t, grid.boundary, strict=True):
                if low is Boundary.DIRICHLET:
                    d = d * x
                if high is Boundary.DIRICHLET:
                    d = d * (1 - x)
                if low is high is Boundary.DIRICHLET:
                    d = 4 * d
            return d

        return factor


@dataclass(frozen=True)
class PenaltyBoundary:
    """Dirichlet data by the penalty β∫(u − g)² over Dirichlet sides, in 1-D the two ends.

    The minimiser misses g by about |a ∂u/∂n|/(2β): the smaller the bias, the stiffer the training.

    Args:
        strength: β. The publication has 10.

    Raises:
        ValueError: if β is not positive.

    Reference: Xu, Zhang, Luo, Xiao, Ma 2019, arXiv 1901.06523, section 5.

    Example:
        >>> PenaltyBoundary().strength
        10.0
    """

    strength: float = 10.0

    def __post_init__(self) -> None:
        beta = self.strength
        if not isinstance(beta, Real) or not math.isfinite(beta) or beta <= 0:
            raise ValueError(f"strength: expected a positive number, got {beta!r}")

    def lift(self, problem: Poisson) -> UnitFunction:
        """0."""
        return lambda *t: jnp.zeros_like(t[0])

    def factor(self, grid: Grid) -> UnitFunction:
        """1."""
        return lambda *t: jnp.ones_like(t[0])


def boundary_function(problem: Poisson) -> UnitFunction:
    """g as a function of the unit cube, which makes sense on Dirichlet sides only."""
    g, grid = problem.boundary_values, problem.grid
    if isinstance(g, Callable):
        return lambda *t: jnp.broadcast_to(jnp.asarray(g(*locate(grid, t))), t[0].shape)
    if not is_array(g):
        return lambda *t: jnp.full_like(t[0], g)
    closed = [(0, int(grid.is_periodic(axis))) for axis in range(grid.ndim)]
    nodal = jnp.pad(problem.boundary_field, closed, mode="wrap")

    def interpolate(*t: jax.Array) -> jax.Array:
        places = [x * n for x, n in zip(t, grid.intervals, strict=True)]
        return map_coordinates(nodal, places, order=1, mode="nearest")

    return interpolate


def is_array(value: Any) -> bool:
    """Whether data are known on a grid only, of its nodes or its cells."""
    return isinstance(value, Cells) or (not isinstance(value, Callable) and np.ndim(value) > 0)


def locate(grid: Grid, t: tuple[Any, ...]) -> tuple[Any, ...]:
    """Coordinates of the box at unit coordinates `t`; both corners are hit exactly."""
    box = zip(t, grid.lower, grid.upper, strict=True)
    return tuple(low * (1 - x) + high * x for x, low, high in box)


def _correct(lift: UnitFunction, g: UnitFunction, grid: Grid, axis: int) -> UnitFunction:
    """G + Pᵢ(g − G): make G right on the Dirichlet sides of `axis` too."""
    low, high = (side is Boundary.DIRICHLET for side in grid.boundary[axis])

    def corrected(*t: jax.Array) -> jax.Array:
        def miss(end: float) -> jax.Array:
            on_side = (*t[:axis], jnp.full_like(t[axis], end), *t[axis + 1 :])
            return g(*on_side) - lift(*on_side)

        if low and high:
            return lift(*t) + ((1 - t[axis]) * miss(0.0) + t[axis] * miss(1.0))
        return lift(*t) + miss(0.0 if low else 1.0)

    return corrected
