"""What the solver tests share: sides, dense matrices built by hand, manufactured solutions."""

import itertools
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from solvers import Boundary, Grid, Poisson

D, N, P = Boundary.DIRICHLET, Boundary.NEUMANN, Boundary.PERIODIC
PAIRS = {"DD": (D, D), "DN": (D, N), "ND": (N, D), "NN": (N, N), "PP": (P, P)}


def sides(names: str) -> tuple[tuple[Boundary, Boundary], ...]:
    """Read the (low, high) sides of each axis from a name such as 'DN-PP'."""
    return tuple(PAIRS[name] for name in names.split("-"))


@dataclass(frozen=True)
class Dense:
    """A u = b assembled node by node: balance of fluxes over the control volume of each unknown.

    a: per axis the nodal values, or one number. c, f, g: nodal values. q[axis][side], alpha: values
    on the nodes of that side (full shape without the axis), used on Neumann sides only.
    """

    A: np.ndarray
    b: np.ndarray

    @classmethod
    def assemble(
        cls,
        grid: Grid,
        a: Any,
        c: Any = 0.0,
        f: Any = 0.0,
        g: Any = 0.0,
        q: Any = None,
        alpha: Any = None,
    ) -> "Dense":
        full = grid.full_shape
        a = [np.broadcast_to(values, full) for values in a]
        c, f, g = (np.broadcast_to(values, full) for values in (c, f, g))
        unknowns = [index for index in np.ndindex(*full) if is_unknown(grid, index)]
        place = {index: i for i, index in enumerate(unknowns)}
        A, b = np.zeros((len(unknowns),) * 2), np.zeros(len(unknowns))
        for row, node in enumerate(unknowns):
            halves = [half(grid, axis, node[axis]) for axis in range(grid.ndim)]
            volume = np.prod(halves)
            A[row, row] += volume * c[node]
            b[row] += volume * f[node]
            for axis, side in itertools.product(range(grid.ndim), (0, 1)):
                h = grid.spacing[axis]
                area = volume / halves[axis]
                other = neighbour(grid, node, axis, 2 * side - 1)
                if other is None:
                    across = node[:axis] + node[axis + 1 :]
                    across_shape = full[:axis] + full[axis + 1 :]
                    into, out_of = (
                        0.0 if x is None else np.broadcast_to(x[axis][side], across_shape)[across]
                        for x in (q, alpha)
                    )
                    b[row] += area * into / h
                    A[row, row] += area * out_of / h
                    continue
                face = 2 / (1 / a[axis][node] + 1 / a[axis][other])
                A[row, row] += area * face / h**2
                if other in place:
                    A[row, place[other]] -= area * face / h**2
                else:
                    b[row] += area * face / h**2 * g[other]
        return cls(A, b)

    def solution(self) -> np.ndarray:
        """The solution, of a singular system the one without mean."""
        if np.allclose(self.A.sum(1), 0, atol=1e-10 * abs(self.A).max()):
            ones = np.ones_like(self.A) * abs(self.A).max()
            return np.linalg.solve(self.A + ones, self.b - self.b.mean())
        return np.linalg.solve(self.A, self.b)


def is_unknown(grid: Grid, node: tuple[int, ...]) -> bool:
    """Say whether u is not given at a node."""
    ends = zip(node, grid.intervals, grid.boundary, strict=True)
    return not any((j == 0 and low is D) or (j == n and high is D) for j, n, (low, high) in ends)


def half(grid: Grid, axis: int, j: int) -> float:
    """Share of a cell that node j has along an axis."""
    is_end = j in (0, grid.intervals[axis]) and grid.boundary[axis][0] is not P
    return 0.5 if is_end else 1.0


def neighbour(grid: Grid, node: tuple[int, ...], axis: int, shift: int) -> tuple[int, ...] | None:
    """The next node along an axis, None beyond a side."""
    n = grid.intervals[axis]
    j = node[axis] + shift
    if grid.boundary[axis][0] is P:
        j %= n
    elif not 0 <= j <= n:
        return None
    return (*node[:axis], j, *node[axis + 1 :])


