"""Operators and data on a domain that is not the whole box: within an interface, in a medium."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import is_traced
from solvers.grid import Boundary, Grid
from solvers.interface import cut, interface_pull
from solvers.medium import Medium, on_surface, where_positive
from solvers.operators import (
    EllipticOperator,
    checked_reaction,
    diffusion_at_nodes,
    with_outer,
)
from solvers.pieces import joined
from solvers.sides import SideValues, is_given, on_side, read_sides


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
    q, alpha = on_surface(grid, medium, diffusion_at_nodes(grid, data.diffusion), flux, robin)

    c = grid.sample("reaction", data.reaction)
    c = checked_reaction(c if c.ndim == 0 else where_positive(medium.volume, c))
    is_free = not is_given(c) and not is_given(robin)
    source, reaction = _of_parts(medium.volume, (grid.sample("source", data.source), c), (q, alpha))
    return Data(
        source=source,
        diffusion=data.diffusion,
        reaction=0.0 if is_free else reaction,
        flux=_on_sides(read_sides("flux", data.flux, grid), medium.sides),
        robin=_on_sides(read_sides("robin", data.robin, grid, signed=False), medium.sides),
    )


@jax.jit
def _of_parts(
    volume: jax.Array, given: tuple[jax.Array, ...], surface: tuple[jax.Array, ...]
) -> list[jax.Array]:
    """What is given in a cell in its part of the medium, and of the surface in it."""
    pairs = zip(given, surface, strict=True)
    return [jnp.where(volume > 0, volume * x, 0) + there for x, there in pairs]


@jax.jit
def _on_sides(given: SideValues, shares: SideValues) -> SideValues:
    """What is given on sides, in the parts of them that are of the medium."""
    return jax.tree.map(
        lambda value, share: None if value is None else share * value,
        given, shares, is_leaf=lambda x: x is None,
    )  # fmt: skip


class Domain(NamedTuple):
    """Where the equation holds.

    Attributes:
        operator: A there.
        share: of each node's cell that is in the medium; None where that is all.
        is_outside: unknowns without an equation; None without any.
    """

    operator: EllipticOperator
    share: jax.Array | None
    is_outside: jax.Array | None


def within(whole: EllipticOperator, level: jax.Array | None, medium: Medium | None) -> Domain:
    """Where φ > 0 and a medium is, with the operator for u = 0 beyond the interface φ = 0.

    A node's lines across the interface are in c_j, and faces are as wide as the medium fills them.
    Nodes elsewhere are joined to nothing and have an equation of their own, c u = 0 with
    c = Σ a/Lᵢ², L the box's lengths; so have pieces of the medium where nothing holds u.

    Raises:
        ValueError: if the domain is empty, or nothing holds u anywhere and the medium is in several
            pieces. Of one that is traced, the operator is NaN then.
    """
    if level is None and medium is None:
        return Domain(whole, None, None)
    domain, is_empty, is_loose = _within(whole, level, medium)
    if not is_traced(is_empty) and bool(is_empty):
        raise ValueError("inside, medium: expected a place where both are positive, got none")
    if not is_traced(is_loose) and bool(is_loose):
        raise ValueError(
            "medium: expected one piece, as there is no Dirichlet side, reaction, Robin condition "
            "or interface that would hold u in each of several"
        )
    return domain


@jax.jit
def _within(
    whole: EllipticOperator, level: jax.Array | None, medium: Medium | None
) -> tuple[Domain, jax.Array, jax.Array]:
    """The domain, whether it is empty, and whether it is in pieces that nothing holds."""
    grid, faces = whole.grid, faces_within(whole, medium)
    c = jnp.zeros(grid.shape, grid.dtype) if whole.reaction is None else whole.reaction
    is_given = jnp.zeros(grid.shape, bool) if level is None else level[grid.unknowns] <= 0
    is_within, is_loose = ~is_given, jnp.zeros((), bool)
    share = filled = null = None
    if level is not None:
        c = c + interface_pull(grid, level, faces)
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
            filled = is_within | is_given
        share = jnp.where(grid.on_all_nodes(filled, True), medium.volume, 0)
    c = jnp.where(is_within, c, _own(whole))
    found = eqx.tree_at(
        lambda operator: (
            operator.conductances, operator.reaction, operator.filled, operator.null
        ),
        whole,
        (faces, jnp.where(is_empty | is_loose, jnp.nan, c), filled, null),
        is_leaf=lambda x: x is None,
    )  # fmt: skip
    return Domain(found, share, ~is_within), is_empty, is_loose


def faces_within(whole: EllipticOperator, medium: Medium | None) -> tuple[jax.Array, ...]:
    """The conductances as arrays, of the part of each face that is within a medium."""
    faces, grid = whole.conductances_on_faces(), whole.grid
    if medium is None:
        return faces
    shares = (share[grid.across(axis)] for axis, share in enumerate(medium.faces))
    pairs = enumerate(zip(faces, shares, strict=True))
    return tuple(face * with_outer(grid, axis, share) for axis, (face, share) in pairs)


def refuse_loose(is_loose: jax.Array) -> None:
    """Raise where data are known to be where a medium is and nothing holds u."""
    count = 0 if is_traced(is_loose) else int(np.sum(np.asarray(is_loose)))
    if count > 0:
        raise ValueError(
            f"medium: {count} nodes with a source or flux are in "
            "pieces that nothing holds, no Dirichlet side, reaction, Robin condition or "
            "interface, so that there is no solution; leave these pieces out of the medium"
        )


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
