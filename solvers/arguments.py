"""Arguments: turned into what the rest of the code expects, or refused in words that name them."""

import reprlib
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np


def is_traced(value: Any) -> bool:
    """Say whether `value` is a tracer, whose numbers cannot be looked at."""
    return isinstance(value, jax.core.Tracer)


def as_real(name: str, value: Any, dtype: Any, shapes: Sequence[tuple[int, ...]]) -> jax.Array:
    """Turn `value` into a real array of one of the `shapes`, or raise a `ValueError` naming it."""
    if any(map(is_traced, jax.tree.leaves(value))):
        return _as_real(name, value, dtype, shapes)
    # What is known stays known under jit: whether c is 0 decides how a problem is solved.
    with jax.ensure_compile_time_eval():
        return _as_real(name, value, dtype, shapes)


def _as_real(name: str, value: Any, dtype: Any, shapes: Sequence[tuple[int, ...]]) -> jax.Array:
    try:
        array = jnp.asarray(None if isinstance(value, str) else _without_integers(value, dtype))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected numbers, got {reprlib.repr(value)}") from error
    if array.dtype == bool or jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise ValueError(f"{name}: expected real numbers, got {array.dtype}")
    if array.shape not in shapes:
        wanted = " or ".join(str(shape) for shape in dict.fromkeys(shapes))
        raise ValueError(f"{name}: expected shape {wanted}, got {array.shape}")
    return array.astype(dtype)


def as_floating(value: Any, dtype: Any) -> jax.Array:
    """Integers and conditions in `dtype`; what is real keeps its precision.

    Raises:
        ValueError: for complex numbers.
    """
    value = jnp.asarray(_without_integers(value, dtype))
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise ValueError(f"expected real numbers, got {value.dtype}")
    return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(dtype)


def _without_integers(value: Any, dtype: Any) -> Any:
    """NumPy's integers as `dtype`: JAX would wrap 64 bits round where it has 32."""
    is_array = isinstance(value, np.ndarray | np.generic)
    return value.astype(dtype) if is_array and value.dtype.kind in "iu" else value


def as_number(name: str, value: Any, expected: str, bad: Callable[[Any], Any]) -> jax.Array:
    """Turn an argument that is one real number into an array, a leaf that can be traced.

    As a Python number it would be static, and each new value would compile again.

    Raises:
        ValueError: naming `name`, if it is not one number, or known and `bad` or not finite.
    """
    return checked(name, as_real(name, value, float, ((),)), expected, bad)


def as_count(name: str, value: Any) -> int:
    """Check an argument that counts something: a positive integer below 2^31, static."""
    is_count = not isinstance(value, bool) and isinstance(value, Integral)
    if not is_count or not 1 <= int(value) < 2**31:
        raise ValueError(f"{name}: expected a positive integer, got {value!r}")
    return int(value)


def checked(
    name: str, array: jax.Array, expected: str, bad: Callable[[Any], Any] = lambda x: False
) -> jax.Array:
    """Give `array`, with NaN where a traced entry is `bad` or not finite, so that a solve fails.

    Raises:
        ValueError: naming `name` and the first such entry, where it is known.
    """
    if is_traced(array):
        return jnp.where(bad(array) | ~jnp.isfinite(array), jnp.nan, array)
    values = np.asarray(array)
    wrong = np.asarray(bad(values)) | ~np.isfinite(values)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0]) if values.ndim else ()
        where = f" at index {place}" if place else ""
        raise ValueError(f"{name}: expected {expected}, got {values[place]}{where}")
    return array


def expect(name: str, value: Any, kinds: Any, expected: str) -> None:
    """Raise a `ValueError` that names the argument if `value` is none of the kinds.

    A class is none: it has the attributes that a protocol asks for, and was not called.
    """
    if isinstance(value, type) or not isinstance(value, kinds):
        raise ValueError(f"{name}: expected {expected}, got {reprlib.repr(value)}")


def per_axis(name: str, value: Any, ndim: int) -> tuple[Any, ...]:
    """Spread one value for all sides, or one entry per axis, to `ndim` entries.

    In 1-D a pair is the (low, high) pair of the only axis.
    """
    if not isinstance(value, tuple | list):
        return (value,) * ndim
    entries = tuple(tuple(entry) if isinstance(entry, list) else entry for entry in value)
    if ndim == 1 and len(entries) == 2:
        return (entries,)
    if len(entries) != ndim:
        raise ValueError(f"{name}: expected one entry per axis ({ndim}), got {len(entries)}")
    return entries
