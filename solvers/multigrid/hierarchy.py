"""The levels of an operator, built from its coefficients, traced ones too."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from solvers.multigrid.axis import Axis, finest_axis
from solvers.multigrid.blocks import Values, split
from solvers.multigrid.coarsest import (
    DENSE_SIZE,
    coarsest_size,
    dense_solve,
    fits_tensor,
    tensor_solve,
)
from solvers.multigrid.galerkin import galerkin_level, operator_transfer
from solvers.multigrid.level import Level, constant_level, varying_level
from solvers.multigrid.smoothing import Relaxation, coarsens_all_axes, relaxation_on
from solvers.multigrid.stencil import StencilLevel
from solvers.multigrid.transfer import (
    CubicInterpolation,
    cubic_interpolation,
    linear_transfer,
)
from solvers.operators import EllipticOperator, open_faces

# Couplings this close to the largest count as strong: their axes are coarsened.
STRONG = 0.75
# Of the mean conductance: what stands for no medium in the coarse operators.
TRACE = 1e-6


class Hierarchy(eqx.Module):
    """Levels from fine to coarse, and what joins them.

    Attributes:
        levels: all but the coarsest.
        relaxations: of each of them.
        transfers: as many; `transfers[l]` joins levels l and l + 1.
        interpolations: likewise, the cubic ones of full multigrid.
        solve: on the coarsest level, from f to u.
    """

    levels: tuple[Level | StencilLevel, ...]
    relaxations: tuple[Relaxation, ...]
    transfers: tuple[Any, ...]
    interpolations: tuple[CubicInterpolation, ...]
    solve: Any

    def interpolate(self, u: Values, depth: int) -> Values:
        """A solution on level `depth` + 1 as one on level `depth`."""
        coarser = self.solve if depth + 1 == len(self.levels) else self.levels[depth + 1]
        blocks = self.interpolations[depth].prolong(coarser.to_blocks(u))
        return self.levels[depth].of_blocks(blocks)

    @property
    def dtype(self) -> Any:
        """Precision of the cycles."""
        return self.solve.inverse.dtype

    def astype(self, dtype: Any) -> "Hierarchy":
        """The same in another precision."""

        def cast(x: Any) -> Any:
            is_real = eqx.is_array(x) and jnp.issubdtype(x.dtype, jnp.floating)
            return x.astype(dtype) if is_real and isinstance(x, jax.Array) else x

        return jax.tree.map(cast, self)


class Stage(NamedTuple):
    """Axes of a level, and which of them the next one coarsens."""

    axes: tuple[Axis, ...]
    coarsened: tuple[int, ...]


def stages(operator: EllipticOperator, *, all_axes: bool) -> tuple[list[Stage], tuple[Axis, ...]]:
    """Plan the levels from what is static of an operator.

    Coarsened are the axes of which the coupling is at least 0.75 of the largest, so that point
    relaxation smooths along all of them; with `all_axes`, for line relaxation, all.

    Returns:
        the levels that are relaxed, and the axes of the coarsest one.
    """
    axes = tuple(finest_axis(operator.grid, axis) for axis in range(operator.grid.ndim))
    strengths = list(operator.coupling)
    plan: list[Stage] = []
    while not is_coarsest(operator, axes):
        able = [axis for axis, line in enumerate(axes) if line.can_coarsen]
        largest = max(strengths[axis] for axis in able)
        coarsened = tuple(a for a in able if all_axes or strengths[a] >= STRONG * largest)
        plan.append(Stage(axes, coarsened))
        for axis in coarsened:
            strengths[axis] /= 4
        axes = tuple(line.coarser() if a in coarsened else line for a, line in enumerate(axes))
    return plan, axes


def is_coarsest(operator: EllipticOperator, axes: tuple[Axis, ...]) -> bool:
    """Whether a direct solve is due."""
    if not any(line.can_coarsen for line in axes):
        return True
    return fits_tensor(axes) if operator.is_constant else coarsest_size(axes) <= DENSE_SIZE


def build(
    operator: EllipticOperator, smoother: Any, is_nearly_singular: jax.Array | None = None
) -> Hierarchy:
    """Build the hierarchy: rediscretised for constant coefficients, else by Galerkin products.

    Where constants are nearly the null space, too, the coarsest solve leaves them alone.
    """
    plan, coarsest = stages(operator, all_axes=coarsens_all_axes(smoother))
    interpolations = tuple(cubic_interpolation(s.axes, s.coarsened) for s in plan)
    make = _constant if operator.is_constant else _varying
    leaves_constants = operator.is_singular if is_nearly_singular is None else is_nearly_singular
    levels, transfers, solve = make(operator, plan, coarsest, leaves_constants)
    relaxations = tuple(
        relaxation_on(level, smoother, is_full=len(stage.coarsened) == len(stage.axes))
        for level, stage in zip(levels, plan, strict=True)
    )
    return Hierarchy(levels, relaxations, transfers, interpolations, solve)


def finest_level(operator: EllipticOperator) -> Level:
    """The operator itself on parity blocks."""
    axes = tuple(finest_axis(operator.grid, axis) for axis in range(operator.grid.ndim))
    if operator.is_constant:
        return constant_level(axes, operator.conductances, operator.reaction)
    return varying_level(operator, axes)


def _constant(
    operator: EllipticOperator,
    plan: list[Stage],
    coarsest: tuple[Axis, ...],
    leaves_constants: bool | jax.Array,
) -> Any:
    strengths, reaction = operator.conductances, operator.reaction
    levels = tuple(constant_level(stage.axes, strengths, reaction) for stage in plan)
    transfers = tuple(linear_transfer(stage.axes, stage.coarsened) for stage in plan)
    solve = tensor_solve(coarsest, strengths, reaction, is_singular=leaves_constants)
    return levels, transfers, solve


def _varying(
    operator: EllipticOperator,
    plan: list[Stage],
    coarsest: tuple[Axis, ...],
    leaves_constants: bool | jax.Array,
) -> Any:
    finest, filled = finest_level(operator), operator.filled
    level: Level | StencilLevel = finest if filled is None else finest_level(_padded(operator))
    levels, transfers = [], []
    coarser = [*(stage.axes for stage in plan), coarsest][1:]
    for stage, below in zip(plan, coarser, strict=True):
        transfer = operator_transfer(level, stage.axes, stage.coarsened)
        levels.append(level if levels else finest)
        transfers.append(transfer)
        level = galerkin_level(level, transfer, below, is_singular=operator.is_singular)
    if not levels:
        level = finest
    elif filled is not None:
        transfers[0] = transfers[0].on(split(filled))
    return tuple(levels), tuple(transfers), dense_solve(level, is_singular=leaves_constants)


def _padded(operator: EllipticOperator) -> EllipticOperator:
    """With a trace of a medium where there is none, that all coarse nodes have neighbours.

    What is left out are the rows of nodes without a medium, which would hold the coarse nodes.
    """

    def padded(conductance: jax.Array, axis: int) -> jax.Array:
        every = jnp.asarray(open_faces(operator.grid, axis), conductance.dtype)
        shape = [-1 if d == axis else 1 for d in range(conductance.ndim)]
        return conductance + TRACE * jnp.mean(conductance) * every.reshape(shape)

    conductances = tuple(padded(c, axis) for axis, c in enumerate(operator.conductances))
    reaction = jnp.where(jnp.asarray(operator.filled), jnp.asarray(operator.reaction), 0)
    return eqx.tree_at(
        lambda own: (own.conductances, own.reaction), operator, (conductances, reaction)
    )
