"""Hand your own training over: any generator of snapshots will do.

The "network" here is a sum of 24 sines whose coefficients gradient descent fits to the Ritz energy.
"""

import time

import jax
import jax.numpy as jnp

from solvers import FixedHandoff, Hybrid, Jacobi, gallery
from solvers.snapshots import Snapshot

jax.config.update("jax_enable_x64", True)
problem = gallery.published(500).problem
waves = jnp.arange(1, 25)


def output(coefficients, grid):
    x = grid.coordinates()[0]
    return jnp.sin(jnp.pi * waves * (x[:, None] + 1) / 2) @ coefficients


@jax.jit
def train(coefficients):
    def energy(c):
        return problem.energy(output(c, problem.grid))

    # Sines in the energy: the curvature along the k-th is (πk/2)²; damped Newton along each.
    step = 0.2 / (jnp.pi * waves / 2) ** 2
    return jax.lax.fori_loop(0, 10, lambda _, c: c - step * jax.grad(energy)(c), coefficients)


def snapshots():
    coefficients, seconds = jnp.zeros(24), 0.0
    jax.block_until_ready(train(coefficients))  # compile
    for step in range(0, 200, 10):
        yield Snapshot(step, seconds, lambda grid, c=coefficients: output(c, grid))
        start = time.perf_counter()
        coefficients = jax.block_until_ready(train(coefficients))
        seconds += time.perf_counter() - start


hybrid = Hybrid(Jacobi(rtol=1e-6, max_steps=10**6), FixedHandoff(50)).solve(problem, snapshots())
print(hybrid.explain())
print(hybrid.solution)
