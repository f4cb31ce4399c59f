"""The observed order is two for smooth data, less for data that a grid cannot see."""

import jax.numpy as jnp
import pytest

from solvers import Boundary, Grid, Multigrid, Poisson, gallery, observed_order


@pytest.mark.parametrize("name", ["varying", "channel", "ring"])
def test_smooth_problems_are_of_second_order(name: str) -> None:
    found = observed_order(lambda n: gallery.CASES[name](n).problem, 16)
    assert found == pytest.approx(2, abs=0.2)


def test_a_jump_between_the_nodes_lowers_it() -> None:
    def jumping(n: int) -> Poisson:
        return Poisson(Grid(n), lambda x: jnp.where(x < 0.3, 1.0, 0.0))

    assert observed_order(jumping, 16) < 1.7


def test_nodes_beyond_a_surface_do_not_count() -> None:
    def disc(n: int) -> Poisson:
        return Poisson(
            Grid((n, n)),
            lambda x, y: jnp.exp(x * y),
            reaction=1.0,
            medium=lambda x, y: 0.37 - jnp.hypot(x - 0.51, y - 0.48),
            surface_flux=1.0,
        )

    assert observed_order(disc, 16) == pytest.approx(2, abs=0.2)


def test_unequal_axes_and_a_method_of_ones_own() -> None:
    def make(n: int) -> Poisson:
        sides = (Boundary.PERIODIC, Boundary.DIRICHLET)
        grid = Grid((n, 2 * n), boundary=sides)
        return Poisson(grid, lambda x, y: jnp.exp(jnp.sin(2 * jnp.pi * x)) * y)

    assert observed_order(make, 8, Multigrid(rtol=1e-11)) == pytest.approx(2, abs=0.2)


def test_grids_that_do_not_double_are_refused() -> None:
    with pytest.raises(ValueError, match="make: expected grids that double"):
        observed_order(lambda n: Poisson(Grid(n + 1), 1.0), 8)
    with pytest.raises(ValueError, match="intervals"):
        observed_order(lambda n: Poisson(Grid(n), 1.0), 0)


@pytest.mark.parametrize("intervals", [8, 12, 16])
def test_where_the_scheme_is_exact_there_is_no_order(intervals: int) -> None:
    assert observed_order(lambda n: Poisson(Grid(n), 2.0), intervals) == float("inf")
