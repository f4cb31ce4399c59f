"""Fit: a repeatable stream of snapshots, which an interruption does not change."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from nets import MLP, Fit, ResNet18, cross_entropy
from nets.learning import Batches

X = np.linspace(-1, 1, 30)[:, None]
Y = np.sin(3 * X)
CLASSES = np.arange(30) % 3


class Dropped(nnx.Module):
    """A perceptron with dropout and a batch normalisation, which a fit has to carry along."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(1, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.drop(jnp.tanh(self.norm(self.first(x)))))


def network(**options: Any) -> MLP:
    return MLP(1, (8,), **({"outputs": 1, "rngs": nnx.Rngs(0)} | options))


def fit(model: nnx.Module | None = None, **options: Any) -> Fit:
    options = {"optimizer": optax.adam(1e-2), "every": 10, "max_steps": 35} | options
    return Fit(model or network(), X, Y, **options)


def classifier(model: nnx.Module | None = None, **options: Any) -> Fit:
    """Everything at once: dropout, batch statistics, batches that do not divide the samples."""
    options = {"optimizer": optax.adam(1e-2), "every": 10, "max_steps": 35, "batch": 7} | options
    return Fit(model or Dropped(nnx.Rngs(0)), X, CLASSES, loss=cross_entropy, **options)


def leaves(tree: Any) -> list[np.ndarray]:
    def plain(leaf: jax.Array) -> np.ndarray:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if is_key else leaf)

    return [plain(leaf) for leaf in jax.tree.leaves(tree)]


def assert_equal(one: Any, other: Any) -> None:
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradient_descent_is_what_numpy_makes_of_it() -> None:
    model = network(dtype=jnp.float64)
    (W, b), (V, c) = (
        (np.array(layer.kernel[...]), np.array(layer.bias[...])) for layer in model.layers
    )
    losses = []
    for _ in range(5):
        h = np.tanh(X @ W + b)
        error = h @ V + c - Y
        losses.append(np.mean(error**2))
        out = 2 * error / error.size
        back = (out @ V.T) * (1 - h**2)
        W, b = W - 0.1 * X.T @ back, b - 0.1 * back.sum(0)
        V, c = V - 0.1 * h.T @ out, c - 0.1 * out.sum(0)
    trained = fit(model, optimizer=optax.sgd(0.1), max_steps=5)
    *_, last = trained
    np.testing.assert_allclose(trained.losses, losses, rtol=1e-12)
    np.testing.assert_allclose(last.predict(X), np.tanh(X @ W + b) @ V + c, atol=1e-12)
    np.testing.assert_allclose(last.loss, np.mean((np.tanh(X @ W + b) @ V + c - Y) ** 2))


def test_cross_entropy_is_the_mean_of_minus_log_softmax() -> None:
    h = np.random.default_rng(0).normal(size=(30, 3))
    expected = -np.log(np.exp(h) / np.exp(h).sum(1, keepdims=True))[np.arange(30), CLASSES].mean()
    np.testing.assert_allclose(cross_entropy(jnp.asarray(h), jnp.asarray(CLASSES)), expected)
    assert np.isfinite(cross_entropy(1e4 * jnp.asarray(h), jnp.asarray(CLASSES)))


@pytest.mark.parametrize("build", [fit, classifier])
def test_snapshots_come_every_so_often_and_the_same_again(build: Any) -> None:
    training = build()
    first = list(training)
    assert [s.step for s in first] == [0, 10, 20, 30, 35]
    assert len(training.losses) == 35
    assert np.all(np.diff([s.seconds for s in first]) > 0)
    for one, other in zip(first, training, strict=True):
        assert_equal(one.state, other.state)
        assert one.loss == other.loss
    assert_equal(list(build(every=35))[-1].state, first[-1].state)


@pytest.mark.parametrize("build", [fit, classifier])
def test_the_loop_in_python_takes_the_same_steps(build: Any) -> None:
    # By gradient descent: Adam would blow up the rounding of a gradient that is zero, such as that
    # of a bias before a batch normalisation.
    options = {"optimizer": optax.sgd(0.1)}
    one, other = (list(build(compiled_loop=loop, **options))[-1] for loop in (True, False))
    for a, b in zip(leaves(one.state), leaves(other.state), strict=True):
        # Two programs of XLA, 35 steps in single precision, on numbers of order 1.
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_convolutions_on_the_cpu_are_looped_over_in_python() -> None:
    images = np.zeros((2, 16, 16, 1))
    model = ResNet18(4, (16, 16, 1), width=2, hidden=(2,), rngs=nnx.Rngs(0))
    training = Fit(model, images, [0, 1], loss=cross_entropy)
    assert training.compiled_loop is (jax.default_backend() != "cpu")
    assert fit().compiled_loop


def test_the_model_is_not_changed_and_the_snapshots_copy_is_the_readers() -> None:
    model = Dropped(nnx.Rngs(0))
    before = leaves(nnx.state(model))
    *_, last = Fit(model, X, CLASSES, loss=cross_entropy, every=5, max_steps=5)
    assert_equal(before, leaves(nnx.state(model)))
    assert not model.drop.deterministic
    values = last.predict(X)
    copy = last.model()
    np.testing.assert_allclose(copy(jnp.asarray(X, jnp.float32)), values, atol=1e-6)  # type: ignore
    copy.last.bias.set_value(jnp.ones(3))  # type: ignore
    np.testing.assert_array_equal(last.predict(X), values)


