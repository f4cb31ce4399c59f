"""Which solver to take: all of them ranked by predicted seconds."""

import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import expect
from solvers.direct import FastDiagonalization
from solvers.hybrid.price import TimedPrice, price_of
from solvers.hybrid.smooth_modes import root_of_squares
from solvers.hybrid.timing import Clock, zero_guess
from solvers.iteration import Reason, size_of
from solvers.krylov import ConjugateGradient
from solvers.multigrid.multigrid import Multigrid
from solvers.operators import EllipticOperator
from solvers.placement import Placed, apply, like
from solvers.problems import Poisson
from solvers.relaxation.gauss_seidel import GaussSeidel, optimal_over_relaxation
from solvers.relaxation.jacobi import Jacobi
from solvers.solution import Problem, solve


class Row(NamedTuple):
    """A solver and what it would need, from the zero guess.

    Attributes:
        name: as one would write it.
        method: the solver.
        seconds, steps: predicted; infinite where it would end short of its tolerance.
        basis: what the prediction rests on.
    """

    name: str
    method: Any
    seconds: float
    steps: float
    basis: str


# Seconds below which no network has learned anything on any device, compiled and warm.
LEAST_TRAINING = 0.2
# Beyond so many the direct solver is no preconditioner to advise.
FEW_STEPS = 100


class Advice(NamedTuple):
    """Solvers ranked by predicted seconds, the quickest first; printing gives table and verdict."""

    rows: list[Row]

    @property
    def best(self) -> Row:
        return self.rows[0]

    @property
    def is_training_pointless(self) -> bool:
        """Whether the quickest solver is done before a network can have learned anything."""
        return self.best.seconds <= LEAST_TRAINING

    @property
    def verdict(self) -> str:
        """What to do, in words."""
        best = f"{self.best.name} solves this in {self.best.seconds:.2g} s"
        if self.is_training_pointless:
            return (
                f"Do not train: {best}, and no network has learned anything after "
                f"{LEAST_TRAINING} s. A hybrid can only shorten a relaxation that has to be one."
            )
        return f"{best}; a hybrid has to beat that, its training included."

    def __str__(self) -> str:
        lines = [f"{'solver':<46} {'seconds':>10} {'steps':>10}  from"]
        for row in self.rows:
            lines.append(f"{row.name:<46} {row.seconds:10.3g} {row.steps:10.3g}  {row.basis}")
        return "\n".join([*lines, self.verdict])


def advise(
    problem: Problem,
    *,
    rtol: float = 1e-8,
    target: float | None = None,
    clock: Clock = time.perf_counter,
) -> Advice:
    """Rank the solvers by the seconds they would need for `problem` on this device.

    Relaxations and multigrid are priced by modes from the zero guess, the others by a timed solve;
    what would end short of its tolerance, at its `max_steps` or at rounding, takes for ever. It
    tells before any training whether there is anything to win; it changes nothing.

    Args:
        problem: what is to be solved, on a mesh of devices too.
        rtol: relative residual wanted.
        target: None, or the algebraic error relative to max|u| that these are priced for.
        clock: seconds.

    Cost: a few solves by the quick methods and some thousand sweeps by the slow ones, and
    compiling them.

    Example:
        >>> from solvers import Grid, Poisson
        >>> advise(Poisson(Grid(256), source=1.0)).best.steps < 10_000
        True
    """
    expect("problem", problem, Poisson | Placed, "a Poisson, placed on a mesh or not")
    rows = [_row(problem, name, method, target, clock) for name, method in _methods(problem, rtol)]
    if target is None:
        rows = _within_rounding(problem, rows, rtol)
    return Advice(sorted(rows, key=lambda row: row.seconds))


def _methods(problem: Problem, rtol: float) -> list[tuple[str, Any]]:
    operator: EllipticOperator = like(problem).operator
    methods: list[tuple[str, Any]] = [
        ("Jacobi()", Jacobi(rtol=rtol)),
        ("GaussSeidel()", GaussSeidel(rtol=rtol)),
        ("ConjugateGradient()", ConjugateGradient(rtol=rtol)),
        (
            "ConjugateGradient(preconditioner=Jacobi())",
            ConjugateGradient(rtol=rtol, preconditioner=Jacobi()),
        ),
        ("Multigrid()", Multigrid(rtol=rtol)),
    ]
    if operator.is_constant:
        methods.append(("FastDiagonalization()", FastDiagonalization()))
        if not operator.is_singular:
            omega = optimal_over_relaxation(apply(_operator, problem))
            methods.append((f"GaussSeidel({omega:.6g})", GaussSeidel(omega, rtol=rtol)))
    else:
        # The direct solver is quick in few steps or, across jumps, in thousands; not in between.
        for inner, most in ((Multigrid(), 10_000), (FastDiagonalization(), FEW_STEPS)):
            method = ConjugateGradient(rtol=rtol, preconditioner=inner, max_steps=most)
            name = f"ConjugateGradient(preconditioner={type(inner).__name__}())"
            methods.append((name, method))
    return methods


def _operator(problem: Poisson) -> EllipticOperator:
    return problem.operator


def _row(problem: Problem, name: str, method: Any, target: float | None, clock: Clock) -> Row:
    price = price_of(problem, method, target=target, clock=clock)
    is_timed = isinstance(price, TimedPrice)
    basis = "a timed solve" if is_timed else f"its modes, {price.step_seconds * 1e6:.3g} µs a step"
    seconds, steps, *_ = price.zero
    row = Row(name, method, seconds, steps, f"{basis}, on {jax.default_backend()}")
    if not is_timed and steps > int(method.max_steps):
        return _endless(row, f"{steps:.3g} steps, beyond its max_steps")
    return row


def _endless(row: Row, why: str) -> Row:
    return row._replace(seconds=math.inf, steps=math.inf, basis=why)


def _within_rounding(problem: Problem, rows: list[Row], rtol: float) -> list[Row]:
    """The rows, with no end to those by modes that rounding keeps from `rtol`.

    Multigrid is run. Relaxations have been seen to end at a quarter of ε(‖b‖ + 2 max(D)‖u‖).
    """
    zero = zero_guess(problem)
    found = solve(problem, Multigrid(rtol=rtol), initial=zero, throw=False)
    size = np.asarray(root_of_squares(found.value))
    is_below = rtol < float(apply(_rounding, problem, size)) / 10
    stuck = {
        Multigrid: bool(found.reason == Reason.stagnated), Jacobi: is_below, GaussSeidel: is_below
    }  # fmt: skip
    return [
        _endless(row, "rounding is above rtol") if stuck.get(type(row.method)) else row
        for row in rows
    ]


def _rounding(problem: Poisson, size: jax.Array) -> jax.Array:
    """ε(‖b‖ + 2 max(D)‖u‖)/‖b‖."""
    b_size = root_of_squares(problem.rhs)
    share = size_of(problem.operator) * size / jnp.where(b_size > 0, b_size, 1)
    return jnp.finfo(share.dtype).eps * (1 + share)
