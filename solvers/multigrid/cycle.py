"""Cycles through the levels of a hierarchy."""

import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from solvers.compiler import apart, fixed_rounds, unknown_false
from solvers.multigrid.blocks import Values
from solvers.multigrid.hierarchy import Hierarchy
from solvers.multigrid.level import Level
from solvers.placement import is_spread, spread, whole


class Cycle(enum.Enum):
    """How often, and in which order, a cycle visits the coarser levels."""

    V = "each level once on the way down and once on the way up"
    W = "from every level twice to the next coarser one"
    F = "from every level an F-cycle and then a V-cycle on the next coarser one"


class Plan(NamedTuple):
    """What a cycle does on each level.

    Attributes:
        cycle: V, W or F.
        pre, post: sweeps before and after the correction from the coarser level.
        symmetric: whether the sweeps after it run in reverse order, so that the cycle from zero is
            a symmetric operator.
    """

    cycle: Cycle
    pre: int
    post: int
    symmetric: bool = False


def run_cycle(
    hierarchy: Hierarchy, plan: Plan, f: Values, u: Values | None = None, depth: int = 0
) -> Values:
    """One cycle for A u = f on level `depth`, from `u` or from zero.

    Cost: in sweeps or residuals on the level, (pre + post + 1)/(1 − γ2⁻ᵈ) in d dimensions, γ = 1
    for V and 2 for W; (pre + post + 1)/(1 − 2⁻ᵈ)² for F.
    """
    if depth == len(hierarchy.levels):
        return hierarchy.solve(whole(f))
    level, relaxation = hierarchy.levels[depth], hierarchy.relaxations[depth]
    transfer = hierarchy.transfers[depth]
    never = never_of(f)
    # The loops over a general stencil are stages already.
    hold = written if isinstance(level, Level) else _placed

    def sweeps(u: Values, count: int, reverse: bool) -> Values:
        def sweep(v: Values) -> Values:
            return relaxation.sweep(level, f, v, reverse=reverse)

        return fixed_rounds(sweep, count, u, never)

    if u is None:
        u = relaxation.sweep(level, f, None, reverse=False)
        u = sweeps(u, plan.pre - 1, False) if plan.pre > 1 else hold(u, never)
    else:
        u = sweeps(u, plan.pre, False)
    r = hold(level.residual(f, u), never)
    f_coarse = hold(transfer.restrict(r), never)
    correction = _coarse_correction(hierarchy, plan, f_coarse, depth + 1)
    u = add(u, transfer.prolong(correction))
    return sweeps(u, plan.post, plan.symmetric)


def never_of(f: Values) -> jax.Array:
    """False, in a way that the compiler cannot know."""
    return unknown_false(next(x for x in jax.tree.leaves(f) if x.size))


def written(u: Values, never: jax.Array) -> Values:
    """The same, as a stage of its own; on a mesh the exchanges between devices part them."""
    return spread(u) if is_spread() else apart(u, never)


def _placed(u: Values, never: jax.Array) -> Values:
    del never
    return spread(u)


def _coarse_correction(hierarchy: Hierarchy, plan: Plan, f: Values, depth: int) -> Values:
    is_coarsest = depth == len(hierarchy.levels)
    if plan.cycle is Cycle.W and not is_coarsest:
        # A loop, so that the code does not double with every level.
        def again(_: Any, e: Values) -> Values:
            return run_cycle(hierarchy, plan, f, e, depth)

        return jax.lax.fori_loop(0, 2, again, zeros_like(f))
    e = run_cycle(hierarchy, plan, f, None, depth)
    if plan.cycle is Cycle.F and not is_coarsest:
        e = run_cycle(hierarchy, plan._replace(cycle=Cycle.V), f, e, depth)
    return e


class Nest(NamedTuple):
    """What full multigrid found.

    Attributes:
        solution: on the finest level.
        reduction: of the residual by the last cycle there, in the 2-norm.
        change: max|u| of what that cycle did.
    """

    solution: Values
    reduction: jax.Array
    change: jax.Array


def full_multigrid(hierarchy: Hierarchy, plan: Plan, f: Values) -> Nest:
    """Nested iteration: solve on the coarsest level, interpolate, cycle once, level by level.

    f has to be that of a function which is 0 on Dirichlet sides: values there would be right-hand
    sides of order h⁻² next to them, which Galerkin coarsening smears.

    Cost: the cycle's on each level, together 1/(1 − 2⁻ᵈ) times that on the finest.
    """
    loads = [f]
    for transfer in hierarchy.transfers:
        loads.append(transfer.restrict(loads[-1]))
    u = hierarchy.solve(whole(loads[-1]))
    if not hierarchy.levels:
        zero = jnp.zeros((), hierarchy.dtype)
        return Nest(u, zero, zero)
    first = u
    for depth in reversed(range(len(hierarchy.levels))):
        first = hierarchy.interpolate(u, depth)
        u = run_cycle(hierarchy, plan, loads[depth], first, depth)
    level = hierarchy.levels[0]
    return Nest(
        solution=u,
        reduction=size(level.residual(f, u)) / size(level.residual(f, first)),
        change=largest(subtract(u, first)),
    )


def zeros_like(f: Values) -> Values:
    return jax.tree.map(jnp.zeros_like, f)


def add(u: Values, e: Values) -> Values:
    return jax.tree.map(jnp.add, u, e)


def subtract(u: Values, v: Values) -> Values:
    return jax.tree.map(jnp.subtract, u, v)


def size(u: Values) -> jax.Array:
    """The 2-norm."""
    return jnp.sqrt(jnp.sum(jnp.stack([jnp.sum(x * x) for x in jax.tree.leaves(u)])))


def largest(u: Values) -> jax.Array:
    """The maximum norm."""
    return jnp.max(jnp.stack([jnp.max(jnp.abs(x), initial=0) for x in jax.tree.leaves(u)]))
