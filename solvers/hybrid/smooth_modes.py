"""The smooth modes of an operator, and how fast a step of a method damps each of them."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from solvers import transforms
from solvers.grid import Boundary, Grid
from solvers.multigrid.multigrid import Multigrid
from solvers.multigrid.prediction import predict_factor
from solvers.operators import EllipticOperator
from solvers.placement import apply, whole
from solvers.problems import Poisson
from solvers.solution import Problem
from solvers.spectrum import damping_of, jacobi_eigenvalues
from solvers.tridiagonal import factor

MODES_PER_AXIS = {1: 64, 2: 7, 3: 4}
# Of inverse iteration, in parts of the eigenvalue: less finds modes better, and apart less well.
SHIFT = 0.2
# Unknowns per mode up to which modes may be the same to rounding in double precision.
CROWDED = 8
RITZ_BLOCK = 2**17  # numbers of as many modes at once as make long loops, and fit the cache


class SmoothModes(eqx.Module):
    """Rayleigh–Ritz on the lowest modes φ of the grid, ZᵀAZ y = ν ZᵀDZ y with D the diagonal of A.

    Undamped Jacobi multiplies the error along Zy by μ = 1 − ν. For constant coefficients the modes
    are eigenvectors and all of this is exact; else it is an approximation from above of ν.

    Attributes:
        bases: per axis the lowest 1-D modes, shape `(grid.shape[d], m_d)`.
        vectors: y in the columns, shape (K, K), K = ∏ m_d, scaled to max|Zy| = 1, of some nodes.
        energies: yᵀZᵀAZy, shape (K,).
        mu: 1 − ν, descending, shape (K,).
        row_norms: ‖A Z y‖₂, shape (K,), or (0,).
        rest_mu: the largest μ that is not among them.
        factors: of one step of the method for each of the modes and for the rest, shape (K + 1,).
    """

    bases: tuple[jax.Array, ...]
    vectors: jax.Array
    energies: jax.Array
    mu: jax.Array
    row_norms: jax.Array
    rest_mu: jax.Array
    factors: jax.Array

    @property
    def stride(self) -> int:
        """Every so manyth node still shows all of the modes, with three for half a wave."""
        return max(1, min(len(base) // (3 * base.shape[1]) for base in self.bases))

    def project(self, r: jax.Array) -> jax.Array:
        """Zᵀr, shape (K,)."""
        for base in self.bases:
            r = jnp.tensordot(r, base, ((0,), (0,)))
        return r.reshape(-1)

    def synthesize(self, coefficients: jax.Array, every: int = 1) -> jax.Array:
        """Z c at every `every`-th node."""
        u = coefficients.reshape([base.shape[1] for base in self.bases])
        for base in self.bases:
            u = jnp.tensordot(u, base[::every], ((0,), (1,)))
        return u


def smooth_modes(problem: Problem, method: Any, *, with_norms: bool = True) -> SmoothModes:
    """Compute the `SmoothModes` of a problem's operator, and what `method` makes of them.

    Args:
        problem: with the operator A.
        method: whose damping factors are wanted.
        with_norms: whether the row norms are wanted, which may be dear.

    Cost: for constant coefficients next to nothing; else N m² multiplications for each term of A
    and an eigenvalue problem of size K = m^ndim, with m = 64, 7 or 4 in 1, 2 or 3 dimensions; for
    the row norms K applications of A.
    """
    with jax.default_matmul_precision("highest"):
        return apply(_smooth_modes, problem, method, with_norms)


def _smooth_modes(problem: Poisson, method: Any, with_norms: bool) -> SmoothModes:
    operator, grid, dtype = problem.operator, problem.grid, problem.grid.dtype
    counts = [min(n, MODES_PER_AXIS[grid.ndim]) for n in grid.shape]
    if grid.ndim == 1 and operator.conductances[0].ndim > 0:
        guess = transforms.modes_at(grid, 0, counts[0], _resistance(operator)).astype(dtype)
        bases = (_apart(operator, _closer(operator, guess)),)
    else:
        bases = tuple(
            jnp.asarray(transforms.modes(grid, d, count), dtype) for d, count in enumerate(counts)
        )
    blank = SmoothModes(bases, *[jnp.zeros((), dtype)] * 6)
    if operator.is_constant:
        vectors, energies, mu, row_norms = _eigenvectors(operator, blank)
    else:
        vectors, energies, mu, row_norms = _ritz(operator, blank, with_norms=with_norms)
    rest_mu = _rest(operator, counts, mu)
    return SmoothModes(
        bases=bases,
        vectors=vectors,
        energies=energies,
        mu=mu,
        row_norms=row_norms,
        rest_mu=rest_mu,
        factors=_factors(method, operator, jnp.append(mu, rest_mu)),
    )


def _resistance(operator: EllipticOperator) -> jax.Array:
    """∫dx/a from the low side to each unknown in 1-D, the whole axis being n long.

    Along it a ∂u/∂x is a derivative, so that modes bend where a jumps as the solution does.
    """
    faces = operator.conductances[0]
    steps = jnp.where(faces > 0, 1 / jnp.where(faces > 0, faces, 1), 0)  # 0 across a Neumann side
    if operator.grid.is_periodic(0):
        steps = steps.at[0].set(0)  # held twice: it leads from the last node to the first
    passed = jnp.cumsum(steps)
    return operator.grid.intervals[0] * passed[:-1] / passed[-1]


def _closer(operator: EllipticOperator, base: jax.Array) -> jax.Array:
    """(A + σD)⁻¹D φ of each mode in 1-D, one step of inverse iteration.

    Each has a shift σ of a part of its own eigenvalue, so that faster modes leave it and slower
    ones hardly grow in it: the modes stay apart, and no shift meets a null space.

    Reference: Golub and Van Loan 2013, "Matrix Computations", section 8.2.2.
    """
    grid = operator.grid
    angles = transforms.angles(grid, 0)
    shifts = 1 - np.cos(np.where(angles > 0, angles, angles[angles > 0][0]))[: base.shape[1]]
    # A line is walked along on one device, and so on each of a mesh.
    values = *map(operator.weigh, operator.face_pair(0)), operator.diagonal()
    low, high, diagonal = (whole(jnp.broadcast_to(x, grid.shape))[:, None] for x in values)
    shifted = (1 + SHIFT * jnp.asarray(shifts, base.dtype))[None] * diagonal
    systems = factor(-low, shifted, -high, 0, periodic=grid.is_periodic(0))
    closer = systems.solve(diagonal * base)
    return closer / jnp.max(jnp.abs(closer), 0)[None]


def _apart(operator: EllipticOperator, base: jax.Array) -> jax.Array:
    """The same span by modes that are orthonormal in D, where some may be the same to rounding.

    These are modes that are many among the unknowns, and across jumps in single precision any. It
    takes 4 ms at 4000 × 64, as long as all the rest, so that others are left alone.
    """
    is_double = jnp.finfo(base.dtype).bits == 64
    if is_double and len(base) > CROWDED * base.shape[1]:
        return base
    root = jnp.sqrt(jnp.broadcast_to(operator.diagonal(), base.shape[:1]))[:, None]
    return jnp.linalg.qr(root * base)[0] / root


def _factors(method: Any, operator: EllipticOperator, mu: jax.Array) -> jax.Array:
    """Damping of each mode by a step; a cycle's by local Fourier analysis, the same for all."""
    if isinstance(method, Multigrid):
        return jnp.full_like(mu, predict_factor(operator, method))
    return jnp.abs(damping_of(method, operator, mu))


