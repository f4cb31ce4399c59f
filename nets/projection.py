"""The spectrum of scattered samples along one direction."""

from typing import Any

import jax
import jax.numpy as jnp

from nets.filtering import checked_samples
from solvers.arguments import checked
from solvers.compiler import HIGHEST


def principal_direction(x: Any) -> jax.Array:
    """Find the direction in which samples vary most.

    The unit eigenvector of the largest eigenvalue of the covariance (1/N) Σⱼ (xⱼ−x̄)(xⱼ−x̄)ᵀ, with
    its largest entry positive. Where two eigenvalues are equal any vector of their plane is one.

    Args:
        x: sample points, shape (N, d).

    Returns:
        p, shape (d,); projections are x @ p.

    Raises:
        ValueError: for a wrong shape, an empty or non-finite input, or points all equal.

    Cost: 2Nd² operations for the covariance and about 9d³ for its eigenvectors, memory d².

    Reference: Xu et al. 2019, "Frequency principle", section 4.1, arXiv 1901.06523.

    Example:
        >>> print(principal_direction(jnp.array([[0.0, 1], [3, 5], [6, 9]])).round(2))
        [0.6 0.8]
    """
    (points,) = checked_samples(x)
    extent = jnp.max(jnp.ptp(points, 0))
    checked("x", extent, "points that differ, extent", lambda extent: extent <= 0)
    return _principal_direction(points)


@jax.jit
def _principal_direction(points: jax.Array) -> jax.Array:
    centred = points - jnp.mean(points, 0, keepdims=True)
    scaled = centred / jnp.max(jnp.abs(centred))  # squares neither overflow nor vanish
    _, vectors = jnp.linalg.eigh(jnp.matmul(scaled.T, scaled, precision=HIGHEST))
    direction = vectors[:, -1]
    return direction * jnp.sign(direction[jnp.argmax(jnp.abs(direction))])


def nonuniform_dft(positions: Any, y: Any, frequencies: Any) -> jax.Array:
    """Transform samples at any positions on a line.

    ŷ(k) = (1/N) Σⱼ yⱼ e^(−2πi k pⱼ)

    Args:
        positions: p, shape (N,): for samples x in many dimensions x @ principal_direction(x).
        y: values, shape (N,) or (N, m).
        frequencies: k in periods per unit of p, shape (K,), not only integers.

    Returns:
        ŷ, complex, shape (K,) or (K, m).

    Raises:
        ValueError: for a wrong shape, or an empty or non-finite input.

    Cost: KN sines and cosines and 4KNm operations; memory for one frequency at a time.

    Reference: Xu et al. 2019, section 4.1, eq. for the projected transform, arXiv 1901.06523.

    Example:
        >>> p = jnp.array([0.0, 0.1, 0.3, 0.35, 0.8])
        >>> print(abs(nonuniform_dft(p, jnp.cos(2 * jnp.pi * p), [0, 1])).round(3))
        [0.244 0.454]
    """
    line = jnp.asarray(positions)
    if line.ndim != 1 or line.size == 0:
        raise ValueError(f"positions: expected shape (N,), got {line.shape}")
    wanted = jnp.asarray(frequencies)
    if wanted.ndim != 1 or wanted.size == 0:
        raise ValueError(f"frequencies: expected a list of numbers, got shape {wanted.shape}")
    line = checked("positions", line, "finite numbers")
    wanted = checked("frequencies", wanted, "finite numbers")
    points, values = checked_samples(line[:, None], y=y)
    return _nonuniform_dft(points[:, 0], values, wanted.astype(values.dtype))


@jax.jit
def _nonuniform_dft(line: jax.Array, values: jax.Array, wanted: jax.Array) -> jax.Array:
    def transform(k: jax.Array) -> jax.Array:
        angles = 2 * jnp.pi * ((k * line) % 1)
        waves = jnp.stack([jnp.cos(angles), -jnp.sin(angles)])
        real, imaginary = jnp.matmul(waves, values, precision=HIGHEST) / len(line)
        return jax.lax.complex(real, imaginary)

    return jax.lax.map(transform, wanted)
