"""Which frequencies are there, which are wrong, and how fast a relaxation removes them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from solvers import transforms
from solvers.arguments import expect
from solvers.grid import Grid, square_root
from solvers.operators import EllipticOperator
from solvers.relaxation.gauss_seidel import GaussSeidel
from solvers.relaxation.jacobi import Jacobi


def modes(u: jax.Array, grid: Grid) -> jax.Array:
    """Coefficients of `u` in the eigenbasis of the grid's Laplacian, products of 1-D modes.

    u = Σ_k û_k φ_{k₁}(x₁) φ_{k₂}(x₂)…, φ as in `solvers.transforms`: sin(πk(x−lower)/L) between two
    Dirichlet sides, so that û_k is the amplitude of the wave with k half-periods.

    Args:
        u: values at the unknowns, shape `grid.shape`.
        grid: where.

    Returns:
        û, shape `grid.shape`, lowest mode first along each axis.

    Cost: one FFT of twice the length per axis.

    Example:
        >>> grid = Grid(8)
        >>> u = 3 * jnp.sin(2 * jnp.pi * grid.coordinates()[0])[grid.unknowns]
        >>> print(abs(modes(u, grid)).round(3))
        [0. 3. 0. 0. 0. 0. 0.]
    """
    return _analyzed(grid, grid.restrict("u", u))


def from_modes(coefficients: jax.Array, grid: Grid) -> jax.Array:
    """Values at the unknowns of Σ_k û_k φ_k, the inverse of `modes`."""
    return _synthesized(grid, grid.restrict("coefficients", coefficients))


@jax.jit
def _analyzed(grid: Grid, u: jax.Array) -> jax.Array:
    for axis in range(grid.ndim):
        u = transforms.analyze(u, grid, axis)
    return u


@jax.jit
def _synthesized(grid: Grid, u: jax.Array) -> jax.Array:
    for axis in range(grid.ndim):
        u = transforms.synthesize(u, grid, axis)
    return u


def error_by_mode(u: jax.Array, reference: jax.Array, grid: Grid) -> jax.Array:
    """|û_k − r̂_k| for every mode, shape `grid.shape`; both at the unknowns or on all nodes."""
    difference = grid.restrict("u", u) - grid.restrict("reference", reference)
    return jnp.abs(modes(difference, grid))


def dft(values: jax.Array) -> jax.Array:
    """(1/n) Σ_j values_j e^{−2πijk/n} for k = 0 … n/2, the publication's transform of n samples."""
    return jnp.fft.rfft(values) / values.shape[-1]


def relative_error(u: jax.Array, reference: jax.Array, indices: Sequence[int]) -> jax.Array:
    """Δ(k) = |û_k − r̂_k|/|r̂_k| at the given DFT indices, the publication's measure.

    Args:
        u, reference: 1-D fields on all nodes, both ends included.
        indices: frequencies k in waves per box.

    Returns:
        shape `(len(indices),)`.

    Raises:
        ValueError: for fields of other shapes, or an index that the transform does not have.

    Reference: Xu et al. 2019, "Frequency principle", eq. for Δ_F in §3, arXiv:1901.06523. Their
    code divides the difference of the moduli instead.
    """
    if u.ndim != 1 or u.shape != reference.shape:
        raise ValueError(f"u: expected a 1-D field of shape {reference.shape}, got {u.shape}")
    at, most = np.asarray(indices), u.shape[0] // 2
    if at.dtype.kind not in "iu" or ((at < 0) | (at > most)).any():
        raise ValueError(f"indices: expected whole numbers from 0 to {most}, got {indices!r}")
    wanted = dft(reference)[at]
    return jnp.abs(dft(u)[at] - wanted) / jnp.abs(wanted)


