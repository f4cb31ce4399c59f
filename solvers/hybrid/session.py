"""One hybrid solve under way: what the scheduler may ask for, and what it has cost so far."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from solvers.hybrid.handover import Guess, Handover
from solvers.hybrid.price import Clock, Price, RelaxationPrice, TimedPrice
from solvers.problems import Poisson
from solvers.snapshots import CoolableTraining, Snapshot


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


class Session:
    """Problem, price and training of one solve, with the ledger of seconds.

    Attributes:
        trace: every `Look` so far.
        zero: price of the zero guess.
        training_seconds, looking_seconds: charged so far.
    """

    def __init__(
        self,
        problem: Poisson,
        price: RelaxationPrice | TimedPrice,
        training: Iterable[Snapshot],
        clock: Clock,
        planning_seconds: float = 0.0,
        handover: Handover = Guess(),
    ):
        self._handover = handover
        self.problem, self._price, self._training, self._clock = problem, price, training, clock
        self.trace: list[Look] = []
        self.training_seconds = 0.0
        self.looking_seconds = 0.0
        self.planning_seconds = planning_seconds
        start = clock()
        self.zero: Price = price.remaining(jnp.zeros_like(problem.rhs))
        self.planning_seconds += clock() - start

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

    @property
    def can_cool_down(self) -> bool:
        """Whether the training can let its optimiser come to rest."""
        return isinstance(self._training, CoolableTraining)

    def cool_down(self, snapshot: Snapshot, steps: int) -> Snapshot:
        """Let the optimiser come to rest from `snapshot` in `steps` steps, at its own cost."""
        training: Any = self._training
        cooled = training.cool_down(snapshot, steps)
        self.training_seconds += cooled.seconds - snapshot.seconds
        return cooled