def _eigenvectors(operator: EllipticOperator, modes: SmoothModes) -> tuple[jax.Array, ...]:
    """Vectors, energies, μ and row norms for constant coefficients: the modes themselves.

    Aφ = λWφ with λ = d(1 − μ), so that φᵀAφ = λ Σwφ² and ‖Aφ‖² = λ² Σw²φ², products over the axes.
    """
    grid, counts = operator.grid, [base.shape[1] for base in modes.bases]
    block = tuple(slice(count) for count in counts)
    mu = jacobi_eigenvalues(operator)[block]
    reaction = 0.0 if operator.reaction is None else operator.reaction
    eigenvalues = (2 * sum(operator.conductances) + reaction) * (1 - mu)
    once, twice = jnp.ones((), grid.dtype), jnp.ones((), grid.dtype)
    for axis, base in enumerate(modes.bases):
        along = [-1 if d == axis else 1 for d in range(grid.ndim)]
        weights = jnp.asarray(grid.row_weights(axis), grid.dtype)[:, None]
        once = once * jnp.sum(weights * base**2, 0).reshape(along)
        twice = twice * jnp.sum((weights * base) ** 2, 0).reshape(along)
    order = jnp.argsort(-mu.reshape(-1))
    energies, norms = eigenvalues * once, eigenvalues * jnp.sqrt(twice)
    vectors = jnp.eye(order.size, dtype=grid.dtype)[:, order]
    ordered = [values.reshape(-1)[order] for values in (energies, mu, norms)]
    return vectors, *ordered


