"""The Ritz energy of a network, from the problem's data at the points of a quadrature."""

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from nets.ansatz import ansatz_at, cast
from nets.boundaries import (
    BoundaryTreatment,
    HardBoundary,
    boundary_function,
    is_array,
    locate,
)
from nets.energies import NodalEnergy, PointEnergy, RitzEnergy
from nets.quadrature import GaussLegendre, GridEnergy, Quadrature, node_points
from solvers.arguments import as_real, checked
from solvers.grid import Boundary, Cells, Grid
from solvers.problems import Poisson


def ritz_energy(
    problem: Poisson,
    *,
    boundary: BoundaryTreatment = HardBoundary(),
    quadrature: Quadrature | None = None,
    dtype: Any = jnp.float32,
) -> RitzEnergy:
    """Build the energy whose minimiser solves `problem`, as a function of a network.

        E(u) = ∫ ½a|∇u|² + ½c u² − f u  − ∫_Neumann q u  + β ∫_Dirichlet (u − g)²,   u = G + d·N

    Without Dirichlet side and with c = 0 the load is made to have no mean, so that constants cost
    nothing.

    Args:
        problem: the equation, its data and its grid.
        boundary: G, d and β.
        quadrature: by default `GridEnergy` if any data is a nodal array or the problem has an
            interface (`inside`), else `GaussLegendre`.
        dtype: precision of the energy; data is worked out in the grid's and rounded to this.

    Returns:
        A pytree with the data as leaves, to be called with a network: (N, inputs) to (N,).

    Raises:
        ValueError: if data cannot be had at the points of the quadrature.

    Cost: of a call, one forward and one backward pass through the network; with `GridEnergy` only
        the forward pass. The gradient costs twice that in addition.

    Reference: E, Yu 2018, Commun. Math. Stat. 6, 1, arXiv 1710.00211.

    Example:
        >>> energy = ritz_energy(Poisson(Grid(8), source=2.0))  # u = x(1 − x), E = −1/6
        >>> print(f"{energy(lambda inputs: jnp.full(len(inputs), 0.25)):.4f}")
        -0.1667
    """
    quadrature = quadrature or choose_quadrature(problem)
    if not _is_box(problem) and not isinstance(quadrature, GridEnergy):
        name = type(quadrature).__name__
        raise ValueError(
            f"quadrature: {name} knows the box only; with `inside` or `medium` take GridEnergy()"
        )
    sides = _side_terms(problem, boundary.strength, quadrature)
    build = _nodal_energy if isinstance(quadrature, GridEnergy) else _point_energy
    energy = build(problem, boundary, quadrature, sides)
    return cast(energy, dtype)


class _Sides(eqx.Module):
    """Points on sides, with m and ℓ of the energy there and its constant."""

    points: np.ndarray
    mass: np.ndarray
    load: np.ndarray
    constant: float