def jacobi_eigenvalues(operator: EllipticOperator) -> jax.Array:
    """Eigenvalues μ_k = 1 − λ_k/d of undamped Jacobi by mode, shape `grid.shape`; cos(kπ/n) in 1-D.

    Raises:
        ValueError: for varying coefficients, whose eigenvectors are not the grid's modes.
    """
    expect("operator", operator, EllipticOperator, "an EllipticOperator, as problem.operator is")
    if not operator.is_constant:
        raise ValueError("operator: expected constant coefficients")
    return _jacobi_eigenvalues(operator)


@jax.jit
def _jacobi_eigenvalues(operator: EllipticOperator) -> jax.Array:
    grid = operator.grid
    reaction = jnp.zeros((), grid.dtype) if operator.reaction is None else operator.reaction
    diagonal = reaction + sum(2 * c for c in operator.conductances)
    cosines = jnp.zeros((), grid.dtype)
    for axis, c in enumerate(operator.conductances):
        along = [-1 if d == axis else 1 for d in range(grid.ndim)]
        angles = jnp.asarray(transforms.angles(grid, axis), grid.dtype).reshape(along)
        cosines = cosines + 2 * c * jnp.cos(angles)
    return cosines / diagonal


def damping_factors(method: Any, operator: EllipticOperator) -> jax.Array:
    """Factor by which one sweep multiplies each mode of the error, shape `grid.shape`.

    Jacobi: 1 − ω(1 − μ_k), exact and with its sign. Gauss–Seidel: the modulus of the larger root of
    (λ + ω − 1)² = λω²μ_k², the factor in the long run; for ω = 1 it is μ_k². That is the theory of
    two colours: over-relaxed on a periodic axis of odd length, or in lexicographic order on any
    periodic axis, it is slower (5 × 7 nodes, the second axis periodic, ω = 1.5: 0.79 for 0.5).

    Raises:
        ValueError: for another method, or varying coefficients.

    Reference: Young 1971, Iterative Solution of Large Linear Systems, ch. 5, eq. 1.2.

    Example:
        >>> print(damping_factors(Jacobi(), EllipticOperator(Grid(4))).round(3))
        [ 0.707  0.    -0.707]
    """
    mu = jacobi_eigenvalues(operator)
    return damping_of(method, operator, mu)


def damping_of(method: Any, operator: EllipticOperator, mu: jax.Array) -> jax.Array:
    """Factor per sweep of `method` for an error that undamped Jacobi multiplies by `mu`."""
    if isinstance(method, Jacobi):
        return 1 - method.prepare(operator).damping * (1 - mu)
    if isinstance(method, GaussSeidel):
        omega = method.over_relaxation.astype(mu.dtype)
        half = omega * jnp.abs(mu) / 2
        inside = half**2 - (omega - 1)
        largest = half + square_root(jnp.maximum(inside, 0))
        return jnp.where(inside >= 0, largest**2, jnp.abs(omega - 1))
    raise ValueError(f"method: expected Jacobi or GaussSeidel, got {type(method).__name__}")


def by_frequency(coefficients: jax.Array, grid: Grid, count: int) -> jax.Array:
    """Amplitude at each frequency, √Σ û_k² over the modes of that many half-waves per box.

    The frequency of a mode is √Σᵢ(nᵢθᵢ/π)², rounded: k itself in 1-D, a shell of modes beyond.

    Args:
        coefficients: as from `modes`, shape `grid.shape`.
        grid: where.
        count: the highest frequency wanted.

    Returns:
        amplitudes at the frequencies 0 … count, shape `(count + 1,)`.
    """
    squares = np.zeros(())
    for axis in range(grid.ndim):
        along = [-1 if d == axis else 1 for d in range(grid.ndim)]
        waves = transforms.angles(grid, axis) * grid.intervals[axis] / np.pi
        squares = squares + waves.reshape(along) ** 2
    shell = np.rint(np.sqrt(squares)).astype(int)
    shell = np.where(shell <= count, shell, count + 1).reshape(-1)
    sums = jnp.zeros(count + 2, coefficients.dtype).at[shell].add(coefficients.reshape(-1) ** 2)
    return square_root(sums[: count + 1])
