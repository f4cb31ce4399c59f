"""Steps of a method, run and timed as the loop does them."""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from solvers.implicit import linear_solve
from solvers.iteration import AbstractIteration, with_budget
from solvers.placement import Placed, apply
from solvers.problems import Poisson
from solvers.solution import Problem, solve

Clock = Callable[[], float]
# In least seconds: a run that needs no second one.
LONG_ENOUGH = 100
# The first rounds of a program may be twice as slow: the later half of so many counts, of fewer
# where these take longer than so many seconds, of one where it is dear.
ROUNDS, FEWEST, ENOUGH, DEAR = 9, 3, 0.3, 1.0

_called: set[Any] = set()
_timed: dict[Any, "StepTime"] = {}


def is_first_call(*arguments: Any) -> bool:
    """Whether nothing was asked before of arguments of such a structure, such shapes and types.

    If so, a program for them is yet to be compiled, and its first run is a warm-up.
    """
    kind = _kind(arguments)
    is_first = kind not in _called
    _called.add(kind)
    return is_first


def forget() -> None:
    """Drop all compiled programs, and what was found out about them.

    A process with some hundred programs comes near the 65 530 memory maps that Linux allows.
    """
    jax.clear_caches()
    _called.clear()
    _timed.clear()


def _kind(arguments: Any) -> Any:
    leaves, structure = jax.tree.flatten(arguments)
    names = ("dtype", "sharding")
    kinds = [(np.shape(leaf), *(getattr(leaf, name, None) for name in names)) for leaf in leaves]
    return structure, tuple(kinds)


def run_steps(problem: Problem, method: AbstractIteration, steps: int, u: Any) -> tuple[Any, int]:
    """Do `steps` steps of `method` from `u`, shape `grid.shape`, and wait for the result.

    Returns:
        the result, and how many it was: less where a step left nothing to do.
    """
    # The very call that `solve` makes, so that it is compiled once.
    budget, options = with_budget(method, steps), {"y0": u}
    if isinstance(problem, Placed):
        solution = jax.block_until_ready(solve(problem, budget, initial=u, throw=False))
        return solution, int(solution.num_steps)
    solved = linear_solve(problem.operator, problem.rhs, budget, options)
    return jax.block_until_ready(solved.value), int(solved.stats["num_steps"])


def timed_solve(problem: Problem, method: Any, clock: Clock) -> float:
    """Seconds of a solve from zero, by the call that `run_steps` takes too."""
    start = clock()
    if isinstance(problem, Placed):
        jax.block_until_ready(solve(problem, method, throw=False))
    else:
        jax.block_until_ready(linear_solve(problem.operator, problem.balanced(), method, {}).value)
    return clock() - start


def zero_guess(problem: Problem) -> Any:
    """Zero at the unknowns, on the mesh if the problem is."""
    if isinstance(problem, Placed):
        return apply(_zero, problem)
    # Half the time of zeros_like.
    return jnp.asarray(np.zeros(problem.rhs.shape, problem.rhs.dtype))


def _zero(problem: Poisson) -> jax.Array:
    return jnp.zeros_like(problem.rhs)


class StepTime(NamedTuple):
    """Seconds of a step, of a call without any, and of finding that out for a new program."""

    seconds: float
    start: float
    compiling: float


def step_time(problem: Problem, method: AbstractIteration, clock: Clock) -> StepTime:
    """What `measure_step` finds, once for each program and clock; after that it costs nothing.

    The pace belongs to the compiled program, whatever the numbers in it, so that finding it out
    counts as compilation; it is the median of some, since an odd one would stay.
    """
    key = (clock, _kind((problem, method)))
    if key in _timed:
        return _timed[key]._replace(compiling=0.0)
    start = clock()
    found = [measure_step(problem, method, clock)[:2]]
    begin = clock()
    while (len(found) < FEWEST and begin - start < DEAR) or (
        len(found) < ROUNDS and clock() - begin < ENOUGH
    ):
        found.append(measure_step(problem, method, clock)[:2])
    warm = found[len(found) // 2 :]
    seconds, call = (statistics.median(column) for column in zip(*warm, strict=True))
    _timed[key] = StepTime(seconds, call, clock() - start)
    return _timed[key]


def doubt(problem: Problem, method: Any, clock: Clock, taken: float, steps: int) -> None:
    """Forget the pace of a program that has just done `steps` steps in half its time or less.

    It was timed while something else ran, and would be kept for good.
    """
    key = (clock, _kind((problem, method)))
    known = _timed.get(key)
    if known is not None and 2 * taken <= known.start + steps * known.seconds:
        del _timed[key]


def measure_step(
    problem: Problem, method: AbstractIteration, clock: Clock, *, least: float = 0.001
) -> StepTime:
    """Time one step as the loop does it: what a run of many takes beyond a call without any.

    That is to be `least` seconds, and as long as the call, whose time varies by as much as a part
    of itself: set-up may take as long as hundreds of steps. Looks at the residual are part of a
    step. It takes some ten milliseconds, or ten calls, or two looks if these are longer.
    """
    zero = zero_guess(problem)

    def run(steps: int) -> tuple[float, int]:
        start = clock()
        _, done = run_steps(problem, method, steps, zero)
        return clock() - start, done

    compiling = run(0)[0] if is_first_call(problem, method) else 0.0
    overhead = run(0)[0]
    # With as many steps as there are to a look, which may cost as much as twenty of them.
    steps = method.check_every
    while True:
        # In turn, and the better of each: a run that the machine held up would end this too early.
        taken, done = run(steps)
        overhead = min(overhead, run(0)[0])
        wanted = max(least, overhead)
        if taken < LONG_ENOUGH * least:
            taken, overhead = min(taken, run(steps)[0]), min(overhead, run(0)[0])
        # A method that is exact after a step or two does no more, however many are asked for.
        if taken - overhead >= wanted or done < steps or steps >= 2**24:
            break
        steps = int(steps * min(max(1.5 * wanted / max(taken - overhead, 1e-6), 1.5), 20))
    seconds = taken - overhead if taken > overhead else taken
    return StepTime(max(seconds, 1e-9) / max(done, 1), overhead, compiling)