def _point_energy(
    problem: Poisson, boundary: BoundaryTreatment, quadrature: Quadrature, sides: _Sides
) -> PointEnergy:
    grid = problem.grid
    points, weights = quadrature.volume(grid)

    def sample(name: str, value: Any) -> np.ndarray:
        return _sample(name, value, grid, points, grid.full_shape, quadrature)

    coefficients = [weights * sample("diffusion", a) for a in _per_axis(problem.diffusion)]
    off = np.zeros(len(sides.points))
    stiffness = [np.append(k, off) for k in coefficients] * (grid.ndim // len(coefficients))
    load = np.append(weights * sample("source", problem.source), sides.load)
    if problem.operator.is_singular:
        load -= np.append(weights, off) * (load.sum() / weights.sum())
    return PointEnergy(
        ansatz=ansatz_at(
            problem, boundary, grid, np.concatenate([points, sides.points]), gradients=True
        ),
        stiffness=tuple(stiffness),
        mass=np.append(weights * sample("reaction", problem.reaction), sides.mass),
        load=load,
        constant=np.asarray(sides.constant),
    )


def _nodal_energy(
    problem: Poisson, boundary: BoundaryTreatment, quadrature: Quadrature, sides: _Sides
) -> NodalEnergy:
    grid, operator = problem.grid, problem.operator
    nodes = node_points(grid).reshape(*grid.full_shape, grid.ndim)[grid.unknowns]
    points = np.concatenate([nodes.reshape(-1, grid.ndim), sides.points])
    ansatz = ansatz_at(problem, boundary, grid, points, gradients=False)
    lift = ansatz.lift[: grid.size].reshape(grid.shape)
    residual = problem.within(problem.balanced() - operator.mv(lift))
    if problem.is_outside is not None:  # where there is no equation, a network may be anything
        c = problem.within(jnp.asarray(operator.reaction))
        operator = eqx.tree_at(lambda own: own.reaction, operator, c)
    # (m u/2 − ℓ)u on the sides, in powers of u − G.
    on_sides = np.asarray(ansatz.lift[grid.size :], np.float64)
    given = float(np.sum((sides.mass * on_sides / 2 - sides.load) * on_sides))
    inside = grid.cell_volume * np.asarray(residual, np.float64).ravel()
    return NodalEnergy(
        ansatz=ansatz,
        operator=operator,
        mass=sides.mass,
        load=np.append(inside, sides.load - sides.mass * on_sides),
        constant=problem.energy(lift) + sides.constant + given,
    )


def _side_terms(problem: Poisson, strength: float, quadrature: Quadrature) -> _Sides:
    """∫_Neumann ½αu² − q u, which `GridEnergy` has in A and b, and β∫_Dirichlet (u − g)²."""
    points, mass, load = [np.zeros((0, problem.grid.ndim))], [np.zeros(0)], [np.zeros(0)]
    constant = 0.0
    for axis, end, condition in _sides(problem.grid):
        at, weights = quadrature.side(problem.grid, axis, end)
        if condition is Boundary.NEUMANN and not isinstance(quadrature, GridEnergy):
            shape = problem.grid.full_shape[:axis] + problem.grid.full_shape[axis + 1 :]
            alpha, q = (
                _sample(name, pairs[axis][end], problem.grid, at, shape, quadrature)
                for name, pairs in (("robin", problem.robin), ("flux", problem.flux))
            )
            terms = (weights * alpha, weights * q)
        elif condition is Boundary.DIRICHLET and strength > 0:
            t = tuple(jnp.asarray(x, problem.grid.dtype) for x in at.T)
            g = np.asarray(boundary_function(problem)(*t), np.float64)
            terms = (2 * strength * weights, 2 * strength * weights * g)
            constant += strength * float(weights @ g**2)
        else:
            continue
        points.append(at)
        mass.append(terms[0])
        load.append(terms[1])
    return _Sides(*map(np.concatenate, (points, mass, load)), constant=constant)


def _sides(grid: Grid) -> Iterator[tuple[int, int, Boundary]]:
    for axis, pair in enumerate(grid.boundary):
        for end, condition in enumerate(pair):
            yield axis, end, condition


def _sample(
    name: str,
    value: Any,
    grid: Grid,
    points: np.ndarray,
    shape: tuple[int, ...],
    quadrature: Quadrature,
) -> np.ndarray:
    """Values at points of the unit cube, shape (N,); a nodal array has the given shape."""
    if isinstance(value, Callable):
        x = (jnp.asarray(x, grid.dtype) for x in locate(grid, tuple(points.T)))
        values = as_real(name, value(*x), grid.dtype, ((), points.shape[:1]))
    elif not is_array(value) or (quadrature.on_nodes and not isinstance(value, Cells)):
        values = as_real(name, value, grid.dtype, ((), shape))
    else:
        raise ValueError(
            f"{name}: {type(quadrature).__name__} needs a number or a callable, got values of "
            "nodes or cells; train with quadrature=GridEnergy()"
        )
    checked(name, values, "finite values at the points of the quadrature")
    return np.broadcast_to(np.asarray(values, np.float64).reshape(-1), (len(points),))


def _per_axis(diffusion: Any) -> tuple[Any, ...]:
    """One entry, or one for each axis."""
    return tuple(diffusion) if isinstance(diffusion, tuple | list) else (diffusion,)


def choose_quadrature(problem: Poisson) -> Quadrature:
    """`GridEnergy` if data are known on the grid only, else `GaussLegendre`."""
    if not _is_box(problem):
        return GridEnergy()
    data = [problem.source, problem.reaction, problem.boundary_values]
    data += _per_axis(problem.diffusion)
    on_sides = (*problem.flux, *problem.robin)
    data += [value for pair in on_sides for value in pair if value is not None]
    return GridEnergy() if any(map(is_array, data)) else GaussLegendre()


def _is_box(problem: Poisson) -> bool:
    return problem.inside is None and problem.medium is None
