"""Constants that are all but a null space, taken care of beside the cycles."""

import equinox as eqx
import jax
import jax.numpy as jnp

from solvers.multigrid.blocks import Blocks, split
from solvers.multigrid.level import Level
from solvers.operators import EllipticOperator

# Share of the diagonals that row sums may have there: further up constants are no trouble.
SMALL = 1e-6


class Lifting(eqx.Module):
    """The exact correction by a constant, around one by cycles that leave constants alone.

    Without a Dirichlet side, and with small c or α, 1ᵀA1 is small: a cycle would divide the
    rounding errors of its residual, in single precision, by it. With s = 1ᵀr/1ᵀA1

        e ← C(r − s A1),   e ← e + (s − 1ᵀAe/1ᵀA1),

    which is two-level deflation by one vector, symmetric if C is.

    Attributes:
        inverse: 1/1ᵀA1; 0 where row sums are not small, and nothing is done.
        rows: A1 at the unknowns, in blocks.

    Reference: Tang, Nabben, Vuik, Erlangga 2009, "Comparison of two-level preconditioners", J. Sci.
    Comput. 39, §2.3, doi:10.1007/s10915-009-9272-6.
    """

    inverse: jax.Array
    rows: Blocks

    @property
    def is_needed(self) -> jax.Array:
        """Whether row sums are that small."""
        return self.inverse > 0

    def without_constant(self, level: Level, r: Blocks) -> tuple[Blocks, jax.Array]:
        """r − s A1 and s, of a residual of rows that are not weighed, in its precision."""
        s = _sum(level.weigh(r)) * self.inverse
        unweighed = level.weigh(self.rows, -1)
        return {parity: x - s * unweighed[parity] for parity, x in r.items()}, s

    def with_constant(self, e: Blocks, s: jax.Array) -> Blocks:
        """e + (s − 1ᵀAe/1ᵀA1), in the operator's precision."""
        e = {parity: x.astype(s.dtype) for parity, x in e.items()}
        rest = s - _sum({parity: x * self.rows[parity] for parity, x in e.items()}) * self.inverse
        return {parity: x + rest for parity, x in e.items()}


def lifting_of(operator: EllipticOperator) -> Lifting | None:
    """What lifts constants out of the cycles; None where they are the null space, or cannot be."""
    if operator.is_singular or operator.grid.has_dirichlet_side:
        return None
    rows = operator.mv(jnp.ones(operator.grid.shape, operator.grid.dtype))
    diagonal = jnp.broadcast_to(operator.diagonal(), operator.grid.shape)
    total = jnp.sum(rows)
    is_small = total <= SMALL * jnp.sum(diagonal)
    return Lifting(jnp.where(is_small, 1 / jnp.where(is_small, total, 1), 0), split(rows))


def _sum(blocks: Blocks) -> jax.Array:
    return jnp.sum(jnp.stack([jnp.sum(x) for x in blocks.values()]))
