"""Derivatives and fluxes of a field on all nodes, and its values anywhere."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

from solvers.arguments import expect
from solvers.domain import faces_within
from solvers.grid import Boundary, Grid
from solvers.interface import interface_load, interface_pull, level_on, slopes_of
from solvers.medium import Medium, medium_on, on_surface
from solvers.operators import EllipticOperator, diffusion_at_nodes
from solvers.problems import Poisson
from solvers.sides import SideValues, on_side, read_sides

# Per axis what is on the low and the high side, of `grid.full_shape` without that axis.
Sides = tuple[tuple[jax.Array | None, jax.Array | None], ...]


def face_flux(operator: EllipticOperator, field: jax.Array, axis: int) -> jax.Array:
    """−a ∂u/∂xᵢ on the faces between nodes along an axis, as the scheme balances it."""
    grid = operator.grid
    u = field[grid.across(axis)]
    if grid.is_periodic(axis):
        u = jnp.concatenate([u, jax.lax.slice_in_dim(u, 0, 1, axis=axis)], axis)
    conductance = operator.conductances[axis]
    if conductance.ndim > 0:
        # Periodic arrays hold the wrapping face twice; Neumann sides a closed one.
        first = 1 if grid.is_periodic(axis) or grid.unknowns[axis].start == 0 else 0
        conductance = jax.lax.slice_in_dim(
            conductance, first, first + grid.intervals[axis], axis=axis
        )
    return -conductance * grid.spacing[axis] * jnp.diff(u, axis=axis)


@jax.jit
def fluxes(operator: EllipticOperator, field: jax.Array) -> tuple[jax.Array, ...]:
    """−a ∂u/∂xᵢ on the faces along each axis."""
    return tuple(face_flux(operator, field, axis) for axis in range(operator.grid.ndim))


@jax.jit
def derivatives(grid: Grid, field: jax.Array) -> tuple[jax.Array, ...]:
    """∂u/∂xᵢ on all nodes along each axis."""
    return tuple(grid.derivative(field, axis) for axis in range(grid.ndim))


def interpolate(grid: Grid, field: jax.Array, points: tuple[Any, ...]) -> jax.Array:
    """Multilinear interpolation of a field on all nodes; NaN outside the box, periodic axes wrap.

    Raises:
        ValueError: unless `points` are one array per axis, of equal shapes.
    """
    if len(points) != grid.ndim:
        raise ValueError(f"points: expected {grid.ndim} arrays, got {len(points)}")
    if len({jnp.shape(x) for x in points}) > 1:
        raise ValueError(f"points: expected equal shapes, got {[jnp.shape(x) for x in points]}")
    return _interpolated(grid, field, tuple(jnp.asarray(x, grid.dtype) for x in points))


@jax.jit
def _interpolated(grid: Grid, field: jax.Array, points: tuple[jax.Array, ...]) -> jax.Array:
    cells, shares, inside = [], [], jnp.ones((), bool)
    for axis, x in enumerate(points):
        n = grid.intervals[axis]
        t = (x - grid.lower[axis]) / grid.spacing[axis]
        if grid.is_periodic(axis):
            t = jnp.mod(t, n)
            first = jax.lax.slice_in_dim(field, 0, 1, axis=axis)
            field = jnp.concatenate([field, first], axis)
        slack = n * 4 * jnp.finfo(grid.dtype).eps
        inside = inside & (t >= -slack) & (t <= n + slack)
        cells.append(jnp.clip(jnp.floor(t), 0, n - 1).astype(jnp.int32))
        shares.append(t - cells[-1].astype(t.dtype))
    values = jnp.zeros((), field.dtype)
    for corner in itertools.product((0, 1), repeat=grid.ndim):
        weights = [s if up else 1 - s for s, up in zip(shares, corner, strict=True)]
        at = tuple(cell + up for cell, up in zip(cells, corner, strict=True))
        values = values + math.prod(weights) * field[at]
    return jnp.where(inside, values, jnp.nan)


def boundary_flux(problem: Poisson, u: Any) -> Sides:
    """What goes through the boundary, a ∂u/∂n outward, at the nodes of each side.

    On Neumann sides it is what was given, q − αu. On Dirichlet sides it is what the balance of the
    half cells there lacks, with the neighbours, c and f as on a Neumann side:

        Σ 2qᵢ/hᵢ over the sides that j lies on  =  (−∇·(a∇u) + cu − f)_j,  of what lies in the box,

    so that ∮q = ∫(cu − f) to rounding, by the trapezoidal rule, for the discrete solution. It is of
    second order where u is smooth. On edges and in corners between Dirichlet sides this is one
    equation for several q: one-sided differences, of which the error is shared out, first order.
    Nothing goes through a side outside a problem's `inside`, and a side of which a medium fills a
    part has that part of its flux; for the interface see `interface_flux`, for the surface
    `surface_flux`.

    Args:
        problem: of which u is the solution.
        u: at the unknowns or on all nodes, or a `Solution`.

    Returns:
        Per axis the (low, high) pair, arrays of `grid.full_shape` without that axis, for
        `grid.side(axis).integral`; None on periodic axes.

    Raises:
        ValueError: if u has another shape, or a source is not finite on the sides.

    Cost: that of making the problem once more.

    Reference: Carey 1982, "Derivative calculation from finite element solutions", Comput. Methods
    Appl. Mech. Eng. 35, 1–14.

    Example:
        >>> from solvers import solve
        >>> grid = Grid((32, 24))
        >>> problem = Poisson(grid, source=1.0)
        >>> sides = boundary_flux(problem, solve(problem).field)
        >>> total = sum(grid.side(axis).integral(q) for axis in (0, 1) for q in sides[axis])
        >>> print(f"{total:.6f}")
        -1.000000
    """
    grid, field = problem.grid, _field_of(problem, u)
    return _balancing(
        grid,
        field,
        _imbalance(problem, field),
        diffusion_at_nodes(grid, problem.diffusion),
        (read_sides("flux", problem.flux, grid), read_sides("robin", problem.robin, grid)),
        level_on(grid, problem.inside),
        medium_on(grid, problem.medium),
    )


@jax.jit
def _balancing(
    grid: Grid,
    field: jax.Array,
    missing: jax.Array,
    diffusion: tuple[jax.Array, ...],
    given: tuple[SideValues, SideValues],
    level: jax.Array | None,
    medium: Medium | None,
) -> Sides:
    """The fluxes through all sides that make up for what is missing in each node's balance."""
    count = jnp.zeros(grid.full_shape, grid.dtype)
    found: dict[tuple[int, int], jax.Array] = {}
    for axis, end in itertools.product(range(grid.ndim), (0, 1)):
        if grid.is_periodic(axis):
            continue
        is_given = grid.boundary[axis][end] is Boundary.NEUMANN
        if is_given:
            q = _given_flux(given, field, axis, end)
        else:
            slope = grid.derivative(field, axis) * (1 if end else -1)
            q = _at_end(jnp.broadcast_to(diffusion[axis], grid.full_shape) * slope, axis, end)
        q = q if medium is None else medium.sides[axis][end] * q
        found[axis, end] = q
        size = grid.full_shape[axis]
        missing = missing - on_side(2 / grid.spacing[axis] * q, axis, end, size)
        if not is_given:
            count = count + on_side(jnp.ones_like(q), axis, end, size)
    share = jnp.where(count > 0, missing / jnp.maximum(count, 1), 0)
    for (axis, end), q in found.items():
        if grid.boundary[axis][end] is Boundary.DIRICHLET:
            found[axis, end] = q + grid.spacing[axis] / 2 * _at_end(share, axis, end)
    if level is not None:
        found = {key: jnp.where(_at_end(level, *key) > 0, q, 0) for key, q in found.items()}
    return tuple((found.get((axis, 0)), found.get((axis, 1))) for axis in range(grid.ndim))


