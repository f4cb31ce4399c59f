"""Use a relaxation as preconditioner of lineax's own conjugate gradients, many media at once."""

import jax
import jax.numpy as jnp
import lineax as lx

from solvers import GaussSeidel, Grid, Poisson, as_preconditioner

jax.config.update("jax_enable_x64", True)
grid = Grid((48, 48))


def steps(strength):
    """CG steps for a layered medium of the given contrast."""
    problem = Poisson(grid, 1.0, diffusion=lambda x, y: 1 + strength * (y > 0.5))
    options = {"preconditioner": as_preconditioner(GaussSeidel(), problem.operator, steps=2)}
    # lineax tests the residual component by component: atol keeps zeros of b from stalling it.
    cg = lx.CG(rtol=1e-8, atol=1e-8 * jnp.abs(problem.rhs).max())  # type: ignore
    solved = lx.linear_solve(problem.operator, problem.rhs, cg, options=options)
    return solved.stats["num_steps"]


contrasts = jnp.array([0.0, 1.0, 10.0, 100.0])
for contrast, count in zip(contrasts, jax.vmap(steps)(contrasts), strict=True):
    print(f"contrast {1 + contrast:5.0f}: {count} steps")
