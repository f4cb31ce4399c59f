"""Several Jacobi sweeps in one kernel, which reads a tile with a rim and sweeps in fast memory."""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from solvers.grid import Boundary, Grid
from solvers.operators import EllipticOperator
from solvers.placement import default_platform, is_spread
from solvers.relaxation.tiles import SUBLANES, Axis, Layout, lay_out, store, unstore, wrap

# Bytes of fast memory that the compiler may use: tiles and what it keeps of a chunk.
LIMIT = 56 * 2**20

Pair = tuple[jax.Array, jax.Array]


def check_fused(operator: Any, sweeps: int, *, interpret: Any) -> EllipticOperator:
    """Give the operator back, or raise a `ValueError` if there is no kernel for it."""
    if not isinstance(operator, EllipticOperator) or operator.grid.ndim == 1:
        raise ValueError("fused: expected an EllipticOperator on a grid of two or three axes")
    if is_spread():
        raise ValueError("fused: expected one device, a kernel sees only its own; leave it out")
    grid = operator.grid
    wrapped = [n for axis, n in enumerate(grid.shape) if grid.is_periodic(axis)]
    if min(wrapped, default=sweeps) < sweeps:
        raise ValueError(
            f"fused: expected at most {min(wrapped)}, as a periodic axis has nodes, got {sweeps}"
        )
    if interpret:
        return operator
    platform = default_platform()
    if platform != "tpu":
        raise ValueError(
            f"fused: expected a TPU, for the platform {platform} there is no kernel; leave it out, "
            "or try it slowly with interpret=True"
        )
    if grid.dtype != jnp.float32:
        raise ValueError(f"fused: a TPU's kernel computes in float32, the grid is in {grid.dtype}")
    return operator


class FusedSweeps(eqx.Module):
    """What the kernel knows of A and ω; it works on pairs of u and g = ωD⁻¹b, stored.

    Attributes:
        layout: how they are stored; static.
        numbers: s = ω/(Σ(low + high) + c), a/hᵢ² of each axis, c, shape (1, axes + 2); 0 for those
            that vary.
        arrays: those that vary, stored, else None; of a/hᵢ² the low face of each node.
    """

    layout: Layout = eqx.field(static=True)
    numbers: jax.Array
    arrays: tuple[jax.Array | None, ...]

    def start(self, u: jax.Array, g: jax.Array) -> Pair:
        return store(u, self.layout), store(g, self.layout)

    def current(self, carry: Pair) -> jax.Array:
        return unstore(carry[0], self.layout)

    def sweep(self, carry: Pair, count: Any, *, interpret: Any) -> Pair:
        """Do `count` ≤ m sweeps, u ← u + g − s·(Σ low·(u − before) + high·(u − after) + c u)."""
        layout, (u, g) = self.layout, carry
        cut = layout.axes[:-1]
        arrays = [x for x in self.arrays if x is not None]
        read = partial(_blocks, cut, shift=(0,) * len(cut))
        tile, rims = tuple(a.tile for a in layout.axes), tuple(a.rim for a in cut)
        copies = pltpu.VMEM((2, *layout.longer(2 * layout.beside)), u.dtype)
        kernel = pl.pallas_call(
            partial(_relax_tile, layout, [x is not None for x in self.arrays]),
            out_shape=jax.ShapeDtypeStruct(u.shape, u.dtype),
            grid=tuple(axis.count for axis in cut),
            in_specs=[
                *[pl.BlockSpec(memory_space=pltpu.SMEM)] * 2,
                *[read(layout.block)] * 2,
                *[read(layout.longer(layout.beside))] * len(arrays),
            ],
            out_specs=_blocks(cut, tile, shift=rims),
            scratch_shapes=[copies],
            compiler_params=pltpu.CompilerParams(vmem_limit_bytes=LIMIT),
            interpret=interpret,
        )
        count = jnp.full((1, 1), count, jnp.int32)
        with jax.enable_x64(u.dtype == jnp.float64):  # a TPU has no integers of 64 bits
            found = kernel(count, self.numbers, u, g, *arrays)
        return wrap(found, layout), g


def prepare_fused(operator: EllipticOperator, damping: jax.Array, sweeps: int) -> FusedSweeps:
    """Scale and store the coefficients for kernels of at most `sweeps` sweeps."""
    grid, layout = operator.grid, lay_out(operator, sweeps)
    zero = jnp.zeros((), grid.dtype)
    reaction = zero if operator.reaction is None else operator.reaction
    if operator.is_constant:  # no row differs, not even at a Neumann side
        scale = damping / (2 * sum(operator.conductances, zero) + reaction)
    else:
        scale = damping * operator.weigh(jnp.ones(grid.shape, grid.dtype)) / operator.diagonal()
    faces = [_low_faces(grid, x, axis) for axis, x in enumerate(operator.conductances)]
    values = (scale, *faces, reaction)
    numbers = jnp.stack([zero if x.ndim else x for x in values])[None]
    return FusedSweeps(layout, numbers, tuple(store(x, layout) if x.ndim else None for x in values))


def _low_faces(grid: Grid, faces: jax.Array, axis: int) -> jax.Array:
    """Varying faces along one axis, beyond a Neumann side as before it, and the seam only once."""
    if faces.ndim == 0:
        return faces
    size = faces.shape[axis]

    def face(i: int) -> jax.Array:
        return jax.lax.slice_in_dim(faces, i, i + 1, axis=axis)

    low, high = (side is Boundary.NEUMANN for side in grid.boundary[axis])
    inner = jax.lax.slice_in_dim(faces, 1, size - 1, axis=axis)
    if grid.is_periodic(axis) and axis < grid.ndim - 1:
        return jnp.concatenate([face(0), inner], axis)
    # Of the last axis, which has no rim, the seam's face is kept at both ends.
    ends = face(1 if low else 0), face(size - 2 if high else size - 1)
    return jnp.concatenate([ends[0], inner, ends[1]], axis)


