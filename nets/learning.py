"""Steps of a supervised training: their batches, what one is, and many of them compiled."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

# Of outputs and targets, to a scalar.
Loss = Callable[[jax.Array, jax.Array], jax.Array]


class Batches:
    """Which samples each step sees: one shuffle of all of them after the other, cut into batches.

    A batch depends on its step and the seed only, so that a training can begin anywhere. Where the
    size does not divide the number of samples, a batch has the end of one shuffle and the beginning
    of the next: all batches are full, and all samples are seen equally often.

    Args:
        number: of samples, N.
        size: samples of a batch, or None for all of them, in their order.
        seed: of the shuffles.

    Raises:
        ValueError: if a batch is larger than N.

    Example:
        >>> batches = Batches(4, 3, seed=0)
        >>> sorted(batches.rows(0, 4).ravel().tolist())
        [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    """

    def __init__(self, number: int, size: int | None, seed: int):
        if size is not None and size > number:
            raise ValueError(f"batch: expected at most {number}, the number of samples, got {size}")
        self.number, self.seed = number, seed
        self.size = None if size == number else size

    @property
    def per_epoch(self) -> int:
        """Steps after which all samples have been seen, rounded up."""
        return 1 if self.size is None else -(-self.number // self.size)

    def rows(self, first: int, count: int) -> np.ndarray | None:
        """Indices of `count` steps from step `first`, shape (count, size); None for all samples."""
        if self.size is None:
            return None
        start, end = first * self.size, (first + count) * self.size
        epochs = range(start // self.number, -(-end // self.number))
        shuffles = [np.random.default_rng((self.seed, e)).permutation(self.number) for e in epochs]
        offset = epochs.start * self.number
        rows = np.concatenate(shuffles)[start - offset : end - offset]
        return rows.reshape(count, self.size).astype(np.int32)


class Position(NamedTuple):
    """What a step changes.

    Attributes:
        params: θ.
        rest: all else that the model keeps: statistics of batches, counters of random numbers.
        optimizer: state of the optimiser.
    """

    params: Any
    rest: Any
    optimizer: Any


class Learner(NamedTuple):
    """Steps of an optimiser down the loss of a model.

    Attributes:
        graph: of the model in training mode, as `nnx.split` gives it.
        loss: of outputs and targets.
        optimizer: takes value, gradient and value function too.
    """

    graph: Any
    loss: Loss
    optimizer: optax.GradientTransformationExtraArgs

    def start(self, params: Any, rest: Any) -> Position:
        """Before the first step."""
        return Position(params, rest, self.optimizer.init(params))

    def outputs(self, params: Any, rest: Any, inputs: jax.Array) -> tuple[jax.Array, Any]:
        """The model's outputs, and what they have made of the rest."""
        model = nnx.merge(self.graph, params, rest)
        outputs = model(inputs)
        return outputs, nnx.as_pure(nnx.split(model, nnx.Param, ...)[2])

    def value(self, params: Any, rest: Any, batch: Any) -> tuple[jax.Array, Any]:
        """The loss of a batch (inputs, targets), and the rest after it."""
        outputs, rest = self.outputs(params, rest, batch[0])
        return self.loss(outputs, batch[1]), rest

    def step(self, position: Position, batch: Any) -> tuple[Position, jax.Array]:
        """One step, and the loss before it."""
        params, rest, state = position
        (value, after), grad = jax.value_and_grad(self.value, has_aux=True)(params, rest, batch)
        updates, state = self.optimizer.update(
            grad,
            state,
            params,
            value=value,
            grad=grad,
            value_fn=lambda p: self.value(p, rest, batch)[0],
        )
        return Position(optax.apply_updates(params, updates), after, state), value


class Steps:
    """Steps of a learner on given samples, compiled.

    XLA on the CPU runs a convolution inside a compiled loop by a slow path, so that there Python
    has to loop.

    Args:
        learner: what a step is.
        samples: (inputs, targets).
        most: steps of one call.
        compiled_loop: all steps of a call in one program, or a program for each step.
    """

    def __init__(self, learner: Learner, samples: Any, most: int, *, compiled_loop: bool):
        self._learner, self._samples, self._most = learner, samples, most
        self._is_loop = compiled_loop
        self._run: Any = None
        self._look: Any = None

    def prepare(self, position: Position, rows: np.ndarray | None) -> float:
        """Compile for batches such as `rows`, shape (1, size), and give their loss."""
        if self._run is None:
            row = None if rows is None else rows[0]
            if self._is_loop:
                many = None if rows is None else np.repeat(rows, self._most, 0)
                arguments, program = (position, self._samples, many, np.int32(0)), self._loop
            else:
                arguments, program = (position, self._samples, row), self._one
            self._look = jax.jit(self._value).lower(position, self._samples, row).compile()
            self._run = jax.jit(program).lower(*arguments).compile()
            jax.block_until_ready(self._run(*arguments))  # memory and threads
        return self.loss(position, rows)

    def loss(self, position: Position, rows: np.ndarray | None) -> float:
        """The loss that a step with these rows, shape (1, size), would start from."""
        row = None if rows is None else rows[0]
        return float(self._look(position, self._samples, row))

    def __call__(
        self, position: Position, rows: np.ndarray | None, count: int
    ) -> tuple[Position, np.ndarray]:
        """`count` steps with one row of indices each: where they lead, the losses before them."""
        if not self._is_loop:
            history = []
            for i in range(count):
                row = None if rows is None else rows[i]
                position, value = self._run(position, self._samples, row)
                history.append(value)
            return jax.block_until_ready(position), np.asarray(jax.device_get(history))
        if rows is not None:
            rows = np.pad(rows[:count], ((0, self._most - count), (0, 0)))
        result = self._run(position, self._samples, rows, np.int32(count))
        position, history = jax.block_until_ready(result)
        return position, np.asarray(history)[:count]

    def _value(self, position: Position, samples: Any, row: jax.Array | None) -> jax.Array:
        return self._learner.value(position.params, position.rest, _batch(samples, row))[0]

    def _one(self, position: Position, samples: Any, row: jax.Array | None) -> Any:
        return self._learner.step(position, _batch(samples, row))

    def _loop(self, position: Position, samples: Any, rows: Any, count: jax.Array) -> Any:
        def step(i: jax.Array, carry: Any) -> Any:
            position, history = carry
            position, value = self._one(position, samples, None if rows is None else rows[i])
            return position, history.at[i].set(value)

        dtype = jax.eval_shape(self._one, position, samples, None if rows is None else rows[0])[1]
        history = jnp.zeros(self._most, dtype.dtype)
        return jax.lax.fori_loop(0, count, step, (position, history))


def has_convolutions(model: nnx.Module) -> bool:
    """Whether any part of a model is a convolution of flax."""
    kinds = nnx.Conv, nnx.ConvTranspose
    return any(isinstance(part, kinds) for _, part in nnx.iter_graph(model))


def _batch(samples: Any, row: jax.Array | None) -> Any:
    return samples if row is None else jax.tree.map(lambda array: array[row], samples)
