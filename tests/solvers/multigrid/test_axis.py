"""Coarse axes and interpolation along them, for any size and any sides."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from solvers import Grid
from solvers.multigrid.axis import Axis, finest_axis
from tests.solvers.cases import PAIRS, D, N


@st.composite
def lines(draw: st.DrawFn) -> Axis:
    """An axis of 2 to 70 intervals, the finest or one of the next two coarser ones."""
    grid = Grid(draw(st.integers(2, 70)), boundary=PAIRS[draw(st.sampled_from(sorted(PAIRS)))])
    line = finest_axis(grid, 0)
    for _ in range(draw(st.integers(0, 2))):
        line = line.coarser() if line.can_coarsen else line
    return line


def interpolated(line: Axis, kept: np.ndarray) -> np.ndarray:
    """Linear interpolation of values at the kept nodes to the dropped ones, 0 beyond the ends."""
    low, high = line.linear()
    below = np.arange(len(low)) - line.kept
    if line.is_periodic:
        return low * kept[below % len(kept)] + high * kept[(below + 1) % len(kept)]
    padded = np.concatenate([[0.0], kept, [0.0]])
    return low * padded[below + 1] + high * padded[below + 2]


@given(lines())
def test_every_other_node_is_kept(line: Axis) -> None:
    if not line.can_coarsen:
        return
    coarse = line.coarser()
    np.testing.assert_array_equal(coarse.positions, line.positions[line.kept :: 2])
    assert 0 < coarse.size <= (line.size + 1) // 2
    assert (coarse.length, coarse.sides) == (line.length, line.sides)


@given(lines())
def test_control_volumes_fill_the_axis(line: Axis) -> None:
    """But for the halves of the end intervals that belong to nodes on Dirichlet sides."""
    below, above = line.gaps()
    lost = sum(
        gap / 2 for side, gap in zip(line.sides, (below[0], above[-1]), strict=True) if side is D
    )
    weights = line.weights()
    assert np.all(weights > 0)
    np.testing.assert_allclose(weights.sum() + lost, line.length, rtol=1e-14)


@given(lines())
def test_couplings_are_symmetric_in_the_weights(line: Axis) -> None:
    low, high = (line.weights() * c for c in line.couplings())
    np.testing.assert_allclose(low[1:], high[:-1], rtol=1e-14)
    if line.is_periodic:
        np.testing.assert_allclose(low[0], high[-1], rtol=1e-14)
    else:
        assert [low[0] == 0, high[-1] == 0] == [side is N for side in line.sides]
    np.testing.assert_allclose(low[1:] * np.diff(line.positions), 1, rtol=1e-14)


@given(lines())
def test_linear_interpolation_is_exact_for_what_suits_the_sides(line: Axis) -> None:
    """Straight lines: through 0 at a Dirichlet side, level at a Neumann one or without any side."""
    if not line.can_coarsen:
        return
    x, (low, high) = line.positions, line.sides
    shapes = [np.ones(line.size)] if D not in line.sides else []
    shapes += [x] if low is D and high is not D else []
    shapes += [line.length - x] if high is D and low is not D else []
    shapes += [np.minimum(x, line.positions[line.kept])] if low is D and high is N else []
    for u in shapes:
        found, wanted = interpolated(line, u[line.kept :: 2]), u[1 - line.kept :: 2]
        # A dropped end at a Neumann side takes its neighbour's value.
        first = 1 if low is N and line.kept == 1 else 0
        last = len(found) - (1 if high is N and (line.size - 1 - line.kept) % 2 else 0)
        is_level = D not in line.sides
        inner = slice(None) if is_level else slice(first, last)
        np.testing.assert_allclose(found[inner], wanted[inner], rtol=1e-13, atol=1e-13)
    if low is D and high is D:
        middle = line.positions[line.kept]
        tent = np.where(x <= middle, x / middle, (line.length - x) / (line.length - middle))
        np.testing.assert_allclose(
            interpolated(line, tent[line.kept :: 2]), tent[1 - line.kept :: 2], atol=1e-13
        )


@given(lines())
def test_cubic_interpolation_is_exact_for_cubics(line: Axis) -> None:
    """Of lower order where fewer than four nodes are kept; for constants on periodic axes."""
    if not line.can_coarsen:
        return
    kept, dropped = line.positions[line.kept :: 2], line.positions[1 - line.kept :: 2]
    degree = 0 if line.is_periodic else min(4, len(kept)) - 1
    for power in range(degree + 1):
        found = np.zeros(len(dropped))
        for offset, weights in line.cubic().items():
            place = np.arange(len(dropped)) - line.kept + offset
            is_used = weights != 0
            assert line.is_periodic or np.all((place[is_used] >= 0) & (place[is_used] < len(kept)))
            found += weights * (kept[place % len(kept)] / line.length) ** power
        np.testing.assert_allclose(found, (dropped / line.length) ** power, atol=1e-11)
