"""Fast diagonalisation: the direct solver for constant coefficients."""

import functools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers import transforms
from solvers.dominant import DominantSystems
from solvers.grid import Boundary, Grid
from solvers.iteration import (
    AbstractPreconditioner,
    Reason,
    lineax_result,
    power_of_two,
    read_vector,
    refuse_options,
    without_mean,
)
from solvers.operators import EllipticOperator, open_faces
from solvers.placement import along_lines, is_spread

# Below so many lines a step of the recurrence costs more than the transform that it saves.
FEWEST_LINES = 100
# Entries of a block of rows, at least: 1 MB in float64.
BLOCK = 2**17


class FastDiagonalizationState(NamedTuple):
    operator: EllipticOperator
    eigenvalues: tuple[jax.Array, ...]


class FastDiagonalizationSetup(NamedTuple):
    state: FastDiagonalizationState
    scale: jax.Array


class FastDiagonalization(AbstractPreconditioner):
    """Solve A u = b in the eigenbasis of A, by a sine, cosine or Fourier transform per axis.

    With row weights W and the 1-D modes φ of `solvers.transforms`,

        u = Σ_k φ_k (W⁻¹b)^_k / (Σᵢ aᵢλ_{kᵢ} + c).

    Constant a (per axis) and c, any mix of sides, any size (fastest where 2n has small prime
    factors). A singular operator is solved in the sense of the pseudo-inverse.

    On a CPU the first axis that is not periodic and has at least 100 lines of nodes along it is
    left as it is, and each mode of the others gives a tridiagonal system along it. On any other
    device, where a thousand steps in a row would be slow, all axes are transformed.

    As the preconditioner of `ConjugateGradient` it takes varying a and c, too. With L the operator
    of their means,

        M = S L S,   S² = diag A/diag L.

    Then the steps depend on how smooth a is, not on the grid and little on the contrast: 7 to 14
    for waves of contrast 2 to 100. Across jumps they grow with the grid; take `Multigrid` there.

    Raises:
        ValueError: for varying coefficients where it is the solver, or an operator that is not an
            `EllipticOperator`.

    Cost: O(N log N), two real FFTs of twice the length per transformed axis that is not periodic,
    and O(N) for the tridiagonal systems.

    Reference: Lynch, Rice, Thomas 1964, "Direct solution of partial difference equations by tensor
    product methods", Numer. Math. 6, 185–199, doi:10.1007/BF01386067; with one axis left, Hockney
    1965, "A fast direct solution of Poisson's equation using Fourier analysis", J. ACM 12(1),
    doi:10.1145/321250.321259; as a preconditioner, Concus, Golub 1973, "Use of fast direct methods
    for the efficient numerical solution of nonseparable elliptic equations", SIAM J. Numer. Anal.
    10(6), doi:10.1137/0710092.

    Example:
        >>> from solvers import Grid, Poisson, solve
        >>> problem = Poisson(Grid((40, 30)), source=1.0)
        >>> bool(abs(problem.residual(solve(problem, FastDiagonalization()).value)).max() < 1e-10)
        True
    """

    def init(self, operator: Any, options: dict[str, Any]) -> FastDiagonalizationState:
        del options
        _check(operator)
        if not operator.is_constant:
            raise ValueError(
                "operator: FastDiagonalization needs constant coefficients (diffusion a number or "
                "one per axis, reaction a number); ConjugateGradient(preconditioner="
                "FastDiagonalization()) takes varying ones"
            )
        grid = operator.grid
        scaled = [transforms.eigenvalues(grid, d) * grid.spacing[d] ** 2 for d in range(grid.ndim)]
        eigenvalues = tuple(
            c * jnp.asarray(values, grid.dtype)
            for c, values in zip(operator.conductances, scaled, strict=True)
        )
        return FastDiagonalizationState(operator, eigenvalues)

    def compute(
        self, state: FastDiagonalizationState, vector: Any, options: dict[str, Any]
    ) -> tuple[jax.Array, Any, dict[str, Any]]:
        operator, eigenvalues = state
        refuse_options(options)
        b = without_mean(operator, read_vector(operator, "vector", vector))
        unit = power_of_two(b)
        u = _inverse(state, b / unit) * unit
        stats = _residual_stats(operator, b, u)
        first, last = stats["residual_norms"]
        reason = Reason.where(jnp.isfinite(last), Reason.direct, Reason.singular)
        numbers = jnp.stack([first, *(values[-1] for values in eigenvalues)])
        if operator.reaction is not None:
            numbers = jnp.append(numbers, operator.reaction)
        is_known = jnp.isfinite(numbers).all()
        reason = Reason.where(is_known, reason, Reason.nonfinite_input)
        one = jnp.ones((), jnp.int32)
        steps = {"num_steps": one, "max_steps": one, "reason": reason}
        return u, lineax_result(reason), steps | stats

    def transpose(self, state: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        del options
        return state, {}

    def conj(self, state: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return state, options

    def assume_full_rank(self) -> bool:
        return True  # as for the iterative methods: the null space is the constants

    # What conjugate gradients ask of a preconditioner.

    def prepare(self, operator: Any) -> FastDiagonalizationSetup:
        """L, and the diagonal of S⁻¹."""
        _check(operator)
        mean = _with_means(operator)
        scale = jax.lax.rsqrt(operator.diagonal() / mean.diagonal())
        return FastDiagonalizationSetup(self.init(mean, {}), scale)

    def precondition(self, setup: FastDiagonalizationSetup, r: jax.Array, steps: int) -> jax.Array:
        """M⁻¹r, shape `grid.shape`."""
        if steps != 1:
            raise ValueError(
                f"preconditioner_steps: FastDiagonalization is applied once, got {steps}"
            )
        b = without_mean(setup.state.operator, setup.scale * r)
        return setup.scale * _inverse(setup.state, b)


def _check(operator: Any) -> None:
    if not isinstance(operator, EllipticOperator):
        raise ValueError("operator: FastDiagonalization needs an EllipticOperator")


def _with_means(operator: EllipticOperator) -> EllipticOperator:
    """The operator with the mean of a over the open faces of each axis, and that of c."""

    def mean(axis: int) -> jax.Array:
        faces = operator.conductances[axis]
        is_open = open_faces(operator.grid, axis)
        return faces if faces.ndim == 0 else jnp.mean(faces) * float(is_open.size / is_open.sum())

    c = None if operator.reaction is None else jnp.mean(operator.reaction)
    means = tuple(map(mean, range(operator.grid.ndim)))
    return eqx.tree_at(
        lambda o: (o.conductances, o.reaction), operator, (means, c), is_leaf=lambda x: x is None
    )


def _inverse(state: FastDiagonalizationState, b: jax.Array) -> jax.Array:
    """A⁻¹b, or the pseudo-inverse of b without mean, by the way that suits grid and device."""
    axis = None if is_spread() else _line_axis(state.operator.grid)
    if axis is None:
        u = _by_modes(state, b)
    else:
        by_lines = functools.partial(_by_lines, axis)
        u = jax.lax.platform_dependent(state, b, cpu=by_lines, default=_by_modes)
    return without_mean(state.operator, u)


def _by_modes(state: FastDiagonalizationState, b: jax.Array) -> jax.Array:
    """Transform along all axes, divide by the eigenvalues, transform back."""
    operator, eigenvalues = state
    grid = operator.grid
    modes = b / operator.weigh(jnp.ones_like(b))
    for axis in range(grid.ndim):
        analyze = functools.partial(transforms.analyze, grid=grid, axis=axis)
        modes = along_lines(analyze, modes, axis)
    total = _total(operator, eigenvalues, range(grid.ndim))
    is_null = (total == 0) & operator.is_singular
    u = jnp.where(is_null, 0, modes / jnp.where(is_null, 1, total))
    for axis in range(grid.ndim):
        synthesize = functools.partial(transforms.synthesize, grid=grid, axis=axis)
        u = along_lines(synthesize, u, axis)
    return u


def _by_lines(axis: int, state: FastDiagonalizationState, b: jax.Array) -> jax.Array:
    """Transform along all axes but one, and solve a tridiagonal system for each mode of these."""
    operator, eigenvalues = state
    grid, a = operator.grid, operator.conductances[axis]
    others = [d for d in range(grid.ndim) if d != axis]

    def analyze(rows: jax.Array) -> jax.Array:
        for d in others:
            rows = transforms.analyze(rows * _along(grid, d, 1 / grid.row_weights(d)), grid, d)
        return rows

    def synthesize(rows: jax.Array) -> jax.Array:
        for d in others:
            rows = transforms.synthesize(rows, grid, d)
        return rows

    j = np.arange(grid.shape[axis])
    low, high = (side is not Boundary.NEUMANN for side in grid.boundary[axis])
    systems = DominantSystems(
        lower=-a * _along(grid, axis, low | (j > 0)),
        excess=_total(operator, eigenvalues, others),
        share=_along(grid, axis, grid.row_weights(axis)),
        upper=-a * _along(grid, axis, high | (j < len(j) - 1)),
        axis=axis,
        is_pinned=operator.is_singular,
    )
    width = math.ceil(len(j) / max(1, grid.size // BLOCK))
    return systems.solve(b, width=width, before=analyze, after=synthesize)


def _line_axis(grid: Grid) -> int | None:
    """The first axis, if any, that is not periodic and has at least `FEWEST_LINES` lines."""
    for axis in range(grid.ndim):
        if not grid.is_periodic(axis) and grid.size >= FEWEST_LINES * grid.shape[axis]:
            return axis
    return None


def _total(
    operator: EllipticOperator, eigenvalues: tuple[jax.Array, ...], axes: Iterable[int]
) -> jax.Array:
    """Σ aλ over `axes` and c, of length 1 along the other axes."""
    ndim = operator.grid.ndim
    c = 0 if operator.reaction is None else operator.reaction
    total = jnp.full([1] * ndim, c, operator.grid.dtype)
    for axis in axes:
        total = total + eigenvalues[axis].reshape([-1 if d == axis else 1 for d in range(ndim)])
    return total


def _along(grid: Grid, axis: int, values: np.ndarray) -> jax.Array:
    shape = [-1 if d == axis else 1 for d in range(grid.ndim)]
    return jnp.asarray(values.reshape(shape), grid.dtype)


def _residual_stats(operator: EllipticOperator, b: jax.Array, u: jax.Array) -> dict[str, jax.Array]:
    """The history of a method without a loop, from zero: √(∏h)·‖b‖₂ and √(∏h)·‖b − Au‖₂.

    Both sums are one reduction, which reads b and u once and writes nothing. A reduction of a
    single array is handed to a library by XLA on the CPU, and the differences in A u are written
    out for it: 30 against 2.2 ms at 1023² in float64, more than half of the solve.
    """
    _, exponent = jnp.frexp(jnp.max(jnp.abs(b)))
    limit = jnp.finfo(b.dtype).maxexp - 8
    # A power of two brings b near 1, so that its square neither over- nor underflows.
    unit = jnp.ldexp(jnp.ones((), b.dtype), jnp.clip(exponent, -limit, limit))
    scaled = b * (1 / unit)
    r = scaled - operator.mv(u * (1 / unit))
    zero = jnp.zeros((), b.dtype)
    rows = jax.lax.reduce(
        (scaled * scaled, r * r),
        (zero, zero),
        lambda x, y: (x[0] + y[0], x[1] + y[1]),
        [b.ndim - 1],
    )
    volume = jnp.asarray(math.sqrt(operator.grid.cell_volume), b.dtype)
    norms = jnp.stack([volume * jnp.sqrt(jnp.sum(squares)) * unit for squares in rows])
    return {"residual_norms": norms, "residual_steps": jnp.arange(2, dtype=jnp.int32)}
