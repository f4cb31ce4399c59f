"""The Ritz energy of a network, from the problem's data at the points of a quadrature."""

import abc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from nets.ansatz import Ansatz, Network, ansatz_at, cast
from nets.boundaries import BoundaryTreatment, HardBoundary, boundary_function, locate
from nets.networks import PureNetwork
from nets.quadrature import GaussLegendre, GridEnergy, Quadrature, node_points
from solvers.grid import Boundary, Grid, as_real, refuse
from solvers.operators import EllipticOperator
from solvers.problems import Poisson

Array = jax.Array | np.ndarray  # in double precision while the energy is put together
# Points of which the derivatives by some hundreds of parameters stay in the cache.
BLOCK = 512


class RitzEnergy(eqx.Module):
    """E = ½⟨q, Hq⟩ − ⟨ℓ, q⟩ + const, q linear in the function u at fixed points.

    q has shape (F, N): F numbers, such as u and its derivatives, at each of N points.

    Attributes:
        ansatz: of u, at the points.
        constant: all that does not depend on the network.
    """

    ansatz: eqx.AbstractVar[Ansatz]
    constant: eqx.AbstractVar[Array]

    @abc.abstractmethod
    def features_of(self, ansatz: Ansatz, network: Network) -> jax.Array:
        """q at the points of `ansatz`, of which each is worked out by itself."""

    @abc.abstractmethod
    def curvature(self, q: jax.Array) -> jax.Array:
        """H q."""

    @property
    @abc.abstractmethod
    def loads(self) -> jax.Array:
        """ℓ, shape (F, N)."""

    def parts(self, most: int) -> "RitzEnergy":
        """Energies of at most `most` points each, stacked, with the sum E up to a constant.

        Only one, of all points, where H joins any with any.
        """
        return jax.tree.map(lambda x: jnp.asarray(x)[None], self)

    def features(self, network: Network) -> jax.Array:
        """q."""
        return self.features_of(self.ansatz, network)

    def __call__(self, network: Network) -> jax.Array:
        """The energy, a scalar."""
        q = self.features(network)
        return jnp.sum((self.curvature(q) / 2 - self.loads) * q) + self.constant

    def difference(self, after: jax.Array, before: jax.Array) -> jax.Array:
        """E(after) − E(before) of two q, right to rounding of itself and not of the energies."""
        change = after - before
        return jnp.sum(change * (self.curvature(after + before) / 2 - self.loads))


