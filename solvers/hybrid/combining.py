"""Which combination of several guesses a relaxation ends soonest from."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Share of the tolerance that a guess is trusted to be free of, beside its smooth modes: what keeps
# coefficients from growing for the sake of digits that no one needs.
TRUST = 0.03
# Steps are looked for from 1 to 2^40; a twenty-fifth of a doubling is left of that here.
DOUBLINGS, HALVINGS = 40, 10


def best_coefficients(
    errors: jax.Array, is_used: jax.Array, sizes: jax.Array, factors: jax.Array, wanted: jax.Array
) -> jax.Array:
    """Coefficients α, Σα = 1, of the guesses whose smooth error is the first to have died away.

    The error of Σᵢ αᵢuᵢ is Σᵢ αᵢeᵢ, and after m steps its modes are of the sizes sₖρₖᵐ times that.
    For each m the least sum of squares, and of (τα)², is at α ∝ G⁻¹1, the Gram matrix G of the
    errors so weighed with τ² added to its diagonal. The least m for which that meets the tolerance
    is found by halving. So the slowest modes cancel, one for each guess but the first.

    Args:
        errors: e in the smooth modes, a row each, shape (M, K).
        is_used: which rows count, shape (M,).
        sizes: sₖ, what a mode of amplitude 1 has in the norm of the tolerance, shape (K,).
        factors: ρₖ of a step, shape (K,).
        wanted: the tolerance.

    Cost: that of 10 Gram matrices, K M² each.

    Reference: Pulay 1980, "Convergence acceleration of iterative sequences", Chem. Phys. Lett. 73,
    doi:10.1016/0009-2614(80)80396-4, of which the weights by what remains are new.
    """
    eps = float(jnp.finfo(errors.dtype).eps)
    ones, unit = is_used.astype(errors.dtype), jnp.eye(len(errors), dtype=errors.dtype)
    errors = jnp.where(is_used[:, None], errors, 0)

    def least(doublings: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = errors * (sizes * factors ** (2**doublings - 1))[None, :]
        gram = rows @ rows.T
        tau2 = jnp.maximum((TRUST * wanted) ** 2, 8 * eps * jnp.trace(gram))
        tau2 = jnp.where(tau2 > 0, tau2, 1)
        alpha = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(gram + tau2 * unit), True), ones)
        alpha /= jnp.sum(alpha)
        return alpha, jnp.linalg.norm(alpha @ rows)

    found = least_doublings(lambda d: least(d)[1] <= wanted, HALVINGS, errors.dtype)
    return least(found)[0]


def least_doublings(
    is_enough: Callable[[jax.Array], jax.Array], halvings: int, dtype: Any
) -> jax.Array:
    """The least d from 0 to `DOUBLINGS` of which 2^d − 1 steps are enough, by halving."""

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        middle = (bounds[0] + bounds[1]) / 2
        enough = is_enough(middle)
        return jnp.where(enough, bounds[0], middle), jnp.where(enough, middle, bounds[1])

    bounds = jnp.zeros((), dtype), jnp.full((), DOUBLINGS, dtype)
    return jax.lax.fori_loop(0, halvings, halve, bounds)[1]
