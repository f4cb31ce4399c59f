"""What the compiler is told where its own choice is bad: stages, rounds, precision.

XLA fuses a value into all that read it, and computes it again for each neighbour that a stencil
looks at: stage upon stage, fifty times the work. What keeps stages apart depends on the platform.
The CPU's compiler drops barriers before it fuses, so that only a loop does; a loop of which the
device finds the end makes the host of a GPU wait at every round, 10 to 20 µs, as long as a sweep
of 1000² nodes takes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from solvers.placement import default_platform

Tree = TypeVar("Tree")

# Of products of matrices: by default a GPU rounds factors of single precision to ten bits, a TPU to
# seven.
HIGHEST = jax.lax.Precision.HIGHEST
# Rounds between two looks at the counter where the host has to wait for it.
BLOCK = 10


def apart(values: Tree, never: jax.Array) -> Tree:
    """Give `values` back, computed once and written out, whatever reads them.

    Args:
        values: arrays.
        never: false, in a way that the compiler cannot know.
    """
    return jax.lax.platform_dependent(
        never, values, cpu=_by_loop, default=lambda _, values: jax.lax.optimization_barrier(values)
    )


def unknown_false(x: jax.Array) -> jax.Array:
    """False, in a way that the compiler cannot know: whether the first entry of `x` exceeds ∞."""
    first = jax.lax.slice(x, (0,) * x.ndim, (1,) * x.ndim)
    return first.reshape(()) > jnp.inf


def rounds(step: Callable[[Tree], Tree], count: jax.Array, carry: Tree) -> Tree:
    """Do `step`, of a few operations, `count` times.

    Where the host waits at every look at the counter, and a loop is dear, `BLOCK` rounds are
    written out between two looks.
    """

    def in_blocks(count: jax.Array, carry: Tree) -> Tree:
        def block(carry: Tree) -> Tree:
            return _loop(lambda c: jax.lax.optimization_barrier(step(c)), BLOCK, carry, unroll=True)

        return _loop(step, count % BLOCK, _loop(block, count // BLOCK, carry))

    return jax.lax.platform_dependent(count, carry, cpu=partial(_loop, step), default=in_blocks)


def fixed_rounds(step: Callable[[Tree], Tree], count: int, carry: Tree, never: jax.Array) -> Tree:
    """Do `step` `count` times, each a stage.

    Args:
        never: false, in a way that the compiler cannot know. It would open a loop of one round; on
            the CPU it may not, for a sweep in a loop works in place.
    """
    number = jax.lax.platform_dependent(
        never,
        cpu=lambda never: count + never.astype(jnp.int32),
        default=lambda never: jnp.full_like(never, count, jnp.int32),
    )
    return _loop(lambda carry: jax.lax.optimization_barrier(step(carry)), number, carry)


def short_loop(
    step: Callable[[Any, Tree], Tree], count: int, carry: Tree, *, opens: bool = True
) -> Tree:
    """Do `step(i, carry)` for i from 0 to `count` − 1, written out where `prefers_long_programs`.

    Args:
        opens: false for a loop that would be too much to compile.
    """
    unroll = (opens and prefers_long_programs()) or None
    return jax.lax.fori_loop(0, count, step, carry, unroll=unroll)


def prefers_long_programs() -> bool:
    """Whether a round of a loop is dear, as some kernels of a few µs each are; not on the CPU.

    Asked for when a program is traced, since to trace it both ways would take a second more: on
    another device than the default one this may be the slower choice.
    """
    return default_platform() != "cpu"


def _loop(step: Callable[[Tree], Tree], count: Any, carry: Tree, unroll: Any = None) -> Tree:
    return jax.lax.fori_loop(0, count, lambda _, c: step(c), carry, unroll=unroll)


def _by_loop(never: jax.Array, values: Tree) -> Tree:
    # The body, never run, is the least that the compiler cannot leave out: a quarter less to
    # compile than a change of all values, in a loop that counts.
    def change(state: tuple[jax.Array, Tree]) -> tuple[jax.Array, Tree]:
        goes_on, values = state
        return ~goes_on, jax.tree.map(_with_a_zero, values)

    return jax.lax.while_loop(lambda state: state[0], change, (never, values))[1]


def _with_a_zero(x: Any) -> Any:
    zero = jnp.zeros((1,) * x.ndim, x.dtype)
    return jax.lax.dynamic_update_slice(x, zero, (0,) * x.ndim) if x.size else x
