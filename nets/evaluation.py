"""A network's u and its features on all nodes of a grid, compiled once for each grid."""

import math
from functools import partial
from typing import Any

import jax

from nets.ansatz import Ansatz, Network, ansatz_at, cast
from nets.boundaries import BoundaryTreatment
from nets.networks import PureNetwork
from nets.quadrature import node_points
from nets.sharding import PointSharding
from solvers.grid import Grid
from solvers.problems import Poisson

# Points of a device at a time: with some 64 neurons a layer's values then take a few megabytes, not
# gigabytes.
BLOCK = 8192


class Evaluation:
    """u = G + d·N on the nodes of any grid on the problem's box, in that grid's precision.

    Parameters are cast to the grid's precision first, so that a network trained in single precision
    gives a field without its rounding. Without Dirichlet side and with c = 0 the field is shifted
    to zero integral, on the problem's own grid over its medium if there is one.

    On a mesh the devices share the nodes, then have the whole result each; what comes out is an
    array that is bound to no device, and so goes with a problem on one of them and on all.

    Args:
        problem: the equation and its data.
        boundary: G and d.
        network: N.
        features: of its last hidden layer, (N, inputs) to (N, k); None where it has none.
        sharding: of the nodes over devices.
    """

    def __init__(
        self,
        problem: Poisson,
        boundary: BoundaryTreatment,
        network: PureNetwork,
        features: PureNetwork | None = None,
        sharding: PointSharding = PointSharding(),
    ):
        self._problem, self._boundary, self._network = problem, boundary, network
        self._feature_map, self._sharding = features, sharding
        self._ready: dict[Any, tuple[Ansatz, Any]] = {}
        self._ready_features: dict[Any, Any] = {}

    @property
    def has_features(self) -> bool:
        """Whether the network has features to show."""
        return self._feature_map is not None

    def is_ready(self, grid: Grid, *, features: bool = False) -> bool:
        """Whether the program for `grid` is compiled, that for its features too if asked for."""
        key = _key(grid)
        return key in self._ready and (not features or key in self._ready_features)

    def prepare(self, params: Any, grid: Grid, *, features: bool = False) -> None:
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
        key = _key(grid)
        if key not in self._ready:
            points = node_points(grid)
            ansatz = ansatz_at(self._problem, self._boundary, grid, points, gradients=False)
            ansatz = self._sharding.deal(ansatz, self._sharding.order((len(points), 1)))
            self._ready[key] = ansatz, self._compiled(partial(self._field, grid), params, ansatz)
        if features and key not in self._ready_features:
            program = partial(self._feature_fields, grid)
            self._ready_features[key] = self._compiled(program, params, self._ready[key][0])

    def __call__(self, params: Any, grid: Grid) -> jax.Array:
        """u on all nodes, shape `grid.full_shape`."""
        ready = self._ready.get(_key(grid))
        if ready is None:
            self.prepare(params, grid)
            ready = self._ready[_key(grid)]
        ansatz, program = ready
        return self._sharding.free(program(params, ansatz))

    def features(self, params: Any, grid: Grid) -> jax.Array:
        """d·φ₁ … d·φ_k on all nodes, shape (k, *grid.full_shape)."""
        if not self.is_ready(grid, features=True):
            self.prepare(params, grid, features=True)
        program = self._ready_features[_key(grid)]
        return self._sharding.free(program(params, self._ready[_key(grid)][0]))

    def _feature_fields(self, grid: Grid, params: Any, ansatz: Ansatz) -> jax.Array:
        assert self._feature_map is not None
        values = self._in_blocks(
            partial(self._feature_map, cast(params, grid.dtype)), ansatz.inputs
        )
        return self._on_nodes(grid, ansatz.factor[None] * values.T)

    def _field(self, grid: Grid, params: Any, ansatz: Ansatz) -> jax.Array:
        network = partial(self._network, cast(params, grid.dtype))
        u = self._on_nodes(grid, ansatz.values(partial(self._in_blocks, network)))
        if not self._problem.operator.is_singular:
            return u
        share = self._problem.share
        if share is None or share.shape != u.shape:
            return grid.without_integral(u)
        return u - grid.integral(share * u) / grid.integral(share)

    def _on_nodes(self, grid: Grid, values: jax.Array) -> jax.Array:
        """Without what fills shares up, (…, N) to (…, *grid.full_shape)."""
        values = self._sharding.whole(values)[..., : math.prod(grid.full_shape)]
        return values.reshape(*values.shape[:-1], *grid.full_shape)

    def _in_blocks(self, network: Network, inputs: jax.Array) -> jax.Array:
        """A function of (N, inputs) points, at most `BLOCK` of each device's at a time."""
        parts = self._sharding.parts(inputs, BLOCK)
        values = network(parts[0])[None] if len(parts) == 1 else jax.lax.map(network, parts)
        return self._sharding.joined(values, len(inputs))

    def _compiled(self, function: Any, params: Any, ansatz: Ansatz) -> Any:
        program = self._sharding.compiled(function, params, ansatz)
        jax.block_until_ready(program(params, ansatz))  # memory and threads, before anyone looks
        return program


def _key(grid: Grid) -> tuple[Any, ...]:
    return grid.intervals, grid.boundary, grid.lower, grid.upper, grid.dtype
