"""The problems of the multigrid benchmark, with exact solutions where there are some."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from solvers import Boundary, EllipticOperator, Grid, Poisson

DISCS = 25


class Case(NamedTuple):
    """One problem on one grid, with 0 on Dirichlet sides and no flux through Neumann ones.

    Attributes:
        name: the family, one word that the rows are looked up by.
        title: what it is, in a few words.
        size: unknowns per axis.
        operator: A.
        b: right-hand side, of mean 0 where A is singular.
        exact: u at the unknowns, None for a right-hand side without a known solution.
    """

    name: str
    title: str
    size: int
    operator: EllipticOperator
    b: jax.Array
    exact: np.ndarray | None

    @property
    def has_sine_transform(self) -> bool:
        sides = {side for pair in self.operator.grid.boundary for side in pair}
        return self.operator.is_constant and sides == {Boundary.DIRICHLET}

    def error(self, u: np.ndarray) -> float | None:
        """Maximum of |u − exact|, up to a constant where the problem is singular."""
        if self.exact is None:
            return None
        e = u - self.exact
        if self.operator.is_singular:
            e = np.asarray(self.operator.grid.without_integral(jnp.asarray(e)))
        return float(np.max(np.abs(e)))

    def residual(self, u: np.ndarray) -> float:
        """‖b − A u‖₂/‖b‖₂, formed apart from all solvers."""
        r = self.b - _apply(self.operator, jnp.asarray(u))
        return float(np.linalg.norm(np.asarray(r)) / np.linalg.norm(np.asarray(self.b)))


@jax.jit
def _apply(operator: EllipticOperator, u: jax.Array) -> jax.Array:
    return operator.mv(u)


def rough(size: int, ndim: int = 2, *, name: str = "rough", diffusion: Any = 1.0) -> Case:
    """Independent normal numbers as right-hand side, which excite all frequencies alike."""
    grid = Grid((size + 1,) * ndim)
    operator = EllipticOperator(grid, diffusion)
    values = np.random.default_rng(0).standard_normal(grid.shape)
    return Case(
        f"{name}_{ndim}d", "rough right-hand side", size, operator, jnp.asarray(values), None
    )


def anisotropic(size: int) -> Case:
    case = rough(size, name="anisotropic", diffusion=(1.0, 1e-3))
    return case._replace(title="diffusion 1 along x, 1e-3 along y")


def discs(size: int, *, contrast: float = 1e6, seed: int = 0) -> Case:
    grid = Grid((size + 1,) * 2)
    diffusion = disc_coefficient(grid, contrast, seed)
    case = rough(size, name="discs", diffusion=diffusion)
    return case._replace(title=f"{DISCS} random discs, contrast {contrast:.0e}")


def disc_coefficient(grid: Grid, contrast: float, seed: int) -> jax.Array:
    """a on all nodes: `contrast` in random discs that may overlap, 1 elsewhere."""
    rng = np.random.default_rng(seed)
    x, y = (np.asarray(v) for v in grid.coordinates())
    inside = np.zeros(grid.full_shape, bool)
    for _ in range(DISCS):
        (p, q), radius = rng.uniform(0, 1, 2), rng.uniform(0.02, 0.1)
        inside |= (x - p) ** 2 + (y - q) ** 2 < radius**2
    return jnp.asarray(np.where(inside, contrast, 1.0))


def smooth(size: int, ndim: int = 2) -> Case:
    """u = eˣ sin(πx) sin(2πy) (sin(πz)), no eigenfunction; a = 1."""
    grid = Grid((size + 1,) * ndim)
    return _manufactured(f"smooth_{ndim}d", "smooth solution", size, grid, _constant)


def varying(size: int, ndim: int = 2) -> Case:
    """The same u with a between 1 and 10."""
    grid = Grid((size + 1,) * ndim)
    title = "smooth solution, a from 1 to 10"
    return _manufactured(f"varying_{ndim}d", title, size, grid, _tenfold)


def neumann(size: int) -> Case:
    """u = e^cos(πx) cos(2πy), of no flux through any side; its data balance."""
    grid = Grid((size - 1,) * 2, boundary=Boundary.NEUMANN)
    title = "smooth solution, Neumann sides only"
    return _manufactured("neumann_2d", title, size, grid, _constant, _closed)


def _manufactured(
    name: str, title: str, size: int, grid: Grid, a: Callable, u: Callable | None = None
) -> Case:
    u = u or _closed_by_zero
    varies = a is not _constant
    problem = Poisson(grid, _source_of(u, a), diffusion=a if varies else 1.0)
    b = problem.rhs - jnp.mean(problem.rhs) if problem.operator.is_singular else problem.rhs
    exact = np.asarray(u(*grid.coordinates())[grid.unknowns])
    if problem.operator.is_singular:
        exact = np.asarray(grid.without_integral(jnp.asarray(exact)))
    return Case(name, title, size, problem.operator, b, exact)


def _closed_by_zero(*x: jax.Array) -> jax.Array:
    u = jnp.exp(x[0]) * jnp.sin(jnp.pi * x[0]) * jnp.sin(2 * jnp.pi * x[1])
    return u * jnp.sin(jnp.pi * x[2]) if len(x) > 2 else u


def _closed(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.exp(jnp.cos(jnp.pi * x)) * jnp.cos(2 * jnp.pi * y)


def _constant(*x: jax.Array) -> jax.Array:
    return jnp.ones_like(x[0])


def _tenfold(*x: jax.Array) -> jax.Array:
    return 1 + 9 * jnp.sin(x[0] + sum(x)) ** 2


def _source_of(u: Callable, a: Callable) -> Callable:
    """−∇·(a∇u) by differentiating the functions."""

    def along(f: Callable, axis: int) -> Callable:
        def derivative(*x: jax.Array) -> jax.Array:
            tangents = tuple(jnp.ones_like(v) if i == axis else jnp.zeros_like(v)
                             for i, v in enumerate(x))  # fmt: skip
            return jax.jvp(f, x, tangents)[1]

        return derivative

    def source(*x: jax.Array) -> jax.Array:
        def flow(axis: int) -> Callable:
            slope = along(u, axis)
            return along(lambda *y: a(*y) * slope(*y), axis)

        return -sum((flow(axis)(*x) for axis in range(len(x))), jnp.zeros_like(x[0]))

    return jax.jit(source)
