"""Supervised training, as a stream of snapshots, that an interruption does not change."""

import copy
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from nets.checkpoints import Checkpoints, Saved
from nets.learning import Batches, Learner, Loss, Position, Steps, has_convolutions
from nets.losses import mean_squared_error
from nets.networks import have_same_shapes, precision
from nets.samples import as_samples, check_samples, configuration, platform
from solvers.arguments import as_count, as_number, expect

# Inputs at a time: of images on 64 channels a block then takes some hundred megabytes.
BLOCK = 512


class FitSnapshot(NamedTuple):
    """A moment of a fit.

    Attributes:
        step: optimiser steps taken.
        seconds: time spent in them, without compilation; those of an interrupted run count too.
        loss: mean of the batches' losses over the latest epoch, the next step's included; so of all
            samples at this very step where a batch has them all.
        predict: `predict(inputs)` gives the network's outputs, as in evaluation, for any number of
            inputs, in blocks. It does the work when called.
        model: `model()` gives a copy of the network, in evaluation mode, free to be changed.
        state: parameters, the rest of the model's variables, and the optimiser's state.
    """

    step: int
    seconds: float
    loss: float
    predict: Callable[[Any], jax.Array]
    model: Callable[[], nnx.Module]
    state: Position


class Fit:
    """Minimise the loss of a network on given samples, seen every `every` steps.

    Iterating gives a `FitSnapshot` at step 0, then one after each chunk of `every` steps, and one
    at the end. It starts afresh from the model as it was given, which is never changed.

    With a `checkpoint` it goes on from what that folder keeps, if anything: it gives the snapshot
    that was saved last, then those after it, and ends with the same bits as without interruption.
    Snapshots are saved before they are shown, `records` along with them: what was noted of a
    snapshot that was shown but not followed by a saved one is noted again.

    Args:
        model: any flax.nnx module that maps inputs, shape (N, …), to outputs. Dropout and batch
            statistics are on in training and off in evaluation.
        inputs: shape (N, …), of any precision: the parameters' one is that of the training.
        targets: shape (N, …), whatever the loss takes.
        loss: `mean_squared_error`, `cross_entropy`, or any function of a batch's outputs and
            targets to a number.
        optimizer: any optax optimiser, schedules and chains too. Those that ask for value, gradient
            and function (`optax.lbfgs`) are given them.
        batch: samples of a step; by default all of them.
        seed: of the shuffles, where a batch has fewer.
        every: steps from one snapshot to the next.
        max_steps: where the stream ends.
        stop_at: or before: at the first step where `loss`, as a snapshot has it, is no larger.
        compiled_loop: whether the steps of a chunk run in one compiled program; by default unless
            the model has convolutions and the CPU is to run them, which is slow at these in a loop.
        checkpoint: folder to go on from and to save to, with the latest two states in it; None for
            none. It needs the extra `frequency`.
        save_seconds: a snapshot is saved when so much time has passed since the last one was; the
            one at the end always is.
        clock: seconds, for tests.

    Attributes:
        losses: before each step so far, of its batch.
        records: an empty list at the start, for whatever JSON can hold; it is saved and comes back.
        compile_seconds: spent on compilation so far.

    Raises:
        ValueError: if an argument does not fit the others.
        ImportError: with a checkpoint, if orbax-checkpoint is not installed.

    Cost: a step is about three passes through the network for all samples of a batch; a snapshot is
        one more.

    Reference: Xu, Zhang, Luo, Xiao, Ma 2019, arXiv 1901.06523, section 2, and Xu, Zhou 2021,
        arXiv 2007.14313, for what is fitted so.

    Example:
        >>> from nets.networks import MLP
        >>> x = np.linspace(-1, 1, 41)[:, None]
        >>> network = MLP(1, (20,), outputs=1, rngs=nnx.Rngs(0))
        >>> fit = Fit(network, x, np.sin(3 * x), optimizer=optax.adam(1e-2), max_steps=300)
        >>> [snapshot.step for snapshot in fit]
        [0, 100, 200, 300]
        >>> fit.losses[-1] < 0.1 * fit.losses[0]
        True
    """

    def __init__(
        self,
        model: nnx.Module,
        inputs: Any,
        targets: Any,
        *,
        loss: Loss = mean_squared_error,
        optimizer: optax.GradientTransformation = optax.adam(1e-3),
        batch: int | None = None,
        seed: int = 0,
        every: int = 100,
        max_steps: int = 10_000,
        stop_at: float | None = None,
        compiled_loop: bool | None = None,
        checkpoint: str | Path | None = None,
        save_seconds: float = 30.0,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.every, self.max_steps = as_count("every", every), as_count("max_steps", max_steps)
        self.stop_at = None if stop_at is None else _as_threshold(stop_at)
        self._clock, self._save_seconds = clock, save_seconds
        expect("model", model, nnx.Module, "a flax.nnx.Module")
        expect("optimizer", optimizer, optax.GradientTransformation, "one such as optax.adam(1e-3)")
        graphs, params, rest = _apart(model)
        self._graph, graph = graphs
        self._predict = jax.jit(self._outputs)
        self._dtype = precision(params)
        samples = as_samples(inputs, targets, self._dtype)
        learner = Learner(graph, loss, optax.with_extra_args_support(optimizer))
        check_samples(learner, params, rest, samples)
        self._learner, self._samples = learner, samples
        size = None if batch is None else as_count("batch", batch)
        self._batches = Batches(len(samples[0]), size, seed)
        self._start = learner.start(params, rest)
        if compiled_loop is None:
            compiled_loop = not (has_convolutions(model) and platform(samples) == "cpu")
        self.compiled_loop = compiled_loop
        self._steps = Steps(learner, samples, self.every, compiled_loop=compiled_loop)
        self._checkpoints = self._kept_in(checkpoint)
        self.losses: list[float] = []
        self.records: list[Any] = []
        self.compile_seconds = 0.0

    def restarted(
        self, model: nnx.Module, *, seed: int | None = None, checkpoint: str | Path | None = None
    ) -> "Fit":
        """The same fit of another model of the same kind, without compiling again.

        Args:
            model: with parameters and other variables of the same shapes, such as another seed's.
            seed: of its shuffles; by default the same.
            checkpoint: its own folder, as for `Fit`.

        Raises:
            ValueError: if it differs in more than the values of its variables.
        """
        graphs, params, rest = _apart(model)
        own = self._start.params, self._start.rest
        is_same = graphs == (self._graph, self._learner.graph)
        if not is_same or not have_same_shapes(own, (params, rest)):
            raise ValueError("model: expected one that differs in the values of its variables only")
        other = copy.copy(self)
        other._start = self._learner.start(params, rest)
        if seed is not None:
            other._batches = Batches(self._batches.number, self._batches.size, seed)
        other._checkpoints = other._kept_in(checkpoint)
        other.losses, other.records, other.compile_seconds = [], [], 0.0
        return other

    def _kept_in(self, folder: str | Path | None) -> Checkpoints | None:
        if folder is None:
            return None
        own = configuration(
            self._learner, self._start, self._samples, self._batches,
            compiled_loop=self.compiled_loop,
        )  # fmt: skip
        return Checkpoints(folder, own)

    def __iter__(self) -> Iterator[FitSnapshot]:
        """Begin, or go on from the folder: snapshots to the end.

        Raises:
            ValueError: if the folder keeps a training of another configuration.
            RuntimeError: when the loss is no longer finite.
        """
        snapshot = self._first()
        saved_at = self._clock()
        yield snapshot
        while not self._has_ended(snapshot):
            before, snapshot = snapshot, self._advance(snapshot)
            if snapshot.step == before.step:
                return  # its loss differs by rounding, within a step or apart from it
            if self._has_ended(snapshot) or self._clock() - saved_at >= self._save_seconds:
                self._save(snapshot)
                saved_at = self._clock()
            yield snapshot

    def _first(self) -> FitSnapshot:
        start = self._clock()
        loss = self._steps.prepare(self._start, self._batches.rows(0, 1))
        self.compile_seconds += self._clock() - start
        self.losses, self.records = [], []
        saved = self._checkpoints and self._checkpoints.latest(self._template)
        if not saved:
            return self._snapshot(0, 0.0, loss, self._start)
        if saved.step > self.max_steps:
            raise ValueError(
                f"max_steps: expected {saved.step} or more, where the checkpoint is, "
                f"got {self.max_steps}"
            )
        position, history = saved.tree
        self.losses = history[:-1].tolist()
        self.records = saved.notes["records"]
        return self._snapshot(saved.step, saved.notes["seconds"], float(history[-1]), position)

    def _template(self, step: int) -> Any:
        return self._start, np.zeros(step + 1)

    def _save(self, snapshot: FitSnapshot) -> None:
        if self._checkpoints is not None:
            tree = snapshot.state, np.array([*self.losses, snapshot.loss])
            notes = {"seconds": snapshot.seconds, "records": self.records}
            self._checkpoints.save(Saved(snapshot.step, tree, notes))

    def _has_ended(self, snapshot: FitSnapshot) -> bool:
        is_low = self.stop_at is not None and snapshot.loss <= self.stop_at
        is_low = is_low and snapshot.step + 1 >= self._batches.per_epoch
        return is_low or snapshot.step >= self.max_steps

    def _advance(self, before: FitSnapshot) -> FitSnapshot:
        """To the next multiple of `every`, or to the first step where the loss is low enough."""
        first = before.step
        count = min(self.every - first % self.every, self.max_steps - first)
        rows = self._batches.rows(first, count)
        start = self._clock()
        position, history = self._steps(before.state, rows, count)
        seconds = self._clock() - start
        look = self._steps.loss(position, self._batches.rows(first + count, 1))
        if not np.isfinite([*history, look]).all():
            raise RuntimeError(
                f"the fit diverged between steps {first} and {first + count}: the loss is not "
                "finite; use a smaller learning rate in the optimizer"
            )
        means = self._means([*history.tolist(), look])
        known = max(self._batches.per_epoch - first - 1, 0)  # a whole epoch is, from that step on
        stop = -np.inf if self.stop_at is None else self.stop_at
        low = [i for i in range(known, count) if means[i] <= stop]
        if low:  # a step within the chunk, which is cheaper to take again than to keep them all
            position, _ = self._steps(before.state, rows, low[0])
            seconds, count = seconds * low[0] / count, low[0]
        self.losses += history[:count].tolist()
        return self._snapshot(first + count, before.seconds + seconds, means[count], position)

    def _means(self, values: list[float]) -> list[float]:
        """Of an epoch's losses that end with each of the values, which follow `losses`."""
        width = self._batches.per_epoch
        earlier = self.losses[-(width - 1) :] if width > 1 else []
        known = np.array(earlier + values)
        ends = range(len(earlier) + 1, len(known) + 1)
        return [float(np.mean(known[max(0, end - width) : end])) for end in ends]

    def _snapshot(self, step: int, seconds: float, loss: float, state: Position) -> FitSnapshot:
        model = partial(_merged, self._graph, state.params, state.rest)
        predict = partial(self._in_blocks, state)
        return FitSnapshot(step, seconds, loss, predict, model, state)

    def _outputs(self, params: Any, rest: Any, inputs: jax.Array) -> jax.Array:
        return nnx.merge(self._graph, params, rest)(inputs)

    def _in_blocks(self, state: Position, inputs: Any) -> jax.Array:
        inputs = np.asarray(inputs, self._dtype)
        if not inputs.ndim or not len(inputs):
            raise ValueError(f"inputs: expected at least one, got shape {inputs.shape}")
        size = min(BLOCK, len(inputs))
        parts = []
        for start in range(0, len(inputs), size):
            part = inputs[start : start + size]
            padded = np.pad(part, [(0, size - len(part)), *[(0, 0)] * (part.ndim - 1)])
            parts.append(self._predict(state.params, state.rest, padded)[: len(part)])
        return jnp.concatenate(parts)


def _apart(model: nnx.Module) -> tuple[tuple[Any, Any], Any, Any]:
    """Graphs in evaluation and in training mode, parameters, and the rest of the variables."""
    model = nnx.clone(model)
    model.eval()
    evaluated = nnx.graphdef(model)
    model.train()
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return (evaluated, graph), nnx.as_pure(params), nnx.as_pure(rest)


def _merged(graph: Any, params: Any, rest: Any) -> nnx.Module:
    return nnx.merge(graph, params, rest)


def _as_threshold(value: float) -> float:
    return float(as_number("stop_at", value, "a positive number", lambda x: x <= 0))
