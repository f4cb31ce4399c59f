"""Quadratures of the Ritz energy: a rule for each axis and their tensor products."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from solvers.grid import Grid

# Enough for about 1000, 4000 and 8000 points in 1-D, 2-D and 3-D with four points a panel.
DEFAULT_PANELS = (256, 16, 5)


class Quadrature:
    """A rule per axis; boxes take the tensor product, sides that of the remaining axes.

    Attributes:
        on_nodes: whether the points are the grid's nodes, where nodal arrays are known.
    """

    on_nodes = False

    @abstractmethod
    def rule(self, grid: Grid, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Points in [0, 1] along `axis`, shape (n,), and weights in the unit of the axis, (n,)."""

    def refined(self, grid: Grid) -> "Quadrature | None":
        """A finer rule, to check this one by or to go on with.

        None where there is none: data may be known at the nodes only, and the discrete energy is
        the very one that the solution on its grid minimises.
        """
        return None

    def volume(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Points of the unit cube, shape (N, ndim), and weights of the box, shape (N,)."""
        return product([self.rule(grid, axis) for axis in range(grid.ndim)])

    def side(self, grid: Grid, axis: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Likewise on the low (`end` 0) or high (1) side of `axis`."""
        rules = [self.rule(grid, d) for d in range(grid.ndim)]
        rules[axis] = (np.array([float(end)]), np.ones(1))
        return product(rules)


@dataclass(frozen=True)
class PaperSum(Quadrature):
    """The publication's sum, Σ (½|∇u|² − f u)(xⱼ) ∏h over all nodes, the end nodes in full.

    It takes nodal arrays too. Its error is O(h), from the end nodes: `GaussLegendre` is better.

    Reference: Xu, Zhang, Luo, Xiao, Ma 2019, arXiv 1901.06523, section 5.

    Example:
        >>> points, weights = PaperSum().volume(Grid(4, -1, 1))
        >>> print(points[:, 0], weights)
        [0.   0.25 0.5  0.75 1.  ] [0.5 0.5 0.5 0.5 0.5]
    """

    on_nodes = True

    def rule(self, grid: Grid, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """The nodes, each with weight h."""
        points = _unit_nodes(grid, axis)
        return points, np.full(points.size, grid.spacing[axis])


@dataclass(frozen=True)
class GaussLegendre(Quadrature):
    """Gauss–Legendre points on equal panels, exact for polynomials of degree 2·points − 1 a panel.

    The points never fall on a side, and f, a, c have to be numbers or callables.

    Args:
        panels: number of panels, one for all axes or one per axis. By default an axis has as many
            as the grid has intervals, but at most 256 in 1-D, 16 in 2-D and 5 in 3-D.
        points: in each panel and axis.

    Raises:
        ValueError: if a number is not a positive integer.

    Example:
        >>> points, weights = GaussLegendre(panels=1, points=2).volume(Grid(8))
        >>> print(weights @ points**3)
        [0.25]
    """

    panels: int | Sequence[int] | None = None
    points: int = 4

    def __post_init__(self) -> None:
        panels = () if self.panels is None else self.panels
        panels = panels if isinstance(panels, Sequence) else (panels,)
        for name, counts in (("panels", panels), ("points", (self.points,))):
            if not all(isinstance(n, int) and n >= 1 for n in counts):
                raise ValueError(f"{name}: expected positive integers, got {getattr(self, name)!r}")

    def rule(self, grid: Grid, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """The panels' points, low to high."""
        panels = self._panels(grid, axis)
        x, w = np.polynomial.legendre.leggauss(self.points)
        points = (np.arange(panels)[:, None] + (x + 1) / 2) / panels
        length = grid.upper[axis] - grid.lower[axis]
        return points.ravel(), np.tile(w / 2 / panels * length, panels)

    def refined(self, grid: Grid) -> "GaussLegendre":
        """Twice the panels on each axis, which share no point with these."""
        panels = tuple(2 * self._panels(grid, axis) for axis in range(grid.ndim))
        return replace(self, panels=panels)

    def _panels(self, grid: Grid, axis: int) -> int:
        if self.panels is None:
            return min(grid.intervals[axis], DEFAULT_PANELS[grid.ndim - 1])
        if not isinstance(self.panels, Sequence):
            return self.panels
        if len(self.panels) != grid.ndim:
            raise ValueError(f"panels: expected {grid.ndim} numbers, got {self.panels!r}")
        return self.panels[axis]


@dataclass(frozen=True)
class GridEnergy(Quadrature):
    """The discrete energy ∏h·(½uᵀAu − bᵀu), least at the grid's own solution.

    It needs no derivative of the network, and takes all that the problem takes: nodal arrays,
    jumps, fluxes. Between the nodes it sees nothing: on another grid the network may be worse. As a
    rule it is the trapezoidal one, which a penalty on the sides uses. A mesh of devices splits the
    grid's first axis.

    Example:
        >>> points, weights = GridEnergy().volume(Grid(4))
        >>> print(weights)
        [0.12 0.25 0.25 0.25 0.12]
    """

    on_nodes = True

    def rule(self, grid: Grid, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """The trapezoidal rule on the nodes."""
        points = _unit_nodes(grid, axis)
        weights = np.full(points.size, grid.spacing[axis])
        if not grid.is_periodic(axis):
            weights[[0, -1]] /= 2
        return points, weights


def node_points(grid: Grid) -> np.ndarray:
    """All nodes of `grid` in the unit cube, shape (N, ndim), the last axis fastest."""
    return product([(_unit_nodes(grid, d), np.ones(n)) for d, n in enumerate(grid.full_shape)])[0]


def product(rules: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Tensor product of rules: points (N, ndim) and weights (N,), the last axis fastest."""
    points = np.meshgrid(*(points for points, _ in rules), indexing="ij")
    weights = np.ones(())
    for _, along in rules:
        weights = np.multiply.outer(weights, along)
    return np.stack([x.ravel() for x in points], axis=1), weights.ravel()


def _unit_nodes(grid: Grid, axis: int) -> np.ndarray:
    return np.arange(grid.full_shape[axis]) / grid.intervals[axis]
