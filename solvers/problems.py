"""The Poisson problem: an operator, a right-hand side, and what holds on the boundary."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import checked, expect, is_traced
from solvers.domain import Data, Domain, faces_within, in_medium, refuse_loose, within
from solvers.grid import Boundary, Grid
from solvers.interface import interface_load, level_on, slopes_of
from solvers.medium import Medium, medium_on, where_positive
from solvers.operators import EllipticOperator
from solvers.sides import SideValues, add_on_sides, is_given, is_nonzero, read_sides, side_pairs


class Poisson(eqx.Module):
    """−∇·(a∇u) + c u = f on a grid, u = g on Dirichlet sides, a ∂u/∂n + αu = q on Neumann sides.

    The discrete problem is A u = b with `operator` A, and `rhs` b with all boundary data in it:

        b = W·(f + Σ q/(wᵢhᵢ)) − A g,   g extended by 0 to the unknowns,   W, wᵢ as in the operator.

    Args:
        grid: where.
        source: f. A number, an array on all nodes (`grid.full_shape`), `Cells`, or a callable of
            the coordinates, called once with arrays on all nodes.
        diffusion: a > 0. As `source`, or a tuple of such, one per axis.
        reaction: c ≥ 0. As `source`.
        boundary_values: g. As `source`; only values on Dirichlet sides are used.
        flux: q, outward. One value for all Neumann sides, or one or a (low, high) pair per axis,
            each a number, an array on that side's nodes (`full_shape` without the axis), or a
            callable of the coordinates. In 1-D a pair is (low, high).
        robin: α ≥ 0, as `flux`. With α > 0 these are Robin conditions, such as heat given to air of
            temperature v at the rate α(u − v): q = αv.
        inside: φ, for a domain that is not the whole box: the equation holds where φ > 0, and
            elsewhere u = g, up to the interface φ = 0, which is met by second order where φ is
            smooth. As `source`, or a mask, whose interface is at its nodes; None for all of the
            box. Of g given as an array the value at the nearest node outside is taken, of a
            function its slope, too. Source and reaction outside do not matter, but to
            reverse gradients a function that is not finite there gives NaN.
        medium: ψ, for a domain with a surface where u is not known: the equation holds where ψ > 0,
            and a ∂u/∂n + αu = q on the surface, so that nothing goes through it by default. A level
            set, met by second order as long as αh < a; a mask of nodes, with surfaces half-way to
            the next; or `Cells`, such as the voxels of an image, with surfaces around them. Beyond
            the surface u is 0, but for nodes whose cells, half-way to the next nodes, it cuts.
        surface_flux: q of the surface, outward. As `source`; a function is called at points of the
            surface of a level set, else at the nodes beside it.
        surface_robin: α ≥ 0 of the surface, likewise.

    Attributes:
        operator: A.
        rhs: b, shape `grid.shape`; 0 at nodes outside, where A u = b has u = 0 and `field` g.
        boundary_field: g where it holds and 0 elsewhere, shape `grid.full_shape`.
        is_outside: nodes without an equation of their own, φ ≤ 0 or far from the medium, at the
            unknowns; None without any.
        share: of each node's cell, which ends half-way to the next and at the box, that the medium
            fills, for integrals; shape `grid.full_shape`, None where it is all.
        source, diffusion, reaction, boundary_values, inside, medium, surface_flux, surface_robin:
            as given, for use off the grid; a function as a `jax.tree_util.Partial` of it.
        flux, robin: per axis a (low, high) pair of what was given; None where the side is not
            Neumann.

    Raises:
        ValueError: for shapes, and for known values of the wrong sign or that are not finite, or
            domains that are empty. Traced ones count as NaN, so that a solve fails.

    Example:
        >>> problem = Poisson(Grid(4), source=1.0, boundary_values=lambda x: x)
        >>> print(problem.rhs)
        [ 1.  1. 17.]
    """

    operator: EllipticOperator
    rhs: jax.Array
    boundary_field: jax.Array
    source: Any
    diffusion: Any
    reaction: Any
    boundary_values: Any
    flux: tuple[tuple[Any, Any], ...]
    robin: tuple[tuple[Any, Any], ...]
    inside: Any
    medium: Any
    surface_flux: Any
    surface_robin: Any
    is_outside: jax.Array | None
    share: jax.Array | None

    def __init__(
        self,
        grid: Grid,
        source: Any,
        *,
        diffusion: Any = 1.0,
        reaction: Any = 0.0,
        boundary_values: Any = 0.0,
        flux: Any = 0.0,
        robin: Any = 0.0,
        inside: Any = None,
        medium: Any = None,
        surface_flux: Any = 0.0,
        surface_robin: Any = 0.0,
    ):
        expect("grid", grid, Grid, "a Grid such as Grid((64, 64))")
        self.source, self.diffusion = _as_leaves(source), _as_leaves(diffusion)
        self.reaction, self.boundary_values = _as_leaves(reaction), _as_leaves(boundary_values)
        self.inside, self.medium = _as_leaves(inside), _as_leaves(medium)
        self.surface_flux = _as_leaves(surface_flux)
        self.surface_robin = _as_leaves(surface_robin)
        self.flux = _as_leaves(side_pairs("flux", flux, grid))
        self.robin = _as_leaves(side_pairs("robin", robin, grid))
        level, filling = level_on(grid, inside), medium_on(grid, medium)
        data = Data(self.source, diffusion, reaction, self.flux, self.robin)
        if level is not None and is_given(reaction):
            c = grid.sample("reaction", self.reaction)
            data = data._replace(reaction=where_positive(level, c))
        if filling is not None:
            data = in_medium(grid, filling, data, surface_flux, surface_robin)
        elif medium is None and (is_given(surface_flux) or is_given(surface_robin)):
            raise ValueError("surface_flux, surface_robin: given, but no medium")
        whole = EllipticOperator(grid, diffusion, data.reaction, data.robin)
        domain = within(whole, level, filling)
        self.operator, self.share, self.is_outside = domain
        g = grid.sample("boundary_values", self.boundary_values)
        is_anywhere = grid.has_dirichlet_side or inside is not None
        if not is_anywhere and (callable(boundary_values) or is_nonzero(g)):
            raise ValueError(
                "boundary_values: given, but no side of the grid is Boundary.DIRICHLET"
            )
        slopes = None if level is None else slopes_of(grid, boundary_values)
        source = _checked_source(grid, level, data.source)
        flux = read_sides("flux", data.flux, grid)
        field, self.rhs, is_loose = _assembled(
            domain, whole, level, filling, source, flux, (g, slopes)
        )
        wanted = "finite values on Dirichlet sides" + ("" if level is None else " and outside")
        self.boundary_field = checked("boundary_values", field, wanted)
        refuse_loose(is_loose)

    @property
    def grid(self) -> Grid:
        """Where the problem is posed."""
        return self.operator.grid

    def field(self, u: jax.Array) -> jax.Array:
        """Put the given boundary values round the unknowns: `grid.shape` to `grid.full_shape`."""
        if u.shape != self.grid.shape:
            raise ValueError(f"u: expected the unknowns, shape {self.grid.shape}, got {u.shape}")
        return _field(self.grid, self.grid.floating(u), self.is_outside, self.boundary_field)

    def unknowns(self, name: str, u: Any) -> jax.Array:
        """Read `u`, at the unknowns or on all nodes, at the unknowns: 0 without an equation.

        Raises:
            ValueError: naming `name`, if it has neither shape or is not real.
        """
        return self.within(self.grid.restrict(name, u))

    def within(self, u: jax.Array) -> jax.Array:
        """Values at the unknowns, shape (…, *grid.shape), with 0 where there is no equation."""
        return u if self.is_outside is None else jnp.where(self.is_outside, 0, u)

    def solution_field(self, u: jax.Array) -> jax.Array:
        """`field` of a solution at the unknowns: where constants are free, the one with ∫ = 0."""
        return _solution_field(self.operator, u, self.is_outside, self.boundary_field, self.share)

    def boundary_extension(self) -> jax.Array:
        """Extend the boundary values to all nodes: a guess that meets them, `grid.full_shape`.

        Transfinite interpolation: axis after axis, what is still missing on its Dirichlet sides is
        added linearly between two of them, or all along the axis from one. Nodes outside have the
        values that they keep, of which none is extended.

        Reference: Gordon, Hall 1973, Numer. Math. 21, 109–129, doi:10.1007/BF01436298.
        """
        return _extension(self.grid, self.boundary_field, self.is_outside)

    def residual(self, u: Any) -> jax.Array:
        """b − A u; `u` at the unknowns or on all nodes, the result of shape `grid.shape`."""
        return _residual(self.operator, self.rhs, self.unknowns("u", u))

    def energy(self, u: Any) -> jax.Array:
        """∏h·(½ uᵀA u − bᵀu), the discrete Ritz energy, least at the discrete solution."""
        return _energy(self.operator, self.rhs, self.unknowns("u", u))

    def mean_source(self) -> jax.Array:
        """The mean of source and flux of a singular problem, which should be 0; 0 of others."""
        if not self.operator.is_singular:
            return jnp.zeros((), self.rhs.dtype)
        return _mean_source(self.grid, self.rhs, self.share)

    def balances(self) -> jax.Array:
        """Whether data are those of a solution: of a singular problem, up to the grid's O(h²)."""
        if not self.operator.is_singular:
            return jnp.ones((), bool)
        return _balances(self.grid, self.rhs)

    def balanced(self) -> jax.Array:
        """b, of a singular problem less what keeps it from having a solution."""
        if not self.operator.is_singular:
            return self.rhs
        return _balanced(self.operator, self.rhs, self.share)


