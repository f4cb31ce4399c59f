"""RitzTraining: a repeatable stream of snapshots, in single precision, that solves its problem."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from nets import (
    MLP,
    GridEnergy,
    HardBoundary,
    PenaltyBoundary,
    RitzTraining,
    TrainingState,
    energy_natural_gradient,
    input_size,
)
from nets.evaluation import BLOCK
from nets.networks import same_but_for_params
from solvers.grid import Boundary, Grid
from solvers.problems import Poisson
from solvers.snapshots import CoolableTraining, Snapshot

D, N, P = Boundary.DIRICHLET, Boundary.NEUMANN, Boundary.PERIODIC
GRID = Grid(64)
PROBLEM = Poisson(GRID, lambda x: jnp.pi**2 * jnp.sin(jnp.pi * x) + 2, boundary_values=1.0)


def network(grid: Grid = GRID, **options: object) -> MLP:
    return MLP(input_size(grid), (16,), rngs=nnx.Rngs(0), **options)  # type: ignore


def leaves(tree: object) -> list[np.ndarray]:
    return [np.array(leaf) for leaf in jax.tree.leaves(tree)]


def assert_equal(one: object, other: object) -> None:
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def training() -> RitzTraining:
    return RitzTraining(PROBLEM, network(), optimizer=optax.adam(1e-2), every=20, max_steps=70)


@pytest.fixture(scope="module")
def snapshots(training: RitzTraining) -> list[Snapshot]:
    return list(training)


def test_snapshots_come_every_so_many_steps_and_at_the_end(
    training: RitzTraining, snapshots: list[Snapshot]
) -> None:
    assert isinstance(training, CoolableTraining)
    assert [s.step for s in snapshots] == [0, 20, 40, 60, 70]
    assert [s.state.step for s in snapshots] == [0, 20, 40, 60, 70]
    seconds = [s.seconds for s in snapshots]
    assert seconds[0] == 0
    assert np.all(np.diff(seconds) > 0)


def test_iterating_again_starts_afresh_and_leaves_kept_snapshots_alone(
    training: RitzTraining, snapshots: list[Snapshot]
) -> None:
    before = leaves([s.state for s in snapshots])
    model = network()
    for old, new in zip(snapshots, training, strict=True):
        assert_equal(old.state, new.state)
    assert_equal(before, [s.state for s in snapshots])
    assert_equal(snapshots[0].state.params, nnx.state(model, nnx.Param))
    assert len(training.chunk_seconds) == 4
    assert len(training.energies) == 70


def test_the_model_is_not_changed() -> None:
    model = network()
    before = leaves(nnx.state(model))
    list(RitzTraining(PROBLEM, model, every=5, max_steps=5))
    assert_equal(before, nnx.state(model))


def test_resuming_is_going_on(training: RitzTraining, snapshots: list[Snapshot]) -> None:
    rest = list(training.resume(snapshots[2]))
    assert [s.step for s in rest] == [60, 70]
    assert_equal(rest[-1].state, snapshots[-1].state)


def test_the_chunks_length_does_not_change_the_steps(snapshots: list[Snapshot]) -> None:
    other = RitzTraining(PROBLEM, network(), optimizer=optax.adam(1e-2), every=30, max_steps=60)
    assert_equal(list(other)[-1].state, snapshots[3].state)


def test_single_precision_under_x64(training: RitzTraining, snapshots: list[Snapshot]) -> None:
    assert jax.config.jax_enable_x64  # type: ignore
    for snapshot in snapshots:
        floats = [a for a in leaves(snapshot.state) if a.dtype.kind == "f"]
        assert {a.dtype for a in floats} == {np.dtype("float32")}
    assert training._ladder.energy(0).load.dtype == np.float32  # type: ignore


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_evaluation_is_in_the_grids_precision(snapshots: list[Snapshot], dtype: str) -> None:
    for intervals in (8, 64):
        grid = Grid(intervals, dtype=dtype)
        u = snapshots[-1].evaluate(grid)
        assert u.dtype == dtype
        assert u.shape == grid.full_shape
        assert (u[0], u[-1]) == (1.0, 1.0)
    single, double = (snapshots[-1].evaluate(Grid(64, dtype=d)) for d in ("float32", "float64"))
    np.testing.assert_allclose(single, double, atol=1e-5)  # 16 terms of order 1
    assert np.abs(single - double).max() > 0


def test_evaluation_in_blocks_is_the_same(snapshots: list[Snapshot]) -> None:
    many = 4 * (BLOCK // 4 * 5 // 4 + 1)  # two blocks, the second one padded
    fine = np.asarray(snapshots[-1].evaluate(Grid(many)))
    coarse = np.asarray(snapshots[-1].evaluate(Grid(4)))
    np.testing.assert_allclose(fine[:: many // 4], coarse, atol=1e-13)


def test_compilation_is_charged_apart_and_once() -> None:
    ticks = count()
    training = RitzTraining(
        PROBLEM, network(), every=5, max_steps=10, clock=lambda: float(next(ticks))
    )
    assert training.compile_seconds == 1.0  # a clock that ticks once when it is read
    for _ in range(2):
        training.prepare(GRID)
        # Two programs from tick to tick; the first holds four ticks more, of two timed steps.
        assert training.compile_seconds == 7.0
    stream = list(training)
    assert [s.seconds for s in stream] == [0.0, 1.0, 2.0]
    assert training.chunk_seconds == [1.0, 1.0]
    stream[0].evaluate(GRID)
    assert training.cool_down(stream[1], steps=8).seconds == 3.0
    assert training.compile_seconds == 7.0


class TestCoolDown:
    """Updates times a factor from 1 to 0."""

    def test_ends_at_rest(self, training: RitzTraining, snapshots: list[Snapshot]) -> None:
        before = leaves(snapshots[2].state)
        cooled = training.cool_down(snapshots[2], steps=45)  # three chunks, the last one short
        assert cooled.step == cooled.state.step == 85
        assert cooled.seconds > snapshots[2].seconds
        assert_equal(before, snapshots[2].state)
        # A step of size 0 only the optimiser notices.
        rested = training.cool_down(cooled, steps=1)
        assert_equal(rested.state.params, cooled.state.params)
        assert rested.step == 86

    def test_follows_the_factors(self) -> None:
        """Small steps of plain descent keep their gradient, so moves add up as the factors do."""
        slow = optax.sgd(1e-6)
        training = RitzTraining(PROBLEM, network(dtype=jnp.float64), optimizer=slow, every=4)
        start = next(iter(training))
        chunk = next(training.resume(start))
        cooled = training.cool_down(start, steps=7)
        for a, b, c in zip(*(leaves(s.state.params) for s in (start, chunk, cooled)), strict=True):
            # 4 full steps against 1 + 5/6 + … + 1/6 + 0 = 3.5; the gradient moves by 1e-4 or so.
            np.testing.assert_allclose(
                (c - a) / np.abs(b - a).max(), (b - a) / np.abs(b - a).max() * 3.5 / 4, atol=1e-3
            )

    def test_quietens_the_optimiser(self) -> None:
        training = RitzTraining(
            PROBLEM, network(), optimizer=optax.adam(3e-2), every=25, max_steps=300
        )
        *_, last = training
        after = [
            training._ladder.energy(0)(lambda x, s=s: training._network(s.state.params, x))
            for s in (last, training.cool_down(last, 100))
        ]
        assert after[1] < after[0]


@pytest.fixture(scope="module")
def averaging() -> RitzTraining:
    return RitzTraining(
        PROBLEM, network(), optimizer=optax.adam(1e-2), average=0.75, every=1, max_steps=9
    )


class TestAverage:
    """Shown, but not trained with."""

    def test_has_weights_that_fall_by_the_decay(self, averaging: RitzTraining) -> None:
        plain = RitzTraining(
            PROBLEM, network(), optimizer=optax.adam(1e-2), every=3, max_steps=9, refinements=None
        )
        stream = list(averaging)
        for one, other in zip(plain, stream[::3], strict=True):
            assert_equal(one.state.params, other.state.params)
        values = np.array([s.state.params["layers"][0]["kernel"] for s in stream])
        averages = np.array([s.state.average["layers"][0]["kernel"] for s in stream])
        np.testing.assert_array_equal(averages[0], values[0])
        for step in range(1, 10):
            weights = 0.75 ** np.arange(step)[::-1]
            mean = np.average(values[1 : step + 1], axis=0, weights=weights)
            np.testing.assert_allclose(averages[step], mean, rtol=1e-5, atol=1e-6)

    def test_is_what_snapshots_show(self, averaging: RitzTraining, training: RitzTraining) -> None:
        *_, last = averaging
        plain = TrainingState(0, last.state.average, training._start.optimizer)
        shown = training._snapshot(plain, 0.0)
        assert last.features is not None
        assert shown.features is not None
        np.testing.assert_array_equal(last.evaluate(GRID), shown.evaluate(GRID))
        np.testing.assert_array_equal(last.features(GRID), shown.features(GRID))

    def test_is_kept_by_resuming_and_cooling(self, averaging: RitzTraining) -> None:
        stream = list(averaging)
        assert_equal(list(averaging.resume(stream[4]))[-1].state, stream[-1].state)
        # Of two steps of a cool-down the first is a full one.
        cooled = averaging.cool_down(stream[4], steps=2).state
        assert_equal(cooled.params, stream[5].state.params)
        moved = jax.tree.map(
            lambda a, b: bool((a != b).any()), cooled.average, stream[5].state.average
        )
        assert any(jax.tree.leaves(moved))


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(
            optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, 40))
        ),
        optax.lbfgs(memory_size=3),
    ],
    ids=["chain with schedule", "lbfgs"],
)
def test_any_optimiser_lowers_the_energy(optimizer: optax.GradientTransformation) -> None:
    training = RitzTraining(PROBLEM, network(), optimizer=optimizer, every=20, max_steps=40)
    *_, last = training
    assert training.energies[-1] < training.energies[0]
    floats = [a for a in leaves(last.state.params) if a.dtype.kind == "f"]
    assert {a.dtype for a in floats} == {np.dtype("float32")}


def wave(*x: jax.Array) -> jax.Array:
    return jnp.cos(2 * jnp.pi * x[-1])


def load(*x: jax.Array) -> jax.Array:
    return 4 * jnp.pi**2 * wave(*x)


def jump(grid: Grid) -> dict:
    (x,) = grid.coordinates()
    return {"source": jnp.zeros(grid.full_shape), "diffusion": jnp.where(x < 0.5, 1.0, 3.0)}


PROBLEMS = {
    "dirichlet": (PROBLEM, lambda x: 1 + jnp.sin(jnp.pi * x) + x * (1 - x)),
    "periodic, singular": (Poisson(Grid(64, boundary=P), load), wave),
    "neumann, singular": (Poisson(Grid(64, boundary=N), load), wave),
    "flux": (Poisson(Grid(64, boundary=(D, N)), 0.0, flux=(None, 2.0)), lambda x: 2 * x),
    "2-D": (Poisson(Grid((16, 16), boundary=(N, P)), load), wave),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_solves_to_a_few_per_cent(name: str) -> None:
    problem, exact = PROBLEMS[name]
    grid = problem.grid
    training = RitzTraining(
        problem,
        network(grid, frequency=3.0),
        optimizer=optax.adam(2e-2),
        quadrature=GridEnergy() if grid.ndim == 2 else None,
        every=100,
        max_steps=400,
    )
    *_, last = training
    u = np.asarray(training.cool_down(last, 100).evaluate(grid))
    error = np.abs(u - np.asarray(exact(*grid.coordinates()))).max()
    assert error < 0.05 * np.abs(u).max()
    if problem.operator.is_singular:
        assert abs(grid.integral(jnp.asarray(u))) < 1e-14


def test_nodal_data_with_a_jump_trains_on_the_grid() -> None:
    grid = Grid(32)
    problem = Poisson(grid, **jump(grid), boundary_values=np.linspace(0, 1, 33))
    training = RitzTraining(problem, network(), optimizer=optax.adam(1e-2), max_steps=300)
    *_, last = training
    u = last.evaluate(grid)
    exact = np.linalg.solve(problem.operator.as_matrix(), problem.rhs)
    assert np.abs(u[1:-1] - exact).max() < 0.03  # u has a kink that tanh has to bend to
    assert (u[0], u[-1]) == (0.0, 1.0)


def test_divergence_is_an_error_that_says_what_to_do() -> None:
    stream = iter(
        RitzTraining(PROBLEM, network(), optimizer=optax.sgd(1e6), boundary=PenaltyBoundary())
    )
    assert next(stream).step == 0
    with pytest.raises(RuntimeError, match=r"between steps 0 and 50.*smaller learning rate"):
        next(stream)


def bad_models() -> Iterator[tuple[nnx.Module, str]]:
    yield MLP(1, (4,), rngs=nnx.Rngs(0)), r"model: expected 2 inputs .*two for a periodic one"
    yield nnx.Linear(2, 1, rngs=nnx.Rngs(0)), r"model: expected to map \(3, 2\) to \(3,\)"


@pytest.mark.parametrize(("model", "message"), list(bad_models()))
def test_refuses_networks_that_do_not_fit(model: nnx.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RitzTraining(Poisson(Grid(8, boundary=P), 0.0), model)


@pytest.mark.parametrize("options", [{"every": 0}, {"max_steps": 2.5}, {"refinements": -1}])
def test_refuses_counts(options: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}: expected a positive integer"):
        RitzTraining(PROBLEM, network(), **options)


@pytest.mark.parametrize(
    "options", [{"optimizer": "adam"}, {"boundary": "hard"}, {"problem": Grid(8)}, {"model": None}]
)
def test_refuses_what_is_no_such_thing(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}: expected"):
        RitzTraining(**{"problem": PROBLEM, "model": network()} | options)


@pytest.mark.parametrize("decay", [0.0, 1.0, "much"])
def test_refuses_decays(decay: Any) -> None:
    with pytest.raises(ValueError, match="average: expected"):
        RitzTraining(PROBLEM, network(), average=decay)


def test_refuses_classes_and_names() -> None:
    for name, value in (("boundary", HardBoundary), ("quadrature", "grid")):
        with pytest.raises(ValueError, match=f"{name}: expected"):
            RitzTraining(PROBLEM, network(), **{name: value})


def test_energies_are_those_since_the_training_was_resumed(
    training: RitzTraining, snapshots: list[Snapshot]
) -> None:
    assert len(list(training)) == len(snapshots)
    whole = training.energies
    assert len(list(training.resume(snapshots[2]))) == 2
    assert training.energies == whole[40:]


def test_refuses_foreign_snapshots_and_grids(
    training: RitzTraining, snapshots: list[Snapshot]
) -> None:
    with pytest.raises(ValueError, match="snapshot: expected one of a RitzTraining"):
        training.cool_down(Snapshot(0, 0.0, lambda grid: jnp.zeros(grid.full_shape)))
    other = next(iter(RitzTraining(PROBLEM, network(), optimizer=optax.sgd(1e-3))))
    with pytest.raises(ValueError, match=r"snapshot: .* of this model and optimizer"):
        next(training.resume(other))
    with pytest.raises(ValueError, match="grid: expected the box"):
        snapshots[0].evaluate(Grid(8, upper=2))


def test_parameters_of_half_precision_are_trained() -> None:
    """The check of the quadrature did not know their rounding."""
    model = MLP(1, (8,), dtype="bfloat16", rngs=nnx.Rngs(0))
    *_, last = RitzTraining(Poisson(Grid(32), 1.0), model, every=10, max_steps=20)
    assert last.step == 20


def test_a_model_with_another_random_state_is_another_seed() -> None:
    models = []
    for rngs in map(nnx.Rngs, (0, 1)):
        dropout = nnx.Dropout(0.5, rngs=rngs)
        models.append(nnx.Sequential(nnx.Linear(1, 3, rngs=rngs), dropout))
    assert same_but_for_params(*models)


@pytest.mark.parametrize("optimizer", [optax.adam(1e-2), optax.lbfgs(), energy_natural_gradient()])
def test_a_restarted_training_is_one_of_the_other_model(optimizer: Any) -> None:
    models = [MLP(1, (4,), frequency=3.0, dtype=jnp.float64, rngs=nnx.Rngs(k)) for k in (0, 1)]
    problem = Poisson(Grid(16), 1.0)
    options: dict[str, Any] = {"optimizer": optimizer, "every": 3, "max_steps": 6}
    first, fresh = (RitzTraining(problem, model, **options) for model in models)
    assert first.step_seconds is None
    before = [s.evaluate(problem.grid) for s in first]
    assert first.step_seconds is not None
    assert first.step_seconds > 0
    again = first.restarted(models[1])
    for one, other in zip(again, fresh, strict=True):
        np.testing.assert_array_equal(one.evaluate(problem.grid), other.evaluate(problem.grid))
    assert again.compile_seconds == 0
    np.testing.assert_array_equal([s.evaluate(problem.grid) for s in first], before)


@pytest.mark.parametrize(
    "other",
    [
        MLP(1, (5,), rngs=nnx.Rngs(0)),
        MLP(1, (4,), activation=jnp.sin, rngs=nnx.Rngs(0)),
        MLP(1, (4,), dtype=jnp.float64, rngs=nnx.Rngs(0)),
    ],
)
def test_a_training_is_not_restarted_with_another_kind_of_model(other: MLP) -> None:
    training = RitzTraining(Poisson(Grid(16), 1.0), MLP(1, (4,), rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="parameters only"):
        training.restarted(other)


@pytest.mark.parametrize(
    "layer", [nnx.BatchNorm(8, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(0))]
)
def test_layers_that_mix_points_or_leave_it_to_chance_are_refused(layer: nnx.Module) -> None:
    """Trained as they are, energies fell below the least one there is."""
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Linear(1, 8, rngs=rngs), jnp.tanh, layer, nnx.Linear(8, 1, rngs=rngs), lambda y: y[:, 0]
    )
    with pytest.raises(ValueError, match=f"model: {type(layer).__name__} at layers/2"):
        RitzTraining(Poisson(Grid(16), 1.0), model)
    model.eval()
    RitzTraining(Poisson(Grid(16), 1.0), model)
