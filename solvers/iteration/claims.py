"""What lineax's own solvers say of a solve, held against the residual."""

from typing import Any

import jax
import jax.numpy as jnp

from solvers.iteration.loop import residual_stats
from solvers.iteration.reason import Reason, reason_of
from solvers.iteration.unknowns import Operator, norm

# Tolerances that a residual may be above the one asked for, by components and with updates.
ALLOWED = 10


def statistics_of(
    solved: Any, method: Any, operator: Operator, b: jax.Array, start: jax.Array
) -> dict[str, Any]:
    """Our statistics of a solve, also by a solver of lineax's own, which may claim any success.

    Theirs hold each component of a residual that they update against rtol·|bᵢ| + atol: a success
    with a residual above ten times that, in our norm, is none.

    Args:
        solved: what `lineax.linear_solve` gave.
        method: its solver.
        operator, b, start: A, b and the initial guess.
    """
    if "reason" in solved.stats:
        return solved.stats
    is_direct = "num_steps" not in solved.stats
    num_steps = jnp.asarray(solved.stats.get("num_steps", 1), jnp.int32)
    found = residual_stats(operator, b, start, solved.value, num_steps)
    before, after = found["residual_norms"]
    reason = reason_of(solved.result, is_direct=is_direct)
    inner = getattr(method, "inner_solver", method)  # of lineax's Normal
    if not is_direct and hasattr(inner, "rtol"):
        tolerance = inner.rtol * norm(operator, b) + inner.atol * norm(operator, jnp.ones_like(b))
        is_short = (reason == Reason.converged) & ~(after <= ALLOWED * tolerance)
        reason = Reason.where(is_short, Reason.unmet, reason)
    reason = Reason.where(jnp.isfinite(after), reason, Reason.singular)
    reason = Reason.where(jnp.isfinite(before), reason, Reason.nonfinite_input)
    return found | {"num_steps": num_steps, "reason": reason}