@jax.jit
def _residual(operator: EllipticOperator, b: jax.Array, u: jax.Array) -> jax.Array:
    return b - operator.mv(u)


@jax.jit
def _energy(operator: EllipticOperator, b: jax.Array, u: jax.Array) -> jax.Array:
    return operator.grid.cell_volume * jnp.sum(u * (operator.mv(u) / 2 - b))


@jax.jit
def _mean_source(grid: Grid, b: jax.Array, share: jax.Array | None) -> jax.Array:
    share = jnp.ones(grid.full_shape, b.dtype) if share is None else share
    return jnp.sum(b) * grid.cell_volume / grid.integral(share)


@jax.jit
def _balances(grid: Grid, b: jax.Array) -> jax.Array:
    box = zip(grid.spacing, grid.lower, grid.upper, strict=True)
    order = 10 * sum((h / (high - low)) ** 2 for h, low, high in box)
    share = max(min(order, 0.5), 100 * float(jnp.finfo(b.dtype).eps))
    return ~(jnp.abs(jnp.sum(b)) > share * jnp.sum(jnp.abs(b)))


@jax.jit
def _balanced(operator: EllipticOperator, b: jax.Array, share: jax.Array | None) -> jax.Array:
    # As much of all parts: the rows of sides, and of small parts of a medium, are small.
    own = jnp.ones_like(b) if share is None else share[operator.grid.unknowns]
    return b - _mean_source(operator.grid, b, share) * operator.weigh(own)


