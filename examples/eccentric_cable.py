"""A domain that is no box: the capacitance of a cable whose core is off its middle.

`inside` is a level set: the equation holds where it is positive, and elsewhere the potential is
given. The charge on the core is what goes through its part of the interface, and how it depends on
the core's radius is a gradient through all of that, the solve too.
"""

import jax
import jax.numpy as jnp

from solvers import ConjugateGradient, Grid, Jacobi, Poisson, interface_flux, solve

jax.config.update("jax_enable_x64", True)
SHEATH, OFF = 0.45, 0.1  # its radius, and how far the core is from the middle (0.5, 0.5)
METHOD = ConjugateGradient(preconditioner=Jacobi(), rtol=1e-10)


def capacitance(radius: jax.Array, n: int) -> jax.Array:
    """Charge on the core at the potential 1, the sheath being at 0, on n × n intervals."""

    def from_core(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.hypot(x - 0.5 - OFF, y - 0.5) - radius

    def inside(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.minimum(SHEATH - jnp.hypot(x - 0.5, y - 0.5), from_core(x, y))

    def potential(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.where(from_core(x, y) < 0.05, 1.0, 0.0)

    grid = Grid((n, n))
    problem = Poisson(grid, 0.0, inside=inside, boundary_values=potential)
    charge = interface_flux(problem, solve(problem, METHOD, throw=False).field)
    return grid.integral(jnp.where(from_core(*grid.coordinates()) < 0.05, charge, 0.0))


def exact(radius: jax.Array) -> jax.Array:
    cosh = (SHEATH**2 + radius**2 - OFF**2) / (2 * SHEATH * radius)
    return 2 * jnp.pi / jnp.arccosh(cosh)


value, slope = jax.value_and_grad(exact)(0.15)
for n in (32, 64, 128):
    found, change = jax.jit(jax.value_and_grad(capacitance), static_argnums=1)(0.15, n)
    print(f"{n}²: capacitance {found:.4f} ({value:.4f}), by radius {change:.2f} ({slope:.2f})")
