"""Constants that are all but a null space, taken care of beside the cycles."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from solvers.multigrid.blocks import Blocks, split
from solvers.multigrid.cycle import add
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

    def around(self, level: Level, correct: Callable[[Blocks], Blocks], r: Blocks) -> Blocks:
        """The correction to a residual of rows that are not weighed, in its precision."""
        dtype = self.inverse.dtype
        s = _sum(level.weigh(r)) * self.inverse
        unweighed = level.weigh(self.rows, -1)
        e = correct({parity: x - s * unweighed[parity] for parity, x in r.items()})
        e = {parity: x.astype(dtype) for parity, x in e.items()}
        rest = s - _sum({parity: x * self.rows[parity] for parity, x in e.items()}) * self.inverse
        return add(e, {parity: jnp.full_like(x, rest) for parity, x in e.items()})


def is_nearly_singular(operator: EllipticOperator) -> jax.Array | None:
    """Whether constants are nearly the null space; None where they are it, or cannot be."""
    if operator.is_singular or operator.grid.has_dirichlet_side:
        return None
    rows = operator.mv(jnp.ones(operator.grid.shape, operator.grid.dtype))
    diagonal = jnp.broadcast_to(operator.diagonal(), operator.grid.shape)
    return jnp.sum(rows) <= SMALL * jnp.sum(diagonal)


def lifting_of(operator: EllipticOperator, is_small: jax.Array | None) -> Lifting | None:
    """What lifts constants out of the cycles, None where that is never needed."""
    if is_small is None:
        return None
    rows = operator.mv(jnp.ones(operator.grid.shape, operator.grid.dtype))
    total = jnp.sum(rows)
    return Lifting(jnp.where(is_small, 1 / jnp.where(is_small, total, 1), 0), split(rows))


def _sum(blocks: Blocks) -> jax.Array:
    return jnp.sum(jnp.stack([jnp.sum(x) for x in blocks.values()]))
