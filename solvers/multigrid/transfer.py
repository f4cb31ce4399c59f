"""Transfers between a level and the next coarser one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.multigrid.axis import Axis
from solvers.multigrid.blocks import (
    Blocks,
    Parity,
    flipped,
    interleave_axes,
    pad,
    parities,
    shift,
    split,
)
from solvers.multigrid.level import along

Pair = tuple[Any, Any]


class Coarsening(eqx.Module):
    """Which nodes of a level are kept, and where they are in the next one's blocks.

    Attributes:
        shape: of the finer level.
        wraps: whether each axis is periodic.
        kept: parity of the kept nodes, on the coarsened axes.
        axes: that are coarsened.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    wraps: tuple[bool, ...] = eqx.field(static=True)
    kept: Parity = eqx.field(static=True)
    axes: tuple[int, ...] = eqx.field(static=True)

    def rank(self, parity: Parity) -> int:
        """Along how many coarsened axes the nodes of a block are dropped; 0 for kept nodes."""
        return sum(parity[axis] != self.kept[axis] for axis in self.axes)

    def kept_blocks(self) -> list[Parity]:
        """Blocks of the kept nodes: one for each parity of the axes that are not coarsened."""
        return [parity for parity in parities(len(self.shape)) if self.rank(parity) == 0]

    def from_coarse(self, coarse: Blocks) -> Blocks:
        """Blocks of the coarser level as the kept blocks of the finer one."""
        joined = interleave_axes(coarse, self.axes)
        return {self._moved(parity, self.kept): block for parity, block in joined.items()}

    def to_coarse(self, kept: Blocks) -> Blocks:
        """The kept blocks of the finer level as blocks of the coarser one."""
        coarse: Blocks = {}
        for parity, block in kept.items():
            for inner, part in split(block, self.axes).items():
                coarse[self._moved(parity, inner)] = part
        return dict(sorted(coarse.items()))

    def _moved(self, parity: Parity, source: Parity) -> Parity:
        return tuple(source[d] if d in self.axes else p for d, p in enumerate(parity))

    def shift(self, block: jax.Array, axis: int, parity: int, offset: int) -> jax.Array:
        """Neighbours along a coarsened axis, of which one side is kept and the other dropped."""
        return shift(block, axis, parity, offset, self.wraps[axis], self.shape[axis])


class LinearTransfer(eqx.Module):
    """Multilinear interpolation, and full weighting as its transpose in the rows' weights.

        r_J = Σ_j P_jJ w_j r_j / w_J,   w the lengths of the control volumes.

    Attributes:
        coarsening: which nodes are kept.
        interpolation: per coarsened axis the shares of the kept neighbours below and above.
        restriction: per coarsened axis the share of the node itself and those of its dropped
            neighbours below and above.
    """

    coarsening: Coarsening
    interpolation: tuple[Pair, ...]
    restriction: tuple[tuple[Any, Any, Any], ...]

    def prolong(self, coarse: Blocks) -> Blocks:
        """P e, on all blocks of the finer level."""
        c = self.coarsening
        e = c.from_coarse(coarse)
        for axis, (low, high) in zip(c.axes, self.interpolation, strict=True):
            p = 1 - c.kept[axis]
            dropped = {}
            for parity, block in e.items():
                below, above = (c.shift(block, axis, p, step) for step in (-1, 1))
                dropped[flipped(parity, (axis,))] = _times(low, below, axis) + _times(
                    high, above, axis
                )
            e = e | dropped
        return dict(sorted(e.items()))

    def restrict(self, r: Blocks) -> Blocks:
        """Restrict rows to the coarser level."""
        c = self.coarsening
        for axis, (own, low, high) in zip(c.axes, self.restriction, strict=True):
            kept = {}
            for parity, block in r.items():
                if parity[axis] == c.kept[axis]:
                    dropped = r[flipped(parity, (axis,))]
                    below, above = (c.shift(dropped, axis, parity[axis], step) for step in (-1, 1))
                    kept[parity] = (
                        _times(own, block, axis)
                        + _times(low, below, axis)
                        + _times(high, above, axis)
                    )
            r = kept
        return c.to_coarse(r)


