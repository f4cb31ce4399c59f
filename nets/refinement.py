"""Whether a network fools its quadrature, and the finer ones that it then gets."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nets.boundaries import BoundaryTreatment
from nets.energies import RitzEnergy
from nets.networks import PureNetwork
from nets.quadrature import Quadrature
from nets.ritz import choose_quadrature, ritz_energy
from nets.sharding import PointSharding
from solvers.problems import Poisson

Array = jax.Array | np.ndarray

# A fall of the energy says something from so many roundings of its terms on.
ROUNDINGS = 100.0


class QuadratureWarning(UserWarning):
    """A network bends between the points of its quadrature, which may not be refined (again)."""


class QuadratureCheck(NamedTuple):
    """A network's energy by two rules.

    Attributes:
        energy: E by the rule of the training.
        refined: E₊ by a finer one.
        size: sum of the magnitudes of what E is the sum of.
    """

    energy: Array
    refined: Array
    size: Array

    @property
    def difference(self) -> float:
        """|E₊ − E|/|E₊|."""
        return abs(float(self.refined) - float(self.energy)) / abs(float(self.refined))

    def is_news(self, earlier: "QuadratureCheck") -> bool:
        """Whether E has fallen since, by more than rounding."""
        rounding = jnp.finfo(self.energy.dtype).eps * max(self.size, earlier.size)
        return bool(earlier.energy - self.energy > ROUNDINGS * rounding)

    def is_fooled(self, earlier: "QuadratureCheck") -> bool:
        """Whether E₊ has fallen by less than half of what E has.

        As for a step in a trust region, what counts is how much of a gain is true. E₊ − E itself
        is no sign: it is the rule's error, and may well be there in a training that converges.
        Of nine trainings that went well none lost more than 1.1 % of a fall; one that was fooled
        lost 3, 18 and 120 % in successive checks.
        """
        fall = earlier.energy - self.energy
        return self.is_news(earlier) and bool(earlier.refined - self.refined < fall / 2)


class EnergyLadder:
    """The energy by a quadrature, by the next finer one, and so on, each built when asked for.

    Args:
        problem, boundary, quadrature, dtype: as for `ritz_energy`.
        sharding: of the points over devices.
    """

    def __init__(
        self,
        problem: Poisson,
        boundary: BoundaryTreatment,
        quadrature: Quadrature | None,
        dtype: Any,
        sharding: PointSharding = PointSharding(),
    ):
        self.sharding = sharding
        self._build = partial(ritz_energy, problem, boundary=boundary, dtype=dtype)
        self._grid = problem.grid
        self._rules: list[Quadrature | None] = [quadrature or choose_quadrature(problem)]
        self._energies: dict[int, RitzEnergy] = {}
        self._points: dict[int, int] = {}

    def rule(self, level: int) -> Quadrature | None:
        """The quadrature after `level` refinements; None if there is none so fine."""
        while len(self._rules) <= level:
            last = self._rules[-1]
            self._rules.append(last and last.refined(self._grid))
        return self._rules[level]

    def energy(self, level: int) -> RitzEnergy:
        """The energy by `rule(level)`."""
        if level not in self._energies:
            energy = self._build(quadrature=self.rule(level))
            self._points[level] = len(energy.ansatz.inputs)
            self._energies[level] = energy.split(self.sharding)
        return self._energies[level]

    def points(self, level: int) -> int:
        """How many points `energy(level)` has, without those that only fill shares up."""
        self.energy(level)
        return self._points[level]


def check_energy(
    network: PureNetwork, energy: RitzEnergy, refined: RitzEnergy, params: Any
) -> QuadratureCheck:
    """Work out the energy of a network by two rules.

    Example:
        >>> from nets import GaussLegendre
        >>> from solvers.grid import Grid
        >>> problem = Poisson(Grid(8), source=0.0)  # u = 4x²(1 − x), E = ½∫u'² = 16/15
        >>> two = [ritz_energy(problem, quadrature=GaussLegendre(n, points=2)) for n in (1, 2)]
        >>> check = check_energy(lambda _, inputs: (inputs[:, 0] + 1) / 2, *two, None)
        >>> print(f"{check.energy:.4f} {check.refined:.4f} {check.difference:.2f}")
        0.6667 1.0417 0.36
    """
    q = energy.features(partial(network, params))
    terms = (energy.curvature(q) / 2 - energy.loads) * q
    return QuadratureCheck(
        jnp.sum(terms) + energy.constant,
        refined(partial(network, params)),
        jnp.sum(jnp.abs(terms)) + jnp.abs(energy.constant),
    )
