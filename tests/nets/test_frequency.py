"""Filters, ratios and projected spectra against closed forms and direct sums."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nets import (
    filtering,
    frequency_errors,
    half_point,
    low_frequency_part,
    low_frequency_ratio,
    nonuniform_dft,
    principal_direction,
    ratio_density,
)

LINE = np.linspace(-1, 1, 1001)[:, None]
GEOMETRIC = np.geomspace(2e-4, 5, 160)


def direct(x: np.ndarray, y: np.ndarray, variance: float) -> np.ndarray:
    """y_low as the formula has it, with all distances at once."""
    distances = np.sum((x[:, None] - x[None]) ** 2, -1)
    kernel = np.exp(-distances / (2 * variance))
    return (kernel @ y) / kernel.sum(1).reshape(-1, *[1] * (y.ndim - 1))


def cloud(samples: int, coordinates: int, values: tuple[int, ...] = ()) -> Any:
    rng = np.random.default_rng(samples + coordinates)
    x = rng.standard_normal((samples, coordinates)) / np.sqrt(coordinates)
    return x, rng.standard_normal((samples, *values))


@pytest.fixture
def tiles_of_16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tiles, so that few samples make several; what was compiled for large ones goes."""
    monkeypatch.setattr(filtering, "TILE", 16)
    jax.clear_caches()


@pytest.mark.usefixtures("tiles_of_16")
@pytest.mark.parametrize("samples", [1, 16, 17, 33, 70])
@pytest.mark.parametrize(("coordinates", "values"), [(1, ()), (3, (1,)), (9, (4,))])
def test_tiles_give_the_direct_sum(samples: int, coordinates: int, values: tuple[int, ...]) -> None:
    x, y = cloud(samples, coordinates, values)
    for variance in (1e-9, 0.03, 0.5, 1e9):
        low = low_frequency_part(x, y, variance)
        # Rounding in |x|² of about 4 is divided by 2δ: at δ = 0.03 a dozen of them.
        np.testing.assert_allclose(low, direct(x, y, variance), rtol=0, atol=1e-13)
    deltas = [0.5, 0.03]
    powers = [np.sum(direct(x, y, delta) ** 2) for delta in deltas]
    ratios = low_frequency_ratio(x, y, deltas)
    np.testing.assert_allclose(ratios, np.array(powers) / np.sum(y**2), rtol=1e-12)


def test_more_samples_than_a_tile_holds() -> None:
    x, y = cloud(filtering.TILE + 77, 6)
    low = low_frequency_part(x, y, 0.1)
    np.testing.assert_allclose(low, direct(x, y, 0.1), rtol=0, atol=1e-13)


def test_the_matrix_of_distances_never_exists() -> None:
    size = 30_000
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((size, 784), (size, 10), (50,))]
    memory = filtering.filtered_power.lower(*shapes).compile().memory_analysis()
    # x is 94 MB: its centred copy, y and tiles; N² numbers would be 3.6 GB.
    assert memory.temp_size_in_bytes < 4 * size * 784 * 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("coordinates", [2, 12])
def test_the_narrowest_and_the_widest_filter(dtype: str, coordinates: int) -> None:
    x, y = (a.astype(dtype) for a in cloud(50, coordinates))
    for tiny in (1e-300, np.finfo(dtype).tiny):
        np.testing.assert_array_equal(low_frequency_part(x, y, tiny), y)
    widest = low_frequency_part(x, y, 1e300)
    np.testing.assert_allclose(widest, np.mean(y), rtol=0, atol=20 * np.finfo(dtype).eps)
    assert widest.dtype == dtype


def test_far_from_the_origin_distances_do_not_cancel() -> None:
    x, y = cloud(40, 8)
    near = np.round(x * 64).astype("float32") / 64  # so that moving it rounds nothing
    expected = direct(near, y, 0.1)
    found = low_frequency_part(near + np.float32(1024), y.astype("float32"), 0.1)
    np.testing.assert_allclose(found, expected, atol=2e-5)  # without centring: 1.6


@pytest.mark.parametrize("k", [1, 3])
def test_ratio_of_a_sine_on_a_long_line(k: int) -> None:
    x = np.linspace(-100, 100, 8001)
    variances = np.array([0.003, 0.01, 0.03, 0.1])
    ratios = low_frequency_ratio(x[:, None], np.sin(k * np.pi * x), variances)
    # The two ends, some √δ long, are filtered differently: 3e-3 of 200.
    np.testing.assert_allclose(ratios, np.exp(-(k**2) * np.pi**2 * variances), atol=3e-3)


