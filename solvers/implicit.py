"""A⁻¹b by any method, with gradients of the solution and not of the way to it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx

from solvers.operators import EllipticOperator
from solvers.placement import is_spread, spread


class Solved(NamedTuple):
    """What a method gives, as `lineax.Solution` has it."""

    value: jax.Array
    result: Any
    stats: dict[str, Any]


def linear_solve(
    operator: EllipticOperator, b: jax.Array, method: Any, options: dict[str, Any]
) -> Any:
    """A⁻¹b by lineax; on a mesh by `jax.lax.custom_linear_solve`, with the same gradients.

    Solves for tangents and cotangents by lineax raise when they fail, by a callback that wants the
    whole array on every device. Here those for cotangents give NaN.
    """
    if not is_spread():
        return lx.linear_solve(operator, b, method, options=options, throw=False)

    def by_method(options: dict[str, Any], b: jax.Array) -> tuple[jax.Array, Any]:
        value, result, stats = method.compute(method.init(operator, options), b, options)
        return spread(value), (result, stats)

    def or_nan(_: Any, b: jax.Array) -> tuple[jax.Array, Any]:
        value, (result, stats) = by_method({}, b)
        return jnp.where(result == lx.RESULTS.successful, value, jnp.nan), (result, stats)

    value, (result, stats) = jax.lax.custom_linear_solve(
        operator.mv, b, lambda _, b: by_method(options, b), or_nan, has_aux=True
    )
    return Solved(value, result, stats)
