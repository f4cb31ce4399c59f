"""Problems with known solutions: for tests, benchmarks, and first steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from solvers.compiler import HIGHEST
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


def broad(intervals: int = 1000, *, dtype: Any = None) -> Case:
    """−u'' = f on (0, 1), u(0) = u(1) = 0, u = Σ over k = 1, 2, 4, … 64 of sin(kπx)/k."""
    waves = 2.0 ** np.arange(7)
    return _of_sines(waves, 1 / waves, intervals, dtype, "1-D, broad band")


def rough(intervals: int = 1000, *, dtype: Any = None) -> Case:
    """−u'' = f on (0, 1), u(0) = u(1) = 0, f = Σ over k = 1 … 200 of r_k sin(kπx).

    With random signs r_k the source is as rough as white noise up to its 200th mode; u has
    r_k/(kπ)².
    """
    waves = np.arange(1.0, 201.0)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], waves.size)
    return _of_sines(waves, signs / (np.pi * waves) ** 2, intervals, dtype, "1-D, rough source")


def smooth(intervals: int = 1000, *, dtype: Any = None) -> Case:
    """−u'' + u = f on (0, 2), u = eˣ/(1 + x²), Dirichlet values; smooth, and no sum of modes."""

    def exact(x: jax.Array) -> jax.Array:
        return jnp.exp(x) / (1 + x**2)

    grid = Grid(intervals, upper=2.0, dtype=dtype)
    source = _source_of(exact, reaction=1.0)
    problem = Poisson(grid, source, reaction=1.0, boundary_values=exact)
    return Case(problem, exact, "1-D, smooth, no modes")


def layers(intervals: int = 1000, *, dtype: Any = None) -> Case:
    """−(a u')' = f on (0, 1), u(0) = 0, a u'(1) = 2, with a u' = 1 + cos 4πx.

    With a = 1/(1 + 0.9 sin 12πx) the flux is smooth, but goes through layers of which the diffusion
    varies nineteen-fold.
    """

    def diffusion(x: jax.Array) -> jax.Array:
        return 1 / (1 + 0.9 * jnp.sin(12 * np.pi * x))

    def exact(x: jax.Array) -> jax.Array:
        # ∫ (1 + cos 4πx)(1 + 0.9 sin 12πx) dx, with sin a cos b = (sin(a + b) + sin(a − b))/2.
        waves = (1 - jnp.cos(12 * np.pi * x)) / 12
        waves = waves + (1 - jnp.cos(16 * np.pi * x)) / 32 + (1 - jnp.cos(8 * np.pi * x)) / 16
        return x + jnp.sin(4 * np.pi * x) / (4 * np.pi) + 0.9 / np.pi * waves

    def source(x: jax.Array) -> jax.Array:
        return 4 * np.pi * jnp.sin(4 * np.pi * x)

    sides = (Boundary.DIRICHLET, Boundary.NEUMANN)
    grid = Grid(intervals, boundary=sides, dtype=dtype)
    problem = Poisson(grid, source, diffusion=diffusion, flux=(0.0, 2.0))
    return Case(problem, exact, "1-D, layered diffusion, Neumann end")


def graded(intervals: int = 128, *, dtype: Any = None) -> Case:
    """−∇·((1 + 9xy)∇u) = f on the unit square, u = x(1 − x) sin(πy) e^{x+y}."""

    def diffusion(x: jax.Array, y: jax.Array) -> jax.Array:
        return 1 + 9 * x * y

    def exact(x: jax.Array, y: jax.Array) -> jax.Array:
        return x * (1 - x) * jnp.sin(np.pi * y) * jnp.exp(x + y)

    grid = Grid((intervals, intervals), dtype=dtype)
    problem = Poisson(grid, _source_of(exact, diffusion), diffusion=diffusion)
    return Case(problem, exact, "2-D, varying diffusion")


def channel(intervals: int = 128, *, dtype: Any = None) -> Case:
    """−Δu = f on (0, 1)², u(0, y) = 0, other sides Neumann, u = ln(1 + x)(2 + cos 2πy).

    ∂u/∂n is (2 + cos 2πy)/2 at x = 1 and 0 on the sides of y.
    """

    def exact(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.log1p(x) * (2 + jnp.cos(2 * np.pi * y))

    def outflow(x: jax.Array, y: jax.Array) -> jax.Array:
        return (2 + jnp.cos(2 * np.pi * y)) / (1 + x)

    sides = ((Boundary.DIRICHLET, Boundary.NEUMANN), Boundary.NEUMANN)
    grid = Grid((intervals, intervals), boundary=sides, dtype=dtype)
    problem = Poisson(grid, _source_of(exact), flux=((0.0, outflow), 0.0))
    return Case(problem, exact, "2-D channel, Neumann sides")


def ring(intervals: int = 128, *, dtype: Any = None) -> Case:
    """−Δu + 4u = f on (0, 1)², periodic in x, u = (y − y²) e^{sin 2πx}: no finite sum of modes."""

    def exact(x: jax.Array, y: jax.Array) -> jax.Array:
        return (y - y**2) * jnp.exp(jnp.sin(2 * np.pi * x))

    sides = (Boundary.PERIODIC, Boundary.DIRICHLET)
    grid = Grid((intervals, intervals), boundary=sides, dtype=dtype)
    problem = Poisson(grid, _source_of(exact, reaction=4.0), reaction=4.0)
    return Case(problem, exact, "2-D, periodic in x, reaction")


def cube(intervals: int = 32, *, dtype: Any = None) -> Case:
    """−Δu = f on the unit cube, u = sin(πx) y(1 − y) sinh(1 − z) z, u = 0 on all sides."""

    def exact(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
        return jnp.sin(np.pi * x) * y * (1 - y) * jnp.sinh(1 - z) * z

    grid = Grid((intervals,) * 3, dtype=dtype)
    return Case(Poisson(grid, _source_of(exact)), exact, "3-D, smooth")


def well(intervals: int = 32, *, dtype: Any = None) -> Case:
    """−∇·((1 + 4z)∇u) = f on the unit cube, u = exp(−20|r − (½, ½, ½)|²), Dirichlet values."""

    def diffusion(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
        del x, y
        return 1 + 4 * z

    def exact(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
        return jnp.exp(-20 * ((x - 0.5) ** 2 + (y - 0.5) ** 2 + (z - 0.5) ** 2))

    grid = Grid((intervals,) * 3, dtype=dtype)
    source = _source_of(exact, diffusion)
    problem = Poisson(grid, source, diffusion=diffusion, boundary_values=exact)
    return Case(problem, exact, "3-D peak, varying diffusion")


def _of_sines(
    waves: np.ndarray, amplitudes: np.ndarray, intervals: int, dtype: Any, title: str
) -> Case:
    """−u'' = f on (0, 1) with u = Σ amplitude·sin(kπx)."""

    def exact(x: jax.Array) -> jax.Array:
        return _sines(x, waves, amplitudes)

    def source(x: jax.Array) -> jax.Array:
        return _sines(x, waves, amplitudes * (np.pi * waves) ** 2)

    return Case(Poisson(Grid(intervals, dtype=dtype), source), exact, title)


def _sines(x: jax.Array, waves: np.ndarray, amplitudes: np.ndarray) -> jax.Array:
    angles = jnp.tensordot(x, jnp.asarray(np.pi * waves, x.dtype), 0, precision=HIGHEST)
    weights = jnp.asarray(amplitudes, x.dtype)
    return jnp.matmul(jnp.sin(angles), weights, precision=HIGHEST)


def _source_of(
    exact: Callable[..., jax.Array],
    diffusion: Callable[..., jax.Array] | None = None,
    *,
    reaction: float = 0.0,
) -> Callable[..., jax.Array]:
    """f = −∇·(a∇u) + c u of a given u, by differentiation."""

    def along(function: Callable[..., jax.Array], axis: int) -> Callable[..., jax.Array]:
        def derivative(*x: jax.Array) -> jax.Array:
            tangents = tuple(jnp.full_like(t, float(d == axis)) for d, t in enumerate(x))
            return jax.jvp(function, x, tangents)[1]

        return derivative

    def source(*x: jax.Array) -> jax.Array:
        total = reaction * exact(*x)
        for axis in range(len(x)):
            slope = along(exact, axis)

            def flux(*y: jax.Array, slope: Any = slope) -> jax.Array:
                return slope(*y) if diffusion is None else diffusion(*y) * slope(*y)

            total = total - along(flux, axis)(*x)
        return total

    return source


CASES: dict[str, Callable[..., Case]] = {
    "published": published,
    "lifted": lifted,
    "varying": varying,
    "scales": scales,
    "peak": peak,
    "broad": broad,
    "rough": rough,
    "smooth": smooth,
    "layers": layers,
    "graded": graded,
    "channel": channel,
    "ring": ring,
    "cube": cube,
    "well": well,
}
