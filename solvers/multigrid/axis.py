"""One axis of a level: where its nodes are, and how the next coarser one follows from it."""

from typing import NamedTuple

import numpy as np

from solvers.grid import Boundary, Grid

# Nodes of a short window of Lagrange interpolation: cubic.
WINDOW = 4


class Axis(NamedTuple):
    """Unknowns along one axis, graded where the length does not halve evenly.

    Lengths are in units of the finest spacing. Every other node is kept from level to level. On an
    axis with a Dirichlet side the parity is counted from the other end, so that a short last
    interval lies at that side, where it only makes the diagonal larger. Between Neumann sides an
    even number of nodes loses one end: reflected, the grid goes on evenly beyond it. A periodic
    axis of odd length keeps its last and its first node, with a short interval between them.

    Attributes:
        positions: of the nodes, shape (n,), the lower end of the axis at 0.
        length: of the axis.
        sides: low and high.
    """

    positions: np.ndarray
    length: float
    sides: tuple[Boundary, Boundary]

    @property
    def size(self) -> int:
        """Number of nodes."""
        return len(self.positions)

    @property
    def is_periodic(self) -> bool:
        return self.sides[0] is Boundary.PERIODIC

    @property
    def has_seam(self) -> bool:
        """Whether the last and the first node are neighbours of equal parity."""
        return self.is_periodic and self.size % 2 == 1 and self.size > 1

    @property
    def can_coarsen(self) -> bool:
        """Whether a coarser axis has fewer nodes and still one."""
        return self.size > (2 if self.is_periodic else 1)

    @property
    def kept(self) -> int:
        """Parity of the nodes that the next coarser axis keeps."""
        low, high = self.sides
        odd_size = self.size % 2
        if self.is_periodic or (low is Boundary.NEUMANN and high is Boundary.DIRICHLET):
            return 0
        if low is Boundary.DIRICHLET:
            return 1 if high is Boundary.DIRICHLET else 1 - odd_size
        ends = self.positions[0], self.length - self.positions[-1]
        return 0 if odd_size or ends[0] >= ends[1] else 1

    def coarser(self) -> "Axis":
        """The axis of the kept nodes."""
        return self._replace(positions=self.positions[self.kept :: 2])

    def gaps(self) -> tuple[np.ndarray, np.ndarray]:
        """Distance to the neighbours below and above; at a Neumann side, to the side."""
        x = self.positions
        below, above = np.diff(x, prepend=0.0), np.diff(x, append=self.length)
        if self.is_periodic:
            below[0] = above[-1] = x[0] + self.length - x[-1]
        return below, above

    def weights(self) -> np.ndarray:
        """Length of the control volume of each node, half-way to its neighbours, up to a side."""
        below, above = self.gaps()
        shares = np.full((2, self.size), 0.5)
        shares[0, 0] = 1.0 if self.sides[0] is Boundary.NEUMANN else 0.5
        shares[1, -1] = 1.0 if self.sides[1] is Boundary.NEUMANN else 0.5
        return shares[0] * below + shares[1] * above

    def couplings(self) -> tuple[np.ndarray, np.ndarray]:
        """1/(w·d) towards the neighbours below and above, 0 across a Neumann side."""
        low, high = (1 / (self.weights() * np.where(gap > 0, gap, 1)) for gap in self.gaps())
        if self.sides[0] is Boundary.NEUMANN:
            low[0] = 0.0
        if self.sides[1] is Boundary.NEUMANN:
            high[-1] = 0.0
        return (0 * low, 0 * high) if self.is_periodic and self.size == 1 else (low, high)

    def linear(self) -> tuple[np.ndarray, np.ndarray]:
        """Shares that each dropped node takes from its kept neighbours below and above.

        A dropped end at a Neumann side takes the value of its only neighbour, which is its linear
        interpolation on the reflected grid.
        """
        below, above = (gap[1 - self.kept :: 2] for gap in self.gaps())
        low, high = above / (below + above), below / (below + above)
        if self.kept == 1 and self.sides[0] is Boundary.NEUMANN:
            low[0], high[0] = 0.0, 1.0
        if self.kept != (self.size - 1) % 2 and self.sides[1] is Boundary.NEUMANN:
            low[-1], high[-1] = 1.0, 0.0
        return low, high

    def cubic(self) -> dict[int, np.ndarray]:
        """Weights of the kept nodes J + offset in each dropped node, J its neighbour below.

        Lagrange interpolation in the nearest four kept nodes; at a side it extrapolates from
        within, since the values on the side are no unknowns. Shape (dropped nodes,) per offset.
        """
        kept, dropped = self.positions[self.kept :: 2], self.positions[1 - self.kept :: 2]
        count, dropped_count = len(kept), len(dropped)
        first = np.arange(dropped_count) - self.kept
        width = min(WINDOW, count)
        weights: dict[int, np.ndarray] = {}
        for j in range(dropped_count):
            start = int(first[j]) - 1
            if not self.is_periodic:
                start = min(max(start, 0), count - width)
            window = np.arange(start, start + width)
            nodes = kept[window % count] + self.length * (window // count)
            for k, node in enumerate(nodes):
                others = np.delete(nodes, k)
                weight = np.prod((dropped[j] - others) / (node - others))
                offset = int(window[k] - first[j])
                weights.setdefault(offset, np.zeros(dropped_count))[j] += weight
        return weights


def finest_axis(grid: Grid, axis: int) -> Axis:
    """The axis as the grid has it."""
    start = grid.unknowns[axis].start
    positions = np.arange(start, start + grid.shape[axis], dtype=float)
    return Axis(positions, float(grid.intervals[axis]), grid.boundary[axis])
