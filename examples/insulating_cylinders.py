"""How much a square array of insulating cylinders conducts, and how that depends on their radius.

A cell of the array between two held sides, with a round hole that nothing goes through. Rayleigh's
series has the answer (Perrins, McKenzie, McPhedran 1979, Proc. R. Soc. A 369, 207–225).
"""

import jax
import jax.numpy as jnp

from solvers import Boundary, Grid, Poisson, boundary_flux, solve

jax.config.update("jax_enable_x64", True)
HELD, CLOSED = (Boundary.DIRICHLET,) * 2, (Boundary.NEUMANN,) * 2


def conductivity(radius: jax.Array, n: int) -> jax.Array:
    """What goes through a unit cell, from u = 1 at x = 1 to u = 0 at x = 0."""
    grid = Grid((n, n), boundary=(HELD, CLOSED))
    problem = Poisson(
        grid,
        source=0.0,
        medium=lambda x, y: jnp.hypot(x - 0.5, y - 0.5) - radius,
        boundary_values=lambda x, y: x,
    )
    _, through = boundary_flux(problem, solve(problem).field)[0]
    assert through is not None  # as it would be on a periodic axis
    return grid.side(0).integral(through)


def series(radius: jax.Array) -> jax.Array:
    """By Rayleigh's method, to some 1e-6 at such a radius."""
    f = jnp.pi * radius**2
    inner = 1 + f - 0.305827 * f**4 / (1 - 1.402958 * f**8) - 0.013362 * f**8
    return 1 - 2 * f / inner


value, slope = jax.value_and_grad(series)(0.3)
for n in (32, 64, 128):
    found, change = jax.jit(jax.value_and_grad(conductivity), static_argnums=1)(0.3, n)
    print(f"{n}²: conducts {found:.5f} ({value:.5f}), by radius {change:.3f} ({slope:.3f})")
