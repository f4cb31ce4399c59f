"""Problems for the benchmarks, and the network and optimiser that suit each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import optax
from flax import nnx

from nets import MLP, GaussLegendre, RitzTraining, energy_natural_gradient, input_size
from solvers import gallery


@dataclass(frozen=True)
class Recipe:
    """A network, its optimiser and its quadrature.

    Attributes:
        widths, frequency: of the `MLP`.
        panels: of `GaussLegendre`, per axis, four points each.
        optimizer: makes it.
        dtype: precision of the training.
    """

    widths: tuple[int, ...]
    frequency: float
    panels: int
    optimizer: Callable[[], optax.GradientTransformation] = energy_natural_gradient
    dtype: Any = jnp.float64

    @property
    def words(self) -> str:
        """In a few words, for a table."""
        is_natural = self.optimizer is energy_natural_gradient
        kind = "natural gradient, float64" if is_natural else "Adam, float32"
        return f"{'-'.join(map(str, self.widths))} tanh, {kind}"


def _adam() -> optax.GradientTransformation:
    return optax.adam(3e-3)


def adam(frequency: float, panels: int) -> Recipe:
    """Two layers by Adam in single precision."""
    return Recipe((64, 64), frequency, panels, _adam, jnp.float32)


@dataclass(frozen=True)
class Entry:
    """A problem of the gallery, its grids, and the recipe for it.

    Attributes:
        name: in `gallery.CASES`.
        intervals: per axis, by mode of `benchmarks.handoff`.
        recipe: what is trained.
    """

    name: str
    recipe: Recipe
    intervals: dict[str, int] = field(default_factory=dict)

    def case(self, intervals: int) -> gallery.Case:
        """The problem on a grid."""
        return gallery.CASES[self.name](intervals)

    def model(self, case: gallery.Case, seed: int) -> MLP:
        """The network of a seed."""
        recipe = self.recipe
        return MLP(
            input_size(case.problem.grid),
            recipe.widths,
            frequency=recipe.frequency,
            dtype=recipe.dtype,
            rngs=nnx.Rngs(seed),
        )

    def training(self, case: gallery.Case, seed: int, **options: Any) -> RitzTraining:
        """Its training."""
        recipe = self.recipe
        options = {"max_steps": 10**6} | options
        return RitzTraining(
            case.problem,
            self.model(case, seed),
            optimizer=recipe.optimizer(),
            quadrature=GaussLegendre(recipe.panels),
            **options,
        )


def _sizes(quick: int, default: int, full: int) -> dict[str, int]:
    return {"quick": quick, "default": default, "full": full}


LINE, SQUARE, CUBE = _sizes(1000, 2000, 8000), _sizes(64, 192, 512), _sizes(16, 48, 96)
SUITE = {
    entry.name: entry
    for entry in (
        Entry("published", Recipe((64,), 15.0, 128), _sizes(1000, 4000, 8000)),
        Entry("lifted", adam(10.0, 128), LINE),
        Entry("varying", Recipe((48,), 8.0, 96), LINE),
        Entry("broad", Recipe((96,), 60.0, 256), LINE),
        Entry("rough", Recipe((64,), 15.0, 256), LINE),
        Entry("smooth", Recipe((32,), 4.0, 32), LINE),
        Entry("layers", Recipe((64,), 15.0, 128), LINE),
        Entry("scales", Recipe((64,), 3.0, 16), SQUARE),
        Entry("peak", Recipe((48,), 3.0, 14), SQUARE),
        Entry("graded", Recipe((32,), 2.0, 10), SQUARE),
        Entry("channel", Recipe((32,), 2.0, 10), SQUARE),
        Entry("ring", Recipe((32,), 2.0, 10), SQUARE),
        Entry("cube", Recipe((32,), 1.5, 5), CUBE),
        Entry("well", Recipe((48,), 1.5, 6), CUBE),
    )
}
QUICK = ("published", "smooth", "channel", "cube")