def interface_flux(problem: Poisson, u: Any) -> jax.Array:
    """What goes through the interface of a problem with `inside`: a ∂u/∂n, out of the domain.

    A density on all nodes, Σ a(g − u)/(wᵢθhᵢ²) over the lines that are cut beside a node, to be
    integrated over the part of the box that is asked for: with `boundary_flux`

        ∮ q + ∫ interface_flux + ∫ surface_flux = ∫ (cu − f)  over the nodes with φ > 0,

    to rounding; with a medium the right side is ∫ share·(cu − f).

    Args:
        problem: of which u is the solution.
        u: at the unknowns or on all nodes, or a `Solution`.

    Returns:
        Shape `grid.full_shape`.

    Raises:
        ValueError: if u has another shape.

    Cost: that of making the operator once more.

    Example:
        >>> from solvers import solve
        >>> def outside_a_disc(x, y):  # of radius 1/4, at the potential 1
        ...     return jnp.hypot(x - 0.5, y - 0.5) - 0.25
        >>> grid = Grid((64, 64))
        >>> held = lambda x, y: jnp.where(outside_a_disc(x, y) < 0.05, 1.0, 0.0)
        >>> problem = Poisson(grid, 0.0, inside=outside_a_disc, boundary_values=held)
        >>> charge = grid.integral(interface_flux(problem, solve(problem).field))
        >>> print(f"{charge:.2f}")
        8.18
    """
    field, grid = _field_of(problem, u), _closed(problem.grid)
    level = level_on(grid, problem.inside)
    if level is None:
        return jnp.zeros_like(field)
    medium, g = medium_on(grid, problem.medium), problem.boundary_values
    whole = EllipticOperator(grid, problem.diffusion)
    given = grid.sample("boundary_values", g), slopes_of(grid, g)
    return _through_interface(whole, medium, level, given, field)


