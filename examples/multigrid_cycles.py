"""Watch multigrid cycle by cycle, and stop where the grid's own error takes over."""

import jax
import jax.numpy as jnp

from solvers import Grid, Multigrid, Poisson, iterates, predict_factor, solve

jax.config.update("jax_enable_x64", True)


def exact(x, y):
    return jnp.exp(x) * jnp.sin(3 * y)


# −Δu = 8 eˣ sin 3y
problem = Poisson(Grid((150, 130)), lambda x, y: 8 * exact(x, y), boundary_values=exact)
truth = exact(*problem.grid.coordinates())
print(f"predicted factor {float(predict_factor(problem.operator, Multigrid())):.3f}")

for cycle, field in zip(range(6), iterates(problem, Multigrid()), strict=False):
    residual = float(jnp.linalg.norm(problem.residual(field)) / jnp.linalg.norm(problem.rhs))
    error = float(jnp.abs(field - truth).max())
    print(f"after {cycle} cycles: residual {residual:.1e}, error {error:.1e}")

full = solve(problem, Multigrid(full=True, error_fraction=0.3))
error = float(jnp.abs(full.field - truth).max())
estimate = float(full.stats["discretization_error"])
print(f"full multigrid: {int(full.num_steps)} pass, error {error:.1e}, estimated {estimate:.1e}")
