"""A network's u on all nodes of a grid, compiled once for each grid."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from nets.ansatz import Ansatz, Network, ansatz_at, cast
from nets.boundaries import BoundaryTreatment
from nets.networks import PureNetwork
from nets.quadrature import node_points
from solvers.grid import Grid
from solvers.problems import Poisson

# Points at a time: with some 64 neurons a layer's values then take a few megabytes, not gigabytes.
BLOCK = 16384


class Evaluation:
    """u = G + d·N on the nodes of any grid on the problem's box, in that grid's precision.

    Parameters are cast to the grid's precision first, so that a network trained in single precision
    gives a field without its rounding. Without Dirichlet side and with c = 0 the field is shifted
    to zero integral.

    Args:
        problem: the equation and its data.
        boundary: G and d.
        network: N.
    """

    def __init__(self, problem: Poisson, boundary: BoundaryTreatment, network: PureNetwork):
        self._problem, self._boundary, self._network = problem, boundary, network
        self._ready: dict[Any, tuple[Ansatz, Any]] = {}

    def is_ready(self, grid: Grid) -> bool:
        """Whether the program for `grid` is compiled."""
        return _key(grid) in self._ready

    def prepare(self, params: Any, grid: Grid) -> None:
        """Work out the ansatz on the nodes of `grid`, and compile.

        Raises:
            ValueError: if `grid` is not on the problem's box.
        """
        own = self._problem.grid
        if (grid.lower, grid.upper) != (own.lower, own.upper):
            raise ValueError(
                f"grid: expected the box from {own.lower} to {own.upper}, "
                f"got that from {grid.lower} to {grid.upper}"
            )
        points = node_points(grid)
        ansatz = ansatz_at(self._problem, self._boundary, grid, points, gradients=False)
        program = jax.jit(partial(self._field, grid)).lower(params, ansatz).compile()
        jax.block_until_ready(program(params, ansatz))  # memory and threads, before anyone looks
        self._ready[_key(grid)] = ansatz, program

    def __call__(self, params: Any, grid: Grid) -> jax.Array:
        """u on all nodes, shape `grid.full_shape`."""
        if not self.is_ready(grid):
            self.prepare(params, grid)
        ansatz, program = self._ready[_key(grid)]
        return program(params, ansatz)

    def _field(self, grid: Grid, params: Any, ansatz: Ansatz) -> jax.Array:
        network = partial(self._network, cast(params, grid.dtype))
        u = ansatz.values(partial(_in_blocks, network)).reshape(grid.full_shape)
        if self._problem.operator.is_singular:
            u = grid.without_integral(u)
        return u


def _key(grid: Grid) -> tuple[Any, ...]:
    return grid.intervals, grid.full_shape, grid.lower, grid.upper, grid.dtype


def _in_blocks(network: Network, inputs: jax.Array) -> jax.Array:
    """The network at (N, inputs) points, at most `BLOCK` of them at a time."""
    number, size = inputs.shape
    blocks = -(-number // BLOCK)
    if blocks == 1:
        return network(inputs)
    each = -(-number // blocks)
    padded = jnp.pad(inputs, ((0, blocks * each - number), (0, 0)))
    return jax.lax.map(network, padded.reshape(blocks, each, size)).reshape(-1)[:number]
