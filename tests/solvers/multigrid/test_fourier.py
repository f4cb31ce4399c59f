"""Predicted two-grid factors against textbooks and against matrices written out."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers.multigrid import fourier
from solvers.multigrid.fourier import (
    chebyshev_symbol,
    jacobi_symbol,
    red_black_symbol,
    two_grid_factor,
    zebra_symbol,
)

BOTH, ALL = (True, True), (True, True, True)
SQUARE, CUBE = (1.0, 1.0), (1.0, 1.0, 1.0)


# Textbooks


@pytest.mark.parametrize(
    ("strengths", "relaxation", "factors"),
    [
        (SQUARE, red_black_symbol(), (0.25, 0.074, 0.053, 0.041)),  # Trottenberg et al., table 4.1
        (SQUARE, jacobi_symbol(0.8), (0.6, 0.36, 0.216, 0.137)),  # the same
        ((1.0, 1e-3), zebra_symbol([0]), (0.125, 0.053)),  # ch. 5: lines along the strong axis
        (CUBE, red_black_symbol(), (0.445, 0.198)),
        (CUBE, jacobi_symbol(6 / 7), (0.714, 0.510, 0.364)),  # 5/7 to the power of ν
        ((1.0,), jacobi_symbol(2 / 3), (1 / 3, 1 / 9)),  # high frequencies of 1-D
    ],
)
def test_full_coarsening_converges_as_in_the_textbook(
    strengths: Sequence[float], relaxation: Any, factors: Sequence[float]
) -> None:
    """The factor depends on the number of sweeps, not on which come before the correction."""
    coarsened = (True,) * len(strengths)
    for sweeps, expected in enumerate(factors, start=1):
        for pre in {0, (sweeps + 1) // 2}:
            factor = two_grid_factor(strengths, coarsened, relaxation, pre, sweeps - pre)
            # Two digits are printed, and samples miss up to 3 % of the supremum.
            assert float(factor) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("relaxation", [red_black_symbol(), zebra_symbol([0])])
def test_one_dimension_is_solved_directly(relaxation: Any) -> None:
    assert float(two_grid_factor((3.0,), (True,), relaxation, 1, 1)) < 1e-6  # √ε at worst


@pytest.mark.parametrize("weak", [1e-1, 1e-3, 1e-5])
def test_point_relaxation_wants_only_the_strong_axis_coarsened(weak: float) -> None:
    full = two_grid_factor((1.0, weak), BOTH, red_black_symbol(), 1, 1)
    semi = two_grid_factor((1.0, weak), (True, False), red_black_symbol(), 1, 1)
    assert float(full) > 0.6
    assert float(semi) < 0.06


def test_over_relaxation_pays_until_the_sweeps_are_reversed() -> None:
    """2-D V(1,1): 1.15 helps red-black to 0.05; the symmetric cycle stays near 0.25."""
    plain, over = red_black_symbol(1.0), red_black_symbol(1.15)
    assert float(two_grid_factor(SQUARE, BOTH, over, 1, 1)) == pytest.approx(0.045, rel=0.03)
    assert float(two_grid_factor(CUBE, ALL, over, 1, 1)) == pytest.approx(0.075, rel=0.03)
    symmetric = two_grid_factor(SQUARE, BOTH, plain, 1, 1, symmetric=True)
    assert float(symmetric) == pytest.approx(0.25, rel=0.03)


# Matrices written out

RED_BLACK, ZEBRA = "red-black", "zebra"


def along(pieces: Sequence[np.ndarray]) -> np.ndarray:
    return reduce(np.kron, pieces)


def second_difference(n: int, sign: int) -> np.ndarray:
    """2u_i − u_{i−1} − u_{i+1}, where u_{i+n} = sign·u_i."""
    shift = np.eye(n, k=1)
    shift[-1, 0] += sign
    return 2 * np.eye(n) - shift - shift.T


def interpolation(n: int, sign: int) -> np.ndarray:
    P = np.zeros((n, n // 2))
    for j in range(n // 2):
        P[2 * j, j] = 1
        P[2 * j + 1, j] += 0.5
        P[2 * j + 1, (j + 1) % (n // 2)] += 0.5 if j + 1 < n // 2 else 0.5 * sign
    return P


def operator(sizes: Sequence[int], strengths: Any, reaction: float, sign: int) -> np.ndarray:
    A = reaction * np.eye(int(np.prod(sizes)))
    for axis, (n, s) in enumerate(zip(sizes, strengths, strict=True)):
        pieces = [np.eye(m) for m in sizes]
        pieces[axis] = s * second_difference(n, sign)
        A += along(pieces)
    return A


def gauss_seidel(A: np.ndarray, part: np.ndarray, omega: float) -> np.ndarray:
    """I − ω E (E A E)⁻¹ E A: solve for the unknowns in `part`, which may be lines or points."""
    S = np.eye(len(A))
    S[part] -= omega * np.linalg.solve(A[np.ix_(part, part)], A[part])
    return S


def sweep(name: str, value: Any, A: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """The stages of one sweep, the first acts first."""
    index = np.indices(sizes).reshape(len(sizes), -1)
    if name == RED_BLACK:
        parity = index.sum(axis=0) % 2
        return [gauss_seidel(A, parity == colour, value) for colour in (0, 1)]
    if name == ZEBRA:
        parities = [(index.sum(axis=0) - index[axis]) % 2 for axis in value]
        return [gauss_seidel(A, parity == colour, 1.0) for parity in parities for colour in (0, 1)]
    eigenvalues, vectors = np.linalg.eigh(A / A[0, 0])
    if name == "jacobi":
        return [vectors * (1 - value * eigenvalues) @ vectors.T]
    degree, smallest = value
    T = np.polynomial.Chebyshev.basis(degree, domain=[2 * smallest, 2])
    return [vectors * (T(eigenvalues) / T(0.0)) @ vectors.T]


def two_grid_radius(
    sizes: Sequence[int],
    strengths: Any,
    coarsened: Sequence[bool],
    method: tuple[str, Any],
    cycle: tuple[int, int, bool],
    reaction: float,
    sign: int,
) -> float:
    """ρ of the two-grid error propagation on a grid that is periodic up to a sign."""
    pre, post, is_symmetric = cycle
    A = operator(sizes, strengths, reaction, sign)
    pairs = list(zip(sizes, coarsened, strict=True))
    P = along([interpolation(n, sign) if c else np.eye(n) for n, c in pairs])
    coarse = [s / 4 if c else s for s, c in zip(strengths, coarsened, strict=True)]
    A_H = operator([n // 2 if c else n for n, c in pairs], coarse, reaction, sign)
    R = P.T / 2 ** sum(coarsened)
    stages = sweep(*method, A, sizes)
    before = np.linalg.multi_dot([np.eye(len(A)), *stages[::-1], np.eye(len(A))])
    after = np.linalg.multi_dot([np.eye(len(A)), *stages, np.eye(len(A))])
    after = np.linalg.matrix_power(after if is_symmetric else before, post)
    correction = np.eye(len(A)) - P @ np.linalg.solve(A_H, R @ A)
    M = after @ correction @ np.linalg.matrix_power(before, pre)
    return float(np.abs(np.linalg.eigvals(M)).max())


SYMBOLS = {
    RED_BLACK: red_black_symbol,
    ZEBRA: zebra_symbol,
    "jacobi": jacobi_symbol,
    "chebyshev": lambda value: chebyshev_symbol(*value),
}
FULL, FIRST, LAST = (True, True), (True, False), (False, True)
CASES = [
    # sizes, strengths, coarsened, (relaxation, its weight), (pre, post, symmetric), c, sign
    ((16,), (1.0,), (True,), ("jacobi", 0.55), (2, 1, False), 0.0, -1),
    ((16,), (2.0,), (True,), (RED_BLACK, 1.3), (1, 1, True), 0.4, 1),
    ((16, 16), (1.0, 1.0), FULL, (RED_BLACK, 1.0), (1, 1, False), 0.0, -1),
    ((16, 16), (1.0, 1.0), FULL, (RED_BLACK, 1.15), (1, 1, False), 0.0, -1),
    ((16, 16), (1.0, 1.0), FULL, (RED_BLACK, 1.15), (1, 1, True), 0.0, -1),
    ((16, 16), (1.0, 1.0), FULL, (RED_BLACK, 1.15), (2, 1, True), 0.0, -1),
    ((12, 16), (0.7, 1.1), FULL, (RED_BLACK, 1.08), (2, 1, False), 0.3, 1),
    ((16, 12), (1.0, 0.2), FIRST, (RED_BLACK, 1.0), (1, 1, False), 0.0, -1),
    ((16, 12), (0.3, 2.0), LAST, (RED_BLACK, 1.2), (2, 2, True), 0.1, 1),
    ((16, 12), (0.3, 2.0), LAST, ("jacobi", 0.9), (1, 2, False), 0.0, -1),
    ((16, 16), (1.3, 0.8), FULL, ("jacobi", 0.83), (0, 3, True), 0.2, 1),
    ((16, 16), (1.0, 1.5), FULL, ("chebyshev", (2, 0.25)), (1, 1, False), 0.0, -1),
    ((16, 16), (1.0, 1.5), FULL, ("chebyshev", (3, 0.2)), (0, 1, True), 0.5, 1),
    ((16, 16), (1.0, 1e-2), FULL, (ZEBRA, (0,)), (1, 1, False), 0.0, -1),
    ((16, 16), (0.4, 1.0), FULL, (ZEBRA, (1,)), (1, 1, True), 0.1, 1),
    ((16, 16), (1.0, 0.3), FULL, (ZEBRA, (0, 1)), (1, 1, True), 0.0, -1),
    ((16, 12), (1.0, 0.3), FIRST, (ZEBRA, (1, 0)), (1, 0, False), 0.0, -1),
    ((6, 6, 6), (1.0, 1.0, 1.0), ALL, (RED_BLACK, 1.0), (2, 1, False), 0.0, -1),
    ((8, 8, 8), (1.0, 1.0, 1.0), ALL, (RED_BLACK, 1.15), (1, 1, False), 0.0, -1),
    ((6, 8, 4), (1.0, 0.6, 1.4), ALL, (RED_BLACK, 1.1), (1, 2, True), 0.2, 1),
    ((6, 8, 4), (1.0, 0.9, 0.02), (True, True, False), (RED_BLACK, 1.1), (1, 1, False), 0.0, -1),
    ((8, 6, 6), (1.0, 0.1, 0.02), (True, False, False), ("jacobi", 0.8), (1, 1, True), 0.0, -1),
    ((8, 4, 6), (1.0, 0.1, 0.9), (True, False, True), (ZEBRA, (0, 2)), (1, 1, True), 0.0, -1),
    ((6, 6, 6), (1.0, 0.8, 0.9), ALL, ("chebyshev", (2, 0.2)), (1, 1, False), 0.1, 1),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_periodic_grids_converge_as_predicted(case: tuple[Any, ...]) -> None:
    """At the frequencies that a finite grid has, the analysis is exact."""
    sizes, strengths, coarsened, (name, value), (pre, post, symmetric), reaction, sign = case
    shift = 0 if sign == 1 else 0.5
    frequencies = [2 * np.pi * (np.arange(n) + shift) / n for n in sizes]
    factor = two_grid_factor(
        strengths,
        coarsened,
        SYMBOLS[name](value),
        pre,
        post,
        reaction=reaction,
        symmetric=symmetric,
        frequencies=frequencies,
    )
    expected = two_grid_radius(*case)
    assert expected <= float(factor) * (1 + 1e-9)  # a norm bounds the radius from above
    assert float(factor) == pytest.approx(expected, rel=0.01)  # √8^(1/256), and non-normality


# Sampling, precision, tracing


@pytest.mark.parametrize(
    ("strengths", "coarsened", "relaxation"),
    [
        (SQUARE, BOTH, red_black_symbol(1.15)),
        ((1.0, 1e-4), BOTH, zebra_symbol([0])),
        ((1.0, 0.4, 0.01), (True, True, False), red_black_symbol(1.1)),
        (CUBE, ALL, red_black_symbol(1.15)),
    ],
)
def test_samples_find_the_maximum(
    strengths: Any, coarsened: Any, relaxation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    factor = two_grid_factor(strengths, coarsened, relaxation, 2, 1)
    monkeypatch.setattr(fourier, "POINTS", {2: 120, 3: 30})
    finer = two_grid_factor(strengths, coarsened, relaxation, 2, 1)
    assert float(factor) == pytest.approx(float(finer), rel=0.03)


@pytest.mark.parametrize("strengths", [SQUARE, (1.0, 1e-3), (4e6, 4e6), CUBE])
def test_single_precision_is_enough(strengths: Any) -> None:
    """θ near 0 costs no digits, and a common factor of all strengths changes nothing."""
    coarsened = (True,) * len(strengths)
    with jax.enable_x64(False):
        factor = two_grid_factor(strengths, coarsened, red_black_symbol(), 1, 1)
    assert factor.dtype == jnp.float32
    expected = two_grid_factor(strengths, coarsened, red_black_symbol(), 1, 1)
    assert float(factor) == pytest.approx(float(expected), rel=1e-3)


def test_weights_and_strengths_may_be_traced() -> None:
    """Jacobi before (0, π/2) and (π, π) balance is 1 − ω/2, with −1/2 for its derivative in ω."""
    traces = []

    @jax.jit
    def slope(omega: Any, strength: Any) -> Any:
        traces.append(omega)
        predict = lambda w: two_grid_factor((strength, strength), BOTH, jacobi_symbol(w), 1, 0)  # noqa: E731
        return jax.value_and_grad(predict)(omega)

    for omega, strength in ((0.7, 1.0), (0.6, 25.0)):
        factor, derivative = slope(jnp.asarray(omega), jnp.asarray(strength))
        assert float(factor) == pytest.approx(1 - omega / 2, rel=0.01)
        assert float(derivative) == pytest.approx(-0.5, rel=0.01)
    assert len(traces) == 1


def test_the_constant_mode_of_a_singular_problem_is_left_out() -> None:
    thetas = np.linspace(0, np.pi / 2, 5)
    factor = two_grid_factor(SQUARE, BOTH, jacobi_symbol(0.8), 1, 0, frequencies=(thetas, thetas))
    assert 0.5 < float(factor) < 0.61
    nowhere = two_grid_factor(SQUARE, BOTH, jacobi_symbol(0.8), 1, 0, frequencies=([0.0], [0.0]))
    assert float(nowhere) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coarsened": (True,)}, "coarsened: expected a bool"),
        ({"coarsened": (False, False)}, "at least one of them True"),
        ({"strengths": (1.0,) * 4, "coarsened": (True,) * 4}, "one to three strengths"),
        ({"pre": -1}, "got -1 and 1"),
        ({"frequencies": ([0.1],)}, "frequencies: expected 2 arrays"),
    ],
)
def test_wrong_input_is_named(change: dict[str, Any], message: str) -> None:
    valid = {"strengths": SQUARE, "coarsened": BOTH, "relaxation": red_black_symbol()}
    with pytest.raises(ValueError, match=message):
        two_grid_factor(**({**valid, "pre": 1, "post": 1} | change))


def test_a_polynomial_has_a_degree() -> None:
    with pytest.raises(ValueError, match="degree: expected 1 or more, got 0"):
        chebyshev_symbol(0, 0.2)
