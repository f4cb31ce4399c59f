"""Hand your own training over: any generator of snapshots will do. Here: a sum of 24 sines."""

import time

import jax
import jax.numpy as jnp

from solvers import Hybrid, Jacobi, SpectralHandoff, gallery
from solvers.snapshots import Snapshot

jax.config.update("jax_enable_x64", True)
problem = gallery.published(500).problem
waves = jnp.pi / 2 * jnp.arange(1, 25)


def output(c, grid):
    return jnp.sin((grid.coordinates()[0][:, None] + 1) * waves) @ c


slope = jax.jit(jax.grad(lambda c: problem.energy(output(c, problem.grid))))
slope(jnp.zeros(24))  # compiles: that is not to be among the seconds


def snapshots(c=jnp.zeros(24), seconds=0.0):
    for step in range(200):
        yield Snapshot(step, seconds, lambda grid, c=c: output(c, grid))
        start = time.perf_counter()
        c = jax.block_until_ready(c - 0.2 / waves**2 * slope(c))
        seconds += time.perf_counter() - start


hybrid = Hybrid(Jacobi(rtol=1e-6, max_steps=10**6), SpectralHandoff(least_steps=20))
print(hybrid.solve(problem, snapshots()).explain())