def test_prediction_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, last = classifier(max_steps=5)
    whole = last.predict(X)
    monkeypatch.setattr("nets.fitting.BLOCK", 8)
    np.testing.assert_allclose(last.predict(X), whole, atol=1e-6)
    assert whole.dtype == np.float32  # under x64


def test_ends_at_the_first_step_with_a_loss_small_enough() -> None:
    threshold = 0.15
    whole = fit(max_steps=60, every=25)
    last = list(whole)[-1]
    first = int(np.argmax(np.array(whole.losses) <= threshold))
    assert first % 25 > 0, "within a chunk"
    assert last.loss <= threshold
    ended = fit(max_steps=60, every=25, stop_at=threshold)
    *_, last = ended
    assert last.step == first
    assert len(ended.losses) == first
    assert_equal(list(fit(max_steps=first))[-1].state, last.state)


@pytest.mark.parametrize("compiled_loop", [True, False])
def test_batches_end_at_a_step_within_a_chunk_too(compiled_loop: bool) -> None:
    options: dict[str, Any] = {"compiled_loop": compiled_loop}
    losses = [snapshot.loss for snapshot in classifier(every=1, max_steps=60, **options)]
    threshold = min(losses[5:33])
    first = int(np.argmax(np.array(losses) <= threshold))
    assert first % 25 > 0, "within a chunk"
    *_, last = classifier(every=25, max_steps=60, stop_at=threshold, **options)
    assert (last.step, last.loss) == (first, pytest.approx(threshold, rel=1e-6))
    assert_equal(last.state, list(classifier(every=25, max_steps=first, **options))[-1].state)


def test_the_loss_of_batches_is_that_of_an_epoch() -> None:
    training = classifier(max_steps=20)
    snapshots = list(training)
    # 30 samples in batches of 7 take 5 steps; the next step's loss is the fifth of them.
    assert snapshots[1].loss == pytest.approx(np.mean(training.losses[6:11]), rel=1e-6)
    assert snapshots[0].loss == pytest.approx(training.losses[0], rel=1e-6)


def test_batches_see_all_samples_alike_and_begin_anywhere() -> None:
    batches = Batches(10, 4, seed=3)
    rows = batches.rows(0, 50)
    assert rows is not None
    assert set(np.bincount(rows.ravel())) == {20}
    for epoch in rows.ravel().reshape(-1, 10):
        assert sorted(epoch) == list(range(10))
    np.testing.assert_array_equal(batches.rows(17, 20), rows[17:37])
    assert np.any(Batches(10, 4, seed=4).rows(0, 50) != rows)


