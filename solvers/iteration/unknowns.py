"""What a method sees of an operator: one array of unknowns, a norm, a null space."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree

from solvers.arguments import expect
from solvers.operators import EllipticOperator

# Operators that hold their entries, and give their diagonal for nothing.
WITH_ENTRIES = (
    lx.MatrixLinearOperator
    | lx.PyTreeLinearOperator
    | lx.DiagonalLinearOperator
    | lx.TridiagonalLinearOperator
    | lx.IdentityLinearOperator
)
POWERS = 8


class RaveledOperator(eqx.Module):
    """Any square lineax operator, seen as one on flat vectors.

    It answers to the part of `EllipticOperator` that the loop and the general methods use.
    """

    operator: lx.AbstractLinearOperator

    is_singular = False
    is_bipartite = False
    null = None

    def ravel(self, name: str, tree: Any) -> jax.Array:
        structure = self.operator.in_structure()
        flat, _ = ravel_pytree(tree)
        if flat.shape != (self.operator.in_size(),):
            raise ValueError(
                f"{name}: expected {self.operator.in_size()} numbers, got {flat.shape}"
            )
        return flat.astype(jax.tree.leaves(structure)[0].dtype)

    def unravel(self, flat: jax.Array) -> Any:
        def zeros(leaf: Any) -> jax.Array:
            return jnp.zeros(leaf.shape, leaf.dtype)

        _, unravel = ravel_pytree(jax.tree.map(zeros, self.operator.in_structure()))
        return unravel(flat)

    def mv(self, flat: jax.Array) -> jax.Array:
        return ravel_pytree(self.operator.mv(self.unravel(flat)))[0]

    def diagonal(self) -> jax.Array:
        return lx.diagonal(self.operator)

    def transpose(self) -> "RaveledOperator":
        return RaveledOperator(self.operator.transpose())


Operator = EllipticOperator | RaveledOperator


def as_operator(operator: Any) -> Operator:
    """Take our operators as they are and see any other one on flat vectors.

    Raises:
        ValueError: if it is not square, or not of one real precision.
    """
    if isinstance(operator, Operator):
        return operator
    expect("operator", operator, lx.AbstractLinearOperator, "one of lineax or a problem's")
    shapes = operator.in_structure(), operator.out_structure()
    if jax.tree.map(lambda s: s.shape, shapes[0]) != jax.tree.map(lambda s: s.shape, shapes[1]):
        raise ValueError(f"operator: expected a square one, got {shapes[0]} to {shapes[1]}")
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(shapes)}
    if len(dtypes) != 1 or not all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
        raise ValueError(f"operator: expected one real precision, got {dtypes}")
    return RaveledOperator(lx.linearise(operator))


def read_vector(operator: Operator, name: str, vector: Any) -> jax.Array:
    """Read a right-hand side or initial guess as one array of unknowns."""
    if isinstance(operator, EllipticOperator):
        return operator.grid.restrict(name, vector)
    return operator.ravel(name, vector)


def norm(operator: Operator, v: jax.Array) -> jax.Array:
    """√(∏h)·‖v‖₂, or ‖v‖₂ for an operator without a grid."""
    volume = operator.grid.cell_volume if isinstance(operator, EllipticOperator) else 1.0
    return jnp.asarray(math.sqrt(volume), v.dtype) * jnp.sqrt(jnp.sum(v * v))


def size_of(operator: Operator) -> jax.Array:
    """2 max(D), which the eigenvalues of an M-matrix do not exceed; of what has no entries ‖A‖."""
    if isinstance(operator, RaveledOperator) and not isinstance(operator.operator, WITH_ENTRIES):
        return _size_by_powers(operator)
    return 2 * jnp.max(operator.diagonal())


def _size_by_powers(operator: RaveledOperator) -> jax.Array:
    """‖A‖ by the power method, within a factor of two or so: its diagonal would take N products."""
    inner = operator.operator
    dtype = jax.tree.leaves(inner.in_structure())[0].dtype
    v = jax.random.normal(jax.random.key(0), (inner.in_size(),), dtype)

    def larger(_: Any, v: jax.Array) -> jax.Array:
        v = operator.mv(v / jnp.linalg.norm(v))
        return jnp.where(jnp.linalg.norm(v) > 0, v, 1)

    return jnp.linalg.norm(jax.lax.fori_loop(0, POWERS, larger, v))


def without_mean(operator: Operator, u: jax.Array) -> jax.Array:
    """Project onto the range of a singular operator; the identity for a regular one."""
    if not operator.is_singular:
        return u
    if operator.null is None:
        return u - jnp.mean(u)
    mean = jnp.sum(jnp.where(operator.null, u, 0)) / jnp.sum(operator.null, dtype=u.dtype)
    return jnp.where(operator.null, u - mean, 0)


def in_range(operator: Operator, b: jax.Array) -> jax.Array:
    """Project a right-hand side onto the range, to exactly 0 where only rounding errors remain.

    One projection leaves a mean of rounding errors of b, which can be all that is left of it.
    """
    if not operator.is_singular:
        return b
    rest = without_mean(operator, without_mean(operator, b))
    noise = 16 * jnp.asarray(jnp.finfo(b.dtype).eps, b.dtype)
    return jnp.where(jnp.max(jnp.abs(rest)) <= noise * jnp.max(jnp.abs(b)), 0, rest)
