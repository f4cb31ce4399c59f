"""Gaussian low-pass filters of scattered samples, many at once, tile by tile."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from solvers.arguments import checked
from solvers.compiler import HIGHEST

# Rows of a tile of distances, 4 MB in single precision. On two cores half as many took 10 to 40 %
# longer, twice as many 60 %. Only the tiles i ≤ j, each for its rows and its columns, saved 17 %.
TILE = 1024

# With so few coordinates differences are as cheap as the Gram product, and do not cancel.
FEW = 4


@jax.jit
def filtered(x: jax.Array, y: jax.Array, variances: jax.Array) -> jax.Array:
    """Filter samples by Gaussians of several variances, in one pass over tiles of distances.

    y_low(xᵢ) = Σⱼ yⱼ exp(−|xᵢ−xⱼ|²/(2δ)) / Σⱼ exp(−|xᵢ−xⱼ|²/(2δ))

    Args:
        x: sample points, shape (N, d).
        y: values, shape (N, m), in the precision of x.
        variances: δ, shape (V,), in that precision.

    Returns:
        y_low for each δ, shape (V, N, m).

    Cost: N²d operations for the distances, then for each δ N² exponentials and 2N²(m + 1)
        operations for the sums; memory for a copy of x, the result and some tiles.
    """
    low = _map_rows(lambda low, _: low, x, y, variances)
    return jnp.transpose(low, (1, 0, 3, 2)).reshape(len(variances), -1, y.shape[1])[:, : len(y)]


@jax.jit
def filtered_power(x: jax.Array, y: jax.Array, variances: jax.Array) -> jax.Array:
    """Σᵢ |y_low(xᵢ)|² for each δ, shape (V,), without keeping y_low; arguments as `filtered`."""

    def power(low: jax.Array, is_sample: jax.Array) -> jax.Array:
        return jnp.sum((low * is_sample[None, None]) ** 2, (1, 2))

    return jnp.sum(_map_rows(power, x, y, variances), 0)


def _map_rows(
    function: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    y: jax.Array,
    variances: jax.Array,
) -> jax.Array:
    """A function of y_low, shape (V, m, rows), and 1 for samples and 0 for padding, by blocks.

    A column of ones beside y makes the denominator part of the same product. It is at least 1,
    however small δ, as |xᵢ−xᵢ| is 0 exactly.
    """
    blocks = in_blocks(x - jnp.mean(x, 0, keepdims=True))
    weights = in_blocks(jnp.concatenate([y, jnp.ones_like(y, shape=(len(y), 1))], 1))
    weights = jnp.swapaxes(weights, 1, 2)  # in this order the product with a tile is fastest
    # Finite even where 1/δ is not, so that its product with the distance 0 is 0.
    rates = jnp.minimum(0.5 / variances, jnp.finfo(y.dtype).max)
    every = jnp.arange(len(blocks))

    def row(i: jax.Array) -> jax.Array:
        def add(sums: jax.Array, j: jax.Array) -> tuple[jax.Array, None]:
            distances = tile_of_distances(blocks, j, i)
            return sums + jax.lax.map(
                lambda rate: _product(weights[j], jnp.exp(-rate * distances)), rates
            ), None

        zero = jnp.zeros((len(rates), *weights.shape[1:]), y.dtype)
        sums, _ = jax.lax.scan(add, zero, every)
        return function(sums[:, :-1] / jnp.maximum(sums[:, -1:], 1), weights[i, -1])

    return jax.lax.map(row, every)


def tile_of_distances(blocks: jax.Array, i: jax.Array, j: jax.Array) -> jax.Array:
    """|xᵢ−xⱼ|² between the rows of two blocks, 0 exactly from a row to itself.

    Args:
        blocks: rows, shape (blocks, rows, d), with their mean near 0: |a|² + |b|² − 2a·b cancels.
        i, j: which two.

    Returns:
        shape (rows, rows).
    """
    a, b = blocks[i], blocks[j]
    if a.shape[1] <= FEW:
        squares = [(a[:, k, None] - b[None, :, k]) ** 2 for k in range(a.shape[1])]
        return sum(squares[1:], squares[0])
    norms = jnp.sum(a * a, 1)[:, None] + jnp.sum(b * b, 1)[None, :]
    is_itself = (i == j) & jnp.eye(len(a), dtype=bool)
    return jnp.where(is_itself, 0, jnp.maximum(norms - 2 * _product(a, b.T), 0))


def in_blocks(rows: jax.Array) -> jax.Array:
    """Rows in blocks of equal size, at most `TILE`, zeros at the end."""
    count = math.ceil(len(rows) / TILE)
    each = math.ceil(len(rows) / count)
    padded = jnp.pad(rows, ((0, count * each - len(rows)), (0, 0)))
    return padded.reshape(count, each, rows.shape[1])


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=HIGHEST)


def checked_samples(x: Any, **values: Any) -> tuple[jax.Array, ...]:
    """Sample points and values there, as floats of one precision: double if any of them is.

    Raises:
        ValueError: naming x or the values, for a wrong shape, complex or non-finite numbers.
    """
    points = _checked_floats("x", x)
    if points.ndim != 2 or points.size == 0:
        hint = "; give samples on a line as x[:, None]" if points.ndim == 1 else ""
        raise ValueError(f"x: expected shape (N, d), neither of them 0, got {points.shape}{hint}")
    arrays = [points]
    for name, value in values.items():
        array = _checked_floats(name, value)
        if array.ndim not in (1, 2) or len(array) != len(points) or array.size == 0:
            expected = f"({len(points)},) or ({len(points)}, m), a row for each of x"
            raise ValueError(f"{name}: expected shape {expected}, got {array.shape}")
        arrays.append(array)
    is_double = any(array.dtype == jnp.float64 for array in arrays)
    return tuple(array.astype(jnp.float64 if is_double else jnp.float32) for array in arrays)


def checked_variances(name: str, value: Any, ndim: int) -> jax.Array:
    """Give δ as floats, or raise a `ValueError`: one number for `ndim` 0, a list of them for 1."""
    variances = _checked_floats(name, value)
    if variances.ndim != ndim or variances.size == 0:
        expected = "one number" if ndim == 0 else "a list of numbers"
        raise ValueError(f"{name}: expected {expected}, got shape {variances.shape}")
    return checked(name, variances, "a positive variance", lambda v: v <= 0)


def _checked_floats(name: str, value: Any) -> jax.Array:
    array = jnp.asarray(value)
    if jnp.iscomplexobj(array):
        raise ValueError(f"{name}: expected real numbers, got {array.dtype}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(jnp.float32)
    return checked(name, array, "finite numbers")