@jax.jit
def _field(
    grid: Grid, u: jax.Array, is_outside: jax.Array | None, boundary_field: jax.Array
) -> jax.Array:
    u = u if is_outside is None else jnp.where(is_outside, 0, u)
    return boundary_field.astype(u.dtype) + grid.on_all_nodes(u, 0)


@jax.jit
def _solution_field(
    operator: EllipticOperator,
    u: jax.Array,
    is_outside: jax.Array | None,
    boundary_field: jax.Array,
    share: jax.Array | None,
) -> jax.Array:
    grid = operator.grid
    field = _field(grid, u, is_outside, boundary_field)
    if not operator.is_singular:
        return field
    if share is None:
        return grid.without_integral(field)
    mean = grid.integral(share * field) / grid.integral(share)
    return jnp.where(share > 0, field - mean, 0)


@jax.jit
def _extension(grid: Grid, boundary_field: jax.Array, is_outside: jax.Array | None) -> jax.Array:
    extension, given = jnp.zeros_like(boundary_field), boundary_field
    if is_outside is not None:  # of sides what the domain reaches
        ends = [(s.start, n - s.stop) for s, n in zip(grid.unknowns, grid.full_shape, strict=True)]
        given = jnp.where(jnp.pad(is_outside, ends, mode="edge"), 0, boundary_field)
    for axis, (low, high) in enumerate(grid.boundary):
        missing, end = given - extension, grid.full_shape[axis] - 1
        first, last = (jax.lax.slice_in_dim(missing, j, j + 1, axis=axis) for j in (0, end))
        t = np.linspace(0, 1, end + 1).reshape(
            [-1 if d == axis else 1 for d in range(missing.ndim)]
        )
        shares = (1 - t, t) if low is high else (np.ones_like(t), np.ones_like(t))
        for side, values, share in zip((low, high), (first, last), shares, strict=True):
            if side is Boundary.DIRICHLET:
                extension = extension + jnp.asarray(share, values.dtype) * values
    if is_outside is None:
        return extension
    return jnp.where(grid.on_all_nodes(is_outside, True), boundary_field, extension)


