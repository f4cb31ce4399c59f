"""One sweep, or one solve, made ready to be timed."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import lineax as lx
import numpy as np

from benchmarks.devices.cases import Case
from benchmarks.devices.methods import Method
from benchmarks.multigrid.contenders import Outcome, read, seconds_of
from solvers.iteration import with_budget

# Sweeps of the shorter of two runs, of which the difference counts; an even number, since the loop
# does two a round. And those of the longer one at most.
FEW, MOST = 2, 2**19
# From zero, after which the residual is told.
JUDGED_SWEEPS = 10


class Ready(NamedTuple):
    """A method that is compiled for one case.

    Attributes:
        sample: seconds of one sweep or one solve, measured now.
        outcome: what the timed program gives.
        compile_seconds: first call less a warm one.
    """

    sample: Callable[[], float]
    outcome: Callable[[], Outcome]
    compile_seconds: float


def prepare(method: Method, case: Case, least: float) -> Ready:
    """Compile `method` for `case`; differences of sweeps are to be of at least `least` seconds."""
    solver = method.make(case.ndim, case.tolerance)
    return _sweeps(solver, case, least) if method.is_sweep else _solves(solver, case)


@eqx.filter_jit
def _solved(operator: Any, b: Any, solver: Any, guess: Any) -> tuple[Any, dict[str, Any]]:
    options = {} if guess is None else {"y0": guess}
    solved = lx.linear_solve(operator, b, solver, options=options, throw=False)
    return solved.value, solved.stats


def _solves(solver: Any, case: Case) -> Ready:
    guess = case.extension if getattr(solver, "full", False) else None

    def run() -> Any:
        return jax.block_until_ready(_solved(case.operator, case.b, solver, guess))

    first, _ = seconds_of(run)
    warm, result = seconds_of(run)
    return Ready(lambda: seconds_of(run)[0], lambda: read(result), max(first - warm, 0.0))


def _sweeps(solver: Any, case: Case, least: float) -> Ready:
    """A sweep is what more sweeps take longer: set-up and the look at the end fall out."""

    def runner(steps: int) -> Callable[[], Any]:
        budget = jax.block_until_ready(with_budget(solver, steps))
        return lambda: jax.block_until_ready(_solved(case.operator, case.b, budget, None))

    short = runner(FEW)
    first, warm = seconds_of(short)[0], seconds_of(short)[0]
    more = FEW
    while True:
        long = runner(FEW + more)
        # The better of two each: a run that the machine held up would end this too early.
        begin = min(seconds_of(short)[0] for _ in "12")
        taken = min(seconds_of(long)[0] for _ in "12") - begin
        # What a run of few takes, on large grids for memory that is new, varies by as much.
        wanted = max(least, begin)
        if taken >= wanted or more >= MOST:
            break
        growth = min(max(1.5 * wanted / max(taken, 1e-6), 2), 20)
        more = min(2 * int(more * growth / 2), MOST)

    def sample() -> float:
        return (seconds_of(long)[0] - seconds_of(short)[0]) / more

    return Ready(sample, lambda: read(runner(JUDGED_SWEEPS)()), max(first - warm, 0.0))


def in_turn(
    ready: dict[str, Ready], rounds: int, enough: float, meanwhile: Callable[[], None]
) -> tuple[dict[str, list[float]], dict[str, Exception]]:
    """Samples of all, round by round, those that are quick for longer; and what went wrong.

    Args:
        ready: by name.
        rounds: of all, with `meanwhile` before each.
        enough: seconds that the quick ones get, in at most ten times as many rounds.
        meanwhile: what is measured beside them.
    """
    samples: dict[str, list[float]] = {name: [] for name in ready}
    spent, errors = dict.fromkeys(ready, 0.0), {}
    for turn in range(10 * rounds):
        if turn < rounds:
            meanwhile()
        for name, own in ready.items():
            if name in errors or (turn >= rounds and spent[name] >= enough):
                continue
            begin = time.perf_counter()
            try:
                samples[name].append(own.sample())
            except Exception as error:  # such as a device out of memory
                errors[name] = error
            spent[name] += time.perf_counter() - begin
    return samples, errors


def summary(samples: list[float]) -> dict[str, Any]:
    """Median and quartiles, as a row has them.

    Raises:
        RuntimeError: if a run of more sweeps has not taken longer than one of few.
    """
    median = float(np.median(samples))
    if not median > 0:
        raise RuntimeError("more sweeps took no longer than few: the clock is too noisy")
    quartiles = [float(x) for x in np.quantile(samples, [0.25, 0.75])]
    return {"seconds": median, "seconds_spread": quartiles, "rounds": len(samples)}
