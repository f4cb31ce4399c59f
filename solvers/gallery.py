"""Problems with known solutions: for tests, benchmarks, and first steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from solvers.grid import Boundary, Grid
from solvers.problems import Poisson


class Case(NamedTuple):
    """A problem and its exact solution.

    Attributes:
        problem: on the grid asked for.
        exact: u(x, …), a callable of the coordinates.
        title: what it is, in a few words.
    """

    problem: Poisson
    exact: Callable[..., jax.Array]
    title: str

    def exact_values(self) -> jax.Array:
        """Exact u at the unknowns, shape `grid.shape`."""
        grid = self.problem.grid
        return self.exact(*grid.coordinates())[grid.unknowns]


def published(intervals: int = 1000, *, dtype: Any = None) -> Case:
    """−u'' = sin x + 4 sin 4x − 8 sin 8x + 16 sin 24x on (−1, 1), u(±1) = 0.

    u = g₀(x) − g₀(1)·x with g₀ = sin x + sin(4x)/4 − sin(8x)/8 + sin(24x)/36; max|u| = 0.5912.

    The solution is odd: Jacobi from zero never meets the lowest mode. The right-hand side as
    printed has 16 sin 24x, of which the solution has sin(24x)/36.

    Reference: Xu, Zhang, Luo, Xiao, Ma 2019, "Frequency principle", §5, arXiv:1901.06523.
    """

    def source(x: jax.Array) -> jax.Array:
        return jnp.sin(x) + 4 * jnp.sin(4 * x) - 8 * jnp.sin(8 * x) + 16 * jnp.sin(24 * x)

    def particular(x: Any) -> jax.Array:
        return jnp.sin(x) + jnp.sin(4 * x) / 4 - jnp.sin(8 * x) / 8 + jnp.sin(24 * x) / 36

    def exact(x: jax.Array) -> jax.Array:
        return particular(x) - particular(jnp.ones((), x.dtype)) * x

    grid = Grid(intervals, -1.0, 1.0, dtype=dtype)
    return Case(Poisson(grid, source), exact, "published 1-D problem")


def lifted(intervals: int = 1000, *, dtype: Any = None) -> Case:
    """The published problem with e⁻ˣ added: neither odd nor zero at the ends, reaction c = 1."""
    base = published(2)

    def exact(x: jax.Array) -> jax.Array:
        return base.exact(x) + jnp.exp(-x)

    def source(x: jax.Array) -> jax.Array:
        return base.problem.source(x) - jnp.exp(-x) + exact(x)

    grid = Grid(intervals, -1.0, 1.0, dtype=dtype)
    problem = Poisson(grid, source, reaction=1.0, boundary_values=exact)
    return Case(problem, exact, "1-D with reaction and boundary data")


def varying(intervals: int = 1000, *, dtype: Any = None) -> Case:
    """−((1.1 + sin 3x) u')' = f on (0, 1), u(0) = 0, a u'(1) = q, u = x³ + sin(5πx)/10."""

    def diffusion(x: jax.Array) -> jax.Array:
        return 1.1 + jnp.sin(3 * x)

    def exact(x: jax.Array) -> jax.Array:
        return x**3 + jnp.sin(5 * np.pi * x) / 10

    def slope(x: jax.Array) -> jax.Array:
        return 3 * x**2 + np.pi * jnp.cos(5 * np.pi * x) / 2

    def source(x: jax.Array) -> jax.Array:
        curvature = 6 * x - 2.5 * np.pi**2 * jnp.sin(5 * np.pi * x)
        return -(diffusion(x) * curvature + 3 * jnp.cos(3 * x) * slope(x))

    def outflow(x: jax.Array) -> jax.Array:
        return diffusion(x) * slope(x)

    sides = (Boundary.DIRICHLET, Boundary.NEUMANN)
    grid = Grid(intervals, boundary=sides, dtype=dtype)
    problem = Poisson(grid, source, diffusion=diffusion, flux=(0.0, outflow))
    return Case(problem, exact, "1-D, varying diffusion, Neumann end")


def scales(intervals: int = 128, *, dtype: Any = None) -> Case:
    """−Δu = f on the unit square, u = Σ over s = 1, 2, 4 of sin(sπx) sin(sπy)/s, u = 0 outside."""

    def part(s: int, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sin(s * np.pi * x) * jnp.sin(s * np.pi * y) / s

    def exact(x: jax.Array, y: jax.Array) -> jax.Array:
        return part(1, x, y) + part(2, x, y) + part(4, x, y)

    def source(x: jax.Array, y: jax.Array) -> jax.Array:
        return 2 * np.pi**2 * (part(1, x, y) + 4 * part(2, x, y) + 16 * part(4, x, y))

    grid = Grid((intervals, intervals), dtype=dtype)
    return Case(Poisson(grid, source), exact, "2-D, three scales of sines")


def peak(intervals: int = 128, *, dtype: Any = None) -> Case:
    """−Δu = f on the unit square with u = exp(−50((x−0.4)² + (y−0.6)²)), not built of modes."""
    s = 50.0

    def exact(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.exp(-s * ((x - 0.4) ** 2 + (y - 0.6) ** 2))

    def source(x: jax.Array, y: jax.Array) -> jax.Array:
        r2 = (x - 0.4) ** 2 + (y - 0.6) ** 2
        return (4 * s - 4 * s**2 * r2) * exact(x, y)

    grid = Grid((intervals, intervals), dtype=dtype)
    return Case(Poisson(grid, source, boundary_values=exact), exact, "2-D peak")


CASES: dict[str, Callable[..., Case]] = {
    "published": published,
    "lifted": lifted,
    "varying": varying,
    "scales": scales,
    "peak": peak,
}