def _checked_source(grid: Grid, level: jax.Array | None, given: Any) -> jax.Array:
    """The source, which may be anything where there is no equation."""
    source = grid.sample("source", given)
    if is_traced(source) or np.isfinite(np.asarray(source)).all():
        return source
    where = jnp.broadcast_to(_is_given_at(grid, level), grid.full_shape)
    return checked("source", jnp.where(where, 0, source), "finite values")


@jax.jit
def _assembled(
    domain: Domain,
    whole: EllipticOperator,
    level: jax.Array | None,
    medium: Medium | None,
    source: jax.Array,
    flux: SideValues,
    given: tuple[jax.Array, list[jax.Array] | None],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """g where it holds, b, and where data are in pieces of a medium that nothing holds.

    b is NaN if there are any. `given` is g and its slopes.
    """
    operator, _, is_outside = domain
    grid, is_loose = operator.grid, jnp.zeros((), bool)
    boundary_field = jnp.zeros(grid.full_shape, grid.dtype)
    boundary_field = jnp.where(_is_given_at(grid, level), given[0], boundary_field)
    rows = add_on_sides(grid, jnp.broadcast_to(source, grid.full_shape)[grid.unknowns], flux)
    if level is not None:
        rows = rows + interface_load(grid, level, faces_within(whole, medium), *given)
    if medium is not None and operator.filled is not None:
        is_loose = (medium.volume[grid.unknowns] > 0) & ~operator.filled & (rows != 0)
    if is_outside is not None:
        rows = jnp.where(is_outside, 0, rows)
    b = operator.weigh(rows) + operator.boundary_load(boundary_field)
    return boundary_field, jnp.where(is_loose.any(), jnp.nan, b), is_loose


def _is_given_at(grid: Grid, level: jax.Array | None) -> jax.Array:
    """Whether u is given at each node."""
    given = jnp.zeros((1,) * grid.ndim, bool) if level is None else level <= 0
    for axis, size in enumerate(grid.full_shape):
        outside = np.ones(size, bool)
        outside[grid.unknowns[axis]] = False
        given = given | outside.reshape([-1 if d == axis else 1 for d in range(grid.ndim)])
    return given


def _as_leaves(given: Any) -> Any:
    """Make functions part of the tree's structure, so that problems pass through jit and vmap.

    Arrays of NumPy are copied, since they may change.
    """

    def leaf(x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return x.copy()
        return jax.tree_util.Partial(x) if callable(x) else x

    return jax.tree.map(leaf, given)
