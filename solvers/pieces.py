"""Which unknowns are joined to others, through faces that are open."""

import functools
import itertools

import jax
import jax.numpy as jnp

from solvers.grid import Grid


@functools.partial(jax.jit, static_argnums=0)
def joined(grid: Grid, faces: tuple[jax.Array, ...], seeds: jax.Array) -> jax.Array:
    """Those that open faces join to a seed, shape `grid.shape`.

    Args:
        grid: where.
        faces: per axis, positive where open, low to high, one more than there are unknowns along
            that axis; of a ring the seam first and last.
        seeds: where to start from, shape `grid.shape`.

    Cost: some rounds of running along every axis to and fro, as many as ways have bends.

    Example:
        >>> faces = (jnp.array([0, 1.0, 0, 1.0, 1.0, 0]),)
        >>> print(joined(Grid(6), faces, jnp.arange(5) == 3))
        [False False  True  True  True]
    """

    def run(reached: jax.Array, axis: int, end: int) -> jax.Array:
        size = grid.shape[axis]
        is_open = jax.lax.slice_in_dim(faces[axis], end, end + size, axis=axis) > 0
        lines = jnp.moveaxis(reached, axis, 0), jnp.moveaxis(is_open, axis, 0)
        start = lines[0][end - 1] if grid.is_periodic(axis) else jnp.zeros_like(lines[0][0])

        def step(
            before: jax.Array, line: tuple[jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array]:
            here = line[0] | (before & line[1])
            return here, here

        _, found = jax.lax.scan(step, start, lines, reverse=end == 1)
        return jnp.moveaxis(found, 0, axis)

    def round_trip(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        reached, _ = state
        for axis, end in itertools.product(range(grid.ndim), (0, 1)):
            reached = run(reached, axis, end)
        return reached, jnp.any(reached != state[0])

    state = jax.lax.while_loop(lambda state: state[1], round_trip, (seeds, jnp.any(seeds)))
    return state[0]
