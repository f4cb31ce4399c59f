"""Numbers of twice the precision, as unevaluated sums of two: double-single, double-double.

A pair is (high, low), the number high + low, |low| at most half a unit in the last place of high.
What makes it work are transformations without error: `two_sum` and `two_product` give a rounded
result and exactly what rounding took from it.

The compiler must not undo them. XLA does not reassociate sums unless it is told to
(`--xla_cpu_enable_fast_math`, which is off), but it does contract: a·b + c, compiled, is one
rounding of the exact value on CPUs and GPUs, here as in openxla/xla#41579. A product that is
rounded in one place and not in another would break a sum of it. So nothing here sums a product that
is not exact: factors are cut in halves, whose products have no rounding error to leave out, and all
is the same whether or not they are contracted.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from solvers.operators import EllipticOperator, neighbours

Pair = tuple[jax.Array, jax.Array]


def two_sum(a: jax.Array, b: jax.Array) -> Pair:
    """a + b = s + e with s the rounded sum; `a`, `b` no products that are not exact.

    Cost: 6 additions.

    Reference: Knuth 1998, The Art of Computer Programming 2, 3rd ed., §4.2.2, theorem B.

    Example:
        >>> s, e = two_sum(jnp.float32(1), jnp.float32(1e-9))
        >>> float(s), float(e) == float(jnp.float32(1e-9))
        (1.0, True)
    """
    s = a + b
    b_part = s - a
    return s, (a - (s - b_part)) + (b - b_part)


def two_product(a: jax.Array, b: jax.Array) -> Pair:
    """a·b = p + e with p a rounded product, unless parts of it underflow.

    Factors are cut in halves by their bits, where Dekker has a multiplication that could be
    contracted. Their products are exact, and p is a sum, which other sums may use.

    Cost: 4 multiplications, 13 additions, and 2 additions and masks of integers.

    Reference: Dekker 1971, "A floating-point technique for extending the available precision",
    Numer. Math. 18, 224–242, doi:10.1007/BF01397083.

    Example:
        >>> p, e = two_product(jnp.float32(1.0000001), jnp.float32(1.0000001))
        >>> float(e) == 2.0**-46
        True
    """
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    middle, rest = two_sum(a_high * b_low, a_low * b_high)
    p = a_high * b_high + middle
    e = middle - (p - a_high * b_high)  # exact, as |middle| is the smaller
    return p, (e + rest) + a_low * b_low


def add(pair: Pair, b: jax.Array) -> Pair:
    """(high + low) + b, a pair again.

    Reference: Hida, Li, Bailey 2001, "Algorithms for quad-double precision floating point
    arithmetic", ARITH-15, §3, doi:10.1109/ARITH.2001.930115.
    """
    s, e = two_sum(pair[0], b)
    return two_sum(s, pair[1] + e)


def residual(operator: EllipticOperator, b: jax.Array, u: Pair) -> jax.Array:
    """b − A u of a pair u, rounded once: right to about ε|b − A u| + ε²|A||u|.

    A compensated sum: the leading parts of terms and sums are exact, and what rounding takes from
    each is added up beside them.

    Args:
        operator: A, whose coefficients are taken as they are stored.
        b: shape `grid.shape`.
        u: at the unknowns.

    Cost: one read of b, of both parts of u and of each coefficient array, one write; of constant
    coefficients 50 operations an axis, of others 100.

    Reference: Ogita, Rump, Oishi 2005, "Accurate sum and dot product", SIAM J. Sci. Comput. 26,
    1955–1988, algorithm 5.3, doi:10.1137/030601818.
    """
    high = low = jnp.zeros_like(b)
    for c, d in _terms(operator, u):
        p, e = two_product(c, d[0])
        high, lost = two_sum(high, p)
        low = low + (lost + (e + c * d[1]))
    r, lost = two_sum(b, -operator.weigh(high))
    return r + (lost - operator.weigh(low))


def shifted_rest(before: jax.Array, after: jax.Array, null: jax.Array | None) -> jax.Array:
    """What `after` lacks of `before` but for a constant: a field whose mean was removed, rounded.

    Added to the low part, it makes the shift one of the whole pair.

    Args:
        before, after: the shift, at the unknowns.
        null: where the constant was taken away; elsewhere both are 0. None for everywhere.
    """
    d, e = two_sum(before, -after)
    if null is None:
        return (d - jnp.mean(d)) + e
    mean = jnp.sum(jnp.where(null, d, 0)) / jnp.sum(null, dtype=d.dtype)
    return jnp.where(null, (d - mean) + e, 0)


def _terms(operator: EllipticOperator, u: Pair) -> Iterator[tuple[jax.Array, Pair]]:
    """Factors c and pairs d of which the rows of A u, before they are weighed, are Σ c·d.

    Differences come first: so the products are of the size of b, or at most of ∇u/h.
    """
    if operator.reaction is not None:
        yield operator.reaction, u
    for axis in range(operator.grid.ndim):
        low, high = operator.face_pair(axis)
        below, above = zip(*(neighbours(operator.grid, x, axis) for x in u), strict=True)
        to_below, to_above = _difference(u, below), _difference(u, above)
        if low is high:
            s, e = two_sum(to_below[0], to_above[0])
            yield low, (s, e + (to_below[1] + to_above[1]))
        else:
            yield low, to_below
            yield high, to_above


def _difference(u: Pair, v: Pair) -> Pair:
    """u − v, not renormalized."""
    d, e = two_sum(u[0], -v[0])
    return d, e + (u[1] - v[1])


def _halves(a: jax.Array) -> Pair:
    """`a` rounded to half of its digits, 12 or 26 bits, and the rest, of 11 or 26 and a sign."""
    bits, unsigned = (12, np.uint32) if a.dtype == jnp.float32 else (27, np.uint64)
    word = jax.lax.bitcast_convert_type(a, unsigned) + unsigned(2 ** (bits - 1))
    high = jax.lax.bitcast_convert_type(word & ~unsigned(2**bits - 1), a.dtype)
    return high, a - high