def _blocks(cut: tuple[Axis, ...], shape: tuple[int, ...], shift: tuple[int, ...]) -> pl.BlockSpec:
    """Blocks of which the first starts at `shift`, each next one a tile later."""

    def start(*tile: Any) -> tuple[Any, ...]:
        starts = [i * axis.tile + by for i, axis, by in zip(tile, cut, shift, strict=True)]
        return (*starts[:-1], pl.multiple_of(starts[-1], SUBLANES), 0)

    return pl.BlockSpec(tuple(pl.Element(n) for n in shape), start)


def _relax_tile(
    layout: Layout, varies: list[bool], count: Any, numbers: Any, u: Any, g: Any, *refs: Any
) -> None:
    """Sweep to and fro between two copies of a block, of which the tile in the middle is right.

    Each sweep spoils one more node at the ends of the block, and no more than the rim.
    """
    *given, out, copies = refs
    arrays = iter(given)
    (first, *others), beside, chunk = layout.axes, layout.beside, layout.chunk
    # Not within the loop, where Pallas's interpreter does not know them.
    corner = [pl.program_id(d) * axis.tile - axis.rim for d, axis in enumerate(layout.axes[:-1])]
    chunks = _Chunks(layout, corner, numbers, [next(arrays) if it else None for it in varies], g)
    middle = [pl.ds(axis.rim, axis.tile) for axis in others]
    last = count[0, 0] % 2

    def rows(i: Any, size: int) -> Any:
        return i * size if len(others) > 1 else pl.multiple_of(i * size, SUBLANES)

    @pl.loop(0, first.block // beside)
    def _(i: Any) -> None:
        row = rows(i, beside)
        copies[0, pl.ds(row + beside, beside)] = u[pl.ds(row, beside)]

    @pl.loop(0, count[0, 0])
    def _(k: Any) -> None:
        source, target = copies.at[k % 2], copies.at[1 - k % 2]

        @pl.loop(0, first.block // chunk)
        def _(i: Any) -> None:
            row = rows(i, chunk)
            target[pl.ds(row + beside, chunk)] = chunks.relaxed(row, source)

    @pl.loop(0, first.tile // beside)
    def _(i: Any) -> None:
        row = rows(i, beside)
        out[pl.ds(row, beside)] = copies[(last, pl.ds(row + beside + first.rim, beside), *middle)]


class _Chunks(NamedTuple):
    """A block of g and of the coefficients, in chunks: rows in 2-D, planes in 3-D."""

    layout: Layout
    corner: list[Any]
    numbers: Any
    arrays: list[Any]
    g: Any

    def relaxed(self, row: Any, u: Any) -> jax.Array:
        """The chunk at `row` after one sweep; `u` has rows beside it."""
        chunk, beside = self.layout.chunk, self.layout.beside
        window = u[pl.ds(row, chunk + 2 * beside)]
        v = window[beside : beside + chunk]
        rows = self.value(-1, row) * v
        for d in range(v.ndim):
            before, after = (
                _moved(window, by, d)[beside : beside + chunk] if d == 0 else _moved(v, by, d)
                for by in (1, -1)
            )
            before, after = self.bounded(d, row, v, before, after)
            low, high = self.faces(d, row)
            rows = rows + low * (v - before) + high * (v - after)
        return v + self.g[pl.ds(row, chunk)] - self.value(0, row) * rows

    def value(self, place: int, row: Any, more: int = 0) -> Any:
        """A coefficient: a number, or its values on the chunk."""
        ref = self.arrays[place]
        return self.numbers[0, place] if ref is None else ref[pl.ds(row, self.layout.chunk + more)]

    def faces(self, d: int, row: Any) -> tuple[Any, Any]:
        """Coefficients of the low and the high face of each node."""
        if self.arrays[1 + d] is None:
            return self.value(1 + d, row), self.value(1 + d, row)
        low = self.value(1 + d, row, self.layout.beside if d == 0 else 0)
        chunk = self.layout.chunk
        return low[:chunk], _moved(low, -1, d)[:chunk]

    def bounded(
        self, d: int, row: Any, v: jax.Array, before: jax.Array, after: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Neighbours along an axis, at its ends what the sides say: 0, mirrored, or wrapped."""
        grid, axis = self.layout.grid, self.layout.axes[d]
        is_last = d == v.ndim - 1
        if grid.is_periodic(d) and not is_last:
            return before, after  # the rim has them
        index = jax.lax.broadcasted_iota(jnp.int32, v.shape, d)
        if not is_last:
            index = index + (self.corner[d] + (row if d == 0 else 0))
        n = axis.unknowns
        outer: list[Any] = [
            mirrored if side is Boundary.NEUMANN else 0.0
            for side, mirrored in zip(grid.boundary[d], (after, before), strict=True)
        ]
        if grid.is_periodic(d):
            outer = [v[..., n - 1 : n], v[..., :1]]
        return jnp.where(index == 0, outer[0], before), jnp.where(index == n - 1, outer[1], after)


def _moved(x: jax.Array, by: int, axis: int) -> jax.Array:
    return pltpu.roll(x, by % x.shape[axis], axis)
