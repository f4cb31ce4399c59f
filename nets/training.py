"""Training on the Ritz energy, as a stream of snapshots."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from nets.ansatz import input_size
from nets.boundaries import BoundaryTreatment, HardBoundary
from nets.evaluation import Evaluation
from nets.networks import precision, split_features, split_network
from nets.optimizers import has_stalled
from nets.quadrature import Quadrature
from nets.ritz import RitzLoss, ritz_energy
from solvers.grid import Grid, as_count
from solvers.problems import Poisson
from solvers.snapshots import Snapshot


class TrainingState(NamedTuple):
    """Where a training stands: all that it needs to go on.

    Attributes:
        step: optimiser steps taken.
        params: of the network, an `nnx.State` of plain arrays.
        optimizer: state of the optimiser.
    """

    step: int
    params: Any
    optimizer: Any


class RitzTraining:
    """Gradient descent on the Ritz energy of a network, seen every `every` steps.

    Iterating gives a `Snapshot` at step 0 and then one after each chunk of `every` steps; it starts
    afresh from the model as it was given, which is never changed. A chunk is one compiled loop,
    timed to its end; the program is compiled before, and charged to `compile_seconds`.

    Args:
        problem: what to solve.
        model: maps inputs, shape (N, `input_size(grid)`), to (N,). Its parameters share one
            precision, which is that of the training, x64 or not.
        optimizer: any optax optimiser, schedules and chains too, and `energy_natural_gradient()`.
            Those that ask for value, gradient and energy function (`optax.lbfgs`) are given them.
        boundary: `HardBoundary()` or `PenaltyBoundary(β)`.
        quadrature: `GaussLegendre(…)`, `PaperSum()` or `GridEnergy()`. By default the last if
            any data is a nodal array, else the first.
        every: steps from one snapshot to the next.
        max_steps: where the stream ends, if the optimiser has not stalled before.
        clock: seconds, for tests.

    Attributes:
        compile_seconds: spent so far on set-up and compilation, of evaluations too.
        chunk_seconds: of each chunk of the latest iteration, cool-downs apart.
        energies: before each step of the latest iteration, cool-downs apart.

    Raises:
        ValueError: if an argument does not fit the problem.

    Cost: a step is about three forward and backward passes through the network at all points of the
        quadrature; with `GridEnergy` half of that a point.

    Example:
        >>> from nets.networks import MLP
        >>> problem = Poisson(Grid(64), source=1.0)
        >>> training = RitzTraining(problem, MLP(1, (16,), rngs=nnx.Rngs(0)), max_steps=100)
        >>> [snapshot.step for snapshot in training]
        [0, 50, 100]
        >>> training.energies[-1] < training.energies[0]
        True
    """

    def __init__(
        self,
        problem: Poisson,
        model: nnx.Module,
        *,
        optimizer: optax.GradientTransformation = optax.adam(1e-3),
        boundary: BoundaryTreatment = HardBoundary(),
        quadrature: Quadrature | None = None,
        every: int = 50,
        max_steps: int = 20_000,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._clock = clock
        start = clock()
        self.every = as_count("every", every)
        self.max_steps = as_count("max_steps", max_steps)
        self._optimizer = optax.with_extra_args_support(optimizer)
        self._network, params = split_network(model)
        self._start = TrainingState(0, params, self._optimizer.init(params))
        dtype = precision(params)
        self._check_network(input_size(problem.grid), dtype)
        self._energy = ritz_energy(problem, boundary=boundary, quadrature=quadrature, dtype=dtype)
        self._evaluation = Evaluation(problem, boundary, self._network, split_features(model))
        self._program: Any = None
        self.chunk_seconds: list[float] = []
        self.energies: list[float] = []
        self.compile_seconds = clock() - start

    def __iter__(self) -> Iterator[Snapshot]:
        """Start afresh: the snapshot of step 0, then one every `every` steps.

        Raises:
            RuntimeError: when the energy is no longer finite.
        """
        self._compile_steps()
        self.chunk_seconds, self.energies = [], []
        snapshot = self._snapshot(self._start, 0.0)
        yield snapshot
        yield from self.resume(snapshot)

    def resume(self, snapshot: Snapshot) -> Iterator[Snapshot]:
        """Go on from a kept snapshot: those after it, up to `max_steps` or a stalled optimiser."""
        chunks, energies = self.chunk_seconds, self.energies
        while snapshot.step < self.max_steps:
            count = min(self.every, self.max_steps - snapshot.step)
            before = snapshot.seconds
            snapshot, history = self._advance(snapshot, np.ones(count))
            chunks.append(snapshot.seconds - before)
            energies += history.tolist()
            yield snapshot
            if has_stalled(snapshot.state.optimizer):
                return

    def cool_down(self, snapshot: Snapshot, steps: int = 250) -> Snapshot:
        """Let the optimiser come to rest: its updates times a factor that falls from 1 to 0.

        Args:
            snapshot: from where, with its optimiser state.
            steps: how many; the factor is linear in them and the last one is 0.

        Returns:
            The snapshot after them, their seconds added.

        Raises:
            ValueError: if the snapshot is not of such a training.
            RuntimeError: when the energy is no longer finite.
        """
        factors = np.linspace(1.0, 0.0, as_count("steps", steps))
        for start in range(0, steps, self.every):
            snapshot, _ = self._advance(snapshot, factors[start : start + self.every])
        return snapshot

    def prepare(self, grid: Grid, *, features: bool = False) -> None:
        """Compile the steps and the evaluation on `grid` now, charged to `compile_seconds`.

        Args:
            grid: where snapshots are to be evaluated.
            features: whether their features are, too.
        """
        self._compile_steps()
        features = features and self._evaluation.has_features
        if not self._evaluation.is_ready(grid, features=features):
            start = self._clock()
            self._evaluation.prepare(self._start.params, grid, features=features)
            self.compile_seconds += self._clock() - start

    def _snapshot(self, state: TrainingState, seconds: float) -> Snapshot:
        evaluation = self._evaluation
        features = partial(evaluation.features, state.params) if evaluation.has_features else None
        return Snapshot(state.step, seconds, partial(evaluation, state.params), state, features)

    def _check_network(self, size: int, dtype: Any) -> None:
        points = jax.ShapeDtypeStruct((3, size), dtype)
        try:
            result = jax.eval_shape(self._network, self._start.params, points)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"model: expected {size} inputs (one for each axis, two for a periodic one), "
                f"but it does not map (3, {size}) to (3,): {error}"
            ) from error
        if getattr(result, "shape", None) != (3,):
            raise ValueError(f"model: expected to map (3, {size}) to (3,), got {result}")

    def _steps(self, energy: Any, carry: Any, factors: jax.Array, count: jax.Array) -> Any:
        """`count` steps, at most as many as there are factors; the energies before them."""
        loss = RitzLoss(energy, self._network)

        def step(i: jax.Array, carry: Any) -> Any:
            params, state, history = carry
            value, grad = jax.value_and_grad(loss)(params)
            updates, state = self._optimizer.update(
                grad, state, params, value=value, grad=grad, value_fn=loss
            )
            updates = jax.tree.map(lambda u: u * factors[i].astype(u.dtype), updates)
            return optax.apply_updates(params, updates), state, history.at[i].set(value)

        params, state, history = jax.lax.fori_loop(
            0, count, step, (*carry, jnp.zeros(factors.shape, energy.constant.dtype))
        )
        leaves = [jnp.all(jnp.isfinite(x)) for x in (history, *jax.tree.leaves(params))]
        return (params, state), history, jnp.all(jnp.stack(leaves))

    def _compile_steps(self) -> None:
        if self._program is None:
            start = self._clock()
            arguments = self._energy, self._start[1:], np.zeros(self.every, np.float32), np.int32(0)
            self._program = jax.jit(self._steps).lower(*arguments).compile()
            jax.block_until_ready(self._program(*arguments))  # no step, but memory and threads
            self.compile_seconds += self._clock() - start

    def _advance(self, snapshot: Snapshot, factors: np.ndarray) -> tuple[Snapshot, np.ndarray]:
        state, count = snapshot.state, len(factors)
        if not isinstance(state, TrainingState):
            raise ValueError(f"snapshot: expected one of a RitzTraining, got the state {state!r}")
        self._compile_steps()
        padded = np.zeros(self.every, np.float32)
        padded[:count] = factors
        carry = (state.params, state.optimizer)
        start = self._clock()
        carry, history, finite = jax.block_until_ready(
            self._program(self._energy, carry, padded, np.int32(count))
        )
        seconds = snapshot.seconds + self._clock() - start
        step = state.step + count
        if not finite:
            raise RuntimeError(
                f"the training diverged between steps {state.step} and {step}: the energy is not "
                "finite; use a smaller learning rate in the optimizer"
            )
        return self._snapshot(TrainingState(step, *carry), seconds), np.asarray(history)[:count]
