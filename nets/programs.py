"""The compiled programs of a training, by how often its quadrature has been refined."""

from functools import partial
from typing import Any

import jax
import numpy as np

from nets.descent import Descent, Position
from nets.refinement import EnergyLadder, QuadratureCheck, check_energy
from solvers.threads import single_threaded_blas


class Programs:
    """Steps and checks, compiled once for each level of refinement.

    Args:
        descent: what a step is.
        ladder: energies by level.
        start: a position as all others are.
        most: steps of one call.
    """

    def __init__(self, descent: Descent, ladder: EnergyLadder, start: Position, most: int):
        self._descent, self._ladder, self._start, self._most = descent, ladder, start, most
        self._steps: dict[int, Any] = {}
        self._checks: dict[int, Any] = {}

    def is_ready(self, level: int, *, check: bool) -> bool:
        """Whether steps, and the check if asked for, are compiled."""
        return level in self._steps and (not check or level in self._checks)

    def prepare(self, level: int, *, check: bool) -> None:
        """Compile what is not, and run it once: memory and threads, before anyone looks."""
        if level not in self._steps:
            none = np.zeros(self._most, np.float32), np.int32(0), np.int32(0)
            arguments = self._ladder.energy(level), self._start, *none
            self._steps[level] = self._ladder.sharding.compiled(self._descent.steps, *arguments)
            jax.block_until_ready(self._steps[level](*arguments))
        if check and level not in self._checks:
            function = partial(check_energy, self._descent.network)
            arguments = *map(self._ladder.energy, (level, level + 1)), self._start.params
            self._checks[level] = self._ladder.sharding.compiled(function, *arguments)
            self.check(level, self._start.params)

    def steps(
        self, level: int, position: Position, taken: int, factors: np.ndarray
    ) -> tuple[Position, np.ndarray, bool]:
        """As many steps as there are factors; see `Descent.steps`."""
        count = len(factors)
        padded = np.zeros(self._most, np.float32)
        padded[:count] = factors
        energy = self._ladder.energy(level)
        arguments = energy, position, padded, np.int32(taken), np.int32(count)
        with single_threaded_blas():
            position, history, finite = jax.block_until_ready(self._steps[level](*arguments))
        return position, np.asarray(history)[:count], bool(finite)

    def check(self, level: int, params: Any) -> QuadratureCheck:
        """The energy by the rule of a level and by that of the next one."""
        energies = map(self._ladder.energy, (level, level + 1))
        return jax.device_get(self._checks[level](*energies, params))