@jax.jit
def _through_interface(
    whole: EllipticOperator,
    medium: Medium | None,
    level: jax.Array,
    given: tuple[jax.Array, list[jax.Array] | None],
    field: jax.Array,
) -> jax.Array:
    faces = faces_within(whole, medium)
    load = interface_load(whole.grid, level, faces, *given)
    return load - interface_pull(whole.grid, level, faces) * field


def surface_flux(problem: Poisson, u: Any) -> jax.Array:
    """What goes through the surface of a medium, q − αu: a ∂u/∂n, out of the domain.

    A density on all nodes, as `interface_flux`: S (q − αu)/(1 + αd/a), S the area in a node's cell
    over the volume of the cell, and d how far beyond the node it lies.

    Args:
        problem: of which u is the solution.
        u: at the unknowns or on all nodes, or a `Solution`.

    Returns:
        Shape `grid.full_shape`.

    Raises:
        ValueError: if u has another shape.

    Cost: that of reading the medium once more.

    Example:
        >>> from solvers import solve
        >>> rod = lambda x, y: 0.4 - jnp.hypot(x - 0.5, y - 0.5)  # heated, and cooled from outside
        >>> grid = Grid((64, 64), boundary=Boundary.NEUMANN)
        >>> problem = Poisson(grid, 1.0, medium=rod, surface_robin=2.0)
        >>> out = grid.integral(surface_flux(problem, solve(problem)))
        >>> print(f"{-out:.4f} of {float(jnp.pi * 0.4**2):.4f}")
        0.5024 of 0.5027
    """
    field, grid = _field_of(problem, u), problem.grid
    medium = medium_on(grid, problem.medium)
    if medium is None:
        return jnp.zeros_like(field)
    a = diffusion_at_nodes(grid, problem.diffusion)
    q, alpha = on_surface(grid, medium, a, problem.surface_flux, problem.surface_robin)
    return _out_of_surface(q, alpha, field, level_on(grid, problem.inside))


@jax.jit
def _out_of_surface(
    q: jax.Array, alpha: jax.Array, field: jax.Array, level: jax.Array | None
) -> jax.Array:
    out = q - alpha * field
    return out if level is None else jnp.where(level > 0, out, 0)


def _field_of(problem: Poisson, u: Any) -> jax.Array:
    expect("problem", problem, Poisson, "a Poisson; of one on a mesh, one like it on one device")
    return problem.field(problem.grid.restrict("u", getattr(u, "field", u)))


def _imbalance(problem: Poisson, field: jax.Array) -> jax.Array:
    """−∇·(a∇u) + cu − f on all nodes, with nothing let through any side."""
    grid, c = _closed(problem.grid), problem.reaction
    closed = Poisson(
        grid,
        problem.source,
        diffusion=problem.diffusion,
        # Pieces of a medium that a Dirichlet side held are held by 1 more.
        reaction=c if problem.share is None else grid.sample("reaction", c) + 1,
        boundary_values=0.0 if problem.inside is None else problem.boundary_values,
        inside=problem.inside,
        medium=problem.medium,
        # Without a medium these are 0, but traced ones would pass for given.
        surface_flux=0.0 if problem.medium is None else problem.surface_flux,
        surface_robin=0.0 if problem.medium is None else problem.surface_robin,
    )
    return _lacking(closed.operator, closed.rhs, closed.unknowns("u", field), closed.share)


@jax.jit
def _lacking(
    operator: EllipticOperator, b: jax.Array, u: jax.Array, share: jax.Array | None
) -> jax.Array:
    """A u − b without the weights of rows, and without the 1 that was added in a medium."""
    missing = (operator.mv(u) - b) / operator.weigh(jnp.ones_like(u))
    return missing if share is None else jnp.where(share > 0, missing - share * u, 0)


def _closed(grid: Grid) -> Grid:
    """The same with Neumann sides for Dirichlet ones, so that all nodes are unknowns."""
    closed = (Boundary.NEUMANN, Boundary.NEUMANN)
    sides = tuple(closed if Boundary.PERIODIC not in pair else pair for pair in grid.boundary)
    return Grid(grid.intervals, grid.lower, grid.upper, sides, dtype=grid.dtype)


def _given_flux(
    given: tuple[SideValues, SideValues], field: jax.Array, axis: int, end: int
) -> jax.Array:
    """q − αu on a Neumann side."""
    there = _at_end(field, axis, end)
    nothing = jnp.zeros_like(there)
    q, alpha = (nothing if (x := pairs[axis][end]) is None else x for pairs in given)
    return q - alpha * there


def _at_end(field: jax.Array, axis: int, end: int) -> jax.Array:
    """On the low (0) or the high (1) side of an axis."""
    return jax.lax.index_in_dim(field, -end, axis, keepdims=False)
