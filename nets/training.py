"""Training on the Ritz energy, as a stream of snapshots."""

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from nets.ansatz import input_size
from nets.boundaries import BoundaryTreatment, HardBoundary
from nets.descent import Descent, Position
from nets.evaluation import Evaluation
from nets.networks import (
    check_evaluation,
    check_network,
    have_same_shapes,
    precision,
    same_but_for_params,
    split_features,
    split_network,
)
from nets.optimizers import energy_drop, has_stalled, judges_steps, steps_before
from nets.programs import Programs
from nets.quadrature import Quadrature
from nets.refinement import EnergyLadder, QuadratureCheck, QuadratureWarning
from nets.sharding import as_sharding
from solvers.arguments import as_count, as_number, expect
from solvers.grid import Grid
from solvers.problems import Poisson
from solvers.snapshots import Snapshot, TrainingError

# Of the training's time, for checks of the quadrature; steps between them beside a matrix to solve.
CHECK_SHARE, CHECKED_STEPS = 0.05, 5


class TrainingState(NamedTuple):
    """Where a training stands: all that it needs to go on.

    Attributes:
        step: optimiser steps taken, those that were taken back too.
        params: of the network, an `nnx.State` of plain arrays.
        optimizer: state of the optimiser.
        average: of the parameters, or None.
        refinements: of the quadrature so far.
        check: of the quadrature, that the next one is compared with.
        averaged: steps that the average is of: without those that were taken back.
    """

    step: int
    params: Any
    optimizer: Any
    average: Any = None
    refinements: int = 0
    check: QuadratureCheck | None = None
    averaged: int = 0