@dataclass(frozen=True)
class Manufactured:
    """u = ∏(1.5 + sin(kx + φ)) with data to match, written down by hand; tested by differentiation.

    coefficients: 'one' is a = 1, c = 0; 'anisotropic' a number per axis and a constant c; 'varying'
    is a = 1 + ½∏(1.2 + cos(kx + ψ)), c = ∏(1.2 + cos kx). Along periodic axes k is 2π over the
    length, so that all data wrap.
    """

    sides: str
    coefficients: str
    lower = (0.2, -0.3, 0.1)
    upper = (1.4, 0.5, 0.8)
    numbers = (1.3, 0.6, 1.7)

    @property
    def ndim(self) -> int:
        return len(sides(self.sides))

    def grid(self, *intervals: int) -> Grid:
        low, high = self.lower[: self.ndim], self.upper[: self.ndim]
        return Grid(intervals, low, high, sides(self.sides))

    def _k(self, axis: int) -> float:
        length = self.upper[axis] - self.lower[axis]
        return 2 * np.pi / length if sides(self.sides)[axis] == (P, P) else 2.1 / length

    def u(self, *x: Any) -> Any:
        out = 1.0
        for axis, t in enumerate(x):
            out = out * (1.5 + jnp.sin(self._k(axis) * t + 0.4))
        return out

    def slope(self, axis: int, *x: Any) -> Any:
        """∂u/∂x along an axis."""
        k, t = self._k(axis), x[axis]
        return self.u(*x) * k * jnp.cos(k * t + 0.4) / (1.5 + jnp.sin(k * t + 0.4))

    def curvature(self, axis: int, *x: Any) -> Any:
        k, t = self._k(axis), x[axis]
        return -self.u(*x) * k**2 * jnp.sin(k * t + 0.4) / (1.5 + jnp.sin(k * t + 0.4))

    def a(self, axis: int, *x: Any) -> Any:
        if self.coefficients == "one":
            return 1.0 + 0 * x[0]
        if self.coefficients == "anisotropic":
            return self.numbers[axis] + 0 * x[0]
        return 1 + 0.5 * self._cosines(0.9, *x)

    def a_slope(self, axis: int, *x: Any) -> Any:
        if self.coefficients != "varying":
            return 0 * x[0]
        k, t = self._k(axis), x[axis]
        return (
            0.5 * self._cosines(0.9, *x) * -k * jnp.sin(k * t + 0.9) / (1.2 + jnp.cos(k * t + 0.9))
        )

    def c(self, *x: Any) -> Any:
        return {"one": 0.0, "anisotropic": 0.7}.get(self.coefficients, self._cosines(0.0, *x))

    def _cosines(self, phase: float, *x: Any) -> Any:
        out = 1.0
        for axis, t in enumerate(x):
            out = out * (1.2 + jnp.cos(self._k(axis) * t + phase))
        return out

    def f(self, *x: Any) -> Any:
        out = self.c(*x) * self.u(*x)
        for axis in range(self.ndim):
            out = out - self.a(axis, *x) * self.curvature(axis, *x)
            out = out - self.a_slope(axis, *x) * self.slope(axis, *x)
        return out

    def problem(self, *intervals: int, robin: float = 0.0) -> Poisson:
        grid = self.grid(*intervals)
        diffusion: Any = {"one": 1.0, "anisotropic": self.numbers[: self.ndim]}
        reaction: Any = {"one": 0.0, "anisotropic": 0.7}
        flux = tuple(self._flux(axis, robin, *grid.boundary[axis]) for axis in range(self.ndim))
        return Poisson(
            grid,
            self.f,
            diffusion=diffusion.get(self.coefficients, lambda *x: self.a(0, *x)),
            reaction=reaction.get(self.coefficients, self.c),
            boundary_values=self.u if any(D in pair for pair in grid.boundary) else 0.0,
            flux=flux,
            robin=robin,
        )

    def _flux(self, axis: int, robin: float, low: Boundary, high: Boundary) -> tuple[Any, Any]:
        def outward(sign: float) -> Any:
            return lambda *x: sign * self.a(axis, *x) * self.slope(axis, *x) + robin * self.u(*x)

        return outward(-1.0) if low is N else None, outward(1.0) if high is N else None
