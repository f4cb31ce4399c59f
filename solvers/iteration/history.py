"""A record of residual norms that is bounded however long the solve is."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

HISTORY = 1024


class History(NamedTuple):
    """Residual norms and their steps, at most `HISTORY` of them, −1 where unused.

    One look in `stride` is kept; when the record is full, every other entry goes and the stride
    doubles.
    """

    norms: jax.Array
    steps: jax.Array
    count: jax.Array
    stride: jax.Array


def empty(dtype: jax.typing.DTypeLike) -> History:
    """Give a history with nothing in it."""
    unused = jnp.full(HISTORY, -1, jnp.int32)
    return History(unused.astype(dtype), unused, jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32))


def record(history: History, look: jax.Array, step: jax.Array, norm: jax.Array) -> History:
    """Add the norm found at the `look`-th look, the first of which is number 0."""
    keep = look % history.stride == 0
    at = history.count
    norms = history.norms.at[at].set(jnp.where(keep, norm, history.norms[at]))
    steps = history.steps.at[at].set(jnp.where(keep, step, history.steps[at]))
    history = History(norms, steps, at + keep.astype(jnp.int32), history.stride)
    # One place stays free for the final residual. A branch would make the host of a GPU wait.
    is_full = history.count == HISTORY - 1
    return jax.tree.map(lambda a, b: jnp.where(is_full, a, b), _thin(history), history)


def finish(history: History, step: jax.Array, norm: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Give norms and steps with the final residual as the last entry."""
    is_new = history.steps[history.count - 1] != step
    at = jnp.where(is_new, history.count, history.count - 1)
    return history.norms.at[at].set(norm), history.steps.at[at].set(step)


def _thin(history: History) -> History:
    def every_other(values: jax.Array) -> jax.Array:
        kept = values[: HISTORY - 1 : 2]
        return jnp.full_like(values, -1).at[: HISTORY // 2].set(kept)

    norms, steps = every_other(history.norms), every_other(history.steps)
    return History(norms, steps, jnp.full_like(history.count, HISTORY // 2), history.stride * 2)
