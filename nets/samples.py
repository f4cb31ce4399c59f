"""The samples of a fit: checked, and together with all else named for its checkpoints."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nets.checkpoints import digest, program_digest
from nets.learning import Batches, Learner, Position


def as_samples(inputs: Any, targets: Any, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """Inputs and targets on the device, in the training's precision, or int32 for integers."""
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    is_class = np.issubdtype(targets.dtype, np.integer)
    for name, array in (("inputs", inputs), ("targets", targets)):
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise ValueError(
                f"{name}: expected finite numbers, got {array.dtype} with others among them"
            )
    if not inputs.ndim or not len(inputs) or inputs.shape[:1] != targets.shape[:1]:
        raise ValueError(
            "inputs, targets: expected as many of the one as of the other, at least one, "
            f"got shapes {inputs.shape} and {targets.shape}"
        )
    return jnp.asarray(inputs, dtype), jnp.asarray(targets, np.int32 if is_class else dtype)


def check_samples(learner: Learner, params: Any, rest: Any, samples: Any) -> None:
    """Whether the model takes the inputs, and the loss its outputs and the targets."""
    inputs, targets = samples
    try:
        outputs, _ = jax.eval_shape(learner.outputs, params, rest, inputs)
    except (TypeError, ValueError) as error:
        raise ValueError(f"inputs: the model does not take {inputs.shape}: {error}") from error
    value = jax.eval_shape(learner.loss, outputs, targets)
    if getattr(value, "shape", None) != ():
        raise ValueError(f"loss: expected one that gives a number, got {value}")
    is_class = jnp.issubdtype(targets.dtype, jnp.integer) and outputs.ndim == 2
    if is_class and targets.ndim == 1:
        low, high, classes = int(targets.min()), int(targets.max()), outputs.shape[1]
        if low < 0 or high >= classes:
            raise ValueError(
                f"targets: expected classes from 0 to {classes - 1}, the model's outputs, "
                f"got some from {low} to {high}"
            )


def platform(samples: Any) -> str:
    """Where the samples are: cpu, gpu or tpu."""
    (device,) = samples[0].devices()
    return device.platform


def configuration(
    learner: Learner, start: Position, samples: Any, batches: Batches, *, compiled_loop: bool
) -> dict[str, Any]:
    """All that the bits of a fit depend on, by the names of its arguments.

    Programs are named by their jaxprs: an optax optimiser shows its learning rate nowhere else.
    """
    params, rest, state = start
    outputs = jax.eval_shape(learner.outputs, params, rest, samples[0])[0]

    def update(gradient: Any) -> Any:
        value = optax.tree.norm(gradient)
        return learner.optimizer.update(
            gradient, state, params, value=value, grad=gradient, value_fn=optax.tree.norm
        )

    return {
        "model": program_digest(learner.outputs, params, rest, samples[0]),
        "model's parameters at the start": digest(params, rest),
        "inputs": digest(samples[0]),
        "targets": digest(samples[1]),
        "loss": program_digest(learner.loss, jnp.zeros(outputs.shape, outputs.dtype), samples[1]),
        "optimizer": program_digest(update, params),
        "batch": batches.size or batches.number,
        "seed": None if batches.size is None else batches.seed,
        "compiled_loop": compiled_loop,
        "platform": platform(samples),
        "version of jax": jax.__version__,
    }
