"""Energies that are quadratic in what a network gives at fixed points."""

import abc
import math
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from nets.ansatz import Ansatz, Network
from nets.networks import PureNetwork
from nets.sharding import PointSharding
from solvers.compiler import HIGHEST
from solvers.operators import EllipticOperator

Array = jax.Array | np.ndarray  # in double precision while the energy is put together
# Points of which the derivatives by some hundreds of parameters stay in the cache.
BLOCK = 512


class RitzEnergy(eqx.Module):
    """E = ½⟨q, Hq⟩ − ⟨ℓ, q⟩ + const, q linear in the function u at fixed points.

    q has shape (F, N): F numbers, such as u and its derivatives, at each of N points.

    Attributes:
        ansatz: of u, at the points.
        constant: all that does not depend on the network.
        sharding: static; which points are on which device.
    """

    ansatz: eqx.AbstractVar[Ansatz]
    constant: eqx.AbstractVar[Array]
    sharding: eqx.AbstractVar[PointSharding]

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

    @abc.abstractmethod
    def split(self, sharding: PointSharding) -> "RitzEnergy":
        """The same energy with its points on the devices of a mesh, from one with all on one.

        Points without weight make their number divide.
        """

    def parts(self, most: int) -> "RitzEnergy":
        """Energies of at most `most` points of a device each, stacked, of which the sum is E.

        Up to a constant; and only one, of all points, where H joins any with any.
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
    sharding: PointSharding = eqx.field(static=True, default=PointSharding())

    def features_of(self, ansatz: Ansatz, network: Network) -> jax.Array:
        u, gradient = ansatz.values_and_gradient(network)
        return jnp.stack([u, *gradient])

    def curvature(self, q: jax.Array) -> jax.Array:
        return jnp.stack([self.mass, *self.stiffness]) * q

    def split(self, sharding: PointSharding) -> "PointEnergy":
        order = sharding.order((len(self.mass), 1))
        weights = self.stiffness, self.mass, self.load
        stiffness, mass, load = sharding.deal_weights(weights, order)
        return PointEnergy(
            ansatz=sharding.deal(self.ansatz, order),
            stiffness=stiffness,
            mass=mass,
            load=load,
            constant=sharding.copied(self.constant),
            sharding=sharding,
        )

    def parts(self, most: int) -> "PointEnergy":
        def cut(tree: Any, mode: str) -> Any:
            return jax.tree.map(lambda x: self.sharding.parts(x, most, mode), tree)

        # What fills the last part up are points of the box, without weight.
        stiffness, mass, load = cut((self.stiffness, self.mass, self.load), "constant")
        return PointEnergy(
            ansatz=cut(self.ansatz, "edge"),
            stiffness=stiffness,
            mass=mass,
            load=load,
            constant=jnp.zeros(len(mass), mass.dtype),
            sharding=self.sharding,
        )

    @property
    def loads(self) -> jax.Array:
        load = jnp.asarray(self.load)
        return jnp.stack([load, *[jnp.zeros_like(load)] * len(self.stiffness)])


class NodalEnergy(RitzEnergy):
    """∏h·(½zᵀAz − rᵀz) + E(G), u = G + z at the unknowns, r = b − A G; and a penalty.

    q is d·N, in each share of the points first at rows of unknowns, then at points of the penalty,
    where m is. ∏h r is in ℓ. r is formed in the grid's precision: in single precision
    b − A u loses the digits that boundary data over h² takes.

    Split over devices each has whole rows of the grid's first axis, of which A joins only the
    outermost ones with those of other devices; coefficients that vary are on all of them.
    """

    ansatz: Ansatz
    operator: EllipticOperator
    mass: Array
    load: Array
    constant: Array
    sharding: PointSharding = eqx.field(static=True, default=PointSharding())

    def features_of(self, ansatz: Ansatz, network: Network) -> jax.Array:
        return (ansatz.factor * network(ansatz.inputs))[None]

    def curvature(self, q: jax.Array) -> jax.Array:
        grid, shares = self.operator.grid, self.sharding.shares
        own = self.sharding.rows(grid.shape[0]) * math.prod(grid.shape[1:])
        each = q.reshape(shares, -1)
        inside = grid.cell_volume * self.operator.mv(self._field(each[:, :own]))
        beyond = self.mass.reshape(shares, -1) * each[:, own:]
        return self.sharding.split(jnp.concatenate([self._rows(inside), beyond], 1)).reshape(1, -1)

    @property
    def loads(self) -> jax.Array:
        return jnp.asarray(self.load)[None]

    def split(self, sharding: PointSharding) -> "NodalEnergy":
        rows, *rest = self.operator.grid.shape
        beyond = len(self.mass), 1
        order = sharding.order((rows, math.prod(rest)), beyond)
        return NodalEnergy(
            ansatz=sharding.deal(self.ansatz, order),
            operator=sharding.copied(self.operator),
            mass=sharding.deal_weights(self.mass, sharding.order(beyond)),
            load=sharding.deal_weights(self.load, order),
            constant=sharding.copied(self.constant),
            sharding=sharding,
        )

    def _field(self, rows: jax.Array) -> jax.Array:
        """Put each share's rows of unknowns together, shape `grid.shape`."""
        number, *rest = self.operator.grid.shape
        return self.sharding.split(rows.reshape(-1, *rest)[:number])

    def _rows(self, field: jax.Array) -> jax.Array:
        """The reverse, with rows of 0 to fill up."""
        shares, number = self.sharding.shares, len(field)
        missing = shares * self.sharding.rows(number) - number
        filled = jnp.pad(field, [(0, missing)] + [(0, 0)] * (field.ndim - 1))
        return filled.reshape(shares, -1)


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
        """JᵀHJ, J = ∂q/∂θ, shape (P, P); of J only as much at a time as stays in the cache.

        Each device sums over its own points; only the sums go from device to device, once.
        """
        size, sharding = ravel_pytree(params)[0].size, self.energy.sharding

        def add(total: jax.Array, energy: RitzEnergy) -> tuple[jax.Array, None]:
            J = RitzLoss(energy, self.network).jacobian(params)
            HJ = jax.vmap(energy.curvature, -1, -1)(J)
            own, image = (x.reshape(len(x), sharding.shares, -1, size) for x in (J, HJ))
            product = jnp.einsum("fsnp,fsnq->spq", own, image, precision=HIGHEST)
            return sharding.split(total + product), None

        zero = jnp.zeros((sharding.shares, size, size), self.energy.constant.dtype)
        total, _ = jax.lax.scan(add, sharding.split(zero), self.energy.parts(BLOCK))
        return sharding.whole(jnp.sum(total, axis=0))

    def dual(self, params: Any) -> jax.Array:
        """HJJᵀ, shape (FN, FN), for more parameters than numbers in q."""
        J = self.jacobian(params)
        HJ = jax.vmap(self.energy.curvature, -1, -1)(J)
        wide = (x.reshape(-1, J.shape[-1]) for x in (HJ, J))
        return jnp.einsum("np,mp->nm", *wide, precision=HIGHEST)
