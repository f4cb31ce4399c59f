"""The last part of a hybrid: a solve that can be stopped, by a limit of seconds or by the user."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from solvers.failures import explain_failure
from solvers.hybrid.timing import Clock
from solvers.iteration import HISTORY, AbstractIteration, Reason, has_succeeded, lineax_result
from solvers.krylov import ConjugateGradient
from solvers.placement import Placed
from solvers.refinement import Refined
from solvers.solution import PlacedSolution, Problem, SolveError, solve

# Solves that are predicted to take less run in one go; longer ones are looked after this often.
UNWATCHED, ROUND = 1.0, 0.25


class Limit(NamedTuple):
    """How long a solve may take, and how long it will.

    Attributes:
        seconds: allowed; infinite for no limit.
        predicted: seconds that it should need.
    """

    seconds: float
    predicted: float


def relax(
    problem: Problem,
    method: lx.AbstractLinearSolver,
    initial: Any,
    limit: Limit,
    clock: Clock,
) -> Any:
    """Solve from `initial`; at a limit or at Ctrl-C, give what there is, `Reason.interrupted`.

    A compiled solve cannot be stopped, so that a long one runs in rounds of a quarter of a second,
    whose histories are joined. Conjugate gradients forget their directions between rounds, and
    pairs of numbers the smaller ones: these run in one go where there is no limit.
    """
    is_short = limit.predicted < min(UNWATCHED, limit.seconds)
    is_whole = isinstance(method, ConjugateGradient | Refined) and limit.seconds == np.inf
    if is_short or is_whole or not isinstance(method, AbstractIteration):
        return solve(problem, method, initial=initial, throw=False)
    budget, count, rounds = int(method.max_steps), 0, method.check_every
    begin, u, parts = clock(), initial, []
    try:
        while True:
            start = clock()
            part = solve(problem, _limited(method, min(rounds, budget - count)), initial=u,
                         throw=False)  # fmt: skip
            jax.block_until_ready(part.value)
            u = part if isinstance(part, PlacedSolution) else part.value
            parts.append(part)
            count += int(part.num_steps)
            now = clock()
            if not bool(part.reason == Reason.max_steps) or count >= budget:
                return _joined(parts, part.reason)
            left = limit.seconds - (now - begin)
            if left <= 0:
                break
            pace = rounds / max(now - start, 1e-6)
            looks = int(pace * min(ROUND, left)) // method.check_every
            rounds = max(1, min(4 * rounds // method.check_every, looks)) * method.check_every
    except KeyboardInterrupt:
        pass
    if not parts:
        parts.append(solve(problem, _limited(method, 0), initial=u, throw=False))
    return _joined(parts, Reason.interrupted)


def check(problem: Problem, method: Any, solution: Any, before: str) -> None:
    """Raise `SolveError` for a solution that failed of itself, with words for what was `before`."""
    if bool(has_succeeded(solution.reason) | (solution.reason == Reason.interrupted)):
        return
    is_placed = isinstance(problem, Placed)
    text = str(solution) if is_placed else explain_failure(solution, method, problem.rhs)
    raise SolveError(f"{text} {before}", solution)


def _limited(method: AbstractIteration, steps: int) -> AbstractIteration:
    return eqx.tree_at(lambda m: m.max_steps, method, jnp.asarray(steps, jnp.int32))


def _joined(parts: list[Any], reason: Any) -> Any:
    """The last part, with the steps and the residuals of all; every other one goes if too many."""
    steps, norms, before = [], [], 0
    for part in parts:
        s, n = part.history()
        first = 1 if steps else 0  # where a part begins, the one before has ended
        steps.append(s[first:] + before)
        norms.append(n[first:])
        before += int(part.num_steps)
    all_steps, all_norms = np.concatenate(steps), np.concatenate(norms)
    while len(all_steps) > HISTORY:
        kept = np.r_[0 : len(all_steps) - 1 : 2, len(all_steps) - 1]
        all_steps, all_norms = all_steps[kept], all_norms[kept]
    unused = (0, HISTORY - len(all_steps))
    last = parts[-1]
    return eqx.tree_at(
        lambda s: (s.num_steps, s.residual_steps, s.residual_norms, s.reason, s.result),
        last,
        (
            jnp.asarray(before, jnp.int32),
            jnp.asarray(np.pad(all_steps, unused, constant_values=-1), jnp.int32),
            jnp.asarray(np.pad(all_norms, unused, constant_values=-1), last.residual_norms.dtype),
            reason,
            lineax_result(reason),
        ),
    )
