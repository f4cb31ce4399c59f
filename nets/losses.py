"""What a supervised training minimises: functions of a model's outputs and its targets."""

import jax
import jax.numpy as jnp


def mean_squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Give the mean of (h − y)² over all samples and all their numbers.

    Args:
        outputs: h, shape (N,) or (N, m).
        targets: y, of the same shape.

    Raises:
        ValueError: if the shapes differ: (N,) and (N, 1) would broadcast to N² differences.

    Example:
        >>> float(mean_squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])))
        2.0
    """
    if outputs.shape != targets.shape:
        raise ValueError(
            f"targets: expected the shape of the model's outputs, {outputs.shape}, "
            f"got {targets.shape}"
        )
    return jnp.mean((outputs - targets) ** 2)


def cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Give the mean of −log softmax(h)_c over all samples, c being the class of each.

    Args:
        outputs: h, shape (N, classes), without softmax.
        targets: c, integers from 0 to classes − 1, shape (N,).

    Raises:
        ValueError: if the targets are no integers, or the shapes do not fit.

    Example:
        >>> float(cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 1, 3])))  # log 4
        1.386294
    """
    if outputs.ndim != 2 or targets.shape != outputs.shape[:1]:
        raise ValueError(
            f"targets: expected one class for each of the model's outputs (N, classes), "
            f"got shapes {targets.shape} and {outputs.shape}"
        )
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise ValueError(f"targets: expected integers, one class each, got {targets.dtype}")
    chosen = jnp.take_along_axis(outputs, targets[:, None], 1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(outputs, axis=1) - chosen)
