"""What any training shows of itself: a stream of snapshots, of which networks are one kind."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

from solvers.grid import Grid


class Snapshot(NamedTuple):
    """A moment of a training.

    Attributes:
        step: optimiser steps taken.
        seconds: time spent in them, without compilation.
        evaluate: `evaluate(grid)` gives u on all nodes of `grid`, shape `grid.full_shape`, in the
            grid's precision. It does the work when called, and whoever calls it pays for it.
        state: whatever the training needs to go on from here; an immutable pytree.
        features: `features(grid)` gives functions of which u is nearly a linear combination, such
            as a network's last hidden layer, on all nodes, shape (k, *grid.full_shape), 0 on
            Dirichlet sides; None if the training has none to give. Lazy, like `evaluate`.
        energy_drop: by how much the latest step lowered the Ritz energy, in the units of
            `Poisson.energy`; None if that is not known. It is free, and tells when to look.
    """

    step: int
    seconds: float
    evaluate: Callable[[Grid], jax.Array]
    state: Any = None
    features: Callable[[Grid], jax.Array] | None = None
    energy_drop: float | None = None


class TrainingError(RuntimeError):
    """A training that cannot go on, since its energy is no longer finite.

    A hybrid takes it as the end of the training: what came before it can still be handed over.
    """


@runtime_checkable
class CoolableTraining(Protocol):
    """A training that can let its optimiser come to rest.

    Any iterable of `Snapshot`s is a training: iterating starts afresh, the first snapshot is of
    step 0. One that also has `cool_down` lets the scheduler quieten the optimiser's noise before a
    handover.
    """

    def __iter__(self) -> Iterator[Snapshot]: ...

    def cool_down(self, snapshot: Snapshot, steps: int) -> Snapshot:
        """Go on for `steps` steps of sizes that fall to zero; the cost is added to `seconds`."""
        ...
