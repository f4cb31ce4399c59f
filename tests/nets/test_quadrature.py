"""Quadratures: what they integrate exactly, and in which order they have their points."""

import numpy as np
import pytest

from nets import GaussLegendre, GridEnergy, PaperSum
from nets.quadrature import Quadrature, node_points
from solvers.grid import Boundary, Grid

BOX = Grid((4, 3, 2), lower=(-1, 0, 2), upper=(1, 3, 2.5))


@pytest.mark.parametrize("points", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("panels", [1, 3])
def test_gauss_legendre_is_exact_to_its_degree_and_no_further(points: int, panels: int) -> None:
    t, w = GaussLegendre(panels=panels, points=points).rule(Grid(8, -1, 1), 0)
    for degree in range(2 * points + 1):
        error = abs(w @ t**degree - 2 / (degree + 1))
        # Rounding of sums of order 1 is 1e-16 to 1e-15.
        assert (error < 1e-14) == (degree < 2 * points)


@pytest.mark.parametrize(
    "quadrature", [GaussLegendre(), GridEnergy(), GaussLegendre(panels=(1, 2, 3))]
)
def test_weights_add_up_to_the_volume_and_to_the_sides(quadrature: Quadrature) -> None:
    lengths = np.array([2.0, 3.0, 0.5])
    points, weights = quadrature.volume(BOX)
    assert points.shape == (len(weights), 3)
    assert weights.sum() == pytest.approx(lengths.prod())
    assert weights @ points[:, 1] == pytest.approx(lengths.prod() / 2)
    for axis in range(3):
        for end in (0, 1):
            at, weights = quadrature.side(BOX, axis, end)
            assert weights.sum() == pytest.approx(lengths.prod() / lengths[axis])
            assert set(at[:, axis]) == {float(end)}


def test_paper_sum_gives_every_node_its_cell() -> None:
    points, weights = PaperSum().volume(BOX)
    np.testing.assert_array_equal(points, node_points(BOX))
    np.testing.assert_allclose(weights, BOX.cell_volume)


def test_nodes_come_in_the_order_of_fields() -> None:
    expected = [(x - low) for x, low in zip(BOX.coordinates(), BOX.lower, strict=True)]
    points = node_points(BOX).reshape(*BOX.full_shape, 3)
    for axis, length in enumerate((2.0, 3.0, 0.5)):
        np.testing.assert_allclose(points[..., axis] * length, expected[axis], atol=1e-15)


def test_a_periodic_axis_has_no_node_twice() -> None:
    grid = Grid(4, boundary=Boundary.PERIODIC)
    for quadrature in (PaperSum(), GridEnergy()):
        _, weights = quadrature.volume(grid)
        np.testing.assert_allclose(weights, np.full(4, 0.25))


@pytest.mark.parametrize(
    ("intervals", "number"), [(4000, 1024), (100, 400), ((64, 64), 4096), ((2, 9, 9), 3200)]
)
def test_default_panels_follow_grid_and_dimension(intervals: tuple[int, ...], number: int) -> None:
    assert len(GaussLegendre().volume(Grid(intervals))[1]) == number


@pytest.mark.parametrize("options", [{"panels": 0}, {"panels": (2, -1)}, {"points": 1.5}])
def test_refuses(options: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}: expected positive integers"):
        GaussLegendre(**options)


def test_refuses_panels_of_another_dimension() -> None:
    with pytest.raises(ValueError, match="panels: expected 3 numbers"):
        GaussLegendre(panels=(2, 2)).volume(BOX)


@pytest.mark.parametrize("quadrature", [GaussLegendre(points=3), GaussLegendre((1, 2, 3))])
def test_refined_has_twice_the_panels_and_no_point_in_common(quadrature: GaussLegendre) -> None:
    refined = quadrature.refined(BOX)
    assert refined.points == quadrature.points
    for axis in range(3):
        (before, _), (after, weights) = (q.rule(BOX, axis) for q in (quadrature, refined))
        assert len(after) == 2 * len(before)
        assert np.abs(np.subtract.outer(before, after)).min() > 1e-3
        assert weights.sum() == pytest.approx(BOX.upper[axis] - BOX.lower[axis])


@pytest.mark.parametrize("quadrature", [PaperSum(), GridEnergy()])
def test_rules_on_the_nodes_have_no_finer_one(quadrature: Quadrature) -> None:
    assert quadrature.refined(BOX) is None
