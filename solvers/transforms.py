"""Sine, cosine and Fourier transforms along one axis: the eigenbasis of the grid's Laplacian.

On an axis of n intervals with nodes j the second difference with halved Neumann rows has the modes

    sides                  φ_k(j)                 k                 θ_k
    Dirichlet, Dirichlet   sin(jθ_k)              1 … n−1           πk/n
    Dirichlet, Neumann     sin(jθ_k)              1 … n             π(k−½)/n
    Neumann,   Dirichlet   cos(jθ_k)              1 … n             π(k−½)/n
    Neumann,   Neumann     cos(jθ_k)              0 … n             πk/n
    periodic               1, cos(jθ_k), sin(jθ_k), …, (−1)ʲ        2πk/n

and the eigenvalues (2 − 2 cos θ_k)/h² = 4 sin²(θ_k/2)/h², in the order of this table's k (periodic:
constant, cosine and sine of frequency 1, of frequency 2, …).

Reference: Strang 1999, "The discrete cosine transform", SIAM Review 41(1),
doi:10.1137/S0036144598336745.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from solvers.grid import Boundary, Grid


def angles(grid: Grid, axis: int) -> np.ndarray:
    """θ_k of every mode along `axis`, ascending, shape `(grid.shape[axis],)`, in [0, π]."""
    n, size = grid.intervals[axis], grid.shape[axis]
    if grid.is_periodic(axis):
        return 2 * np.pi * ((np.arange(size) + 1) // 2) / n
    if _is_mixed(grid, axis):
        return np.pi * (np.arange(size) + 0.5) / n
    first = 0 if grid.boundary[axis][0] is Boundary.NEUMANN else 1
    return np.pi * (np.arange(size) + first) / n


def eigenvalues(grid: Grid, axis: int) -> np.ndarray:
    """4 sin²(θ_k/2)/h² of every mode along `axis`, ascending, shape `(grid.shape[axis],)`."""
    return (2 * np.sin(angles(grid, axis) / 2) / grid.spacing[axis]) ** 2


def modes(grid: Grid, axis: int, count: int) -> np.ndarray:
    """Values of the lowest `count` modes along `axis`, shape `(grid.shape[axis], count)`."""
    start = grid.unknowns[axis].start
    j = np.arange(start, start + grid.shape[axis])[:, None]
    phases = j * angles(grid, axis)[:count]
    return np.where(_are_sines(grid, axis, count), np.sin(phases), np.cos(phases))


def modes_at(grid: Grid, axis: int, count: int, j: jax.Array) -> jax.Array:
    """The same at any positions j in units of h from the low side, shape `(len(j), count)`.

    From mode to mode exp(ijθ) is turned by the difference of the angles, which costs a fifth of
    sines and cosines, and a few roundings.
    """
    theta = angles(grid, axis)[:count]
    turns = np.diff(theta, prepend=theta[0]) > 0

    def unit(angle: float) -> jax.Array:
        return jax.lax.complex(jnp.cos(angle * j), jnp.sin(angle * j))

    turn = unit(float((theta[-1] - theta[0]) / max(turns.sum(), 1)))

    def advance(z: jax.Array, mode: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        has_turned, is_sine = mode
        z = jnp.where(has_turned, z * turn, z)
        return z, jnp.where(is_sine, z.imag, z.real)

    rules = jnp.asarray(turns), jnp.asarray(_are_sines(grid, axis, count))
    return jax.lax.scan(advance, unit(float(theta[0])), rules)[1].T


def _are_sines(grid: Grid, axis: int, count: int) -> np.ndarray:
    """Which of the lowest modes are sines, not cosines."""
    k = np.arange(count)
    if grid.is_periodic(axis):
        return (k % 2 == 0) & (k > 0)
    return np.full(count, grid.boundary[axis][0] is Boundary.DIRICHLET)


def analyze(u: jax.Array, grid: Grid, axis: int) -> jax.Array:
    """Coefficients û_k of u = Σ_k û_k φ_k along `axis`; same shape as `u`.

    Cost: one real (mixed sides: complex) FFT of length 2n, of length n on a periodic axis.
    """
    n, size = grid.intervals[axis], grid.shape[axis]
    if grid.is_periodic(axis):
        return _analyze_periodic(u, axis)
    weights = _along(grid.row_weights(axis), axis, u)
    sums = _sums(u * weights, grid, axis)
    squares = np.full(size, n / 2)
    if grid.boundary[axis] == (Boundary.NEUMANN, Boundary.NEUMANN):
        squares[[0, -1]] = n
    return sums / _along(squares, axis, u)


def synthesize(coefficients: jax.Array, grid: Grid, axis: int) -> jax.Array:
    """Values of u = Σ_k û_k φ_k along `axis`, the inverse of `analyze`; same shape."""
    if grid.is_periodic(axis):
        return _synthesize_periodic(coefficients, axis)
    if _is_mixed(grid, axis):
        return _mixed(coefficients, grid, axis, to_modes=False)
    return _sums(coefficients, grid, axis)


def _sums(u: jax.Array, grid: Grid, axis: int) -> jax.Array:
    """Σ_j u_j φ_k(j) on an axis that is not periodic, for every k."""
    n = grid.intervals[axis]
    if _is_mixed(grid, axis):
        return _mixed(u, grid, axis, to_modes=True)
    if grid.boundary[axis][0] is Boundary.DIRICHLET:
        # Odd extension 0, u, 0, −reversed u, of which the spectrum is purely imaginary.
        edge = jnp.zeros_like(jax.lax.slice_in_dim(u, 0, 1, axis=axis))
        extended = jnp.concatenate([edge, u, edge, -jnp.flip(u, axis)], axis)
        spectrum = jnp.fft.rfft(extended, axis=axis)
        return -jax.lax.slice_in_dim(spectrum.imag, 1, n, axis=axis) / 2
    ends = np.ones(n + 1)
    ends[[0, -1]] = 2
    inner = jax.lax.slice_in_dim(u, 1, n, axis=axis)
    even = jnp.concatenate([u * _along(ends, axis, u), jnp.flip(inner, axis)], axis)
    return jnp.fft.rfft(even, axis=axis).real / 2


def _mixed(u: jax.Array, grid: Grid, axis: int, *, to_modes: bool) -> jax.Array:
    """Σ u_j φ_k(j) over j (`to_modes`) or over k, with the angles θ_q = π(q + ½)/n, q = 0 … n−1.

    With j = j₀ + p the phase jθ_q is π(pq + p/2 + j₀q + j₀/2)/n: a twiddle before and one after
    turn either sum into an FFT of length 2n, which does the term pq.
    """
    n, first = grid.intervals[axis], grid.unknowns[axis].start
    p = np.arange(n)
    of_node, of_mode = np.exp(0.5j * np.pi * p / n), np.exp(1j * np.pi * first * p / n)
    before, after = (of_node, of_mode) if to_modes else (of_mode, of_node)
    after = after * (2 * n * np.exp(0.5j * np.pi * first / n))
    dtype = np.result_type(u.dtype, np.complex64)
    waves = jnp.fft.ifft(u.astype(dtype) * _along(before, axis, u, dtype), n=2 * n, axis=axis)
    waves = jax.lax.slice_in_dim(waves, 0, n, axis=axis) * _along(after, axis, u, dtype)
    return waves.imag if grid.boundary[axis][0] is Boundary.DIRICHLET else waves.real


def _analyze_periodic(u: jax.Array, axis: int) -> jax.Array:
    n = u.shape[axis]
    spectrum = jnp.moveaxis(jnp.fft.rfft(u, axis=axis), axis, -1)
    pairs = jnp.stack([spectrum.real, -spectrum.imag], -1)
    packed = pairs.reshape(*pairs.shape[:-2], -1)
    # The constant has no sine, and neither has the highest frequency of an even axis.
    scale = np.full(n, 2 / n)
    scale[0] *= 0.5
    scale[-1] *= 0.5 if n % 2 == 0 else 1.0
    packed = jnp.concatenate([packed[..., :1], packed[..., 2 : n + 1]], -1)
    return jnp.moveaxis(packed * _along(scale, -1, packed), -1, axis)


def _synthesize_periodic(coefficients: jax.Array, axis: int) -> jax.Array:
    n = coefficients.shape[axis]
    scale = np.full(n, 0.5 * n)
    scale[0] = n
    scale[-1] *= 2 if n % 2 == 0 else 1
    packed = jnp.moveaxis(coefficients, axis, -1)
    packed = packed * _along(scale, -1, packed)
    nothing = jnp.zeros_like(packed[..., :1])
    tail = (nothing,) if n % 2 == 0 else ()
    pairs = jnp.concatenate([packed[..., :1], nothing, packed[..., 1:], *tail], -1)
    pairs = pairs.reshape(*pairs.shape[:-1], -1, 2)
    u = jnp.fft.irfft(jax.lax.complex(pairs[..., 0], -pairs[..., 1]), n=n, axis=-1)
    return jnp.moveaxis(u, -1, axis)


def _is_mixed(grid: Grid, axis: int) -> bool:
    return set(grid.boundary[axis]) == {Boundary.DIRICHLET, Boundary.NEUMANN}


def _along(values: np.ndarray, axis: int, like: jax.Array, dtype: Any = None) -> jax.Array:
    """Shape 1-D values so that they multiply `like` along `axis`."""
    shape = [1] * like.ndim
    shape[axis] = len(values)
    return jnp.asarray(values.reshape(shape), like.dtype if dtype is None else dtype)
