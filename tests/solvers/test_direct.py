"""Fast diagonalisation against a dense solve, for all mixes of sides."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from solvers import (
    ConjugateGradient,
    EllipticOperator,
    FastDiagonalization,
    Grid,
    Poisson,
    Reason,
    SolveError,
    direct,
    solve,
)
from tests.solvers.cases import PAIRS, Dense, P, sides

LINES = [(name, (n,)) for name in PAIRS for n in (2, 3, 8, 9)]
LINES += [(name, (1,)) for name in PAIRS if "N" in name]
PLANES = [(f"{one}-{two}", (4, 5)) for one, two in itertools.product(PAIRS, PAIRS)]
BOXES = [("DN-PP-NN", (3, 4, 2)), ("PP-NN-PP", (3, 2, 4)), ("ND-DD-DN", (2, 3, 4))]


@pytest.mark.parametrize(("names", "intervals"), LINES + PLANES + BOXES)
def test_it_agrees_with_a_dense_solve(names: str, intervals: tuple[int, ...]) -> None:
    check(names, intervals)


@pytest.mark.parametrize(
    ("names", "intervals"), [case for case in PLANES + BOXES if set(case[0]) > {"P", "-"}]
)
def test_one_axis_left_to_tridiagonal_systems_gives_the_same(
    names: str, intervals: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On grids so small by force, and in blocks: of 2 rows and a rest of 1 where there are 3."""
    monkeypatch.setattr(direct, "FEWEST_LINES", 1)
    monkeypatch.setattr(direct, "BLOCK", 6)
    check(names, intervals)


def check(names: str, intervals: tuple[int, ...]) -> None:
    grid = Grid(intervals, upper=(1.0, 1.5, 0.7)[: len(intervals)], boundary=sides(names))
    a = (1.3, 0.6, 2.0)[: grid.ndim]
    b = np.random.default_rng(3).normal(size=grid.shape)

    @jax.jit
    def run(b: jax.Array, a: Any, c: Any) -> Any:
        method = FastDiagonalization()
        solved = []
        # The first has no reaction, so that it is singular without Dirichlet sides.
        for reaction in (0.0, c):
            operator = EllipticOperator(grid, a, reaction)
            u, _, stats = method.compute(method.init(operator, {}), b, {})
            solved.append((u, stats["residual_norms"]))
        return solved

    for (u, norms), c in zip(run(jnp.asarray(b), a, 0.8), (0.0, 0.8), strict=True):
        system = Dense(Dense.assemble(grid, a, c).A, b.ravel())
        np.testing.assert_allclose(u.ravel(), system.solution(), rtol=1e-9, atol=1e-11)
        is_singular = c == 0 and not grid.has_dirichlet_side
        first = grid.norm(jnp.asarray(b - is_singular * b.mean()))
        np.testing.assert_allclose(norms[0], first, rtol=1e-13)
        assert norms[1] < 1e-12 * max(norms[0], 1)


def test_many_lines_in_blocks_of_the_usual_size() -> None:
    grid = Grid((150, 2100), boundary=sides("ND-DD"))
    assert grid.size > 2 * direct.BLOCK
    solution = solve(Poisson(grid, lambda x, y: jnp.cos(90 * x * y)), FastDiagonalization())
    _, (first, last) = solution.history()
    assert last < 1e-11 * first  # ε times a condition number of up to 1e7, little of it met


def test_a_little_reaction_is_not_lost_beside_the_couplings() -> None:
    """The mean of u is that of b over c, although c is below the rounding error of a/h²."""
    grid = Grid((128, 128), boundary=sides("NN-NN"))
    problem = Poisson(grid, 1.0, reaction=1e-13)
    u = solve(problem, FastDiagonalization()).value
    np.testing.assert_allclose(u, 1e13, rtol=1e-10)


def test_only_a_cpu_walks_from_row_to_row() -> None:
    operator = EllipticOperator(Grid((128, 128)))
    method = FastDiagonalization()
    traced = jax.jit(lambda b: method.compute(method.init(operator, {}), b, {})[0]).trace(
        jax.ShapeDtypeStruct(operator.grid.shape, operator.grid.dtype)
    )
    loops = [
        "stablehlo.while" in traced.lower(lowering_platforms=(name,)).as_text()
        for name in ("cpu", "cuda")
    ]
    assert loops == [True, False]


def test_single_precision() -> None:
    grid = Grid((20, 30), boundary=sides("DN-PP"), dtype="float32")
    solution = solve(Poisson(grid, lambda x, y: x), FastDiagonalization())
    assert solution.value.dtype == jnp.float32
    assert solution.history()[1][1] < 1e-4 * solution.history()[1][0]


def test_single_precision_of_the_mean_coefficients_under_x64() -> None:
    grid = Grid((9, 14), boundary=sides("DN-PP"), dtype="float32")
    problem = Poisson(grid, 1.0, diffusion=lambda x, y: 1 + x)
    method = ConjugateGradient(preconditioner=FastDiagonalization(), rtol=1e-4)
    assert solve(problem, method).value.dtype == jnp.float32


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_size_of_the_data_does_not_matter(scale: float) -> None:
    grid = Grid(8)
    scaled = solve(Poisson(grid, scale), FastDiagonalization())
    plain = solve(Poisson(grid, 1.0), FastDiagonalization())
    np.testing.assert_allclose(scaled.value / scale, plain.value, rtol=1e-12)


def test_what_is_known_of_a_batch_of_bad_lanes() -> None:
    grid = Grid(6, boundary=P)

    def lane(f: jax.Array, c: jax.Array) -> Any:
        problem = Poisson(grid, jnp.full(6, f), reaction=c)
        solution = solve(problem, FastDiagonalization(), throw=False)
        return solution.reason, solution.result

    f = jnp.asarray([1.0, jnp.nan, 1.0, 1.0])
    c = jnp.asarray([1.0, 1.0, 0.0, jnp.inf])
    reasons, results = jax.jit(jax.vmap(lane))(f, c)
    np.testing.assert_array_equal(reasons == Reason.direct, [True, False, False, False])
    np.testing.assert_array_equal(reasons == Reason.nonfinite_input, [False, True, False, True])
    np.testing.assert_array_equal(reasons == Reason.singular, [False, False, True, False])
    np.testing.assert_array_equal(results == lx.RESULTS.successful, [True, False, False, False])


def test_a_singular_traced_reaction_is_a_solve_error() -> None:
    """A reaction that is an array of zeros at run time only: eager solves see it fail."""
    grid = Grid(6, boundary=P)
    operator = jax.jit(lambda c: EllipticOperator(grid, 1.0, c))(0.0)
    assert not operator.is_singular
    problem = Poisson(grid, lambda x: jnp.ones_like(x))
    object.__setattr__(problem, "operator", operator)
    with pytest.raises(SolveError, match="the operator is singular"):
        solve(problem, FastDiagonalization())


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (lx.MatrixLinearOperator(jnp.eye(2)), "operator: .* needs an EllipticOperator"),
        (EllipticOperator(Grid(4), lambda x: 1 + x), "operator: .* needs constant coefficients"),
        (EllipticOperator(Grid(4), 1.0, lambda x: x), "operator: .* needs constant coefficients"),
    ],
)
def test_operators_it_cannot_take(operator: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FastDiagonalization().init(operator, {})
