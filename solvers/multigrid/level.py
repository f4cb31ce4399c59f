"""The operator on one level, as a stencil on parity blocks."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.multigrid.axis import Axis
from solvers.multigrid.blocks import (
    Blocks,
    Parity,
    Values,
    flipped,
    join,
    pad,
    parities,
    shift,
    split,
)
from solvers.multigrid.stacked import Offset
from solvers.operators import EllipticOperator


class Level(eqx.Module):
    """(Au)_j = Σ_o s_o (u_j − u_{j+o}) + e_j u_j, with offsets o ∈ {−1, 0, 1}ᵈ, o ≠ 0.

    Attributes:
        shape: number of nodes per axis.
        wraps: whether each axis is periodic.
        kept: parity of the nodes that the next coarser level keeps.
        couplings: s_o ≥ 0 per offset and block, each a scalar or an array that broadcasts.
        excess: e, the row sums, per block; None where they are 0.
        inverse_diagonal: 1/(Σ_o s_o + e), per block.
        row_weights: per axis, what a row has to be multiplied with to make A symmetric, as vectors
            by parity; None for 1.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    wraps: tuple[bool, ...] = eqx.field(static=True)
    kept: Parity = eqx.field(static=True)
    couplings: dict[Offset, Blocks]
    excess: Blocks | None
    inverse_diagonal: Blocks
    row_weights: tuple[Any, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        """Precision of the coefficients."""
        return next(iter(self.inverse_diagonal.values())).dtype

    def split(self, u: jax.Array) -> Values:
        """Store an array of all nodes as the level's functions are."""
        return split(u)

    def join(self, u: Values) -> jax.Array:
        """The inverse of `split`."""
        return join(u)

    def to_blocks(self, u: Values) -> Blocks:
        """The blocks of a function."""
        return u

    def of_blocks(self, blocks: Blocks) -> Values:
        """The inverse of `to_blocks`."""
        return blocks

    def block_shape(self, parity: Parity) -> tuple[int, ...]:
        """Number of nodes per axis of one block."""
        return tuple((n + 1 - p) // 2 for n, p in zip(self.shape, parity, strict=True))

    def couplings_at(self, offset: Offset) -> Blocks | None:
        """s_o per block, None where nothing couples at that offset."""
        return self.couplings.get(offset)

    def has_seam(self, axis: int) -> bool:
        """Whether the last and the first node along `axis` are neighbours of equal parity."""
        return self.wraps[axis] and self.shape[axis] % 2 == 1 and self.shape[axis] > 1

    def colours(self) -> list[list[Parity]]:
        """Red and black: blocks without mutual neighbours, those of the kept nodes first."""
        return [[p for p in parities(self.ndim) if self._distance(p) % 2 == c] for c in (0, 1)]

    def _distance(self, parity: Parity) -> int:
        return sum(p != k for p, k in zip(parity, self.kept, strict=True))

    def neighbour(self, u: Blocks, parity: Parity, offset: Offset, axis: int = 0) -> Any:
        """u_{j+o} at the nodes j of a block, 0 beyond the sides; None where `u` lacks them."""
        if axis == self.ndim:
            return u.get(parity)
        if offset[axis] == 0:
            return self.neighbour(u, parity, offset, axis + 1)
        other = self.neighbour(u, flipped(parity, (axis,)), offset, axis + 1)
        size, p, o = self.shape[axis], parity[axis], offset[axis]
        values = None if other is None else shift(other, axis, p, o, self.wraps[axis], size)
        own = self.neighbour(u, parity, offset, axis + 1) if self.has_seam(axis) else None
        if p == 1 or own is None:
            return values
        end = own.shape[axis] - 1
        edge = jax.lax.slice_in_dim(own, *((end, end + 1) if o < 0 else (0, 1)), axis=axis)
        edge = pad(edge, axis, *((0, end) if o < 0 else (end, 0)))
        return edge if values is None else values + edge

    def apply(self, u: Values) -> Values:
        """A u."""
        return {parity: self.row(u, parity) for parity in u}

    def row(self, u: Blocks, parity: Parity) -> jax.Array:
        """A u at the nodes of one block; differences first, so that a smooth u loses no digits."""
        own = u[parity]
        total = None if self.excess is None else self.excess[parity] * own
        for offset, coupling in self.couplings.items():
            flow = coupling[parity] * (own - self.neighbour(u, parity, offset))
            total = flow if total is None else total + flow
        assert total is not None
        return total

    def residual(self, f: Values, u: Values) -> Values:
        """f − A u."""
        return {parity: f[parity] - self.row(u, parity) for parity in u}

    def scale(self, r: Values) -> Values:
        """D⁻¹ r."""
        return {parity: self.inverse_diagonal[parity] * x for parity, x in r.items()}

    def inflow(self, u: Blocks, parity: Parity) -> jax.Array | None:
        """Σ_o s_o u_{j+o} at one block's nodes; blocks that `u` lacks are 0, None for all 0."""
        total = None
        for offset, coupling in self.couplings.items():
            values = self.neighbour(u, parity, offset)
            if values is not None:
                term = coupling[parity] * values
                total = term if total is None else total + term
        return total

    def weigh(self, r: Blocks, power: int = 1) -> Blocks:
        """Rows times their weights, or divided by them with `power` −1."""
        for axis, weights in enumerate(self.row_weights):
            if weights is not None:
                r = {p: x * along(weights[p[axis]] ** power, axis, x) for p, x in r.items()}
        return r


def along(values: np.ndarray, axis: int, like: jax.Array) -> jax.Array:
    """Shape 1-D values so that they multiply `like` along `axis`."""
    shape = [1] * like.ndim
    shape[axis] = -1
    return jnp.asarray(values.reshape(shape), like.dtype)


def unit(axis: int, step: int, ndim: int) -> Offset:
    """The offset of one step along `axis`."""
    return tuple(step if d == axis else 0 for d in range(ndim))


def constant_level(
    axes: tuple[Axis, ...], strengths: tuple[jax.Array, ...], reaction: jax.Array | None
) -> Level:
    """Constant coefficients: rows as in the equation, −Σ sᵢ δᵢ² + c on the axes' nodes.

    Nothing is stored but vectors along the axes, and only numbers where an axis is even.

    Args:
        axes: of the level.
        strengths: aᵢ/hᵢ² per axis, h the finest spacing.
        reaction: c, or None for 0.
    """
    ndim = len(axes)
    couplings: dict[Offset, Blocks] = {}
    diagonal = {p: jnp.zeros((), strengths[0].dtype) for p in parities(ndim)}
    for axis, (line, strength) in enumerate(zip(axes, strengths, strict=True)):
        if line.size == 1 and not any(x.any() for x in line.couplings()):
            continue
        for step, values in zip((-1, 1), line.couplings(), strict=True):
            couplings[unit(axis, step, ndim)] = _by_parity(values, axis, ndim, strength)
        low, high = line.couplings()
        total = _by_parity(low + high, axis, ndim, strength)
        diagonal = {p: d + total[p] for p, d in diagonal.items()}
    excess = None if reaction is None else dict.fromkeys(diagonal, reaction)
    if excess is not None:
        diagonal = {p: d + excess[p] for p, d in diagonal.items()}
    return Level(
        shape=tuple(line.size for line in axes),
        wraps=tuple(line.is_periodic for line in axes),
        kept=tuple(line.kept for line in axes),
        couplings=couplings,
        excess=excess,
        inverse_diagonal={p: jnp.where(d > 0, 1 / d, 0) for p, d in diagonal.items()},
        row_weights=tuple(_weights_by_parity(line) for line in axes),
    )


def _by_parity(values: np.ndarray, axis: int, ndim: int, strength: jax.Array) -> Blocks:
    blocks = {}
    for parity in parities(ndim):
        part = values[parity[axis] :: 2]
        if np.ptp(values) <= 1e-12 * np.max(np.abs(values)):
            blocks[parity] = strength * jnp.asarray(values[0], strength.dtype)
        else:
            shape = [1] * ndim
            shape[axis] = -1
            blocks[parity] = strength * jnp.asarray(part.reshape(shape), strength.dtype)
    return blocks


def _weights_by_parity(line: Axis) -> Any:
    weights = line.weights()
    # Between two Neumann sides one interval apart all of them are ½.
    return None if (weights == 1).all() else (weights[0::2], weights[1::2])


def varying_level(operator: EllipticOperator, axes: tuple[Axis, ...]) -> Level:
    """Coefficients that vary: rows in symmetric control-volume form, as the operator has them."""
    grid = operator.grid
    couplings: dict[Offset, Blocks] = {}
    for axis in range(grid.ndim):
        for step, values in zip((-1, 1), operator.face_pair(axis), strict=True):
            full = jnp.broadcast_to(operator.weigh(values), grid.shape)
            couplings[unit(axis, step, grid.ndim)] = split(full)
    excess = None
    if operator.reaction is not None:
        excess = split(jnp.broadcast_to(operator.weigh(operator.reaction), grid.shape))
    diagonal = {p: jnp.zeros((), grid.dtype) for p in parities(grid.ndim)}
    for blocks in (*couplings.values(), *(() if excess is None else (excess,))):
        diagonal = {p: d + blocks[p] for p, d in diagonal.items()}
    return Level(
        shape=tuple(line.size for line in axes),
        wraps=tuple(line.is_periodic for line in axes),
        kept=tuple(line.kept for line in axes),
        couplings=couplings,
        excess=excess,
        inverse_diagonal={p: jnp.where(d > 0, 1 / d, 0) for p, d in diagonal.items()},
        row_weights=(None,) * len(axes),
    )
