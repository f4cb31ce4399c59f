"""One hybrid solve under way: what the scheduler may ask for, and what it has cost so far."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from solvers.arguments import expect
from solvers.hybrid.handover import Guess, Handover
from solvers.hybrid.price import MOST_GUESSES, Price, RelaxationPrice, Seen, TimedPrice
from solvers.hybrid.timing import Clock
from solvers.snapshots import CoolableTraining, Snapshot, TrainingError
from solvers.solution import Problem

# Optimiser steps before which no network has had anything worth handing over; the publication's
# handoffs were at 250 to 450.
LEAST_STEPS = 250
# Looks over which the scatter of the smooth modes is taken.
WINDOW = 5
# In tolerances: what a step takes away of the error when the end is near.
NEAR = 8.0


class Look(NamedTuple):
    """What one look at a snapshot saw.

    Attributes:
        step: of the training.
        seconds: charged until after the look.
        remaining_seconds, remaining_steps: the price of handing over now, in combination with
            earlier snapshots where the scheduler does that.
        amplitudes: of the snapshot's own error in the lowest modes, smoothest first.
        combined: snapshots that what would be handed over is made of.
    """

    step: int
    seconds: float
    remaining_seconds: float
    remaining_steps: float
    amplitudes: np.ndarray
    combined: int = 1


class Session:
    """Problem, price and training of one solve, with the ledger of seconds.

    Attributes:
        trace: every `Look` so far.
        training_seconds, looking_seconds: charged so far.
        max_seconds: that may be charged in all, relaxing included.
        is_interrupted: whether the user has asked for an end.
        trouble: what a training that broke down said of it, else None.
    """

    def __init__(
        self,
        problem: Problem,
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
        self._seen: list[Seen] = []
        self.training_seconds = 0.0
        self.looking_seconds = 0.0
        self.planning_seconds = planning_seconds
        self.max_seconds, self.is_interrupted = max_seconds, False
        self.trouble: str | None = None
        self._chunk_seconds, self._cooling_seconds = 0.0, 0.0

    @property
    def zero(self) -> Price:
        """Price of the zero guess."""
        return self._price.zero

    @property
    def guess_matters(self) -> bool:
        """Whether the price depends on what relaxing starts from."""
        return not isinstance(self._price, TimedPrice)

    @property
    def seconds(self) -> float:
        """All that has been charged so far."""
        return self.planning_seconds + self.training_seconds + self.looking_seconds

    def snapshots(self) -> Iterator[Snapshot]:
        """Train on; each snapshot is charged as it comes. One that breaks down has ended."""
        for snapshot in self._until_it_diverges():
            expect("training", snapshot, Snapshot, "Snapshots in it")
            now = snapshot.seconds + self._cooling_seconds
            if not 0 <= now - self.training_seconds < math.inf:
                raise ValueError(
                    f"training: expected seconds that grow, got {snapshot.seconds!r} at step "
                    f"{snapshot.step} after {self.training_seconds - self._cooling_seconds:.3g}"
                )
            self._chunk_seconds = now - self.training_seconds
            self.training_seconds = now
            yield snapshot

    def _until_it_diverges(self) -> Iterator[Snapshot]:
        start = self._clock()
        try:
            for snapshot in self._training:
                yield snapshot
                start = self._clock()
        except TrainingError as error:
            self.training_seconds += self._clock() - start
            self.trouble = str(error)

    def look(self, snapshot: Snapshot, *, combine: bool = False) -> tuple[Look, Any]:
        """Work out what a snapshot would hand over, and price it; also gives that start.

        With `combine` that is the best combination with zero and what was seen before, where the
        handover allows it.
        """
        start = self._clock()
        guess = self._handover.start(self.problem, snapshot)
        count = 1
        if combine and self.can_combine:
            count += len(self._seen)
            price, guess, seen = self._price.combined(guess, self._seen)
            amplitudes = np.asarray(seen.error)
            if amplitudes.size and np.isfinite(amplitudes).all():
                self._seen = [seen, *self._seen][: MOST_GUESSES - 1]
        else:
            price = self._price.remaining(guess)
            amplitudes = price.amplitudes
        self.looking_seconds += self._clock() - start
        look = Look(snapshot.step, self.seconds, price.seconds, price.steps, amplitudes, count)
        self.trace.append(look)
        return look, guess

    @property
    def can_combine(self) -> bool:
        """Whether starts from several snapshots may be combined."""
        return self._handover.can_be_combined

    @property
    def least_wait(self) -> float:
        """Seconds until the next snapshot can have been looked at."""
        return self._chunk_seconds + self.looking_seconds / max(len(self.trace), 1)

    @property
    def call_seconds(self) -> float:
        """What relaxing costs whatever it starts from."""
        return self._price.start_seconds

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

    def is_due(self, snapshot: Snapshot) -> bool:
        """Whether to look at `snapshot`, for the least waste.

        A look costs c. With looks every s seconds those until t cost ct/s together, and the moment
        to hand over is met s/2 too late in the mean: the sum is least for s = √(2ct). Half of that,
        as each is also one more to combine; and at most a sixteenth of the best price so far.

        Where the energy says that the latest step took away far more than is to be left in the
        end, the first look comes when training has taken twice as long as planning. The nearer
        the end, the more often: from one snapshot to the next the price may change by any factor.
        """
        distance = self._distance(snapshot)
        if not self.trace:
            return distance <= 1 or self.training_seconds >= 2 * self.planning_seconds
        cost = self.looking_seconds / len(self.trace)
        gap = min(distance, 1.0) * math.sqrt(cost * self.seconds / 2)
        gap = min(gap, min(look.remaining_seconds for look in self.trace) / 16)
        return self.seconds - self.trace[-1].seconds >= max(gap, cost)

    def _distance(self, snapshot: Snapshot) -> float:
        """√(energy by the latest step/energy of zero's error) in `NEAR` tolerances, else 1."""
        whole, drop = self.zero.energy, snapshot.energy_drop
        if drop is None or not whole > 0 or not self._price.tolerance > 0:
            return 1.0
        return math.sqrt(max(drop, 0.0) / whole) / (NEAR * self._price.tolerance)

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
        """Let the optimiser come to rest from `snapshot` in `steps` steps, at its own cost.

        Raises:
            TrainingError: if that fails; it is charged all the same.
        """
        training: Any = self._training
        start = self._clock()
        try:
            cooled = training.cool_down(snapshot, steps)
        except TrainingError:
            self._charge_cooling(self._clock() - start)
            raise
        self._charge_cooling(cooled.seconds - snapshot.seconds)
        return cooled

    def _charge_cooling(self, seconds: float) -> None:
        self._cooling_seconds += seconds
        self.training_seconds += seconds
