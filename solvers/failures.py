"""What is said of a solve that failed or was slow."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import is_traced
from solvers.iteration import Reason, message
from solvers.multigrid.multigrid import Multigrid
from solvers.multigrid.prediction import predict_factor

# A cycle that reduces the residual by less than this is held against the prediction.
SLOW = 0.2


def with_prediction(solution: Any, method: Any) -> Any:
    """Hold a slow multigrid cycle against the prediction, where numbers are known."""
    factor = solution.stats.get("factor")
    if factor is None or is_traced(factor):
        return solution
    # Steps at the rounding error, where nothing falls, say nothing about the cycle.
    is_slow = isinstance(method, Multigrid) and bool(
        (factor > SLOW) & (solution.reason != Reason.stagnated)
    )
    predicted = predict_factor(solution.operator, method) if is_slow else -1
    stats = solution.stats | {"predicted_factor": jnp.asarray(predicted, factor.dtype)}
    return eqx.tree_at(lambda s: s.stats, solution, stats)


def slowness(stats: dict[str, Any]) -> str:
    """Words for a cycle that needs more than twice the steps that were predicted."""
    names = "factor", "predicted_factor"
    measured, predicted = (float(stats.get(name, -1)) for name in names)
    if not (measured > 0 and 0 < predicted < 1) or np.log(measured) < 0.5 * np.log(predicted):
        return ""
    return (
        f" The residual falls by {measured:.2f} a cycle where {predicted:.2f} was predicted: do "
        "coefficients jump or differ by direction? ConjugateGradient(preconditioner=Multigrid()) "
        "or another smoother may help."
    )


def explain_failure(solution: Any, method: Any, b: jax.Array) -> str:
    """Say how far the solve came, and how long it would have taken."""
    steps, norms = solution.history()
    scale = float(solution.grid.norm(b))
    text = f"{solution.method} failed after {int(solution.num_steps)} steps"
    if np.isfinite(norms[-1]) and 0 < scale < np.inf:
        text += f" at a relative residual of {norms[-1] / scale:.2e}"
        rtol = float(getattr(method, "rtol", 0))
        falls = len(steps) > 1 and 0 < norms[-1] < norms[-2]
        if falls and 0 < rtol * scale < norms[-1] and bool(solution.reason == Reason.max_steps):
            rate = np.log(norms[-1] / norms[-2]) / (steps[-1] - steps[-2])
            more = np.log(rtol * scale / norms[-1]) / rate
            text += f" (to {rtol:.1e} about {more:.2g} more at the present rate, which may fall)"
    return f"{text}. {message(solution.reason)}{slowness(solution.stats)}"
