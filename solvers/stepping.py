"""Any iterative method, one step at a time."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from solvers.arguments import checked, expect
from solvers.iteration import AbstractIteration, power_of_two, without_mean
from solvers.multigrid.multigrid import Multigrid
from solvers.placement import Placed, apply, kept
from solvers.problems import Poisson


def iterates(
    problem: Poisson | Placed[Poisson], method: AbstractIteration, *, initial: Any = None
) -> Iterator[Any]:
    """See each iterate: the field before the first step of `method`, after it, and so on.

    The stream has no end: take what you want of it. Nothing is looked at or checked, and tolerances
    do not matter; `solve` is for solutions. A step is compiled once, on first use.

    Args:
        problem: what to solve, on a mesh of devices too.
        method: `Jacobi()`, `Multigrid()` or any other iterative method. The first step of full
            multigrid is its whole first pass.
        initial: initial guess, as for `solve`.

    Yields:
        u on all nodes, shape `grid.full_shape`; `Placed` on a mesh.

    Raises:
        ValueError: for a method without steps, or a guess that does not fit.

    Example:
        >>> from solvers import Grid
        >>> problem = Poisson(Grid(64), source=2.0)  # u = x(1 − x)
        >>> fields = iterates(problem, Multigrid())
        >>> for u, cycle in zip(fields, range(4)):
        ...     print(cycle, f"{abs(u[32] - 0.25):.0e}")
        0 2e-01
        1 0e+00
        2 0e+00
        3 0e+00
    """
    expect("problem", problem, Poisson | Placed, "a Poisson, on a mesh or not")
    expect("method", method, AbstractIteration, "an iterative one such as Jacobi()")
    if isinstance(problem, Placed):
        return _stream(problem, method, *_run(_start, problem, method, initial))
    guess = initial_guess(problem, method, initial)  # where it can be looked at
    return _stream(problem, method, *_run(_start, problem, method, guess))


def _stream(problem: Any, method: AbstractIteration, state: Any, first: Any) -> Iterator[Any]:
    yield first
    if method.starts_with_a_step:
        yield _run(_now, problem, method, state)[0]
    while True:
        state, field = _run(_step, problem, method, state)
        yield field


def _start(problem: Poisson, method: AbstractIteration, initial: Any) -> tuple[Any, jax.Array]:
    """Set-up, unit, right-hand side and carry, and the guess.

    In a unit near b, as in the loop: cycles in single precision have room for no others.
    """
    guess, operator = initial_guess(problem, method, initial), problem.operator
    u = jnp.zeros_like(problem.rhs) if guess is None else guess
    b, u = problem.balanced(), without_mean(operator, u)
    setup, unit = method.prepare(operator), power_of_two(b)
    carry = method.start(setup, b / unit, u / unit)
    return (setup, unit, b / unit, carry), problem.solution_field(u)


def _step(problem: Poisson, method: AbstractIteration, state: Any) -> tuple[Any, jax.Array]:
    setup, unit, b, carry = state
    state = setup, unit, b, method.step(setup, b, carry)
    return state, *_now(problem, method, state)


def _now(problem: Poisson, method: AbstractIteration, state: Any) -> tuple[jax.Array]:
    setup, unit, _, carry = state
    return (problem.solution_field(method.current(setup, carry) * unit),)


def _run(function: Any, problem: Any, *arguments: Any) -> tuple[Any, ...]:
    """Compile and run where the problem is; on a mesh, what comes of it stays there."""
    run = kept if isinstance(problem, Placed) else apply
    return run(function, problem, *arguments)


def initial_guess(problem: Poisson, method: Any, initial: Any) -> jax.Array | None:
    """The given guess at the unknowns, or what a method starts best from; None for zero.

    Raises:
        ValueError: if it does not fit, or is not finite.
    """
    if initial is not None:
        # An earlier solution stands for its field.
        guess = problem.unknowns("initial", getattr(initial, "field", initial))
        guess = checked("initial", guess, "finite values")
    elif isinstance(method, Multigrid) and method.full:
        guess = problem.unknowns("initial", problem.boundary_extension())
    else:
        return None
    return jax.lax.stop_gradient(guess)
