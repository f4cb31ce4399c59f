"""Operators and data on a domain that is not the whole box: within an interface, in a medium."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import is_traced
from solvers.grid import Boundary, Grid
from solvers.interface import cut, interface_pull
from solvers.medium import Medium, on_surface
from solvers.operators import EllipticOperator, checked_reaction, with_outer
from solvers.pieces import joined
from solvers.sides import is_given, on_side, side_values


class Data(NamedTuple):
    """What is given all over the box, and per axis on its (low, high) sides."""

    source: Any
    diffusion: Any
    reaction: Any
    flux: tuple[tuple[Any, Any], ...]
    robin: tuple[tuple[Any, Any], ...]


def in_medium(grid: Grid, medium: Medium, data: Data, flux: Any, robin: Any) -> Data:
    """The data of whole cells that stand for those of the parts which a medium fills.

    Args:
        grid: where.
        medium: what fills a part.
        data: given in the medium and on the sides of the box.
        flux, robin: q and α of the surface.
    """
    q, alpha = on_surface(grid, medium, data.diffusion, flux, robin)

    def in_cells(name: str, given: Any) -> jax.Array:
        return jnp.where(medium.volume > 0, grid.sample(name, given), 0)

    def on_sides(name: str, pairs: tuple[tuple[Any, Any], ...], *, signed: bool) -> Any:
        def part(axis: int, end: int) -> Any:
            given = pairs[axis][end]
            if not is_given(given):  # 0 stays known, on which it depends what is singular
                return given
            values = side_values(name, grid, axis, end, given, signed=signed)
            return medium.sides[axis][end] * values

        return tuple((part(axis, 0), part(axis, 1)) for axis in range(grid.ndim))

    is_free = not is_given(data.reaction) and not is_given(robin)
    c = in_cells("reaction", data.reaction)
    return Data(
        source=medium.volume * in_cells("source", data.source) + q,
        diffusion=data.diffusion,
        reaction=0.0 if is_free else medium.volume * checked_reaction(c) + alpha,
        flux=on_sides("flux", data.flux, signed=True),
        robin=on_sides("robin", data.robin, signed=False),
    )


def within(
    whole: EllipticOperator, level: jax.Array | None, medium: Medium | None
) -> EllipticOperator:
    """The operator where φ > 0 and a medium is, for u = 0 beyond the interface φ = 0.

    A node's lines across the interface are in c_j, and faces are as wide as the medium fills them.
    Nodes elsewhere are joined to nothing and have an equation of their own, c u = c g with
    c = Σ a/Lᵢ², L the box's lengths; so have pieces of the medium where nothing holds u.

    Raises:
        ValueError: if the domain is empty, or nothing holds u anywhere and the medium is in several
            pieces. Of one that is traced, the operator is NaN then.
    """
    if level is None and medium is None:
        return whole
    operator, is_empty, is_loose = _within(whole, level, medium)
    if not is_traced(is_empty) and bool(is_empty):
        raise ValueError("inside, medium: expected a place where both are positive, got none")
    if not is_traced(is_loose) and bool(is_loose):
        raise ValueError(
            "medium: expected one piece, as there is no Dirichlet side, reaction, Robin condition "
            "or interface that would hold u in each of several"
        )
    return operator


@eqx.filter_jit
def _within(
    whole: EllipticOperator, level: jax.Array | None, medium: Medium | None
) -> tuple[EllipticOperator, jax.Array, jax.Array]:
    """The operator, whether the domain is empty, and whether a singular one is in pieces."""
    grid, faces = whole.grid, faces_within(whole, medium)
    c = jnp.zeros(grid.shape, grid.dtype) if whole.reaction is None else whole.reaction
    is_within, filled, null = jnp.ones(grid.shape, bool), None, None
    is_loose = jnp.zeros((), bool)
    if level is not None:
        c = c + interface_pull(grid, level, faces)
        is_within = level[grid.unknowns] > 0
        faces = cut(grid, level, faces)
    if medium is not None:
        is_within = is_within & (medium.volume[grid.unknowns] > 0)
    is_empty = ~is_within.any()
    if medium is not None:
        if level is None and whole.is_singular:
            filled = null = is_within
            is_loose = jnp.any(is_within & ~joined(grid, faces, _first(is_within)))
        else:
            is_held = ~(_pull(grid, faces, c) <= 0)  # NaN stays where a solve meets it
            is_within = is_within & joined(grid, faces, is_within & is_held)
            faces = cut(grid, grid.on_all_nodes(is_within, True).astype(grid.dtype), faces)
            filled = is_within if level is None else is_within | (level[grid.unknowns] <= 0)
    c = jnp.where(is_within, c, _own(whole))
    found = eqx.tree_at(
        lambda operator: (
            operator.conductances, operator.reaction, operator.filled, operator.null
        ),
        whole,
        (faces, jnp.where(is_empty | is_loose, jnp.nan, c), filled, null),
        is_leaf=lambda x: x is None,
    )  # fmt: skip
    return found, is_empty, is_loose


def faces_within(whole: EllipticOperator, medium: Medium | None) -> tuple[jax.Array, ...]:
    """The conductances as arrays, of the part of each face that is within a medium."""
    faces, grid = whole.conductances_on_faces(), whole.grid
    if medium is None:
        return faces
    shares = (share[grid.across(axis)] for axis, share in enumerate(medium.faces))
    pairs = enumerate(zip(faces, shares, strict=True))
    return tuple(face * with_outer(grid, axis, share) for axis, (face, share) in pairs)


def extent(
    operator: EllipticOperator, level: jax.Array | None, medium: Medium | None
) -> tuple[jax.Array | None, jax.Array | None]:
    """The share of each node's cell that is in the medium, and unknowns without an equation.

    None where that is all, and where there are none.
    """
    grid, filled = operator.grid, operator.filled
    is_given = None if level is None else level[grid.unknowns] <= 0
    if medium is None or filled is None:
        return None, is_given
    share = jnp.where(grid.on_all_nodes(filled, True), medium.volume, 0)
    return share, ~filled if is_given is None else ~filled | is_given


def data_where_loose(rows: jax.Array, is_medium: jax.Array, filled: jax.Array) -> jax.Array:
    """Whether data are where a medium is and nothing holds u.

    Raises:
        ValueError: if they are known to be.
    """
    is_wrong = is_medium & ~filled & (rows != 0)
    if not is_traced(is_wrong) and np.any(np.asarray(is_wrong)):
        raise ValueError(
            f"medium: {int(np.sum(np.asarray(is_wrong)))} nodes with a source or flux are in "
            "pieces that nothing holds, no Dirichlet side, reaction, Robin condition or "
            "interface, so that there is no solution; leave these pieces out of the medium"
        )
    return is_wrong


def _own(whole: EllipticOperator) -> jax.Array:
    """Σ a/Lᵢ² at the unknowns, or near it."""
    grid = whole.grid
    total = jnp.zeros(grid.shape, grid.dtype)
    for axis, face in enumerate(whole.conductances_on_faces()):
        size, n = grid.shape[axis], grid.intervals[axis]
        low, high = (jax.lax.slice_in_dim(face, end, end + size, axis=axis) for end in (0, 1))
        total = total + (low + high) / (2 * n**2)
    return total


def _pull(grid: Grid, faces: tuple[jax.Array, ...], c: jax.Array) -> jax.Array:
    """c_j and what joins an unknown to Dirichlet sides."""
    for axis, sides in enumerate(grid.boundary):
        for end, side in enumerate(sides):
            if side is Boundary.DIRICHLET:
                face = jax.lax.index_in_dim(faces[axis], -end, axis, keepdims=False)
                c = c + on_side(face, axis, end, grid.shape[axis])
    return c


def _first(condition: jax.Array) -> jax.Array:
    """The first place only of those where a condition holds."""
    flat = condition.reshape(-1)
    return (flat & (jnp.cumsum(flat) == 1)).reshape(condition.shape)
