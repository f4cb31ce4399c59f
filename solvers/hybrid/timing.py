"""Steps of a method, run and timed as the loop does them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from solvers.iteration import AbstractIteration, with_budget
from solvers.problems import Poisson

Clock = Callable[[], float]
# In least seconds: a run that needs no second one, and one after which nothing longer is tried,
# should the machine have stood still while a call without steps was timed.
LONG_ENOUGH, LONGEST = 5, 100

_called: set[Any] = set()


def is_first_call(*arguments: Any) -> bool:
    """Whether nothing was asked before of arguments of such a structure, such shapes and types.

    If so, a program for them is yet to be compiled, and its first run is a warm-up.
    """
    leaves, structure = jax.tree.flatten(arguments)
    kinds = tuple((np.shape(leaf), getattr(leaf, "dtype", type(leaf))) for leaf in leaves)
    is_first = (structure, kinds) not in _called
    _called.add((structure, kinds))
    return is_first


def run_steps(problem: Poisson, method: AbstractIteration, steps: int, u: jax.Array) -> jax.Array:
    """Do `steps` steps of `method` from `u`, shape `grid.shape`, and wait for the result."""
    # The very call that `solve` makes, so that it is compiled once.
    budget, options = with_budget(method, steps), {"y0": u}
    solved = lx.linear_solve(problem.operator, problem.rhs, budget, options=options, throw=False)
    return jax.block_until_ready(solved.value)


class StepTime(NamedTuple):
    """Seconds of a step, of a call without any, and of compiling."""

    seconds: float
    start: float
    compiling: float


def measure_step(
    problem: Poisson, method: AbstractIteration, clock: Clock, *, least: float = 0.001
) -> StepTime:
    """Time one step as the loop does it, in runs of at least `least` seconds, the better of two.

    Looks at the residual are part of a step. What a call costs once is not. It takes some five
    milliseconds, or the steps to two looks if these are longer: who plans pays for it.
    """
    zero = jnp.zeros_like(problem.rhs)

    def run(steps: int) -> float:
        start = clock()
        run_steps(problem, method, steps, zero)
        return clock() - start

    compiling = run(0) if is_first_call(problem.operator, method) else 0.0
    overhead = min(run(0), run(0))
    # With as many steps as there are to a look, which may cost as much as twenty of them.
    steps = method.check_every
    while (taken := run(steps)) - overhead < least and taken < LONGEST * least and steps < 2**24:
        steps = int(steps * min(max(1.5 * least / max(taken - overhead, 1e-6), 1.5), 20))
    if taken - overhead < LONG_ENOUGH * least:
        taken = min(taken, run(steps))
    seconds = taken - overhead if taken > overhead else taken
    return StepTime(max(seconds, 1e-9) / steps, overhead, compiling)
