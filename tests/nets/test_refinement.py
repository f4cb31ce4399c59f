"""Networks that fool their quadrature are found, and get a finer one."""

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from nets import (
    MLP,
    GaussLegendre,
    GridEnergy,
    HardBoundary,
    QuadratureCheck,
    QuadratureWarning,
    RitzTraining,
    energy_natural_gradient,
    ritz_energy,
)
from nets.refinement import EnergyLadder
from solvers.grid import Grid
from solvers.problems import Poisson
from solvers.snapshots import Snapshot

GRID = Grid(32)
PROBLEM = Poisson(GRID, lambda x: jnp.pi**2 * jnp.sin(jnp.pi * x))  # u = sin πx, E = −π²/4
EPS = float(np.finfo(np.float64).eps)


def train(panels: int = 2, **options: Any) -> RitzTraining:
    """With 8 points for 25 parameters, unless told otherwise, which is fooled."""
    model = MLP(1, (8,), frequency=6.0, dtype="float64", rngs=nnx.Rngs(0))
    chosen = {"optimizer": optax.adam(2e-2), "max_steps": 200} | options
    return RitzTraining(PROBLEM, model, quadrature=GaussLegendre(panels), **chosen)


def error(snapshot: Snapshot) -> float:
    exact = jnp.sin(jnp.pi * GRID.coordinates()[0])
    return float(jnp.max(jnp.abs(snapshot.evaluate(GRID) - exact)))


def assert_equal(one: Any, other: Any) -> None:
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("fall", "refined", "is_news", "is_fooled"),
    [
        (1e-3, 1e-3, True, False),
        (1e-3, 0.51e-3, True, False),
        (1e-3, 0.49e-3, True, True),
        (1e-3, -2e-3, True, True),
        (-1e-3, -2e-3, False, False),  # a rise is no success that could be a false one
        (350 * EPS, 0.0, True, True),
        (150 * EPS, 0.0, False, False),  # less than 100 roundings of a size of 2
    ],
)
def test_what_counts_is_how_much_of_a_fall_is_true(
    fall: float, refined: float, is_news: bool, is_fooled: bool
) -> None:
    # Not the rule's error: it is 0.1 before and after. Small numbers, to have falls that small.
    earlier = QuadratureCheck(*map(np.float64, (0.0, 0.1, 2.0)))
    later = QuadratureCheck(*map(np.float64, (-fall, 0.1 - refined, 1.0)))
    assert (later.is_news(earlier), later.is_fooled(earlier)) == (is_news, is_fooled)


def test_a_ladder_doubles_the_panels() -> None:
    ladder = EnergyLadder(PROBLEM, HardBoundary(), GaussLegendre(3), np.dtype("float32"))
    assert [ladder.rule(n) for n in (2, 0)] == [GaussLegendre((12,)), GaussLegendre(3)]
    assert [len(ladder.energy(n).ansatz.inputs) for n in (0, 1, 2)] == [12, 24, 48]
    assert ladder.energy(1) is ladder.energy(1)
    nodal = EnergyLadder(PROBLEM, HardBoundary(), GridEnergy(), np.dtype("float32"))
    assert [nodal.rule(n) for n in (0, 1, 2)] == [GridEnergy(), None, None]


@pytest.fixture(scope="module")
def training() -> RitzTraining:
    return train()


@pytest.fixture(scope="module")
def snapshots(training: RitzTraining) -> list[Snapshot]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return list(training)


def test_a_fooled_training_takes_a_chunk_back_and_refines(
    training: RitzTraining, snapshots: list[Snapshot]
) -> None:
    assert [s.state.refinements for s in snapshots] == [0, 1, 1, 1, 1]
    assert (
        [s.step for s in snapshots] == [s.state.step for s in snapshots] == [0, 50, 100, 150, 200]
    )
    assert_equal(snapshots[1].state.params, snapshots[0].state.params)
    assert snapshots[1].seconds > snapshots[0].seconds
    assert error(snapshots[-1]) < 0.05
    # By its first rule it had an energy far below the least one.
    assert min(training.energies[:50]) < -(np.pi**2) / 4 - 0.1
    assert min(training.energies[50:]) > -(np.pi**2) / 4 - 0.01


