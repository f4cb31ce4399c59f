"""What other platforms than the CPU run, run here: the same numbers, and no loop to wait for."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import (
    Chebyshev,
    ConjugateGradient,
    GaussSeidel,
    Grid,
    Jacobi,
    LineRelaxation,
    Multigrid,
    Poisson,
    solve,
)
from solvers.compiler import apart, fixed_rounds, rounds, unknown_false
from solvers.multigrid.coarsest import inverse_of
from tests.solvers.cases import sides

PLATFORMS = ["here", "elsewhere"]


@pytest.fixture(params=PLATFORMS)
def platform(request: pytest.FixtureRequest) -> None:
    if request.param == "elsewhere":
        request.getfixturevalue("elsewhere")


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 37])
def test_there_are_so_many_rounds(count: int) -> None:
    def double(x: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {"u": 2 * x["u"]}

    run = jax.jit(lambda count, x: rounds(double, count, x))
    assert float(run(jnp.int32(count), {"u": jnp.ones(())})["u"]) == 2.0**count
    few = count % 4
    fixed = jax.jit(lambda x: fixed_rounds(double, few, x, unknown_false(x["u"])))
    assert float(fixed({"u": jnp.ones(2)})["u"][1]) == 2.0**few


@pytest.mark.usefixtures("platform")
def test_a_stage_changes_nothing() -> None:
    values = {"a": jnp.arange(6.0).reshape(2, 3), "empty": jnp.zeros((0, 2)), "b": jnp.float32(2)}
    found = jax.jit(lambda x: apart(x, unknown_false(x["a"])))(values)
    assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), found, values))
    batch = jax.vmap(lambda x: apart(x, unknown_false(x)))(values["a"])
    np.testing.assert_array_equal(batch, values["a"])


PLANE = Poisson(
    Grid((19, 14), boundary=sides("DN-PP")),
    lambda x, y: x + jnp.sin(2 * jnp.pi * y),
    diffusion=lambda x, y: 1 + 5 * x + 0 * y,
)
BOX = Poisson(Grid((12, 9, 10)), 1.0, diffusion=(1.0, 3.0, 0.5))
METHODS: dict[str, Any] = {
    "jacobi": Jacobi(rtol=1e-9),
    "an odd number of sweeps": Jacobi(rtol=1e-9, check_every=17),
    "red-black": GaussSeidel(rtol=1e-9),
    "chebyshev": Chebyshev(rtol=1e-9),
    "lines": LineRelaxation(rtol=1e-9),
    "multigrid": Multigrid(rtol=1e-9),
    "w-cycle": Multigrid(pre=2, post=3, rtol=1e-9),
    "line smoothing": Multigrid(smoother=LineRelaxation(), rtol=1e-9),
    "full": Multigrid(full=True, rtol=1e-9),
    "cg": ConjugateGradient(preconditioner=Multigrid(), rtol=1e-9),
}


@pytest.mark.parametrize("problem", [PLANE, BOX], ids=["varying", "constant"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_does_the_same(
    name: str, problem: Poisson, request: pytest.FixtureRequest
) -> None:
    here = solve(problem, METHODS[name])
    request.getfixturevalue("elsewhere")
    there = solve(problem, METHODS[name])
    assert there.num_steps == here.num_steps
    largest = float(jnp.max(jnp.abs(here.value)))
    np.testing.assert_allclose(there.value, here.value, atol=1e-7 * largest)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("size", [1, 5, 40])
def test_small_matrices_are_inverted(size: int) -> None:
    root = np.random.default_rng(0).normal(size=(size, size))
    matrix = root @ root.T + np.eye(size)
    np.testing.assert_allclose(inverse_of(jnp.asarray(matrix)) @ matrix, np.eye(size), atol=1e-9)


def test_elsewhere_a_cycle_has_no_loop(elsewhere: None) -> None:
    """The host of a GPU waits at each look at a loop's end; a fixed one of one round is opened."""
    del elsewhere
    problem, method = Poisson(Grid((300, 300)), 1.0), Multigrid()

    def step(b: jax.Array, u: jax.Array) -> jax.Array:
        setup = method.prepare(problem.operator)
        return method.current(setup, method.step(setup, b, method.start(setup, b, u)))

    text = jax.jit(step).lower(problem.rhs, problem.rhs).compile().as_text()
    assert text is not None
    assert " while(" not in text
    assert "conditional(" not in text


def test_elsewhere_no_line_is_walked_along() -> None:
    problem, method = Poisson(Grid((40, 30)), 1.0), LineRelaxation()

    def step(b: jax.Array, u: jax.Array) -> jax.Array:
        return method.step(method.prepare(problem.operator), b, u)

    traced = jax.jit(step).trace(problem.rhs, problem.rhs)
    loops = [
        "stablehlo.while" in traced.lower(lowering_platforms=(name,)).as_text()
        for name in ("cpu", "cuda", "tpu")
    ]
    assert loops == [True, False, False]
