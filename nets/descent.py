"""Optimiser steps in one compiled loop, and the running average of the parameters."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from nets.energies import RitzEnergy, RitzLoss
from nets.networks import PureNetwork


class Position(NamedTuple):
    """What a step changes.

    Attributes:
        params: θ.
        optimizer: state of the optimiser.
        average: of θ after each step so far, θ₀ before the first, or None.
    """

    params: Any
    optimizer: Any
    average: Any = None


class Descent(NamedTuple):
    """Steps of an optimiser down the energy of a network.

    The average of θ₁ … θ_t, with weights that fall by `decay` for each step back, follows

        θ̄_t = θ̄_{t−1} + w_t (θ_t − θ̄_{t−1}),    w_t = (1 − decay)/(1 − decayᵗ)

    which is the exponential moving average from 0, divided by 1 − decayᵗ as in Adam.

    Attributes:
        network: of parameters and inputs.
        optimizer: takes value, gradient and value function too.
        decay: of the average; None for no average.
    """

    network: PureNetwork
    optimizer: optax.GradientTransformationExtraArgs
    decay: float | None = None

    def start(self, params: Any) -> Position:
        """Before the first step."""
        average = None if self.decay is None else params
        return Position(params, self.optimizer.init(params), average)

    def steps(
        self,
        energy: RitzEnergy,
        position: Position,
        factors: jax.Array,
        taken: jax.Array,
        count: jax.Array,
    ) -> tuple[Position, jax.Array, jax.Array]:
        """`count` steps after `taken` ones, at most as many as there are factors of their sizes.

        Returns:
            Where they lead to; the energies before them; whether all is finite.
        """
        loss = RitzLoss(energy, self.network)

        def step(i: jax.Array, carry: Any) -> Any:
            (params, state, average), history = carry
            value, grad = jax.value_and_grad(loss)(params)
            updates, state = self.optimizer.update(
                grad, state, params, value=value, grad=grad, value_fn=loss
            )
            updates = jax.tree.map(lambda u: u * factors[i].astype(u.dtype), updates)
            params = optax.apply_updates(params, updates)
            average = self._averaged(average, params, taken + i + 1)
            return Position(params, state, average), history.at[i].set(value)

        history = jnp.zeros(factors.shape, energy.constant.dtype)
        position, history = jax.lax.fori_loop(0, count, step, (position, history))
        leaves = [jnp.all(jnp.isfinite(x)) for x in (history, *jax.tree.leaves(position.params))]
        return position, history, jnp.all(jnp.stack(leaves))

    def _averaged(self, average: Any, params: Any, step: jax.Array) -> Any:
        if self.decay is None:
            return None

        log = math.log(self.decay)

        def move(old: jax.Array, new: jax.Array) -> jax.Array:
            # 1 − decayᵗ by expm1, for a decay near 1 in single precision.
            weight = math.expm1(log) / jnp.expm1(log * step.astype(new.dtype))
            return old + weight * (new - old)

        return jax.tree.map(move, average, params)
