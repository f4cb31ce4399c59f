"""Pairs of numbers: exact transformations, residuals, and solves beyond the grid's precision."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers import (
    Boundary,
    ConjugateGradient,
    EllipticOperator,
    FastDiagonalization,
    Grid,
    Jacobi,
    Multigrid,
    Poisson,
    Reason,
    Refined,
    gallery,
    pairs,
    place,
    solve,
)
from tests.solvers.cases import sides

# As for users: the tests' own flags switch LLVM's optimiser off, and contraction with it.
OPTIMIZED: dict[str, Any] = {"xla_backend_optimization_level": "3"}
if jax.__version_info__ < (0, 11):
    OPTIMIZED["xla_cpu_use_fusion_emitters"] = True
two_sum = jax.jit(pairs.two_sum, compiler_options=OPTIMIZED)
two_product = jax.jit(pairs.two_product, compiler_options=OPTIMIZED)
residual = jax.jit(
    lambda operator, b, high, low: pairs.residual(operator, b, (high, low)),
    compiler_options=OPTIMIZED,
)

SIGNS = st.sampled_from([-1, 1])
# Neither sums, products nor their errors leave the range; small integers bring ties.
NUMBERS = st.builds(
    lambda sign, digits, exponent: sign * digits * 2.0**exponent,
    SIGNS,
    st.integers(2**23, 2**24 - 1) | st.integers(0, 9),
    st.integers(-20, 20),
)
MANY = st.lists(NUMBERS, min_size=16, max_size=16)


def exactly(pair: Any) -> list[Fraction]:
    """The sums of a pair of arrays as rational numbers."""
    high, low = (np.asarray(x, np.float64).ravel().tolist() for x in pair)
    return [Fraction(x) + Fraction(y) for x, y in zip(high, low, strict=True)]


@pytest.mark.parametrize(
    ("transform", "combine"),
    [(two_sum, Fraction.__add__), (two_product, Fraction.__mul__)],
    ids=["sum", "product"],
)
@given(a=MANY, b=MANY)
def test_nothing_is_lost(transform: Any, combine: Any, a: list[float], b: list[float]) -> None:
    found = transform(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    wanted = [combine(Fraction(x), Fraction(y)) for x, y in zip(a, b, strict=True)]
    assert exactly(found) == wanted
    assert (abs(np.asarray(found[1])) <= np.spacing(abs(np.asarray(found[0])))).all()


def test_the_compiler_does_contract_products() -> None:
    a, b, c = jnp.asarray(np.random.default_rng(0).standard_normal((3, 1000)), jnp.float32)
    compiled = jax.jit(lambda a, b, c: a * b + c, compiler_options=OPTIMIZED)(a, b, c)
    if bool(jnp.all(compiled == (np.asarray(a) * np.asarray(b)) + np.asarray(c))):
        pytest.skip("this processor has no fused multiply-add: nothing is put to the test here")
    p, e = jax.jit(lambda a, b: pairs.add(pairs.two_product(a, b), -c), compiler_options=OPTIMIZED)(
        a, b
    )
    exact = [Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)]
    for found, ab, z in zip(exactly((p, e)), exact, c, strict=True):
        assert abs(found - (ab - Fraction(float(z)))) <= 2.0**-46 * (abs(ab) + abs(float(z)))


def product(operator: EllipticOperator, u: np.ndarray) -> np.ndarray:
    """A u in float64 from the coefficients as they are stored, in numpy."""
    grid = operator.grid
    rows = (
        np.zeros(grid.shape)
        if operator.reaction is None
        else 1.0 * np.asarray(operator.reaction, np.float64) * u
    )
    for axis in range(grid.ndim):
        low, high = (np.asarray(c, np.float64) for c in operator.face_pair(axis))
        mode = "wrap" if grid.is_periodic(axis) else "constant"
        ghosted = np.pad(u, [(int(d == axis),) * 2 for d in range(grid.ndim)], mode=mode)
        below, above = (np.take(ghosted, np.arange(s, s + u.shape[axis]), axis) for s in (0, 2))
        rows = rows + low * (u - below) + high * (u - above)
    for axis in range(grid.ndim):
        shape = [-1 if d == axis else 1 for d in range(grid.ndim)]
        rows = rows * grid.row_weights(axis).reshape(shape)
    return rows


def double(solution: Any) -> np.ndarray:
    return np.asarray(solution.value, np.float64) + np.asarray(solution.low, np.float64)


def relative_residual(problem: Poisson, solution: Any) -> float:
    """‖b − A u‖/‖b‖ of the stored system, of a singular one without mean, by numpy in float64."""
    b = np.asarray(problem.rhs, np.float64)
    r = b - product(problem.operator, double(solution))
    if problem.operator.is_singular:
        r = r - r.mean()
    return float(np.linalg.norm(r) / np.linalg.norm(b))


def uneven(*x: Any) -> Any:
    return 1 + 9 * x[0] * jnp.cos(2 * jnp.pi * x[-1]) ** 2


@pytest.mark.parametrize(
    ("intervals", "names", "diffusion", "reaction"),
    [
        (40, "DD", 0.7, 0.0),
        (41, "NN", uneven, uneven),
        ((33, 20), "DD-DD", (1.0, 0.3), 0.0),
        ((33, 21), "ND-PP", 1.7, 0.3),
        ((20, 30), "PP-NN", uneven, uneven),
        ((9, 8, 7), "NN-DN-PP", uneven, 0.3),
        ((9, 8, 7), "DD-PP-NN", 0.7, 0.0),
    ],
)
def test_the_residual_of_a_pair_is_rounded_once(
    intervals: Any, names: str, diffusion: Any, reaction: Any
) -> None:
    grid = Grid(intervals, boundary=sides(names), dtype="float32")
    operator = EllipticOperator(grid, diffusion, reaction)
    u = np.random.default_rng(1).standard_normal(grid.shape)
    high = u.astype(np.float32)
    low = (u - high).astype(np.float32)
    # b cancels all but rounding errors of A u: what is left has no digit right in float32.
    b = product(operator, u).astype(np.float32)
    exact = b - product(operator, high.astype(np.float64) + low)
    found = np.asarray(residual(operator, *map(jnp.asarray, (b, high, low))))
    size = 2 * float(jnp.max(operator.diagonal())) * abs(u).max()
    assert abs(exact).max() > 1e-9 * size
    # ε of the residual, and some roundings of ε²; numpy's own error is 2⁻⁵³.
    assert (abs(found - exact) <= 2.0**-24 * abs(exact) + 4 * 2.0**-48 * size).all()


def rough(*x: Any) -> Any:
    return jnp.sin(40 * x[0]) + jnp.where(x[-1] > 0.4, 1.0, 0.0)


def balanced(*x: Any) -> Any:
    """Whole numbers of mean 0, which float32 sums exactly."""
    return jnp.where(x[0] < 0.25, 1.0, 0.0) - jnp.where(x[0] >= 0.75, 1.0, 0.0) + 0 * x[-1]


CASES: dict[str, tuple[Any, Callable[[], Any]]] = {
    "multigrid 255²": (lambda: gallery.peak(256).problem, lambda: Multigrid()),
    "direct, 1023²": (lambda: gallery.peak(1024).problem, FastDiagonalization),
    "full multigrid": (lambda: Poisson(Grid(256), rough), lambda: Multigrid(full=True)),
    "direct, 63³": (lambda: Poisson(Grid((64, 64, 64)), rough), FastDiagonalization),
}


@pytest.mark.parametrize("name", CASES)
def test_single_precision_reaches_ten_digits(name: str) -> None:
    make, method = CASES[name]
    with jax.enable_x64(False):
        problem = make()
        solution = solve(problem, Refined(method(), rtol=1e-10))
    assert solution.value.dtype == solution.low.dtype == jnp.float32
    # The method judges by a residual that is right to seven digits.
    assert relative_residual(problem, solution) <= 1.001e-10


@pytest.mark.parametrize("names", ["DD-DD", "PP-NN"])
def test_the_pair_is_the_solution_in_double_precision(names: str) -> None:
    # Whole numbers and spacings that are powers of two: both precisions store one system.
    single, exact = (
        Poisson(Grid((32, 16), boundary=sides(names), dtype=dtype), balanced)
        for dtype in ("float32", "float64")
    )
    solution = solve(single, Refined(FastDiagonalization(), rtol=1e-11))
    wanted = np.asarray(solve(exact).value)
    away = double(solution) - wanted
    if single.operator.is_singular:
        assert abs(away.mean()) < 1e-6 * abs(wanted).max()  # the constant: to single precision
        away = away - away.mean()
    assert abs(away).max() < 1e-11 * abs(wanted).max()
    assert abs(solution.low).max() <= np.spacing(np.float32(abs(wanted).max()))


def test_a_mean_of_rounding_errors_does_not_stop_it() -> None:
    grid = Grid(48, boundary=sides("PP"), dtype="float32")
    problem = Poisson(
        grid, lambda x: 1e3 * jnp.sin(6 * jnp.pi * x) * jnp.exp(jnp.cos(2 * jnp.pi * x))
    )
    assert solve(problem, Refined(FastDiagonalization(), rtol=1e-11)).reason == Reason.converged


def test_double_precision_is_doubled_too() -> None:
    problem = Poisson(Grid(8), lambda x: jnp.exp(x))
    solution = solve(problem, Refined(FastDiagonalization(), rtol=1e-28))
    u = [Fraction(0), *exactly((solution.value, solution.low)), Fraction(0)]
    for i, b in enumerate(problem.rhs.tolist(), 1):
        assert abs(Fraction(b) - 64 * (2 * u[i] - u[i - 1] - u[i + 1])) < 1e-27


def test_it_stagnates_at_the_rounding_of_pairs() -> None:
    problem = Poisson(Grid(64, dtype="float32"), rough)
    solution = solve(problem, Refined(Jacobi(0.8), every=2000, rtol=0.0), throw=False)
    assert solution.reason == Reason.stagnated
    assert relative_residual(problem, solution) < 1e-11
    alone = solve(problem, Jacobi(rtol=0.0), throw=False)
    assert alone.history()[1][-1] > 1e-6 * float(problem.grid.norm(problem.rhs))


def test_the_low_part_is_there_for_those_who_have_one() -> None:
    problem, method = Poisson(Grid((12, 10), dtype="float32"), rough), Refined(Jacobi())
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("x",))
    whole, placed = solve(problem, method), solve(place(problem, mesh), method)
    np.testing.assert_array_equal(placed.low, whole.low)
    np.testing.assert_array_equal(placed.collect().low, whole.low)
    assert solve(problem).low is None
    assert solve(place(problem, mesh)).low is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Refined(3), "method: expected a solver such as Multigrid"),  # type: ignore
        (lambda: Refined(Refined(Jacobi())), "method: expected a solver"),
        (lambda: Refined(FastDiagonalization(), every=2), "every: is for iterations"),
        (lambda: Refined(Jacobi(), every=0), "every: expected a positive integer"),
        (lambda: Refined(Jacobi(), rtol=-1.0), "rtol: expected"),
        (
            lambda: Refined(Jacobi()).init(lx.DiagonalLinearOperator(jnp.ones(3)), {}),
            "operator: Refined needs an EllipticOperator",
        ),
        (
            lambda: solve(
                Poisson(Grid(8), 1.0), ConjugateGradient(preconditioner=Refined(Jacobi()))
            ),
            "method: a preconditioner needs no refinement",
        ),
    ],
)
def test_impossible_arguments_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_low_part_in_a_medium_is_shifted_where_the_medium_is() -> None:
    grid = Grid((22, 18), boundary=Boundary.NEUMANN, dtype="float32")
    problem = Poisson(
        grid,
        lambda x, y: y - 0.49,
        diffusion=lambda x, y: 1 + y,
        medium=lambda x, y: 0.41 - jnp.hypot(x - 0.49, y - 0.49),
    )
    solution = solve(problem, Refined(Multigrid(), rtol=1e-9))
    assert solution.low is not None
    assert float(jnp.max(jnp.abs(solution.low))) < 1e-5 * float(jnp.max(jnp.abs(solution.value)))
    assert problem.operator.null is not None
    assert not jnp.any(jnp.where(problem.operator.null, 0, solution.low))