class RitzTraining:
    """Gradient descent on the Ritz energy of a network, seen every `every` steps.

    Iterating gives a `Snapshot` at step 0 and then one after each chunk of `every` steps; it starts
    afresh from the model as it was given, which is never changed. A chunk is one compiled loop,
    timed to its end; the program is compiled before, and charged to `compile_seconds`.

    A network with many parameters can bend between the points of its quadrature, so that the energy
    falls and the network gets worse. So the energy is also worked out by a finer rule, every so
    often. Where that has fallen by less than half as much since the last time, the training takes
    the chunk back and goes on with the finer rule, or if it may not, as it is, with a
    `QuadratureWarning`. A rule on the nodes has no finer one, and is not checked.

    Args:
        problem: what to solve.
        model: maps inputs, shape (N, `input_size(grid)`), to (N,). Its parameters share one
            precision, which is that of the training, x64 or not.
        optimizer: any optax optimiser, schedules and chains too, and `energy_natural_gradient()`.
            Those that ask for value, gradient and energy function (`optax.lbfgs`) are given them.
        boundary: `HardBoundary()` or `PenaltyBoundary(β)`.
        quadrature: `GaussLegendre(…)`, `PaperSum()` or `GridEnergy()`. By default the last if
            any data is a nodal array, else the first.
        refinements: how often the quadrature may be refined; 0 to be warned only, None for no
            checks.
        average: decay d of a running average of the parameters, with weights that fall by d for
            each step back; None for none. Snapshots show the averaged network, and the training
            goes on without. It takes out the noise that momentum leaves in the lowest modes (a
            hundredth is left with Adam at 3e-3 and d = 0.99), and comes 1/(1 − d) steps late.
        every: steps from one snapshot to the next; by default 50, or 1 of an optimiser that judges
            its steps.
        max_steps: where the stream ends, if the optimiser has not stalled before.
        mesh: devices that share the points of the quadrature, along all axes, and those of
            evaluations; None for one device. The training is the same to rounding, and what
            evaluations give is bound to none of the devices.
        clock: seconds, for tests.

    Attributes:
        compile_seconds: spent so far on set-up and compilation, of evaluations and of refined
            quadratures too.
        chunk_seconds: of each chunk of the latest iteration, cool-downs apart.
        energies: before each step of the latest iteration, by the quadrature of that time,
            cool-downs apart.
        least_steps: before which the network is hardly worth handing over: 250, or 3 of an
            optimiser that judges its steps, after those of another one before it.
        has_noise: whether the optimiser leaves noise that a cool-down takes out; one that judges
            its steps does not.
        step_seconds: of a step, timed when it was compiled; None before.

    Raises:
        ValueError: if an argument does not fit the problem.

    Cost: a step is about three forward and backward passes through the network at all points of the
        quadrature; with `GridEnergy` half of that a point. A check is one such pass, and one at the
        2^ndim times as many points of the finer rule; it is made so rarely that it takes at most
        5 % of the steps' time. A refinement makes steps 2^ndim times as dear. On a mesh of s
        devices each does 1/s of that, and sends 2(1 − 1/s) times at most 2P + 1 numbers a step for
        P parameters (16P bytes in single precision), by natural gradient P² + 2P and for each trial
        2P, by `GridEnergy` its outermost rows of nodes too, whatever the number of points.

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
        refinements: int | None = 2,
        average: float | None = None,
        every: int | None = None,
        max_steps: int = 20_000,
        mesh: Mesh | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._clock = clock
        start = clock()
        expect("problem", problem, Poisson, "a Poisson")
        expect("model", model, nnx.Module, "a flax.nnx.Module")
        expect("optimizer", optimizer, optax.GradientTransformation, "one such as optax.adam(1e-3)")
        expect("boundary", boundary, BoundaryTreatment, "HardBoundary() or PenaltyBoundary()")
        expect("quadrature", quadrature, Quadrature | None, "one such as GaussLegendre(), or None")
        self.max_steps = as_count("max_steps", max_steps)
        self._model = model
        self._network, params = split_network(model)
        dtype = precision(params)
        check_evaluation(model)
        check_network(self._network, params, input_size(problem.grid))
        self._refinements = _as_refinements(refinements)
        self._descent = Descent(
            self._network, optax.with_extra_args_support(optimizer), _as_decay(average)
        )
        self._sharding = as_sharding(mesh)
        position = self._sharding.copied(self._descent.start(params))
        self._start = TrainingState(0, *position)
        self._judges = judges_steps(position.optimizer)
        self.least_steps = 3 + steps_before(position.optimizer) if self._judges else 250
        self.has_noise = not self._judges
        default = 1 if self._judges else 50
        self.every = default if every is None else as_count("every", every)
        self._ladder = EnergyLadder(problem, boundary, quadrature, dtype, self._sharding)
        self._ladder.energy(0)  # now, so that data which the quadrature cannot have is refused here
        self._programs = Programs(self._descent, self._ladder, position, self.every)
        self._evaluation = Evaluation(
            problem, boundary, self._network, split_features(model), self._sharding
        )
        self.chunk_seconds: list[float] = []
        self.energies: list[float] = []
        self.step_seconds: float | None = None
        self.compile_seconds = clock() - start

    def restarted(self, model: nnx.Module) -> "RitzTraining":
        """The same training of another model of the same kind, without compiling again.

        Args:
            model: with parameters of the same shapes, such as another seed's.

        Raises:
            ValueError: if it differs in more than its parameters.
        """
        _, params = split_network(model)
        is_alike = have_same_shapes(self._start.params, params)
        if not is_alike or not same_but_for_params(self._model, model):
            raise ValueError("model: expected one that differs in its parameters only")
        other = copy.copy(self)
        position = self._sharding.copied(self._descent.start(params))
        other._model, other._start = model, TrainingState(0, *position)
        other.chunk_seconds, other.energies, other.compile_seconds = [], [], 0.0
        return other

    def __iter__(self) -> Iterator[Snapshot]:
        """Start afresh: the snapshot of step 0, then one every `every` steps.

        Raises:
            TrainingError: when the energy is no longer finite.
        """
        self._compile(0)
        self.chunk_seconds, self.energies = [], []
        snapshot = self._snapshot(self._start, 0.0)
        yield snapshot
        yield from self.resume(snapshot)

    def resume(self, snapshot: Snapshot) -> Iterator[Snapshot]:
        """Go on from a kept snapshot: those after it, up to `max_steps` or a stalled optimiser.

        Raises:
            ValueError: if the snapshot is not of such a training.
            TrainingError: when the energy is no longer finite.
        """
        self._state_of(snapshot)
        self.chunk_seconds, self.energies = chunks, energies = [], []
        while snapshot.step < self.max_steps:
            count = min(self.every, self.max_steps - snapshot.step)
            before = snapshot
            snapshot, history = self._advance(before, np.ones(count))
            snapshot = self._checked(before, snapshot)
            chunks.append(snapshot.seconds - before.seconds)
            energies += history.tolist()
            yield snapshot
            if has_stalled(snapshot.state.optimizer):
                return

    def cool_down(self, snapshot: Snapshot, steps: int = 250) -> Snapshot:
        """Let the optimiser come to rest: its updates times a factor that falls from 1 to 0.

        Args:
            snapshot: from where, with its optimiser state.
            steps: how many; the factor is linear in them and the last one is 0, of one step too.

        Returns:
            The snapshot after them, their seconds added.

        Raises:
            ValueError: if the snapshot is not of such a training.
            TrainingError: when the energy is no longer finite.
        """
        self._state_of(snapshot)
        steps = as_count("steps", steps)
        factors = np.arange(steps - 1, -1, -1) / max(steps - 1, 1)
        for start in range(0, steps, self.every):
            snapshot, _ = self._advance(snapshot, factors[start : start + self.every])
        return snapshot._replace(energy_drop=None)  # the optimiser knows that of whole steps

    def check_quadrature(self, snapshot: Snapshot) -> QuadratureCheck:
        """Work out the energy of a snapshot's network by the quadrature and by a finer one.

        Without the average. It is a look from outside: the training takes no notice.

        Returns:
            Both energies, and `difference`, that between them relative to the finer one.

        Raises:
            ValueError: if the snapshot is not of such a training, or the quadrature has no finer
                one.

        Example:
            >>> from nets import MLP, GaussLegendre
            >>> model = MLP(1, (16,), frequency=40.0, rngs=nnx.Rngs(0))
            >>> training = RitzTraining(Poisson(Grid(64), 1.0), model, quadrature=GaussLegendre(4))
            >>> training.check_quadrature(next(iter(training))).difference > 0.05
            True
        """
        state = self._state_of(snapshot)
        if self._ladder.rule(state.refinements + 1) is None:
            name = type(self._ladder.rule(state.refinements)).__name__
            raise ValueError(f"quadrature: {name}, on the nodes, has no finer one to compare with")
        self._compile(state.refinements, check=True)
        return self._programs.check(state.refinements, state.params)

    def prepare(self, grid: Grid, *, features: bool = False) -> None:
        """Compile the steps and the evaluation on `grid` now, charged to `compile_seconds`.

        Args:
            grid: where snapshots are to be evaluated.
            features: whether their features are, too.
        """
        self._compile(0)
        features = features and self._evaluation.has_features
        if not self._evaluation.is_ready(grid, features=features):
            start = self._clock()
            self._evaluation.prepare(self._start.params, grid, features=features)
            self.compile_seconds += self._clock() - start

    def _snapshot(self, state: TrainingState, seconds: float) -> Snapshot:
        evaluation = self._evaluation
        params = state.params if state.average is None else state.average
        features = partial(evaluation.features, params) if evaluation.has_features else None
        drop = energy_drop(state.optimizer)
        return Snapshot(state.step, seconds, partial(evaluation, params), state, features, drop)

    def _compile(self, level: int, *, check: bool = False) -> None:
        check = check or self._is_checked(level)
        if not self._programs.is_ready(level, check=check):
            start = self._clock()
            self._programs.prepare(level, check=check)
            if self.step_seconds is None:
                self.step_seconds = self._timed_step(level)
            self.compile_seconds += self._clock() - start

    def _timed_step(self, level: int) -> float:
        """The quicker of two single steps."""
        start_of_all, seconds = Position(*self._start[1:4]), []
        for _ in range(2):
            start = self._clock()
            self._programs.steps(level, start_of_all, 0, np.ones(1))
            seconds.append(self._clock() - start)
        return min(seconds)

    def _advance(self, snapshot: Snapshot, factors: np.ndarray) -> tuple[Snapshot, np.ndarray]:
        state: TrainingState = snapshot.state
        self._compile(state.refinements)
        position = Position(state.params, state.optimizer, state.average)
        start = self._clock()
        position, history, finite = self._programs.steps(
            state.refinements, position, state.averaged, factors
        )
        seconds = snapshot.seconds + self._clock() - start
        step = state.step + len(factors)
        if not finite:
            raise TrainingError(
                f"the training diverged between steps {state.step} and {step}: the energy is not "
                "finite; use a smaller learning rate in the optimizer"
            )
        averaged = state.averaged + len(factors)
        state = state._replace(step=step, averaged=averaged, **position._asdict())
        return self._snapshot(state, seconds), history

    def _state_of(self, snapshot: Snapshot) -> TrainingState:
        state = snapshot.state
        if isinstance(state, TrainingState) and have_same_shapes(state[1:4], self._start[1:4]):
            return state  # parameters, optimizer and average
        raise ValueError("snapshot: expected one of a RitzTraining of this model and optimizer")

    def _is_checked(self, level: int) -> bool:
        return self._refinements is not None and self._ladder.rule(level + 1) is not None

    def _chunks_between_checks(self, level: int) -> int:
        if self._judges:
            return math.ceil(CHECKED_STEPS / self.every)
        points = [self._ladder.points(n) for n in (level, level + 1)]
        check = sum(points) / (3 * points[0])  # in steps, of some three passes each
        return math.ceil(check / (CHECK_SHARE * self.every))

    def _checked(self, before: Snapshot, after: Snapshot) -> Snapshot:
        """`after`, with its quadrature checked if it is time, and refined where it is fooled."""
        state, level = after.state, after.state.refinements
        if not self._is_checked(level):
            return after
        if state.step // self.every % self._chunks_between_checks(level):
            return after
        start = self._clock()
        earlier = state.check or self._programs.check(level, before.state.params)
        check = self._programs.check(level, state.params)
        seconds = after.seconds + self._clock() - start
        if not check.is_fooled(earlier):
            # Of two without news the earlier one: a slow fall adds up.
            state = state._replace(check=check if check.is_news(earlier) else earlier)
        elif level < (self._refinements or 0):
            self._compile(level + 1)
            # Its steps led astray: from where they started the finer rule does better.
            state = before.state._replace(step=state.step, refinements=level + 1, check=None)
        else:
            self._warn(level)
            state = state._replace(check=check)
        return self._snapshot(state, seconds)

    def _warn(self, level: int) -> None:
        # No numbers, so that Python shows it once.
        warnings.warn(
            f"quadrature: the network bends between the points of {self._ladder.rule(level)}; its "
            "energy falls, and by twice the panels hardly falls or rises: train with more panels, "
            "more refinements or a smaller network",
            QuadratureWarning,
            stacklevel=4,
        )


def _as_refinements(value: int | None) -> int | None:
    return value if value in (None, 0) else as_count("refinements", value)


def _as_decay(value: float | None) -> float | None:
    if value is None:
        return None
    return float(
        as_number("average", value, "a decay between 0 and 1", lambda d: (d <= 0) | (d >= 1))
    )