@pytest.mark.parametrize(("k", "peak"), [(1, 1.8), (3, 33.0), (5, 104.0), (9, 356.0)])
def test_density_peaks_where_published(k: int, peak: float) -> None:
    y = np.sin(k * np.pi * LINE[:, 0])
    for dtype in ("float32", "float64"):
        ratios = low_frequency_ratio(LINE.astype(dtype), y.astype(dtype), GEOMETRIC)
        assert float(ratio_density(GEOMETRIC, ratios).peak) == pytest.approx(peak, rel=0.1)


def test_density_is_the_slope_at_mid_points() -> None:
    density = ratio_density([0.25, 1.0, 0.5], [0.9, 0.1, 0.3])
    np.testing.assert_allclose(density.inverse_variances, [1.5, 3.0])
    np.testing.assert_allclose(density.values, [0.2, 0.3])
    assert density.peak == 3.0


def test_half_point() -> None:
    exact = 25 * np.pi**2 / np.log(2)
    for variances in (GEOMETRIC, GEOMETRIC[::-1]):
        half = half_point(variances, np.exp(-25 * np.pi**2 * variances))
        # Second order in the ratio of neighbours, 1.066: (log 1.066)²/8 = 5e-4.
        np.testing.assert_allclose(half, exact, rtol=5e-4)
    np.testing.assert_allclose(half_point([1.0, 0.25], [0.0, 1.0]), 2.0)
    assert np.isnan(half_point([1.0, 0.5], [0.6, 0.9]))
    assert np.isnan(half_point([1.0, 0.5], [0.1, 0.4]))


@pytest.mark.parametrize("values", [(), (3,)])
def test_errors_of_a_fit(values: tuple[int, ...]) -> None:
    x, y = cloud(60, 2, values)
    h = y + 0.1 * cloud(60, 3, values)[1]
    y_low, h_low = direct(x, y, 0.05), direct(x, h, 0.05)
    low = np.linalg.norm(y_low - h_low) / np.linalg.norm(y_low)
    high = np.linalg.norm((y - y_low) - (h - h_low)) / np.linalg.norm(y - y_low)
    np.testing.assert_allclose(frequency_errors(x, y, h, 0.05), (low, high), rtol=1e-12)


@given(
    shift=st.floats(-5, 5),
    seed=st.integers(0, 1000),
    scale=st.floats(0.1, 10),
    variance=st.floats(0.01, 10),
)
def test_moving_turning_and_scaling(shift: float, seed: int, scale: float, variance: float) -> None:
    x, y = cloud(24, 6)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((6, 6)))
    expected = low_frequency_part(x, y, variance)
    moved = low_frequency_part(scale * (x @ turn + shift), y, scale**2 * variance)
    # Rounding of |x + shift|², up to 150, divided by 2δ ≥ 0.02.
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-10)


def test_jit_and_vmap() -> None:
    x, y = cloud(40, 5, (2,))
    variances = jnp.array([0.1, 1.0])
    ratios = low_frequency_ratio(x, y, variances)
    close = {"rtol": 1e-12}
    np.testing.assert_allclose(jax.jit(low_frequency_ratio)(x, y, variances), ratios, **close)
    lanes = jax.vmap(low_frequency_part, (None, None, 0))(x, y, variances)
    np.testing.assert_allclose(np.sum(lanes**2, (1, 2)) / np.sum(y**2), ratios, **close)
    both = jax.vmap(lambda y: low_frequency_ratio(x, y, variances), 1)(y)
    for column, found in zip(y.T, both, strict=True):
        np.testing.assert_allclose(found, low_frequency_ratio(x, column, variances), **close)
    steep = jax.jit(lambda v: ratio_density(v, jnp.exp(-v)).peak)(variances)
    assert steep == ratio_density(variances, jnp.exp(-variances)).peak


def test_other_variances_do_not_compile_again() -> None:
    x, y = cloud(30, 5)
    low_frequency_ratio(x, y, [0.1, 1.0])
    compiled = filtering.filtered_power._cache_size()
    low_frequency_ratio(x, y, [0.2, 3.0])
    assert filtering.filtered_power._cache_size() == compiled


