"""Solves on a mesh of devices: the same answers, and messages between neighbours only."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import (
    ConjugateGradient,
    Deflation,
    FixedHandoff,
    Grid,
    Hybrid,
    Jacobi,
    Multigrid,
    Poisson,
    SolveError,
    advise,
    place,
    solve,
)
from solvers.snapshots import Snapshot

MESH = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("x",))
# Half of the unknowns is far more than any side has; coarse levels are gathered.
FINE = 0.5


@pytest.fixture(scope="module")
def found(on_devices: Callable[..., str]) -> dict[str, dict[str, Any]]:
    """What `on_eight_devices.py` says, by group and name."""
    lines = on_devices(Path(__file__).with_name("on_eight_devices.py"), 8).splitlines()
    groups: dict[str, dict[str, Any]] = {}
    for row in map(json.loads, lines):
        groups.setdefault(row.pop("group"), {})[row.pop("name")] = row
    return groups


def test_every_method_gives_the_answer_of_one_device(found: dict[str, dict[str, Any]]) -> None:
    assert len(found["agreement"]) >= 20
    for name, row in found["agreement"].items():
        # Rounding of other orders of summation; multigrid and CG pass it through some ten steps.
        assert row["distance"] < 1e-11, name
        assert set(row["steps"]) == {0}, name
        assert row["devices"] == 8, name


def test_gradients_are_those_of_one_device(found: dict[str, dict[str, Any]]) -> None:
    for name, row in found["gradient"].items():
        assert row["distance"] < 1e-6, name  # the solves end at a residual of 1e-8


def test_no_message_is_as_large_as_a_fine_level(found: dict[str, dict[str, Any]]) -> None:
    for name, row in found["communication"].items():
        assert row["largest"]["collective-permute"] > 0, name
        assert max(row["largest"].values()) < FINE * row["unknowns"], name
        assert row["distance"] < 1e-11, name


def test_the_hybrid_relaxes_where_the_problem_lies(found: dict[str, dict[str, Any]]) -> None:
    for name, row in found["hybrid"].items():
        assert row["distance"] < 1e-11, name
        assert row["steps"] == 0, name
        assert row["predicted"][0] == row["predicted"][1] > 0, name
        # All that is summed up are products with some modes of an axis.
        assert max(row["look"].values()) < 0.1 * row["unknowns"], name


def test_a_solution_is_seen_where_it_lies(found: dict[str, dict[str, Any]]) -> None:
    for name, row in found["viewing"].items():
        assert max(row["distances"]) < 1e-9, name  # of iterates, gradients, fluxes and values
        assert row["largest"] < 0.1 * row["unknowns"], name


def test_advice_is_given_on_a_mesh() -> None:
    problem = Poisson(Grid((12, 10)), source=1.0)
    names = [{row.name for row in advise(p).rows} for p in (problem, place(problem, MESH))]
    assert names[0] == names[1]


def test_a_mesh_of_one_device_changes_nothing() -> None:
    problem = Poisson(Grid((20, 12)), source=1.0, boundary_values=lambda x, y: x + y)
    whole, placed = solve(problem, Multigrid()), solve(place(problem, MESH), Multigrid())
    np.testing.assert_array_equal(placed.value, whole.value)
    np.testing.assert_array_equal(placed.collect().field, whole.field)
    assert placed.collect().method == whole.method
    assert placed.history()[0].tolist() == whole.history()[0].tolist()
    assert str(placed) == str(whole)


def test_a_solve_goes_on_from_a_solution() -> None:
    problem = place(lambda: Poisson(Grid(64), source=1.0), MESH)
    first = solve(problem, Jacobi(rtol=1e-3))
    again = solve(problem, Jacobi(rtol=1e-3), initial=first)
    assert again.num_steps == 0
    assert solve(problem, Jacobi(rtol=1e-3), initial=first.collect().field).num_steps == 0


@pytest.mark.parametrize("inside", [None, lambda x: 0.45 - abs(x - 0.5)])
def test_a_coarse_space_goes_to_the_mesh(inside: Any) -> None:
    problem = Poisson(Grid(32), 1.0, inside=inside)
    snapshot = Snapshot(0, 0.0, lambda grid: jnp.ones(grid.full_shape))
    method, handover = ConjugateGradient(rtol=1e-8), Deflation(modes=2, features=False)
    found, expected = (
        Hybrid(method, FixedHandoff(0), handover=handover).solve(p, [snapshot]).solution
        for p in (place(problem, MESH), problem)
    )
    assert found.num_steps == expected.num_steps
    np.testing.assert_allclose(found.field, expected.field, atol=1e-12)


def test_a_solution_is_copied() -> None:
    solution = solve(place(Poisson(Grid(16), 1.0), MESH))
    for found in (copy.copy(solution), copy.deepcopy(solution)):
        np.testing.assert_array_equal(found.field, solution.field)
    with pytest.raises(AttributeError, match="colour"):
        _ = solution.colour


def test_a_failure_passes_from_one_process_to_another() -> None:
    with pytest.raises(SolveError) as caught:
        solve(place(Poisson(Grid(16), 1.0), MESH), Jacobi(max_steps=3))
    there = pickle.loads(pickle.dumps(caught.value))
    assert str(there) == str(caught.value)
    np.testing.assert_array_equal(there.solution.field, caught.value.solution.collect().field)


def test_a_failure_is_an_error() -> None:
    problem, short = place(Poisson(Grid(64), source=1.0), MESH), Jacobi(max_steps=5)
    with pytest.raises(SolveError, match="max_steps"):
        solve(problem, short)
    assert solve(problem, short, throw=False).num_steps == 5


@pytest.mark.parametrize(
    ("problem", "mesh", "message"),
    [
        (Poisson(Grid(8), 1.0), "2", "mesh: expected a jax.sharding.Mesh, got str"),
        (3, MESH, "problem: expected a Poisson or a function"),
        (lambda: 3, MESH, "problem: expected a Poisson or a function"),
        (
            Poisson(Grid(8), 1.0),
            jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("x", "y")),
            "mesh: expected at most 1 axes",
        ),
    ],
    ids=["mesh", "number", "makes a number", "axes"],
)
def test_impossible_arguments_are_named(problem: Any, mesh: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        place(problem, mesh)


def test_data_are_checked_as_ever() -> None:
    with pytest.raises(ValueError, match="diffusion"):
        place(lambda: Poisson(Grid(8), 1.0, diffusion=-1.0), MESH)
