"""One hybrid solve under way: what the scheduler may ask for, and what it has cost so far."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from solvers.hybrid.handover import Guess, Handover
from solvers.hybrid.price import Price, RelaxationPrice, TimedPrice
from solvers.hybrid.timing import Clock
from solvers.problems import Poisson
from solvers.snapshots import CoolableTraining, Snapshot

# Optimiser steps before which no network has had anything worth handing over; the publication's
# handoffs were at 250 to 450.
LEAST_STEPS = 500
# Looks over which the scatter of the smooth modes is taken.
WINDOW = 5


class Look(NamedTuple):
    """What one look at a snapshot saw.

    Attributes:
        step: of the training.
        seconds: charged until after the look.
        remaining_seconds, remaining_steps: the price of handing over now.
        amplitudes: of the error in the lowest modes, smoothest first.
    """

    step: int
    seconds: float
    remaining_seconds: float
    remaining_steps: float
    amplitudes: np.ndarray


def least_seconds(training: Any) -> float:
    """Seconds before which a training has nothing to hand over; 0 where it does not know."""
    pace = getattr(training, "step_seconds", None)
    return 0.0 if pace is None else pace * getattr(training, "least_steps", LEAST_STEPS)


class Session:
    """Problem, price and training of one solve, with the ledger of seconds.

    Attributes:
        trace: every `Look` so far.
        training_seconds, looking_seconds: charged so far.
        max_seconds: that may be charged in all, relaxing included.
        is_interrupted: whether the user has asked for an end.
    """

    def __init__(
        self,
        problem: Poisson,
        price: RelaxationPrice | TimedPrice,
        training: Iterable[Snapshot],
        clock: Clock,
        planning_seconds: float = 0.0,
        handover: Handover = Guess(),
        max_seconds: float = math.inf,
    ):
        self._handover = handover
        self.problem, self._price, self._training, self._clock = problem, price, training, clock
        self.trace: list[Look] = []
        self.training_seconds = 0.0
        self.looking_seconds = 0.0
        self.planning_seconds = planning_seconds
        self.max_seconds, self.is_interrupted = max_seconds, False

    @property
    def zero(self) -> Price:
        """Price of the zero guess."""
        return self._price.zero

    @property
    def seconds(self) -> float:
        """All that has been charged so far."""
        return self.planning_seconds + self.training_seconds + self.looking_seconds

    def snapshots(self) -> Iterator[Snapshot]:
        """Train on; each snapshot is charged as it comes."""
        for snapshot in self._training:
            self.training_seconds = snapshot.seconds
            yield snapshot

    def look(self, snapshot: Snapshot) -> tuple[Look, jax.Array]:
        """Work out what a snapshot would hand over, and price it; also gives that start."""
        start = self._clock()
        guess = self._handover.start(self.problem, snapshot)
        price = self._price.remaining(guess)
        self.looking_seconds += self._clock() - start
        look = Look(snapshot.step, self.seconds, *price)
        self.trace.append(look)
        return look, guess

    def is_out_of_time(self, remaining: float) -> bool:
        """Whether relaxing for `remaining` seconds has to begin now, for all to fit the limit."""
        return self.max_seconds < math.inf and self.seconds + remaining >= self.max_seconds

    @property
    def least_steps(self) -> int:
        """Steps before which the training says that it has nothing worth handing over."""
        return getattr(self._training, "least_steps", LEAST_STEPS)

    @property
    def step_seconds(self) -> float | None:
        """Seconds of an optimiser step, if the training knows them before it has begun."""
        return getattr(self._training, "step_seconds", None)

    @property
    def can_cool_down(self) -> bool:
        """Whether the training can let its optimiser come to rest, and has to."""
        is_noisy = getattr(self._training, "has_noise", True)
        return is_noisy and isinstance(self._training, CoolableTraining)

    @property
    def is_due(self) -> bool:
        """Whether to look again, for the least waste.

        A look costs c. With looks every s seconds those until t cost ct/s together, and the moment
        to hand over is met s/2 too late in the mean: the sum is least for s = √(2ct).
        """
        if not self.trace:
            return True
        cost = self.looking_seconds / len(self.trace)
        return self.seconds - self.trace[-1].seconds >= math.sqrt(2 * cost * self.seconds)

    @property
    def scatter(self) -> float:
        """Noise of the smooth modes over the last looks, as a share of what is left in them.

        The root mean square change between neighbouring looks, over √2, in that of the amplitudes;
        0 before there are `WINDOW` looks. An error that converges changes little from look to look.
        Near 1 the optimiser only stirs it.
        """
        window = [look.amplitudes for look in self.trace[-WINDOW:]]
        if len(window) < WINDOW or window[0].size == 0:
            return 0.0
        amplitudes = np.stack(window)
        size = float(np.sqrt(np.mean(amplitudes**2)))
        changes = np.diff(amplitudes, axis=0)
        return float(np.sqrt(np.mean(changes**2) / 2)) / size if size > 0 else 0.0

    def cool_down(self, snapshot: Snapshot, steps: int) -> Snapshot:
        """Let the optimiser come to rest from `snapshot` in `steps` steps, at its own cost."""
        training: Any = self._training
        cooled = training.cool_down(snapshot, steps)
        self.training_seconds += cooled.seconds - snapshot.seconds
        return cooled
