"""Which frequencies a function of many variables has, and which of them a fit has reached.

In high dimension there is no grid to transform on. A Gaussian of variance δ filters scattered
samples instead: what passes is, in the sense of its Fourier transform, the part below a frequency
of about δ^(−1/2).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nets.filtering import checked_samples, checked_variances, filtered, filtered_power
from solvers.arguments import checked, is_traced


def low_frequency_part(x: Any, y: Any, variance: Any) -> jax.Array:
    """Filter samples by a Gaussian, which keeps their low frequencies.

    y_low(xᵢ) = Σⱼ yⱼ exp(−|xᵢ−xⱼ|²/(2δ)) / Σⱼ exp(−|xᵢ−xⱼ|²/(2δ)), j over all samples, i too

    The whole matrix of distances never exists. They are taken from the Gram product of centred
    points, so that those below rounding times |x|² are not resolved; with up to four coordinates
    from differences.

    Args:
        x: sample points, shape (N, d).
        y: values, shape (N,) or (N, m).
        variance: δ, in units of |x|²; as δ → 0 y_low → y, as δ → ∞ the mean.

    Returns:
        y_low, the shape of y; in double precision if x or y is.

    Raises:
        ValueError: for a wrong shape, an empty or non-finite input, or δ ≤ 0.

    Cost: N²(d + 2m) operations and N² exponentials; memory for a copy of x.

    Reference: Xu et al. 2019, "Frequency principle", section 4.2, arXiv 1901.06523.

    Example:
        >>> x = jnp.linspace(-1, 1, 5)[:, None]
        >>> print(low_frequency_part(x, jnp.array([0.0, 0, 1, 0, 0]), 0.1).round(3))
        [0.005 0.181 0.63  0.181 0.005]
    """
    points, values = checked_samples(x, y=y)
    delta = checked_variances("variance", variance, 0).astype(values.dtype)
    low = filtered(points, values.reshape(len(values), -1), delta[None])[0]
    return low.reshape(values.shape)


class FrequencyErrors(NamedTuple):
    """Relative errors of a fit.

    Attributes:
        low: e_low, of the low frequencies.
        high: e_high, of the high ones.
    """

    low: jax.Array
    high: jax.Array


def frequency_errors(x: Any, y: Any, h: Any, variance: Any) -> FrequencyErrors:
    """Compare a fit with its target at low and at high frequencies.

    e_low = ‖y_low − h_low‖/‖y_low‖ and e_high = ‖y_high − h_high‖/‖y_high‖, y_high = y − y_low

    Args:
        x: sample points, shape (N, d).
        y: target, shape (N,) or (N, m).
        h: the fit, shape of y.
        variance: δ, which separates low from high; both are filtered in one pass.

    Returns:
        e_low and e_high; infinite or NaN where the target has nothing to compare with.

    Raises:
        ValueError: as `low_frequency_part`, or if y and h differ in shape.

    Cost: of `low_frequency_part` for 2m values a sample.

    Reference: Xu et al. 2019, section 4.2, eqs. for e_low and e_high, arXiv 1901.06523.

    Example:
        >>> x = jnp.linspace(-1, 1, 101)[:, None]
        >>> low, high = jnp.sin(3 * x), jnp.sin(40 * x)
        >>> errors = frequency_errors(x, low + high, low, 0.01)
        >>> print(f"{errors.low:.2f} {errors.high:.2f}")
        0.06 1.00
    """
    points, target, fit = checked_samples(x, y=y, h=h)
    if target.shape != fit.shape:
        raise ValueError(f"h: expected the shape of y, {target.shape}, got {fit.shape}")
    both = jnp.stack([target, fit]).reshape(2, len(target), -1)
    delta = checked_variances("variance", variance, 0).astype(target.dtype)
    return _errors(points, both, delta)


@jax.jit
def _errors(points: jax.Array, both: jax.Array, delta: jax.Array) -> FrequencyErrors:
    target, fit = both
    low = filtered(points, jnp.concatenate([target, fit], 1), delta[None])[0]
    target_low, fit_low = jnp.split(low, 2, 1)
    return FrequencyErrors(
        _relative(fit_low, target_low), _relative(fit - fit_low, target - target_low)
    )


def _relative(found: jax.Array, wanted: jax.Array) -> jax.Array:
    return jnp.linalg.norm(found - wanted) / jnp.linalg.norm(wanted)


def low_frequency_ratio(x: Any, y: Any, variances: Any) -> jax.Array:
    """Work out how much of a function passes each of several Gaussian filters.

    LFR(δ) = Σᵢ |y_low(xᵢ)|² / Σᵢ |yᵢ|², all δ in one pass over tiles of the distances

    sin(kπx) on an infinite line has LFR = exp(−k²π²δ).

    Args:
        x: sample points, shape (N, d).
        y: values, shape (N,) or (N, m): for the effective target of a layer its outputs are x,
            scaled by `scaled_coordinates`, and the labels y.
        variances: δ, shape (V,), in any order.

    Returns:
        LFR for each δ, shape (V,); it has an absolute error of some roundings.

    Raises:
        ValueError: for a wrong shape, an empty or non-finite input, δ ≤ 0, or y = 0 everywhere.

    Cost: N²d operations for the distances, N² exponentials and 2N²(m + 1) operations for each δ;
        memory for a copy of x.

    Reference: Xu, Zhou 2021, "Deep frequency principle towards understanding why deeper learning
    is faster", AAAI, arXiv 2007.14313, definition of LFR.

    Example:
        >>> x = jnp.linspace(-50, 50, 2001)[:, None]
        >>> ratios = low_frequency_ratio(x, jnp.sin(jnp.pi * x), [0.01, 0.05])
        >>> print(ratios.round(2), jnp.exp(-(jnp.pi**2) * jnp.array([0.01, 0.05])).round(2))
        [0.91 0.61] [0.91 0.61]
    """
    points, values = checked_samples(x, y=y)
    deltas = checked_variances("variances", variances, 1).astype(values.dtype)
    if not is_traced(values) and not np.any(values):
        raise ValueError("y: expected a value other than 0, of which there is a ratio")
    values = values.reshape(len(values), -1)
    return filtered_power(points, values, deltas) / jnp.sum(values**2)


class RatioDensity(NamedTuple):
    """RDF, how much of a function is near each frequency.

    Attributes:
        inverse_variances: mid-points of neighbours 1/δ, ascending, shape (V − 1,).
        values: dLFR/d(1/δ) there.
    """

    inverse_variances: jax.Array
    values: jax.Array

    @property
    def peak(self) -> jax.Array:
        """1/δ of the largest value: k²π²/2 for sin(kπx) on an infinite line."""
        return self.inverse_variances[jnp.argmax(self.values)]


def ratio_density(variances: Any, ratios: Any) -> RatioDensity:
    """Differentiate LFR by 1/δ, by finite differences.

    RDF = dLFR/d(1/δ) ≈ (LFRₗ₊₁ − LFRₗ)/(sₗ₊₁ − sₗ) at (sₗ + sₗ₊₁)/2, s = 1/δ

    Geometric variances, 100 or more, place the peak within a few percent. Rounding of LFR is
    divided by sₗ₊₁ − sₗ: in single precision little is left of the curve where that is below 1e-4.

    Args:
        variances: δ, shape (V,), at least two, all different, in any order.
        ratios: LFR for each, from `low_frequency_ratio`.

    Returns:
        Mid-points in ascending order and values there, shape (V − 1,) each.

    Raises:
        ValueError: for fewer than two variances, equal ones, or a wrong shape.

    Reference: Xu, Zhou 2021, arXiv 2007.14313, definition of RDF.

    Example:
        >>> variances = jnp.geomspace(1e-3, 10, 200)
        >>> density = ratio_density(variances, jnp.exp(-9 * jnp.pi**2 * variances))
        >>> print(f"{density.peak:.0f}, exactly {9 * jnp.pi**2 / 2:.0f}")
        44, exactly 44
    """
    s, values = _by_inverse_variance(variances, ratios)
    return RatioDensity((s[1:] + s[:-1]) / 2, jnp.diff(values) / jnp.diff(s))


def half_point(variances: Any, ratios: Any) -> jax.Array:
    """Sum up a function's spectrum in one number, the 1/δ at which LFR = ½.

    The lower, the lower its frequencies; k²π²/log 2 for sin(kπx) on an infinite line. Where LFR
    first rises through ½ on the way up 1/δ, linear in log(1/δ) between the two neighbours.

    Args:
        variances: δ, shape (V,), at least two, all different, in any order.
        ratios: LFR for each.

    Returns:
        1/δ; NaN if LFR does not rise through ½ between the given variances.

    Raises:
        ValueError: as `ratio_density`.

    Example:
        >>> variances = jnp.geomspace(1e-3, 10, 200)
        >>> half = half_point(variances, jnp.exp(-9 * jnp.pi**2 * variances))
        >>> print(f"{half:.1f}, exactly {9 * jnp.pi**2 / jnp.log(2):.1f}")
        128.1, exactly 128.1
    """
    s, values = _by_inverse_variance(variances, ratios)
    rises = (values[:-1] < 0.5) & (values[1:] >= 0.5)
    i = jnp.argmax(rises)
    part = (0.5 - values[i]) / (values[i + 1] - values[i])
    point = s[i] * (s[i + 1] / s[i]) ** part
    return jnp.where(jnp.any(rises), point, jnp.nan)


def _by_inverse_variance(variances: Any, ratios: Any) -> tuple[jax.Array, jax.Array]:
    """1/δ in ascending order, and LFR in that order."""
    deltas = checked_variances("variances", variances, 1)
    values = jnp.asarray(ratios, deltas.dtype)
    if len(deltas) < 2 or values.shape != deltas.shape:
        raise ValueError(
            f"variances, ratios: expected two lists of one length, at least 2, got shapes "
            f"{deltas.shape} and {values.shape}"
        )
    values = checked("ratios", values, "finite numbers")
    order = jnp.argsort(-deltas)
    s = 1 / deltas[order]
    checked("variances", jnp.diff(s), "no two equal, gaps of 1/δ above 0", lambda gaps: gaps <= 0)
    return s, values[order]