def _ritz(
    operator: EllipticOperator, modes: SmoothModes, *, with_norms: bool
) -> tuple[jax.Array, ...]:
    """The same by Rayleigh–Ritz, for coefficients that vary."""
    stiff, mass = _stiffness(operator, modes.bases), _form(operator.diagonal(), modes.bases)
    factor = jnp.linalg.cholesky(mass)
    half = jax.scipy.linalg.solve_triangular(factor, stiff, lower=True)
    nu, turned = jnp.linalg.eigh(jax.scipy.linalg.solve_triangular(factor, half.T, lower=True))
    vectors = jax.scipy.linalg.solve_triangular(factor.T, turned, lower=False)
    samples = jax.vmap(lambda y: modes.synthesize(y, modes.stride))(vectors.T)
    largest = jnp.max(jnp.abs(samples.reshape(len(nu), -1)), 1)
    vectors /= largest[None, :]
    norms = _row_norms(operator, modes, vectors) if with_norms else jnp.zeros(0, nu.dtype)
    return vectors, nu / largest**2, 1 - nu, norms


def _row_norms(operator: EllipticOperator, modes: SmoothModes, vectors: jax.Array) -> jax.Array:
    """‖A Z y‖₂ of every y."""

    def norm(y: jax.Array) -> jax.Array:
        return root_of_squares(operator.mv(modes.synthesize(y)))

    batch = max(1, RITZ_BLOCK // operator.grid.size)
    return jax.lax.map(norm, vectors.T, batch_size=batch)


def root_of_squares(u: jax.Array) -> jax.Array:
    """‖u‖₂; a reshape to a vector would gather what is spread over devices."""
    return jnp.sqrt(jnp.sum(u * u))


def _stiffness(operator: EllipticOperator, bases: tuple[jax.Array, ...]) -> jax.Array:
    """ZᵀAZ as a sum over the faces of each axis, of a times differences of the modes along it."""
    grid = operator.grid
    weights = [jnp.asarray(grid.row_weights(d), grid.dtype)[:, None] for d in range(grid.ndim)]
    # With their weights the modes need no others.
    halved = [jnp.sqrt(w) * base for w, base in zip(weights, bases, strict=True)]
    count = math.prod(base.shape[1] for base in bases)
    total = jnp.zeros((count, count), grid.dtype)
    if operator.reaction is not None:
        total += _form(operator.reaction, halved)
    for axis, faces in enumerate(operator.conductances):
        slopes = jnp.diff(_with_ends(grid, bases[axis], axis), axis=0)
        total += _form(faces, [*halved[:axis], slopes, *halved[axis + 1 :]])
    return total


def _with_ends(grid: Grid, base: jax.Array, axis: int) -> jax.Array:
    """Modes with the value at the far end of the first and the last face.

    No difference lies across a Neumann side, and on a ring the first face is the last again.
    """
    first, last, zero = base[:1], base[-1:], jnp.zeros_like(base[:1])
    if grid.is_periodic(axis):
        return jnp.concatenate([first, base, first])
    low, high = (side is Boundary.NEUMANN for side in grid.boundary[axis])
    return jnp.concatenate([first if low else zero, base, last if high else zero])


def _form(weights: jax.Array, bases: Sequence[jax.Array]) -> jax.Array:
    """Σ w φφᵀ over the nodes, shape (K, K), axis by axis.

    Cost: N m² multiplications and additions, m being the number of modes of one axis.
    """
    *others, last = bases
    sums = jnp.broadcast_to(weights, [len(base) for base in bases])
    for base in others:
        pairs = base[:, :, None] * base[:, None, :]
        sums = jnp.tensordot(sums, pairs, ((0,), (0,)))
    # Its axes are those of the last base and then, for each other, of rows and of columns.
    sums = sums.reshape(len(last), -1)
    sums = jnp.einsum("jp,jq,jr->pqr", sums, last, last)
    counts = [base.shape[1] for base in bases]
    sums = sums.reshape(np.repeat(counts, 2))
    rows, columns = range(0, 2 * len(bases), 2), range(1, 2 * len(bases), 2)
    return sums.transpose(*rows, *columns).reshape(math.prod(counts), -1)


def _rest(operator: EllipticOperator, counts: list[int], mu: jax.Array) -> jax.Array:
    """The largest eigenvalue of Jacobi beyond the lowest `counts` modes per axis."""
    if not operator.is_constant:
        return mu[-1]
    block = tuple(slice(count) for count in counts)
    return jnp.max(jacobi_eigenvalues(operator).at[block].set(0))
