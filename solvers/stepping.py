"""Any iterative method, one step at a time."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from solvers.grid import refuse
from solvers.iteration import AbstractIteration, without_mean
from solvers.multigrid.multigrid import Multigrid
from solvers.problems import Poisson


def iterates(
    problem: Poisson, method: AbstractIteration, *, initial: Any = None
) -> Iterator[jax.Array]:
    """See each iterate: the field before the first step of `method`, after it, and so on.

    The stream has no end: take what you want of it. Nothing is looked at or checked, and tolerances
    do not matter; `solve` is for solutions. A step is compiled once, on first use.

    Args:
        problem: what to solve.
        method: `Jacobi()`, `Multigrid()` or any other iterative method. The first step of full
            multigrid is its whole first pass.
        initial: initial guess, as for `solve`.

    Yields:
        u on all nodes, shape `grid.full_shape`.

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
    if not isinstance(method, AbstractIteration):
        raise ValueError(f"method: expected an iterative one such as Jacobi(), got {method!r}")
    guess = initial_guess(problem, method, initial)
    return _stream(problem, method, jnp.zeros_like(problem.rhs) if guess is None else guess)


def _stream(problem: Poisson, method: AbstractIteration, u: jax.Array) -> Iterator[jax.Array]:
    operator = problem.operator
    b, u = without_mean(operator, problem.rhs), without_mean(operator, u)
    yield _field(problem, u)
    setup, carry = _start(method, operator, b, u)
    if method.starts_with_a_step:
        yield _field(problem, method.current(setup, carry))
    while True:
        carry = _step(method, setup, b, carry)
        yield _field(problem, method.current(setup, carry))


@eqx.filter_jit
def _start(method: AbstractIteration, operator: Any, b: jax.Array, u: jax.Array) -> Any:
    setup = method.prepare(operator)
    return setup, method.start(setup, b, u)


@eqx.filter_jit
def _step(method: AbstractIteration, setup: Any, b: jax.Array, carry: Any) -> Any:
    return method.step(setup, b, carry)


def _field(problem: Poisson, u: jax.Array) -> jax.Array:
    field = problem.field(u)
    return problem.grid.without_integral(field) if problem.operator.is_singular else field


def initial_guess(problem: Poisson, method: Any, initial: Any) -> jax.Array | None:
    """The given guess at the unknowns, or what a method starts best from; None for zero.

    Raises:
        ValueError: if it does not fit, or is not finite.
    """
    if initial is not None:
        guess = problem.grid.restrict("initial", initial)
        refuse("initial", guess, lambda x: False, "finite values")
    elif isinstance(method, Multigrid) and method.full:
        guess = problem.boundary_extension()[problem.grid.unknowns]
    else:
        return None
    return jax.lax.stop_gradient(guess)
