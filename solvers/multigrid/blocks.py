"""Grid functions stored by parity: one array for every combination of even and odd indices.

A function on a level with d axes is a dict of 2ᵈ blocks, block p ∈ {0, 1}ᵈ holding the nodes of
which the index along each axis i has parity pᵢ. All neighbours of a block's nodes lie in other
blocks, the colours of red-black and of 2ᵈ-colour relaxation are whole blocks, and so are the nodes
that a coarser level keeps: sweeps and transfers read memory in order and mask nothing away.

The one exception is a periodic axis of odd length, where the last and the first node are neighbours
of equal parity: the *seam*.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

Parity = tuple[int, ...]
Blocks = dict[Parity, jax.Array]
# A grid function as its level stores it: blocks, or (`stacked`) all of them in one array.
Values = Any


def parities(ndim: int) -> list[Parity]:
    """All parities, in lexicographic order."""
    return list(itertools.product((0, 1), repeat=ndim))


def flipped(parity: Parity, axes: Sequence[int]) -> Parity:
    """The parity of the neighbours along `axes`."""
    return tuple(1 - p if axis in axes else p for axis, p in enumerate(parity))


def split(u: jax.Array, axes: Sequence[int] | None = None) -> Blocks:
    """Blocks of `u`; along other axes than `axes` (default: all) it is taken as parity 0."""
    axes = range(u.ndim) if axes is None else axes
    blocks = {}
    for parity in parities(u.ndim):
        if all(axis in axes or p == 0 for axis, p in enumerate(parity)):
            start = [min(p, n) for p, n in zip(parity, u.shape, strict=True)]
            strides = [2 if axis in axes else 1 for axis in range(u.ndim)]
            blocks[parity] = jax.lax.slice(u, start, u.shape, strides)
    return blocks


def join(blocks: Blocks) -> jax.Array:
    """Put the blocks back in place, the inverse of `split`."""
    ndim = len(next(iter(blocks)))
    for axis in reversed(range(ndim)):
        evens = [parity for parity in blocks if parity[axis] == 0]
        blocks = {
            parity: _interleave(blocks[parity], blocks[flipped(parity, (axis,))], axis)
            for parity in evens
        }
    return blocks[(0,) * ndim]


def interleave_axes(blocks: Blocks, axes: Sequence[int]) -> Blocks:
    """Join the blocks along `axes` only; what is left has parity 0 there."""
    for axis in axes:
        blocks = {
            parity: _interleave(block, blocks[flipped(parity, (axis,))], axis)
            for parity, block in blocks.items()
            if parity[axis] == 0
        }
    return blocks


def _interleave(even: jax.Array, odd: jax.Array, axis: int) -> jax.Array:
    missing = even.shape[axis] - odd.shape[axis]
    shape = list(even.shape)
    shape[axis : axis + 1] = [shape[axis], 1]
    odd = pad(odd, axis, 0, missing)
    pairs = jax.lax.concatenate([even.reshape(shape), odd.reshape(shape)], axis + 1)
    shape[axis : axis + 2] = [2 * shape[axis]]
    joined = pairs.reshape(shape)
    return jax.lax.slice_in_dim(joined, 0, shape[axis] - missing, axis=axis)


def pad(block: jax.Array, axis: int, low: int, high: int) -> jax.Array:
    """Zeros before and after a block along one axis."""
    if low == high == 0:
        return block
    widths = [(low, high, 0) if d == axis else (0, 0, 0) for d in range(block.ndim)]
    return jax.lax.pad(block, jnp.zeros((), block.dtype), widths)


def shift(
    block: jax.Array, axis: int, parity: int, offset: int, wraps: bool, size: int
) -> jax.Array:
    """Neighbours of the nodes of one parity along `axis`, which are in the other parity's `block`.

    Args:
        block: the nodes of the other parity.
        axis: along which.
        parity: of the nodes that ask.
        offset: −1 for the neighbours at the lower index, +1 for those at the higher one.
        wraps: whether the axis is periodic; of odd length the seam gives 0.
        size: number of nodes along the axis, of both parities.
    """
    length = (size + 1 - parity) // 2
    # Node 2j + p has the neighbours j − 1 + p and j + p of the other parity.
    start = parity - (1 if offset < 0 else 0)
    count = block.shape[axis]
    if wraps and size % 2 == 0 and start != 0:
        cut = start % count if count else 0
        head = jax.lax.slice_in_dim(block, cut, count, axis=axis)
        return jnp.concatenate([head, jax.lax.slice_in_dim(block, 0, cut, axis=axis)], axis)
    low, high = max(0, -start), max(0, start + length - count)
    kept = jax.lax.slice_in_dim(block, max(0, start), min(count, start + length), axis=axis)
    return pad(kept, axis, low, high)
