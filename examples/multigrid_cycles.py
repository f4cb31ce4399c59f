"""Watch multigrid cycle by cycle, and stop where the grid's own error takes over."""

import jax
import jax.numpy as jnp

from solvers import Grid, Multigrid, Poisson, predict_factor, solve

jax.config.update("jax_enable_x64", True)


def exact(x, y):
    return jnp.exp(x) * jnp.sin(3 * y)


# −Δu = 8 eˣ sin 3y
problem = Poisson(Grid((150, 130)), lambda x, y: 8 * exact(x, y), boundary_values=exact)
truth = exact(*problem.grid.coordinates())
print(f"predicted factor {float(predict_factor(problem.operator, Multigrid())):.3f}")

field = None
for cycle in range(1, 6):
    # One cycle a time, from where the last one ended; the budget is traced: nothing recompiles.
    step = solve(problem, Multigrid(max_steps=1, rtol=1e-12), initial=field, throw=False)
    field = step.field
    norms = step.history()[1]
    error = float(jnp.abs(field - truth).max())
    print(f"cycle {cycle}: residual {norms[-1]:.1e}, error {error:.1e}")

full = solve(problem, Multigrid(full=True, error_fraction=0.3))
error = float(jnp.abs(full.field - truth).max())
estimate = float(full.stats["discretization_error"])
print(f"full multigrid: {int(full.num_steps)} pass, error {error:.1e}, estimated {estimate:.1e}")
