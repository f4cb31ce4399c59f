"""Exact solves on the coarsest level."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.compiler import HIGHEST
from solvers.multigrid.axis import Axis
from solvers.multigrid.blocks import Blocks, Values, join, split
from solvers.multigrid.level import Level
from solvers.multigrid.stacked import Layout, unstack
from solvers.multigrid.stencil import StencilLevel

# Multiplications of a tensor solve that costs less than the levels it saves, its longest axis, and
# the unknowns of a dense solve.
TENSOR_WORK, TENSOR_AXIS, DENSE_SIZE = 2**22, 128, 400
SWEPT = 16  # rows at a time


class TensorSolve(eqx.Module):
    """Solve constant coefficients in the eigenvectors of each axis, by products of small matrices.

        u = V [ (VᵀW f)_k / (Σᵢ sᵢλ_kᵢ + c) ],   AᵢVᵢ = VᵢΛᵢ,   VᵢᵀWᵢVᵢ = 1.

    Reference: Lynch, Rice, Thomas 1964, Numer. Math. 6, 185–199, doi:10.1007/BF01386067.
    """

    analysis: tuple[Any, ...]
    synthesis: tuple[Any, ...]
    inverse: jax.Array

    def __call__(self, f: Blocks) -> Blocks:
        u = join(f)
        for axis, matrix in enumerate(self.analysis):
            u = _product(matrix, u, axis)
        u = u * self.inverse.astype(u.dtype)
        for axis, matrix in enumerate(self.synthesis):
            u = _product(matrix, u, axis)
        return split(u)

    def to_blocks(self, u: Blocks) -> Blocks:
        """The blocks of a function."""
        return u


def fits_tensor(axes: tuple[Axis, ...]) -> bool:
    """Whether a tensor solve is cheaper than another level."""
    sizes = [line.size for line in axes]
    return max(sizes) <= TENSOR_AXIS and math.prod(sizes) * sum(sizes) <= TENSOR_WORK


def tensor_solve(
    axes: tuple[Axis, ...],
    strengths: tuple[jax.Array, ...],
    reaction: jax.Array | None,
    *,
    is_singular: bool | jax.Array,
) -> TensorSolve:
    """Prepare the solve; one that is singular, or nearly, is that of the pseudo-inverse."""
    analysis, synthesis = [], []
    total = jnp.zeros((), strengths[0].dtype) if reaction is None else reaction
    for axis, (line, strength) in enumerate(zip(axes, strengths, strict=True)):
        values, vectors = _eigen(line)
        root = np.sqrt(line.weights())
        analysis.append(vectors.T * root)
        synthesis.append(vectors / root[:, None])
        shape = [-1 if d == axis else 1 for d in range(len(axes))]
        total = total + strength * jnp.asarray(values.reshape(shape), strength.dtype)
    if is_singular is not False:
        # Each axis has the eigenvalue 0 first.
        first = np.zeros(total.shape, bool)
        first[(0,) * len(axes)] = True
        null = first & is_singular
        inverse = jnp.where(null, 0, 1 / jnp.where(null, 1, total))
    else:
        inverse = 1 / total
    return TensorSolve(tuple(analysis), tuple(synthesis), inverse)


def _eigen(line: Axis) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of W^½ A W^−½, the axis' second difference made symmetric."""
    size, weights = line.size, line.weights()
    low, high = line.couplings()
    matrix = np.diag(low + high)
    j = np.arange(size)
    np.add.at(matrix, (j, (j - 1) % size), np.where(_has_node_below(line), -low, 0))
    np.add.at(matrix, (j, (j + 1) % size), np.where(_has_node_above(line), -high, 0))
    root = np.sqrt(weights)
    symmetric = root[:, None] * matrix / root
    values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
    return np.where(np.abs(values) < 1e-12 * max(values.max(), 1), 0, values), vectors


def _has_node_below(line: Axis) -> np.ndarray:
    return np.ones(line.size, bool) if line.is_periodic else np.arange(line.size) > 0


def _has_node_above(line: Axis) -> np.ndarray:
    return np.ones(line.size, bool) if line.is_periodic else np.arange(line.size) < line.size - 1


def _product(matrix: np.ndarray, u: jax.Array, axis: int) -> jax.Array:
    product = jnp.tensordot(jnp.asarray(matrix, u.dtype), u, (1, axis), precision=HIGHEST)
    return jnp.moveaxis(product, 0, axis)


class DenseSolve(eqx.Module):
    """Multiply with the inverse of a small matrix.

    Attributes:
        inverse: of the level's matrix.
        layout: of its functions where these are stacks, None for blocks.
    """

    inverse: jax.Array
    layout: Layout | None = eqx.field(static=True)

    def __call__(self, f: Values) -> Values:
        nodes = join(f) if self.layout is None else self.layout.join(f)
        inverse = self.inverse.astype(nodes.dtype)
        u = jnp.matmul(inverse, nodes.reshape(-1), precision=HIGHEST).reshape(nodes.shape)
        return split(u) if self.layout is None else self.layout.split(u)

    def to_blocks(self, u: Values) -> Blocks:
        """The blocks of a function."""
        return u if self.layout is None else unstack(u, self.layout)