@pytest.mark.parametrize("build", [fit, classifier])
def test_a_fit_goes_on_from_its_folder_with_the_same_bits(tmp_path: Path, build: Any) -> None:
    pytest.importorskip("orbax.checkpoint")
    whole = build()
    expected = list(whole)
    options = {"checkpoint": tmp_path / "fit", "save_seconds": 0.0}
    interrupted = build(**options)
    for snapshot in interrupted:
        interrupted.records.append(snapshot.step)
        if snapshot.step == 30:
            break
    resumed = build(**options)
    rest = []
    for snapshot in resumed:
        rest.append(snapshot)
        resumed.records.append(snapshot.step)
    assert [s.step for s in rest] == [30, 35]
    assert_equal(rest[-1].state, expected[-1].state)
    assert resumed.losses == whole.losses
    assert resumed.records == [0, 10, 20, 30, 35]
    assert rest[-1].seconds > rest[0].seconds > 0
    kept = [name for name in os.listdir(tmp_path / "fit") if name.isdigit()]
    assert sorted(kept) == ["30", "35"]
    again = list(build(**options))
    assert [s.step for s in again] == [35]
    assert again[0].loss == expected[-1].loss


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": optax.adam(2e-2)}, "differs in optimizer. Give"),
        ({"optimizer": optax.sgd(1e-2)}, "differs in optimizer. Give"),
        (
            {"optimizer": optax.adam(optax.piecewise_constant_schedule(1e-2, {9: 0.1}))},
            "differs in optimizer. Give",
        ),
        ({"batch": 9, "seed": 5}, r"batch \(7 there, 9 here\); .*seed \(0 there, 5 here\)"),
        ({"max_steps": 20}, "max_steps: expected 35 or more"),
        ({"compiled_loop": False}, r"compiled_loop \(True there, False here\)"),
    ],
)
def test_a_folder_of_another_configuration_is_refused(
    finished: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        next(iter(classifier(checkpoint=finished, **change)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("orbax.checkpoint")
    folder = tmp_path_factory.mktemp("finished")
    list(classifier(checkpoint=folder))
    return folder


def test_other_data_and_models_are_refused_by_name(finished: Path) -> None:
    options = {"loss": cross_entropy, "optimizer": optax.adam(1e-2), "batch": 7}
    cases = [
        ((Dropped(nnx.Rngs(1)), X, CLASSES), "model's parameters at the start"),
        ((Dropped(nnx.Rngs(0)), X + 1, CLASSES), "differs in inputs"),
        ((Dropped(nnx.Rngs(0)), X, CLASSES[::-1].copy()), "differs in targets"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            next(iter(Fit(*arguments, checkpoint=finished, **options)))  # type: ignore
    longer = list(classifier(checkpoint=finished, max_steps=40, every=20))
    assert [s.step for s in longer] == [35, 40]


SCRIPT = """
import sys, time
import jax
jax.config.update("jax_enable_x64", True)
from tests_fitting import classifier
training = classifier(checkpoint=sys.argv[1], save_seconds=0.0, every=1, max_steps=300)
for snapshot in training:
    print(snapshot.step, flush=True)
    time.sleep(0.02)
"""


def test_a_killed_process_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("orbax.checkpoint")
    folder = tmp_path / "fit"
    script = SCRIPT.replace("tests_fitting", Path(__file__).stem)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 9:
                break
        time.sleep(0.05)  # into whatever it is doing, saving for the most part
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    whole = classifier(every=1, max_steps=30)
    expected = list(whole)[-1]
    resumed = classifier(checkpoint=folder, every=1, max_steps=30)
    snapshots = list(resumed)
    assert 9 <= snapshots[0].step < 30
    assert_equal(snapshots[-1].state, expected.state)
    assert resumed.losses == whole.losses


@pytest.mark.parametrize("options", [{}, {"compiled_loop": False}])
def test_a_restarted_fit_is_one_of_the_other_model(tmp_path: Path, options: Any) -> None:
    pytest.importorskip("orbax.checkpoint")
    first, fresh = classifier(**options), classifier(Dropped(nnx.Rngs(1)), seed=3, **options)
    before = list(first)
    folder = tmp_path / "other"
    other = first.restarted(Dropped(nnx.Rngs(1)), seed=3, checkpoint=folder)
    own = first.compile_seconds
    for one, expected in zip(other, fresh, strict=True):
        assert_equal(one.state, expected.state)
        assert one.loss == expected.loss
        np.testing.assert_array_equal(one.predict(X), expected.predict(X))
    assert other.losses == fresh.losses != first.losses
    assert other.compile_seconds < 0.5 * own
    kept = list(first.restarted(Dropped(nnx.Rngs(1)), seed=3, checkpoint=folder))
    assert [s.step for s in kept] == [35]
    with pytest.raises(ValueError, match="parameters at the start"):
        list(first.restarted(Dropped(nnx.Rngs(2)), seed=3, checkpoint=folder))
    for one, again in zip(before, first, strict=True):
        assert_equal(one.state, again.state)


@pytest.mark.parametrize(
    "other",
    [
        network(activation=jnp.sin),
        network(dtype=jnp.float64),
        MLP(1, (9,), outputs=1, rngs=nnx.Rngs(0)),
        Dropped(nnx.Rngs(0)),
    ],
)
def test_a_fit_is_not_restarted_with_another_kind_of_model(other: nnx.Module) -> None:
    with pytest.raises(ValueError, match="values of its variables only"):
        fit().restarted(other)


def test_a_fit_that_diverges_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"diverged between steps 0 and 10: .*learning rate"):
        list(fit(optimizer=optax.sgd(1e20)))


def test_line_searches_are_given_the_function() -> None:
    training = fit(optimizer=optax.lbfgs(), max_steps=20)
    assert list(training)[-1].loss < 0.1 * training.losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": X[:, 0]}, "inputs: the model does not take"),
        ({"inputs": X * np.nan}, "inputs: expected finite numbers"),
        ({"inputs": X[:5]}, "inputs, targets: expected as many"),
        ({"inputs": X[:0], "targets": Y[:0]}, "at least one"),
        ({"targets": Y[:, 0]}, r"targets: expected the shape of the model's outputs, \(30, 1\)"),
        ({"targets": CLASSES, "loss": cross_entropy}, "targets: expected classes from 0 to 0"),
        ({"targets": X[:, 0], "loss": cross_entropy}, "targets: expected integers"),
        ({"loss": lambda h, y: h - y}, "loss: expected one that gives a number"),
        ({"batch": 31}, "batch: expected at most 30"),
        ({"batch": 0}, "batch: expected a positive integer"),
        ({"every": 0}, "every: expected a positive integer"),
        ({"stop_at": -1.0}, "stop_at: expected a positive number"),
        ({"checkpoint": __file__}, "checkpoint: expected a folder"),
    ],
)
def test_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fit(**({"model": network(), "inputs": X, "targets": Y} | arguments))


def test_without_orbax_the_command_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ImportError, match=r"pip install 'ritzrelax\[frequency\]'"):
        fit(checkpoint=tmp_path)
    fit()


def test_batches_do_not_end_before_an_epoch_is_seen() -> None:
    """The loss of the first batch alone was below."""
    *_, last = classifier(every=2, max_steps=12, stop_at=1e6)
    assert last.step == Batches(30, 7, seed=0).per_epoch - 1
