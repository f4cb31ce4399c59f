"""Solve −∇·(a∇u) = f on a rectangle, look at the answer, and differentiate through the solve."""

import jax
import jax.numpy as jnp

from solvers import Boundary, ConjugateGradient, GaussSeidel, Grid, Poisson, solve

jax.config.update("jax_enable_x64", True)

# Heat in a plate: cold left and right, insulated below, heated from above.
sides = (Boundary.DIRICHLET, Boundary.NEUMANN)
grid = Grid((60, 40), lower=(0, 0), upper=(3, 2), boundary=sides)


def conductivity(x, y):
    return 1 + 5 * jnp.exp(-10 * ((x - 1.5) ** 2 + (y - 1) ** 2))


def temperature(heating):
    """The field for a heat flux through the upper side."""
    flux = (0.0, (0.0, lambda x, y: heating * jnp.sin(jnp.pi * x / 3)))
    problem = Poisson(grid, source=0.0, diffusion=conductivity, flux=flux)
    return solve(problem, ConjugateGradient(preconditioner=GaussSeidel()))


solution = temperature(2.0)
print(solution)
print(f"hottest: {solution.field.max():.4f}")
print(f"in the middle: {solution.evaluate(1.5, 1.0):.4f}")
slope = jax.grad(lambda heating: temperature(heating).field.max())(2.0)
print(f"hottest, per unit of heating: {slope:.4f}")
