"""Solve one problem on all devices of all processes. This file runs alone, as several processes,

    python -m solvers.processes 2 examples/many_processes.py

and on a cluster, as in `srun --nodes=8 --ntasks-per-node=1 python examples/many_processes.py`.
"""

import jax
import jax.numpy as jnp

from solvers import Grid, Multigrid, Poisson, place, solve
from solvers.processes import initialize

initialize()  # before all else that uses JAX
jax.config.update("jax_enable_x64", True)


def exact(x, y):
    return jnp.exp(x) * jnp.sin(3 * y)


# −Δu = 8 eˣ sin 3y. Each device gets a strip of the square, along the first axis.
grid = Grid((300, 200))
mesh = jax.make_mesh((jax.device_count(),), ("x",))
problem = place(lambda: Poisson(grid, lambda x, y: 8 * exact(x, y), boundary_values=exact), mesh)
solution = solve(problem, Multigrid()).collect()  # every process takes part, in the same order
error = float(jnp.abs(solution.field - exact(*grid.coordinates())).max())

if jax.process_index() == 0:
    print(f"{jax.process_count()} processes, {jax.device_count()} devices")
    print(solution)
    print(f"error {error:.1e}")