class PointEnergy(RitzEnergy):
    """½Σ(k·|∇u|² + m u²) − Σ ℓ u + const, with weights and coefficients in k, m and ℓ.

    q is u and ∂u/∂x per axis. Points on sides are points like others, with k = 0: a flux is in ℓ, a
    penalty β(u − g)² in m and ℓ.
    """

    ansatz: Ansatz
    stiffness: tuple[Array, ...]
    mass: Array
    load: Array
    constant: Array

    def features_of(self, ansatz: Ansatz, network: Network) -> jax.Array:
        u, gradient = ansatz.values_and_gradient(network)
        return jnp.stack([u, *gradient])

    def curvature(self, q: jax.Array) -> jax.Array:
        return jnp.stack([self.mass, *self.stiffness]) * q

    def parts(self, most: int) -> "PointEnergy":
        points = len(self.mass)
        count = -(-points // most)
        size = -(-points // count)

        def cut(x: Array, mode: str) -> jax.Array:
            widths = [(0, count * size - points)] + [(0, 0)] * (x.ndim - 1)
            return jnp.pad(x, widths, mode=mode).reshape(count, size, *x.shape[1:])

        # What fills the last part up are points of the box, without weight.
        mass, load, *stiffness = (
            cut(x, "constant") for x in (self.mass, self.load, *self.stiffness)
        )
        return PointEnergy(
            ansatz=jax.tree.map(lambda x: cut(x, "edge"), self.ansatz),
            stiffness=tuple(stiffness),
            mass=mass,
            load=load,
            constant=jnp.zeros(count, mass.dtype),
        )

    @property
    def loads(self) -> jax.Array:
        load = jnp.asarray(self.load)
        return jnp.stack([load, *[jnp.zeros_like(load)] * len(self.stiffness)])


class NodalEnergy(RitzEnergy):
    """∏h·(½zᵀAz − rᵀz) + E(G), u = G + z at the unknowns, r = b − A G; and a penalty.

    q is d·N at the unknowns, then at the points of the penalty. r is formed in the grid's
    precision: in single precision b − A u loses the digits that boundary data over h² takes.
    """

    ansatz: Ansatz
    operator: EllipticOperator
    residual: jax.Array
    mass: Array
    load: Array
    constant: Array

    def features_of(self, ansatz: Ansatz, network: Network) -> jax.Array:
        return (ansatz.factor * network(ansatz.inputs))[None]

    def curvature(self, q: jax.Array) -> jax.Array:
        grid = self.operator.grid
        z, beyond = q[0, : grid.size].reshape(grid.shape), q[0, grid.size :]
        inside = grid.cell_volume * self.operator.mv(z).reshape(-1)
        return jnp.concatenate([inside, self.mass * beyond])[None]

    @property
    def loads(self) -> jax.Array:
        inside = self.operator.grid.cell_volume * self.residual.reshape(-1)
        return jnp.concatenate([inside, jnp.asarray(self.load)])[None]


class RitzLoss(NamedTuple):
    """The energy as a function of a network's parameters.

    Attributes:
        energy: of a network.
        network: of parameters and inputs.
    """

    energy: RitzEnergy
    network: PureNetwork

    def __call__(self, params: Any) -> jax.Array:
        """E, a scalar."""
        return self.energy(partial(self.network, params))

    def features(self, params: Any) -> jax.Array:
        """q, shape (F, N)."""
        return self.energy.features(partial(self.network, params))

    def jacobian(self, params: Any) -> jax.Array:
        """∂q/∂θ, shape (F, N, P), θ the parameters as `ravel_pytree` orders them."""
        flat, unravel = ravel_pytree(params)

        def at_point(ansatz: Ansatz) -> jax.Array:
            alone = jax.tree.map(lambda x: x[None], ansatz)

            def features(flat: jax.Array) -> jax.Array:
                network = partial(self.network, unravel(flat))
                return self.energy.features_of(alone, network)[:, 0]

            return jax.jacrev(features)(flat)

        return jax.vmap(at_point, out_axes=1)(self.energy.ansatz)

    def gauss_newton(self, params: Any) -> jax.Array:
        """JᵀHJ, J = ∂q/∂θ, shape (P, P); of J only as much at a time as stays in the cache."""
        size = ravel_pytree(params)[0].size

        def add(total: jax.Array, energy: RitzEnergy) -> tuple[jax.Array, None]:
            J = RitzLoss(energy, self.network).jacobian(params)
            HJ = jax.vmap(energy.curvature, -1, -1)(J)
            return total + jnp.einsum("fnp,fnq->pq", J, HJ), None

        zero = jnp.zeros((size, size), self.energy.constant.dtype)
        return jax.lax.scan(add, zero, self.energy.parts(BLOCK))[0]

    def dual(self, params: Any) -> jax.Array:
        """HJJᵀ, shape (FN, FN), for more parameters than numbers in q."""
        J = self.jacobian(params)
        HJ = jax.vmap(self.energy.curvature, -1, -1)(J)
        return HJ.reshape(-1, J.shape[-1]) @ J.reshape(-1, J.shape[-1]).T


def ritz_energy(
    problem: Poisson,
    *,
    boundary: BoundaryTreatment = HardBoundary(),
    quadrature: Quadrature | None = None,
    dtype: Any = jnp.float32,
) -> RitzEnergy:
    """Build the energy whose minimiser solves `problem`, as a function of a network.

        E(u) = ∫ ½a|∇u|² + ½c u² − f u  − ∫_Neumann q u  + β ∫_Dirichlet (u − g)²,   u = G + d·N

    Without Dirichlet side and with c = 0 the load is made to have no mean, so that constants cost
    nothing.

    Args:
        problem: the equation, its data and its grid.
        boundary: G, d and β.
        quadrature: by default `GridEnergy` if any data is a nodal array, else `GaussLegendre`.
        dtype: precision of the energy; data is worked out in the grid's and rounded to this.

    Returns:
        A pytree with the data as leaves, to be called with a network: (N, inputs) to (N,).

    Raises:
        ValueError: if data cannot be had at the points of the quadrature.

    Cost: of a call, one forward and one backward pass through the network; with `GridEnergy` only
        the forward pass. The gradient costs twice that in addition.

    Reference: E, Yu 2018, Commun. Math. Stat. 6, 1, arXiv 1710.00211.

    Example:
        >>> energy = ritz_energy(Poisson(Grid(8), source=2.0))  # u = x(1 − x), E = −1/6
        >>> print(f"{energy(lambda inputs: jnp.full(len(inputs), 0.25)):.4f}")
        -0.1667
    """
    quadrature = quadrature or choose_quadrature(problem)
    sides = _side_terms(problem, boundary.strength, quadrature)
    build = _nodal_energy if isinstance(quadrature, GridEnergy) else _point_energy
    energy = build(problem, boundary, quadrature, sides)
    return cast(energy, dtype)


class _Sides(eqx.Module):
    """Points on sides, with m and ℓ of the energy there and its constant."""

    points: np.ndarray
    mass: np.ndarray
    load: np.ndarray
    constant: float


def _point_energy(
    problem: Poisson, boundary: BoundaryTreatment, quadrature: Quadrature, sides: _Sides
) -> PointEnergy:
    grid = problem.grid
    points, weights = quadrature.volume(grid)

    def sample(name: str, value: Any) -> np.ndarray:
        return _sample(name, value, grid, points, grid.full_shape, quadrature)

    diffusion = problem.diffusion
    per_axis = diffusion if isinstance(diffusion, tuple | list) else (diffusion,)
    coefficients = [weights * sample("diffusion", a) for a in per_axis]
    off = np.zeros(len(sides.points))
    stiffness = [np.append(k, off) for k in coefficients] * (grid.ndim // len(coefficients))
    load = np.append(weights * sample("source", problem.source), sides.load)
    if problem.operator.is_singular:
        load -= np.append(weights, off) * (load.sum() / weights.sum())
    return PointEnergy(
        ansatz=ansatz_at(
            problem, boundary, grid, np.concatenate([points, sides.points]), gradients=True
        ),
        stiffness=tuple(stiffness),
        mass=np.append(weights * sample("reaction", problem.reaction), sides.mass),
        load=load,
        constant=np.asarray(sides.constant),
    )


def _nodal_energy(
    problem: Poisson, boundary: BoundaryTreatment, quadrature: Quadrature, sides: _Sides
) -> NodalEnergy:
    grid, operator = problem.grid, problem.operator
    nodes = node_points(grid).reshape(*grid.full_shape, grid.ndim)[grid.unknowns]
    points = np.concatenate([nodes.reshape(-1, grid.ndim), sides.points])
    ansatz = ansatz_at(problem, boundary, grid, points, gradients=False)
    lift = ansatz.lift[: grid.size].reshape(grid.shape)
    residual = problem.residual(lift)
    if operator.is_singular:
        residual = residual - jnp.mean(residual)
    # (m u/2 − ℓ)u on the sides, in powers of u − G.
    on_sides = np.asarray(ansatz.lift[grid.size :], np.float64)
    given = float(np.sum((sides.mass * on_sides / 2 - sides.load) * on_sides))
    return NodalEnergy(
        ansatz=ansatz,
        operator=operator,
        residual=residual,
        mass=sides.mass,
        load=sides.load - sides.mass * on_sides,
        constant=problem.energy(lift) + sides.constant + given,
    )


def _side_terms(problem: Poisson, strength: float, quadrature: Quadrature) -> _Sides:
    """−∫_Neumann q u, which `GridEnergy` has in b already, and β∫_Dirichlet (u − g)²."""
    points, mass, load = [np.zeros((0, problem.grid.ndim))], [np.zeros(0)], [np.zeros(0)]
    constant = 0.0
    for axis, end, condition in _sides(problem.grid):
        at, weights = quadrature.side(problem.grid, axis, end)
        if condition is Boundary.NEUMANN and not isinstance(quadrature, GridEnergy):
            shape = problem.grid.full_shape[:axis] + problem.grid.full_shape[axis + 1 :]
            flux = problem.flux[axis][end]
            q = _sample("flux", flux, problem.grid, at, shape, quadrature)
            terms = (0 * weights, weights * q)
        elif condition is Boundary.DIRICHLET and strength > 0:
            t = tuple(jnp.asarray(x, problem.grid.dtype) for x in at.T)
            g = np.asarray(boundary_function(problem)(*t), np.float64)
            terms = (2 * strength * weights, 2 * strength * weights * g)
            constant += strength * float(weights @ g**2)
        else:
            continue
        points.append(at)
        mass.append(terms[0])
        load.append(terms[1])
    return _Sides(*map(np.concatenate, (points, mass, load)), constant=constant)


def _sides(grid: Grid) -> Iterator[tuple[int, int, Boundary]]:
    for axis, pair in enumerate(grid.boundary):
        for end, condition in enumerate(pair):
            yield axis, end, condition


def _sample(
    name: str,
    value: Any,
    grid: Grid,
    points: np.ndarray,
    shape: tuple[int, ...],
    quadrature: Quadrature,
) -> np.ndarray:
    """Values at points of the unit cube, shape (N,); a nodal array has the given shape."""
    if isinstance(value, Callable):
        x = (jnp.asarray(x, grid.dtype) for x in locate(grid, tuple(points.T)))
        values = as_real(name, value(*x), grid.dtype, ((), points.shape[:1]))
    elif np.ndim(value) == 0 or quadrature.on_nodes:
        values = as_real(name, value, grid.dtype, ((), shape))
    else:
        raise ValueError(
            f"{name}: {type(quadrature).__name__} needs a number or a callable, got an array on "
            "the nodes; train with quadrature=GridEnergy()"
        )
    refuse(name, values, lambda x: False, "finite values at the points of the quadrature")
    return np.broadcast_to(np.asarray(values, np.float64).reshape(-1), (len(points),))


def choose_quadrature(problem: Poisson) -> Quadrature:
    """`GridEnergy` if any data is a nodal array, else `GaussLegendre`."""
    data = [problem.source, problem.reaction, problem.boundary_values, problem.diffusion]
    data += [flux for pair in problem.flux for flux in pair if flux is not None]
    has_arrays = any(
        not isinstance(item, Callable | tuple | list) and np.ndim(item) > 0 for item in data
    )
    return GridEnergy() if has_arrays else GaussLegendre()
