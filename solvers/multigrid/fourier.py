"""Two-grid convergence factors by local Fourier analysis, before any cycle has run.

On an infinite grid a relaxation mixes only the 2ᵈ harmonics θ + πα, α ∈ {0, 1}ᵈ, that look alike on
the grid of twice the spacing. With sᵢ = aᵢ/hᵢ² the operator −Σ sᵢ δᵢ² + c has there the symbol

    A(θ) = Σ 4 sᵢ sin²(θᵢ/2) + c.

All symbols are even in each θᵢ, hence real, and θ ∈ [0, π/2]ᵈ covers all frequencies.

Reference: Trottenberg, Oosterlee, Schüller 2001, Multigrid, ch. 4; Wienands, Joppich 2005, ch. 3.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from solvers.compiler import HIGHEST

# Samples of (0, π/2] for each axis, by dimension: their maximum is at most 3 % below the supremum.
POINTS = {1: 64, 2: 32, 3: 14}
# ‖M^m‖^(1/m) exceeds ρ(M) by κ^(1/m), κ of M's eigenvectors, and 0.4 % at most; m = 2^SQUARINGS.
SQUARINGS = 8


class Harmonics(NamedTuple):
    """What a relaxation sees of the operator at N sampled θ; the n = 2ᵈ harmonics in order of α."""

    alpha: np.ndarray  # (n, d), zeros and ones
    parts: tuple[jax.Array, ...]  # 4 sᵢ sin²(θᵢ/2), an array (N, n) for each axis
    smooth: tuple[jax.Array, ...]  # cos²(θᵢ/2), likewise
    strengths: tuple[jax.Array, ...]  # sᵢ
    reaction: jax.Array  # c

    @property
    def operator(self) -> jax.Array:
        """A, shape (N, n)."""
        return sum(self.parts) + self.reaction

    @property
    def diagonal(self) -> jax.Array:
        """D = 2 Σ sᵢ + c."""
        return 2 * sum(self.strengths) + self.reaction

    @property
    def identity(self) -> jax.Array:
        return _as_float(np.eye(len(self.alpha)))[None]


class SweepSymbol(Protocol):
    """One sweep of a relaxation, or one in reverse order, as matrices (N, n, n) of harmonics."""

    def __call__(self, modes: Harmonics, *, reverse: bool = False) -> jax.Array: ...


def two_grid_factor(
    strengths: Sequence[Any],
    coarsened: Sequence[bool],
    relaxation: SweepSymbol,
    pre: int,
    post: int,
    *,
    reaction: Any = 0.0,
    symmetric: bool = False,
    frequencies: Sequence[Any] | None = None,
) -> jax.Array:
    """Predict the asymptotic convergence factor of a two-grid cycle, max over θ of ρ(M(θ)).

    M = S^post (I − P A_H⁻¹ R A) S^pre with linear interpolation P along the coarsened axes,
    full weighting R, and the operator of the coarse grid A_H: sᵢ/4 on coarsened axes, the same c.

    Args:
        strengths: sᵢ = aᵢ/hᵢ² for each of one to three axes.
        coarsened: whether the spacing of an axis doubles; the others stay as they are.
        relaxation: S, one of the symbols of this module; its weights may be tracers.
        pre, post: number of sweeps before and after the coarse-grid correction.
        reaction: c ≥ 0.
        symmetric: whether the sweeps afterwards run in reverse order, as in a preconditioner of CG.
        frequencies: θᵢ of the samples, an array (Nᵢ,) for each axis; by default (0, π/2], denser
            near 0. Left out is θ = 0 for c = 0, where A_H is singular and the constant mode stays.

    Returns:
        The factor, a scalar of the default float type, right to 3 %.

    Raises:
        ValueError: for numbers of axes that differ, no coarsened axis or negative sweep counts.

    Cost: twenty products of 2ᵈ × 2ᵈ matrices at each of 64 to 2744 θ: 5 ms, and a jit of 0.7 s.

    Example:
        >>> print(f"{two_grid_factor((1.0, 1.0), (True, True), red_black_symbol(), 1, 1):.2f}")
        0.07
    """
    ndim = len(strengths)
    if ndim not in POINTS or len(coarsened) != ndim or not any(coarsened):
        wanted = "a bool for each of one to three strengths, at least one of them True"
        raise ValueError(f"coarsened: expected {wanted}; got {coarsened} and {ndim} strengths")
    if min(pre, post) < 0:
        raise ValueError(f"pre, post: expected sweep counts of 0 or more, got {pre} and {post}")
    thetas = _graded_frequencies(strengths) if frequencies is None else frequencies
    if len(thetas) != ndim:
        raise ValueError(f"frequencies: expected {ndim} arrays, one an axis, got {len(thetas)}")
    modes = _harmonics(strengths, reaction, thetas)
    correction, is_regular = _coarse_correction(modes, coarsened)
    before, after = relaxation(modes), relaxation(modes, reverse=symmetric)
    cycle = _product([before] * pre + [correction] + [after] * post)
    return jnp.max(jnp.where(is_regular, _spectral_radius(cycle), 0))


def jacobi_symbol(damping: Any) -> SweepSymbol:
    """Jacobi with damping ω, S = I − ω D⁻¹A."""

    def symbol(modes: Harmonics, *, reverse: bool = False) -> jax.Array:
        change = _as_float(damping) / modes.diagonal * modes.operator
        return modes.identity * (1 - change)[:, None]

    return symbol


def chebyshev_symbol(degree: int, smallest: Any) -> SweepSymbol:
    """Chebyshev polynomial in λ = D⁻¹A on [2·smallest, 2], S = T_k((θ − λ)/δ) / T_k(θ/δ).

    θ = 1 + smallest is the centre of that interval and δ = 1 − smallest half its length; k is the
    degree, the number of products with A in a sweep.
    """
    if degree < 1:
        raise ValueError(f"degree: expected 1 or more, got {degree}")

    def symbol(modes: Harmonics, *, reverse: bool = False) -> jax.Array:
        low = _as_float(smallest)
        centre, half = 1 + low, 1 - low
        top = _chebyshev(degree, (centre - modes.operator / modes.diagonal) / half)
        return modes.identity * (top / _chebyshev(degree, centre / half))[:, None]

    return symbol


def red_black_symbol(over_relaxation: Any = 1.0) -> SweepSymbol:
    """Red-black Gauss–Seidel with over-relaxation ω, S = (I − ω E₋ D⁻¹A)(I − ω E₊ D⁻¹A).

    Red, first, are the nodes of even index sum, among them those of a fully coarsened grid.
    E± = (I ± F)/2 keeps one colour: F, the factor (−1)^Σi, exchanges α and 1 − α.
    """

    def symbol(modes: Harmonics, *, reverse: bool = False) -> jax.Array:
        change = _as_float(over_relaxation) / modes.diagonal * modes.operator
        halves = _half_sweeps(modes, set(range(len(modes.parts))), change)
        return _product(halves[::-1] if reverse else halves)

    return symbol


def zebra_symbol(axes: Sequence[int]) -> SweepSymbol:
    """Exact solves along lines, the even lines and then the odd, for one of `axes` after another.

    For axis j, S = (I − E₋ L⁻¹A)(I − E₊ L⁻¹A), L = 4 sⱼ sin²(θⱼ/2) + 2 Σ sᵢ + c over i ≠ j. The
    parity of a line is that of the sum of its other indices, and E± as in `red_black_symbol`.
    """

    def symbol(modes: Harmonics, *, reverse: bool = False) -> jax.Array:
        halves = []
        for axis in axes:
            others = set(range(len(modes.parts))) - {axis}
            line = sum((2 * modes.strengths[i] for i in others), modes.parts[axis] + modes.reaction)
            halves += _half_sweeps(modes, others, modes.operator / line)
        return _product(halves[::-1] if reverse else halves)

    return symbol


def _graded_frequencies(strengths: Sequence[Any]) -> list[jax.Array]:
    """Points in (0, π/2], denser near the singular 0 where an axis is stronger than the others.

    The factor varies where sᵢθᵢ² is comparable for two axes, hence from θᵢ = ε = √(min s/sᵢ) on, or
    1/4, for the limit 0 counts: ε sinh t is even below ε and geometric above.
    """
    s = jnp.stack([*map(_as_float, strengths)])
    scale = jnp.clip(jnp.sqrt(s.min() / s), 1e-3, 0.25)
    count = POINTS[len(strengths)]
    t = _as_float(np.linspace(0.5 / (count - 0.5), 1, count))
    return [epsilon * jnp.sinh(t * jnp.arcsinh(math.pi / 2 / epsilon)) for epsilon in scale]


def _harmonics(strengths: Sequence[Any], reaction: Any, thetas: Sequence[Any]) -> Harmonics:
    """The operator at all harmonics of a grid of θ."""
    mesh = jnp.meshgrid(*(_as_float(theta) / 2 for theta in thetas), indexing="ij")
    alpha = np.array(list(itertools.product((0, 1), repeat=len(mesh))))
    s, parts, smooth = tuple(map(_as_float, strengths)), [], []
    for i, half_angle in enumerate(mesh):
        # Squares of sines, not differences of cosines: single precision must resolve θ near 0.
        sine, cosine = (f(half_angle).reshape(-1, 1) ** 2 for f in (jnp.sin, jnp.cos))
        is_shifted = alpha[None, :, i] == 1
        parts.append(4 * s[i] * jnp.where(is_shifted, cosine, sine))
        smooth.append(jnp.where(is_shifted, sine, cosine))
    return Harmonics(alpha, tuple(parts), tuple(smooth), s, _as_float(reaction))


def _coarse_correction(modes: Harmonics, coarsened: Sequence[bool]) -> tuple[jax.Array, jax.Array]:
    """I − P A_H⁻¹ R A with P = R = ∏ cos²(θᵢ/2) over coarsened axes, and where A_H is regular."""
    P, A_H = jnp.ones_like(modes.operator), modes.reaction
    for i, is_coarsened in enumerate(coarsened):
        factor = modes.smooth[i] if is_coarsened else 1
        P, A_H = P * factor, A_H + modes.parts[i] * factor
    kept = modes.alpha[:, ~np.asarray(coarsened)]
    is_alias = (kept[:, None] == kept[None]).all(axis=2)[None]
    column = (P / jnp.where(A_H > 0, A_H, 1))[:, :, None]
    change = jnp.where(is_alias, column * (P * modes.operator)[:, None], 0)
    return modes.identity - change, (A_H > 0).all(axis=1)


def _half_sweeps(modes: Harmonics, axes: set[int], change: jax.Array) -> list[jax.Array]:
    """I − (I ± F)/2 · diag(change); F, the factor (−1)^Σi over `axes`, flips α along them."""
    flipped = modes.alpha ^ np.isin(np.arange(len(modes.parts)), list(axes))
    F = _as_float((modes.alpha[:, None] == flipped[None]).all(axis=2))[None]
    keep = (modes.identity + F) / 2, (modes.identity - F) / 2
    return [modes.identity - colour * change[:, None] for colour in keep]


def _spectral_radius(M: jax.Array) -> jax.Array:
    """Bound ρ(M) from above by ‖M^m‖^(1/m), m = 2^SQUARINGS: on GPUs `eigvals` is missing."""
    tiny = jnp.finfo(M.dtype).tiny  # a direct solver has M = 0
    power, logarithm = M, jnp.zeros_like(M[:, :1, :1])
    for k in range(SQUARINGS + 1):
        norm = jnp.sqrt((power * power).sum(axis=(1, 2), keepdims=True) + tiny)
        logarithm = logarithm + jnp.log(norm) / 2**k
        power = _product([power / norm] * 2)
    return jnp.exp(logarithm[:, 0, 0])


def _product(factors: Sequence[jax.Array]) -> jax.Array:
    """The product of matrices, of which the first acts first; by default GPUs round to 11 bits."""
    result = factors[0]
    for factor in factors[1:]:
        result = jnp.matmul(factor, result, precision=HIGHEST)
    return result


def _chebyshev(degree: int, x: jax.Array) -> jax.Array:
    """T_k(x) by T_{k+1} = 2x T_k − T_{k−1}."""
    last, result = jnp.ones_like(x), x
    for _ in range(degree - 1):
        last, result = result, 2 * x * result - last
    return result


def _as_float(x: Any) -> jax.Array:
    return jnp.asarray(x, dtype=jnp.result_type(float))