def dense_solve(level: Level | StencilLevel, *, is_singular: bool | jax.Array) -> DenseSolve:
    """Invert a level of symmetric rows; of one that is singular, or nearly, the pseudo-inverse.

    Whether it is nearly so may be traced.
    """
    size = math.prod(level.shape)
    dtype = level.dtype

    def column(e: jax.Array) -> jax.Array:
        return level.join(level.apply(level.split(e.reshape(level.shape)))).reshape(-1)

    matrix = jax.vmap(column)(jnp.eye(size, dtype=dtype))
    matrix = (matrix + matrix.T) / 2
    # Diagonal 1, so that jumps of the coefficients do not spoil the factors.
    scale = 1 / jnp.sqrt(jnp.diagonal(matrix))
    scale = jnp.where(jnp.isfinite(scale), scale, 1)
    if is_singular is not False:
        # Fix the mean by a multiple of nnᵀ, n constant: its inverse there does no harm.
        n = _constant(level) if is_singular is True else jnp.where(is_singular, jnp.ones(size), 0)
        n = n.astype(dtype) / jnp.sqrt(jnp.maximum(jnp.sum(n), 1)).astype(dtype)
        matrix = matrix + jnp.max(jnp.diagonal(matrix)) * n[:, None] * n[None]
        even = jnp.full_like(scale, 1 / jnp.sqrt(jnp.max(jnp.diagonal(matrix))))
        scale = jnp.where(is_singular, even, scale)
    inverse = inverse_of(scale[:, None] * matrix * scale[None])
    inverse = scale[:, None] * inverse * scale[None]
    if is_singular is not False:
        inverse = inverse - n[:, None] * jnp.sum(n[:, None] * inverse, 0)[None]
        inverse = inverse - jnp.sum(n[None] * inverse, 1)[:, None] * n[None]
    return DenseSolve(inverse, level.layout if isinstance(level, StencilLevel) else None)


def _constant(level: Level | StencilLevel) -> jax.Array:
    """1 where row sums are 0, and 0 at nodes without a medium; flat."""
    excess = jnp.zeros(level.shape, level.dtype)
    if level.excess is not None:
        excess = level.join(level.excess)
    return jnp.where(excess == 0, 1, 0).astype(level.dtype).reshape(-1)


def inverse_of(matrix: jax.Array) -> jax.Array:
    """Invert a symmetric positive definite matrix by sweeping its rows, sixteen at a time.

    A sweep of the rows and columns K replaces

        A_KK ← −A_KK⁻¹,   A_KR ← A_KK⁻¹ A_KR,   A_RR ← A_RR − A_RK A_KK⁻¹ A_KR,

    and after all of them A is −A⁻¹. LAPACK is as quick; but on the CPU its second thread then spins
    for some 50 ms, on a core that the cycles need (a solve at 512², a varying: 142 ms, now 86).
    Elsewhere, where so many small steps are slow, by Cholesky's factors.

    Cost: 2n³ operations in n/16 steps.

    Reference: Goodnight 1979, "A tutorial on the SWEEP operator", Am. Stat. 33, 149–158,
    doi:10.1080/00031305.1979.10482685.

    Example:
        >>> print(inverse_of(jnp.asarray([[2.0, 1.0], [1.0, 1.0]])).round(6))
        [[ 1. -1.]
         [-1.  2.]]
    """
    return jax.lax.platform_dependent(matrix, cpu=_by_sweeps, default=_by_factors)


def _by_factors(matrix: jax.Array) -> jax.Array:
    factor = jax.scipy.linalg.cho_factor(matrix, lower=True)
    return jax.scipy.linalg.cho_solve(factor, jnp.eye(len(matrix), dtype=matrix.dtype))


def _by_sweeps(matrix: jax.Array) -> jax.Array:
    size = len(matrix)
    width = min(SWEPT, size)
    steps = math.ceil(size / width)
    missing = steps * width - size
    A = jnp.pad(matrix, (0, missing)) + np.diag([0] * size + [1] * missing).astype(matrix.dtype)
    swept = jax.lax.fori_loop(0, steps, lambda i, A: _swept(A, i * width, width), A)
    return -swept[:size, :size]


def _swept(A: jax.Array, start: jax.Array, width: int) -> jax.Array:
    """A with `width` rows swept from `start` on."""
    rows = jax.lax.dynamic_slice(A, (start, 0), (width, len(A)))
    if width == 1:
        inverse = 1 / jax.lax.dynamic_slice(rows, (0, start), (1, 1))
    else:
        pivot = jax.lax.dynamic_slice(rows, (0, start), (width, width))
        inverse = -jax.lax.fori_loop(0, width, lambda k, P: _swept(P, k, 1), pivot)
    scaled = jnp.matmul(inverse, rows, precision=HIGHEST)
    A = A - jnp.matmul(rows.T, scaled, precision=HIGHEST)
    scaled = jax.lax.dynamic_update_slice(scaled, -inverse, (0, start))
    A = jax.lax.dynamic_update_slice(A, scaled, (start, 0))
    return jax.lax.dynamic_update_slice(A, scaled.T, (0, start))


def coarsest_size(axes: tuple[Axis, ...]) -> int:
    """Number of unknowns."""
    return math.prod(line.size for line in axes)
