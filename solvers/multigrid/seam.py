"""Seams: where the last and the first node along a periodic axis of odd length meet.

They are neighbours of equal parity, and on coarse levels near each other: relaxed one by one they
would not settle. So pairs across a seam are relaxed together, and where two or three seams cross,
the four or eight nodes there.
"""

import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from solvers.multigrid.stacked import Offset

Share = Callable[[Offset], jax.Array | None]


def crossings(axes: list[int]) -> Iterator[tuple[int, ...]]:
    """Seams alone, then where two of them cross, and so on: the later replaces the earlier."""
    for count in range(1, len(axes) + 1):
        yield from itertools.combinations(axes, count)


def solve_crossing(
    share: Share, axes: tuple[int, ...], old: jax.Array | None, target: jax.Array
) -> list[tuple[tuple[int, ...], jax.Array]]:
    """Relax the nodes next to the seams of all `axes` together, in a block of equal parity.

    Args:
        share: s_o/d at all nodes of the block, by offset; None for 0.
        axes: whose seams they are next to.
        old: the block's values, None for 0.
        target: D⁻¹(f + Σ s u) with the old values.

    Returns:
        (start, values) of the parts of the block that are solved.
    """
    ends = list(itertools.product((0, 1), repeat=len(axes)))
    starts = [_start(target, axes, end) for end in ends]

    def part(x: jax.Array, start: tuple[int, ...]) -> jax.Array:
        sizes = [1 if d in axes else n for d, n in enumerate(target.shape)]
        return jax.lax.dynamic_slice(jnp.broadcast_to(x, target.shape), start, sizes)

    rows, loads = [], []
    for end, start in zip(ends, starts, strict=True):
        load, row = part(target, start), []
        for other, place in zip(ends, starts, strict=True):
            s = share(_offset(target.ndim, axes, end, other)) if end != other else None
            row.append(jnp.full_like(load, end == other) if s is None else -part(s, start))
            if s is not None and old is not None:
                load = load - part(s, start) * part(old, place)
        rows.append(row)
        loads.append(load)
    return list(zip(starts, _solve(rows, loads), strict=True))


def _solve(rows: list[list[jax.Array]], loads: list[jax.Array]) -> list[jax.Array]:
    if len(rows) == 2:
        (_, a), (b, _) = rows
        scale = 1 - a * b
        return [(loads[0] - a * loads[1]) / scale, (loads[1] - b * loads[0]) / scale]
    matrix = jnp.stack([jnp.stack(row, -1) for row in rows], -2)
    solved = jnp.linalg.solve(matrix, jnp.stack(loads, -1)[..., None])[..., 0]
    return [solved[..., i] for i in range(len(rows))]


def _start(block: jax.Array, axes: tuple[int, ...], end: tuple[int, ...]) -> tuple[int, ...]:
    start = [0] * block.ndim
    for axis, is_last in zip(axes, end, strict=True):
        start[axis] = is_last * (block.shape[axis] - 1)
    return tuple(start)


def _offset(
    ndim: int, axes: tuple[int, ...], end: tuple[int, ...], other: tuple[int, ...]
) -> Offset:
    """From the nodes at one end of each axis to those at another: beyond the seam, or 0."""
    offset = [0] * ndim
    for axis, here, there in zip(axes, end, other, strict=True):
        offset[axis] = 0 if here == there else 2 * here - 1
    return tuple(offset)
