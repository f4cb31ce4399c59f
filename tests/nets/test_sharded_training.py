"""A training on a mesh of eight devices is that of one, and the devices exchange sums only."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nets import MLP, RitzTraining
from nets.sharding import MULTIPLE, PointSharding, as_sharding
from solvers import Grid, Poisson

ADAM = ("adam", "adam, paper sum", "refined")
NATURAL = ("natural gradient", "natural gradient, few points", "periodic")
NODES = ("nodes", "nodes, fewer rows than devices", "nodes, natural gradient")
NAMES = (*ADAM, "lbfgs", *NATURAL, *NODES)


@pytest.fixture(scope="module")
def found(on_devices: Callable[..., str]) -> dict[str, Any]:
    return json.loads(on_devices(Path(__file__).with_name("eight_devices.py"), 8))


@pytest.mark.parametrize("name", NAMES)
def test_the_training_is_that_of_one_device(found: dict[str, Any], name: str) -> None:
    result = found[name]
    assert result["moved"] > 1e-3
    for both in (result["steps"], result["refinements"]):
        assert both[0] == both[1]
    # Rounding, 1e-16, times what a dozen steps make of it.
    assert result["params"] < 1e-9
    assert result["energies"] < 1e-10
    assert result["fields"] < 1e-9


def test_a_refinement_is_that_of_one_device(found: dict[str, Any]) -> None:
    assert found["refined"]["refinements"][1] == [0, 1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_each_device_has_its_share_of_the_points(found: dict[str, Any], name: str) -> None:
    assert found[name]["shares"] == [1 / 8]


def total(found: list[tuple[str, int, int]], kind: str) -> int:
    return sum(numbers for name, numbers, _ in found if name == kind)


@pytest.mark.parametrize("name", NAMES)
def test_devices_exchange_sums_only(found: dict[str, Any], name: str) -> None:
    """No points: gradients, for the natural gradient a matrix once, for nodes rows next door."""
    result = found[name]
    size, row, steps = result["size"], result["row"], result["in steps"]
    on_nodes, has_matrix = name in NODES, "natural" in name or name == "periodic"
    kinds = {"all-reduce", "collective-permute"} if on_nodes else {"all-reduce"}
    assert {kind for kind, _, _ in steps} == kinds
    # Weights have two gradients, one by way of u and one of ∇u.
    gradient = 2 * size + 1
    numbers = max(numbers for kind, numbers, _ in steps if kind == "all-reduce")
    if has_matrix:
        # Once a step, in its loop, and not once a block of points, in a loop of its own. Beside it
        # the slope, and for each trial what its second solve starts from.
        assert [depth for _, found, depth in steps if found == numbers] == [1]
        assert size**2 <= numbers <= size**2 + gradient
        assert total(steps, "all-reduce") <= size**2 + 2 * gradient
    else:
        assert size <= numbers <= gradient
    # Of q a row, of its derivatives one by each parameter.
    most = row * size if has_matrix else row
    assert all(numbers <= most for kind, numbers, _ in steps if kind == "collective-permute")


def test_checks_exchange_three_numbers(found: dict[str, Any]) -> None:
    checks = found["refined"]["in checks"]
    assert checks
    assert {kind for kind, _, _ in checks} == {"all-reduce"}
    assert total(checks, "all-reduce") == 6  # of two levels of refinement


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_collects_its_field(found: dict[str, Any], name: str) -> None:
    evaluation, nodes = found[name]["in evaluations"], found[name]["nodes"]
    assert {kind for kind, _, _ in evaluation} == {"all-gather"}
    assert nodes <= total(evaluation, "all-gather") < nodes + 8


def test_going_on_is_as_on_one_device(found: dict[str, Any]) -> None:
    for result in found["going on"].values():
        assert result < 1e-9


def test_a_mesh_in_the_context_is_no_matter(found: dict[str, Any]) -> None:
    assert found["in a context"] < 1e-9


def test_a_field_goes_with_arrays_anywhere(found: dict[str, Any]) -> None:
    result = found["handed over"]
    # The field; its sum with an array on another device, and with one on all; solutions from there
    # by conjugate gradients on the mesh, and by a hybrid on one device.
    assert result["devices"] == [1, 1, 8, 8, 1]
    assert max(result["errors"]) < 1e-6  # of residuals of 1e-8


@pytest.mark.parametrize("mesh", [8, "points", jax.devices(), jax.sharding.get_mesh()])
def test_refuses_what_is_no_mesh(mesh: Any) -> None:
    with pytest.raises(ValueError, match=r"mesh: expected a jax\.sharding\.Mesh"):
        RitzTraining(Poisson(Grid(16), 1.0), MLP(1, (4,), rngs=nnx.Rngs(0)), mesh=mesh)


def test_a_mesh_of_one_device_changes_nothing() -> None:
    meshes = None, jax.make_mesh((1,), ("points",))
    problem, options = Poisson(Grid(16), 1.0), {"every": 5, "max_steps": 5}
    last = []
    for mesh in meshes:
        model = MLP(1, (4,), dtype=jnp.float64, rngs=nnx.Rngs(0))
        *_, snapshot = RitzTraining(problem, model, mesh=mesh, **options)
        last.append(snapshot)
    for one, other in zip(*(jax.tree.leaves(s.state.params) for s in last), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(*(s.evaluate(problem.grid) for s in last))


class ThreeShares(PointSharding):
    """As on three devices."""

    @property
    def shares(self) -> int:
        return 3


class TestOrder:
    """Which point comes where."""

    def test_is_that_of_the_points_on_one_device(self) -> None:
        np.testing.assert_array_equal(as_sharding(None).order((4, 1), (2, 3)), np.arange(10))

    def test_keeps_rows_whole_and_fills_up(self) -> None:
        expected = [[0, 1, 2, 3, 8], [4, 5, 6, 7, 9], [-1, -1, -1, -1, -1]]
        np.testing.assert_array_equal(ThreeShares().order((4, 2), (2, 1)).reshape(3, -1), expected)

    @pytest.mark.parametrize("most", [1, 3, 4, 7, 20])
    def test_parts_are_of_each_share_and_join_again(self, most: int) -> None:
        x = jnp.arange(21.0)
        parts = ThreeShares().parts(x[:, None], most)
        assert len(parts) == -(-7 // most)
        assert parts.shape[1] == 3 * MULTIPLE
        for part in np.asarray(parts).reshape(len(parts), 3, -1):
            for share, points in enumerate(part):
                assert set(points) <= {0.0, *x[7 * share : 7 * share + 7].tolist()}
        np.testing.assert_array_equal(ThreeShares().joined(parts, 21)[:, 0], x)
