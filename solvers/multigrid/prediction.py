"""What convergence factor a cycle should have."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers.arguments import expect
from solvers.multigrid import fourier
from solvers.multigrid.hierarchy import stages
from solvers.multigrid.multigrid import Multigrid
from solvers.multigrid.smoothing import (
    best_damping,
    coarsens_all_axes,
    default_over_relaxation,
)
from solvers.operators import EllipticOperator
from solvers.relaxation.chebyshev import Chebyshev, smoothing_part
from solvers.relaxation.gauss_seidel import GaussSeidel
from solvers.relaxation.jacobi import Jacobi
from solvers.relaxation.lines import LineRelaxation


@eqx.filter_jit
def predict_factor(operator: EllipticOperator, method: Multigrid) -> jax.Array:
    """Predict the residual's reduction per cycle by local Fourier analysis, the worst of levels.

    Each level is taken with an exact solve below it and without sides, so that V-cycles are up to
    one and a half times slower than this.
    Coefficients that vary count as the constants that the operator's `coupling` stands for, so that
    jumps, which no Fourier mode sees, show as a measured factor far above the predicted one.

    Args:
        operator: of the problem.
        method: the cycle, its smoother and its sweeps.

    Returns:
        The factor, a scalar; 0 where there is one level only, solved directly.

    Raises:
        ValueError: for a method other than `Multigrid`.

    Cost: some milliseconds, and a compilation of a second.

    Reference: see `solvers.multigrid.fourier`.

    Example:
        >>> from solvers import Grid
        >>> print(f"{predict_factor(EllipticOperator(Grid((512, 512))), Multigrid()):.3f}")
        0.045
    """
    expect("operator", operator, EllipticOperator, "an EllipticOperator, as problem.operator is")
    expect("method", method, Multigrid, "a Multigrid")
    plan, _ = stages(operator, all_axes=coarsens_all_axes(method.smoother))
    worst, seen = jnp.zeros(()), set()
    couplings = np.array(operator.coupling)
    for stage in plan:
        key = stage.coarsened, tuple(couplings / couplings.max())
        if key not in seen:
            seen.add(key)
            worst = jnp.maximum(worst, _two_grid(operator, method, couplings, stage.coarsened))
        couplings[list(stage.coarsened)] /= 4
    return worst


def _two_grid(
    operator: EllipticOperator, method: Multigrid, couplings: np.ndarray, coarsened: tuple[int, ...]
) -> jax.Array:
    """The factor of one level, of which the couplings are those given up to rounding."""
    ndim = operator.grid.ndim
    shrunk = couplings / np.array(operator.coupling)
    is_known = operator.is_constant
    finest: tuple[Any, ...] = operator.conductances if is_known else operator.coupling
    reaction = operator.reaction if is_known and operator.reaction is not None else 0.0
    chosen = tuple(axis in coarsened for axis in range(ndim))
    return fourier.two_grid_factor(
        tuple(s * float(share) for s, share in zip(finest, shrunk, strict=True)),
        chosen,
        _symbol(method.smoother, ndim, all(chosen)),
        method.pre,
        method.post,
        reaction=reaction,
    )


def _symbol(smoother: Any, ndim: int, is_full: bool) -> fourier.SweepSymbol:
    """The symbol of a public relaxation as the levels use it."""
    if smoother is None:
        return fourier.red_black_symbol(default_over_relaxation(is_full))
    if isinstance(smoother, GaussSeidel):
        return fourier.red_black_symbol(smoother.over_relaxation)
    if isinstance(smoother, Jacobi):
        return fourier.jacobi_symbol(best_damping(ndim, smoother))
    if isinstance(smoother, Chebyshev):
        smallest = smoothing_part(ndim) if smoother.smallest is None else smoother.smallest
        return fourier.chebyshev_symbol(smoother.degree, smallest)
    assert isinstance(smoother, LineRelaxation)
    return fourier.zebra_symbol(tuple(range(ndim)) if smoother.axes is None else smoother.axes)
