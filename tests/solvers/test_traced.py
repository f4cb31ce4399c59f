"""What would be refused where it is known makes a solve fail where it is traced."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import Boundary, Cells, ConjugateGradient, Grid, Poisson, solve
from solvers.iteration import Reason
from tests.solvers.cases import sides

GRID, CLOSED = Grid((8, 8)), Grid((8, 8), boundary=Boundary.NEUMANN)
X, Y = (np.asarray(x) for x in GRID.coordinates())
BALL, ONE, VOXELS = 0.17 - (X - 0.5) ** 2 - (Y - 0.5) ** 2, np.ones((9, 9)), np.ones((8, 8))
MIDDLE, CORNER = (4, 5), (1, 1)


def but(values: np.ndarray, place: tuple[int, int], value: float) -> np.ndarray:
    changed = values.copy()
    changed[place] = value
    return changed


Make = Callable[[jax.Array], Poisson]
FLAWS: list[tuple[str, Make, list[np.ndarray]]] = [
    (
        "diffusion",
        lambda a: Poisson(GRID, 1.0, diffusion=a),
        [but(ONE, MIDDLE, value) for value in (np.nan, np.inf, -1.0, 0.0)],
    ),
    ("one a", lambda a: Poisson(GRID, 1.0, diffusion=a), [np.full((), -1.0)]),
    ("a of an axis", lambda a: Poisson(GRID, 1.0, diffusion=(1.0, a)), [np.full((), -1.0)]),
    (
        "cells",
        lambda a: Poisson(GRID, 1.0, diffusion=Cells(a)),
        [but(VOXELS, MIDDLE, value) for value in (np.nan, -1.0)],
    ),
    (
        "reaction",
        lambda c: Poisson(GRID, 1.0, reaction=c),
        [but(ONE, MIDDLE, value) for value in (np.nan, np.inf, -1.0)],
    ),
    (
        "robin",
        lambda alpha: Poisson(Grid((8, 8), boundary=sides("DN-NN")), 1.0, robin=alpha),
        [np.full((), -1.0), np.full((), np.inf)],
    ),
    (
        "inside",
        lambda phi: Poisson(GRID, 1.0, inside=phi),
        [
            *(but(BALL, p, v) for p in (MIDDLE, CORNER) for v in (np.nan, np.inf, -np.inf)),
            BALL - 1,
        ],
    ),
    (
        "medium",
        lambda psi: Poisson(GRID, 1.0, reaction=1.0, medium=psi),
        [but(BALL, MIDDLE, np.nan), but(BALL, CORNER, np.inf), BALL - 1],
    ),
    (
        "voxels",
        lambda psi: Poisson(GRID, 1.0, reaction=1.0, medium=Cells(psi)),
        [but(VOXELS, MIDDLE, np.nan), -VOXELS],
    ),
    ("a source where nothing holds", lambda psi: Poisson(GRID, 1.0, medium=psi), [BALL]),
    (
        "two pieces of a singular problem",
        lambda psi: Poisson(CLOSED, X - 0.5, medium=psi),
        [np.abs(X - 0.5) - 0.2],
    ),
    (
        "no place for both",
        lambda level: Poisson(GRID, 1.0, reaction=1.0, inside=level, medium=-0.1 - level),
        [X - 0.5],
    ),
    (
        "surface_robin",
        lambda alpha: Poisson(GRID, 1.0, medium=BALL, surface_robin=alpha),
        [np.full((), value) for value in (0.0, -1.0, np.nan, np.inf)],
    ),
    (
        "reaction of a medium",
        lambda c: Poisson(GRID, 1.0, medium=BALL, reaction=c, surface_robin=10.0),
        [but(ONE, MIDDLE, value) for value in (np.nan, -1.0)],
    ),
]


@pytest.mark.parametrize(
    ("make", "values"), [flaw[1:] for flaw in FLAWS], ids=[flaw[0] for flaw in FLAWS]
)
def test_it_is_no_success(make: Make, values: list[np.ndarray]) -> None:
    @jax.jit
    def run(value: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = solve(make(value), ConjugateGradient(), throw=False)
        return found.reason, found.field[GRID.unknowns]

    for value in values:
        with pytest.raises(ValueError, match=":"):
            make(value)
        reason, field = run(jnp.asarray(value))
        assert reason == Reason.nonfinite_input
        assert jnp.isnan(field).all()


def test_what_is_not_used_may_be_anything() -> None:
    """A reaction outside of the domain, negative there and NaN."""
    for domain in ({"inside": BALL}, {"medium": BALL}):
        c = np.where(BALL > -0.1, 2.0, np.nan)
        c[CORNER] = -1.0
        known = Poisson(GRID, 1.0, reaction=c, **domain)
        found = jax.jit(lambda c, d=domain: solve(Poisson(GRID, 1.0, reaction=c, **d)).field)(c)
        np.testing.assert_allclose(solve(known).field, found, atol=1e-14)