def test_a_refined_training_starts_afresh_and_resumes(
    training: RitzTraining, snapshots: list[Snapshot]
) -> None:
    compiled = training.compile_seconds
    for start in (0, 1, 2):
        again = list(training.resume(snapshots[start]))
        assert_equal([s.state for s in again], [s.state for s in snapshots[start + 1 :]])
    for one, other in zip(training, snapshots, strict=True):
        assert_equal(one.state, other.state)
    assert training.compile_seconds == compiled
    assert training.cool_down(snapshots[-1], 10).state.refinements == 1


def test_natural_gradient_is_checked_too() -> None:
    training = train(3, optimizer=energy_natural_gradient(), max_steps=20)
    stream = list(training)
    assert len(stream) == 21
    assert stream[-1].state.refinements > 0
    assert error(stream[-1]) < 5e-3


def test_one_that_may_not_refine_warns() -> None:
    training = train(refinements=0, max_steps=50)
    stream = iter(training)
    next(stream)
    with pytest.warns(QuadratureWarning, match=r"points of GaussLegendre\(panels=2, points=4\)"):
        assert next(stream).state.refinements == 0


def test_one_that_does_not_look_says_nothing() -> None:
    *_, last = train(refinements=None, max_steps=50)
    assert last.state.check is None


def test_a_good_training_is_left_alone() -> None:
    *_, last = train(32)
    assert last.state.refinements == 0
    assert last.state.check.difference < 1e-6


@pytest.mark.parametrize(("every", "due"), [(7, 21), (50, 50)])
def test_checks_take_a_twentieth_of_the_time(every: int, due: int) -> None:
    """In 1-D one costs a step, 1 + 2 passes against 3, so that it is due once in 20 steps."""
    stream = iter(train(32, every=every, max_steps=50, optimizer=optax.sgd(1e-4)))
    assert next(s.step for s in stream if s.state.check is not None) == due


def test_a_snapshot_can_be_checked_from_outside(
    training: RitzTraining, snapshots: list[Snapshot]
) -> None:
    for snapshot, panels in ((snapshots[0], 2), (snapshots[-1], 4)):
        check = training.check_quadrature(snapshot)
        network = partial(training._network, snapshot.state.params)
        for n, found in ((panels, check.energy), (2 * panels, check.refined)):
            energy = ritz_energy(PROBLEM, quadrature=GaussLegendre(n), dtype=jnp.float64)
            np.testing.assert_allclose(found, energy(network), rtol=1e-12)
        assert check.difference == abs(check.refined - check.energy) / abs(check.refined)


def test_what_cannot_be_checked_is_refused(training: RitzTraining) -> None:
    model = MLP(1, (4,), rngs=nnx.Rngs(0))
    nodal = RitzTraining(PROBLEM, model, quadrature=GridEnergy(), max_steps=50)
    with pytest.raises(ValueError, match="quadrature: GridEnergy, on the nodes, has no finer one"):
        nodal.check_quadrature(next(iter(nodal)))
    with pytest.raises(ValueError, match="snapshot: expected one of a RitzTraining"):
        training.check_quadrature(Snapshot(0, 0.0, lambda grid: jnp.zeros(grid.full_shape)))


def test_a_refined_snapshot_is_gone_on_with_elsewhere() -> None:
    """Of a new training the first quadrature was not compiled, which timed a step."""
    *_, last = train(refinements=1)
    assert last.state.refinements == 1
    resumed = next(iter(train(refinements=1, max_steps=400).resume(last)))
    assert resumed.step > last.step


def test_steps_that_were_taken_back_are_not_in_the_average() -> None:
    """The random start came back with a fifth of all weight."""
    stream = list(train(refinements=1, average=0.9, every=20))
    taken_back = [s for s in stream if s.state.averaged < s.step]
    assert taken_back
    state = taken_back[-1].state
    assert state.averaged % 20 == 0
    first = taken_back[0].state
    assert first.averaged == first.step - 20