def linear_transfer(axes: tuple[Axis, ...], coarsened: tuple[int, ...]) -> LinearTransfer:
    """The transfer that coarsens some of a level's axes."""
    interpolation, restriction = [], []
    for axis in coarsened:
        line = axes[axis]
        low, high = line.linear()
        interpolation.append((_plain(low), _plain(high)))
        fine, coarse = line.weights(), line.coarser().weights()
        dropped = fine[1 - line.kept :: 2]
        # A kept node takes from the dropped one below what that has of it as the node above.
        size = len(coarse)
        from_below, from_above = np.zeros(size), np.zeros(size)
        for j in range(len(dropped)):
            below = j - line.kept
            if line.is_periodic or below >= 0:
                from_above[below % size] = low[j] * dropped[j]
            above = below + 1
            if line.is_periodic or above < size:
                from_below[above % size] = high[j] * dropped[j]
        parts = fine[line.kept :: 2], from_below, from_above
        restriction.append(tuple(_plain(part / coarse) for part in parts))
    return LinearTransfer(coarsening_of(axes, coarsened), tuple(interpolation), tuple(restriction))


def coarsening_of(axes: tuple[Axis, ...], coarsened: tuple[int, ...]) -> Coarsening:
    """Name what is kept where."""
    return Coarsening(
        shape=tuple(line.size for line in axes),
        wraps=tuple(line.is_periodic for line in axes),
        kept=tuple(line.kept for line in axes),
        axes=coarsened,
    )


def _plain(values: np.ndarray) -> Any:
    """One number where all are equal."""
    return float(values[0]) if len(values) and np.ptp(values) <= 1e-12 else values


def _times(share: Any, block: jax.Array, axis: int) -> jax.Array:
    if isinstance(share, float):
        return block * jnp.asarray(share, block.dtype)
    return block * along(share, axis, block)


class CubicInterpolation(eqx.Module):
    """Interpolation of a solution, for full multigrid: fourth order, one axis after the other.

    Attributes:
        coarsening: which nodes are kept.
        weights: per coarsened axis, weights by offset from the kept node below.
    """

    coarsening: Coarsening
    weights: tuple[dict[int, Any], ...]

    def prolong(self, coarse: Blocks) -> Blocks:
        """The solution on all blocks of the finer level."""
        c = self.coarsening
        e = c.from_coarse(coarse)
        for axis, weights in zip(c.axes, self.weights, strict=True):
            first, count = -c.kept[axis], (c.shape[axis] + c.kept[axis]) // 2
            dropped = {}
            for parity, block in e.items():
                total = jnp.zeros((), block.dtype)
                for offset, weight in weights.items():
                    moved = _window(block, axis, first + offset, count, c.wraps[axis])
                    total = total + _times(weight, moved, axis)
                dropped[flipped(parity, (axis,))] = total
            e = e | dropped
        return dict(sorted(e.items()))


def _window(block: jax.Array, axis: int, start: int, count: int, wraps: bool) -> jax.Array:
    """Entries start … start + count − 1 along `axis`, 0 where there are none, or wrapped."""
    size = block.shape[axis]
    if wraps:
        repeats = jnp.concatenate([block] * (2 + (abs(start) + count) // size), axis)
        return jax.lax.slice_in_dim(repeats, start % size, start % size + count, axis=axis)
    inner = jax.lax.slice_in_dim(block, max(start, 0), min(start + count, size), axis=axis)
    return pad(inner, axis, max(-start, 0), max(start + count - size, 0))


def cubic_interpolation(axes: tuple[Axis, ...], coarsened: tuple[int, ...]) -> CubicInterpolation:
    """The interpolation that goes with coarsening some of a level's axes."""
    weights = tuple(
        {offset: _plain(values) for offset, values in axes[axis].cubic().items()}
        for axis in coarsened
    )
    return CubicInterpolation(coarsening_of(axes, coarsened), weights)
