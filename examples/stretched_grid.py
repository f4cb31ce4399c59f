"""Nodes where the solution needs them: a boundary layer, by coordinates that are stretched.

With x = X(ξ) along each axis, −∇·(a∇u) + c u = f becomes an equation on a uniform grid in ξ, of
which the coefficients are a J/Xᵢ′² along axis i, c J and f J, with J = ∏Xᵢ′.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from solvers import Grid, Poisson, solve

jax.config.update("jax_enable_x64", True)
EPSILON = 0.01  # the layers' thickness: −ε²Δu + u = f on the unit square, u = 0 on the boundary


def profile(x: jax.Array) -> jax.Array:
    """B of the solution B(x) B(y), with −ε²B″ + B = 1."""
    return 1 - jnp.cosh((x - 0.5) / EPSILON) / jnp.cosh(0.5 / EPSILON)


def exact(x: jax.Array, y: jax.Array) -> jax.Array:
    return profile(x) * profile(y)


def source(x: jax.Array, y: jax.Array) -> jax.Array:
    return profile(x) + profile(y) - exact(x, y)


def stretched(strength: float) -> Callable[[jax.Array], jax.Array]:
    """X on [0, 1], with nodes the denser at both ends the larger the strength."""
    return lambda t: (1 + jnp.tanh(strength * (2 * t - 1)) / jnp.tanh(strength)) / 2


def error(n: int, X: Callable[[jax.Array], jax.Array]) -> float:
    """The largest error on n × n intervals."""
    slope = jnp.vectorize(jax.grad(X))
    problem = Poisson(
        Grid((n, n)),
        source=lambda s, t: source(X(s), X(t)) * slope(s) * slope(t),
        diffusion=(
            lambda s, t: EPSILON**2 * slope(t) / slope(s),
            lambda s, t: EPSILON**2 * slope(s) / slope(t),
        ),
        reaction=lambda s, t: slope(s) * slope(t),
    )
    solution = solve(problem)
    s, t = problem.grid.coordinates()
    return float(jnp.max(jnp.abs(solution.field - exact(X(s), X(t)))))


for n in (32, 64):
    even, dense = error(n, lambda t: t), error(n, stretched(2.0))
    print(f"{n}²: error {even:.4f} on even nodes, {dense:.4f} on stretched ones")