@pytest.mark.parametrize(("samples", "coordinates"), [(30, 1), (50, 7), (5, 40)])
def test_principal_direction_is_that_of_the_svd(samples: int, coordinates: int) -> None:
    x = 3.0 + cloud(samples, coordinates)[0] * np.arange(1, coordinates + 1)
    _, _, rows = np.linalg.svd(x - x.mean(0), full_matrices=False)
    direction = np.asarray(principal_direction(x))
    expected = rows[0] * np.sign(rows[0][np.argmax(np.abs(rows[0]))])
    np.testing.assert_allclose(direction, expected, atol=1e-9)
    np.testing.assert_allclose(principal_direction(1e200 * x), expected, atol=1e-9)


def test_transform_at_any_positions() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.uniform(-2, 3, 50), rng.standard_normal((50, 3))
    k = np.array([-1.5, 0.0, 0.3, 7.0])
    expected = np.exp(-2j * np.pi * k[:, None] * p) @ y / 50
    np.testing.assert_allclose(nonuniform_dft(p, y, k), expected, atol=1e-13)
    np.testing.assert_allclose(nonuniform_dft(p, y[:, 1], k), expected[:, 1], atol=1e-13)
    even = np.arange(50) / 50
    np.testing.assert_allclose(
        nonuniform_dft(even, y, range(50)), np.fft.fft(y, axis=0) / 50, atol=1e-13
    )


X, Y = np.ones((4, 2)), np.arange(4.0)
NAN = np.array([1.0, np.nan, 1.0, 1.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: low_frequency_part(Y, Y, 1.0), r"x: expected shape \(N, d\).*x\[:, None\]"),
        (lambda: low_frequency_part(np.ones((0, 2)), [], 1.0), r"x: .*got \(0, 2\)"),
        (lambda: low_frequency_part(X * NAN[:, None], Y, 1.0), r"x: expected finite.*\(1, 0\)"),
        (lambda: low_frequency_part(X, Y[:3], 1.0), r"y: expected shape \(4,\)"),
        (lambda: low_frequency_part(X, np.ones((4, 0)), 1.0), r"y: .*got \(4, 0\)"),
        (lambda: low_frequency_part(X, NAN, 1.0), "y: expected finite numbers"),
        (lambda: low_frequency_part(X, 1j * Y, 1.0), "y: expected real numbers"),
        (lambda: low_frequency_part(X, Y, 0.0), "variance: expected a positive"),
        (lambda: low_frequency_part(X, Y, [1.0]), "variance: expected one number"),
        (lambda: low_frequency_ratio(X, Y, [1.0, -1.0]), r"variances: expected a positive.*\(1,\)"),
        (lambda: low_frequency_ratio(X, Y, 1.0), "variances: expected a list"),
        (lambda: low_frequency_ratio(X, Y, []), "variances: expected a list"),
        (lambda: low_frequency_ratio(X, Y, [np.nan]), "variances: expected"),
        (lambda: low_frequency_ratio(X, 0 * Y, [1.0]), "y: expected a value other than 0"),
        (lambda: frequency_errors(X, Y, Y[:, None], 1.0), "h: expected the shape of y"),
        (lambda: frequency_errors(X, Y, NAN, 1.0), "h: expected finite numbers"),
        (lambda: ratio_density([1.0], [0.5]), "variances, ratios: .*at least 2"),
        (lambda: ratio_density([1.0, 2.0], [0.5]), "variances, ratios: .*one length"),
        (lambda: ratio_density([1.0, 1.0], [0.5, 0.5]), "variances: expected no two equal"),
        (lambda: half_point([1.0, 2.0], [0.5, np.nan]), "ratios: expected finite"),
        (lambda: principal_direction(X), "x: expected points that differ"),
        (lambda: principal_direction(Y), "x: expected shape"),
        (lambda: nonuniform_dft(X, Y, [1.0]), "positions: expected shape"),
        (lambda: nonuniform_dft(NAN, Y, [1.0]), "positions: expected finite"),
        (lambda: nonuniform_dft(Y, Y[:2], [1.0]), "y: expected shape"),
        (lambda: nonuniform_dft(Y, Y, 1.0), "frequencies: expected a list"),
    ],
)
def test_wrong_input_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
