"""The effective target of a layer: what the layers behind it have to learn.

It is the map from the layer's output on the training inputs to the true labels, a function of as
many variables as the layer has neurons, given by samples. `low_frequency_ratio` takes it as x,
scaled by `scaled_coordinates`, and y.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from nets.filtering import checked_samples
from solvers.arguments import as_count

NAME = "_recorded_output"


def layer_outputs(
    model: nnx.Module, path: str | Sequence[str | int], inputs: Any, *, batch: int = 512
) -> jax.Array:
    """Run a model and return what one of its layers gives, without changes to the model.

    A copy of the model runs, in evaluation mode: without dropout, and with the running averages of
    batch normalisation. An activation that the model applies itself, behind the layer, is not part
    of the layer: apply it to what is returned.

    Args:
        model: any module that is called with the inputs alone.
        path: where the layer is in it, as in "blocks.2.conv" or ("blocks", 2, "conv").
        inputs: shape (N, …), as the model takes them.
        batch: how many of them at a time.

    Returns:
        Outputs, flattened: shape (N, features).

    Raises:
        ValueError: if there is no such layer, naming those that there are; if the model does not
            call it, or more than once; if its output is not one array with a row for each input.

    Cost: one pass of the model; it is compiled once for each layer and batch.

    Reference: Xu, Zhou 2021, "Deep frequency principle towards understanding why deeper learning
    is faster", AAAI, arXiv 2007.14313, effective target function.

    Example:
        >>> from nets.networks import MLP
        >>> network = MLP(2, (16, 8), rngs=nnx.Rngs(0))
        >>> x = jnp.tanh(layer_outputs(network, "layers.1", jnp.zeros((5, 2))))
        >>> bool(jnp.all(x == network.features(jnp.zeros((5, 2))))), x.shape
        (True, (5, 8))
    """
    wanted = path if isinstance(path, str) else _dotted(path)
    if wanted not in (names := _layers(model)):
        found = ", ".join(name for name in names if name) or "none"
        raise ValueError(f"path: there is no layer {wanted!r}; expected one of {found}")
    inputs = jnp.asarray(inputs)
    if inputs.ndim == 0 or inputs.size == 0:
        raise ValueError(f"inputs: expected shape (N, …), no axis of 0, got {inputs.shape}")
    size, batch = len(inputs), min(as_count("batch", batch), len(inputs))
    graph, state = nnx.split(model)
    outputs = []
    for start in range(0, size, batch):
        begin = min(start, size - batch)  # the last batch is as long as the others, and overlaps
        part = _outputs(graph, state, wanted, inputs[begin : begin + batch])
        outputs.append(part[start - begin :])
    return jnp.concatenate(outputs)


@partial(jax.jit, static_argnames=("graph", "path"))
def _outputs(graph: Any, state: Any, path: str, inputs: jax.Array) -> jax.Array:
    """Output of the layer for one batch, shape (batch, features)."""
    model = nnx.merge(graph, state)
    model.eval()
    layer = _layers(model)[path]
    object.__setattr__(layer, "__class__", _recording(type(layer)))
    _, recorded = nnx.capture(model, nnx.Intermediate)(inputs)
    calls = next((v for p, v in nnx.to_flat_state(recorded) if p[-1] == NAME), ())
    if len(calls) != 1:
        raise ValueError(
            f"path: expected a layer that the model calls once, {path!r} is called {len(calls)} "
            "times"
        )
    (output,) = calls
    if not isinstance(output, jax.Array) or output.shape[:1] != inputs.shape[:1]:
        raise ValueError(
            f"path: expected a layer that returns an array with {len(inputs)} rows, a row for "
            f"each input, {path!r} returns {jax.tree.map(jnp.shape, output)}"
        )
    return output.reshape(len(inputs), -1)


@cache
def _recording(kind: type) -> type:
    """A kind of layer that records its outputs, for the copy of a layer to become.

    `nnx.capture(method_outputs=…)` does not see methods that a layer's class inherits.
    """

    class Recording(kind):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            output = super().__call__(*arguments, **options)
            self.sow(nnx.Intermediate, NAME, output)
            return output

    return Recording


def _layers(model: nnx.Module) -> dict[str, nnx.Module]:
    """All modules in a model that can be called, by path; the model itself is at ""."""
    modules = {_dotted(path): module for path, module in nnx.iter_modules(model)}
    return {path: module for path, module in sorted(modules.items()) if callable(module)}


def _dotted(path: Sequence[Any]) -> str:
    return ".".join(map(str, path))


def scaled_coordinates(x: Any) -> jax.Array:
    """Scale each coordinate of samples to [−1, 1], so that layers can be compared.

    xᵢ ← (xᵢ − mean of xᵢ) / max |xᵢ − mean of xᵢ|; a coordinate that is constant becomes 0.

    Args:
        x: samples, shape (N, d).

    Returns:
        shape (N, d).

    Raises:
        ValueError: for a wrong shape, or an empty or non-finite input.

    Reference: the code published with Xu, Zhou 2021, arXiv 2007.14313.

    Example:
        >>> print(scaled_coordinates(jnp.array([[1.0, 7], [2, 7], [6, 7]])).round(2))
        [[-0.67  0.  ]
         [-0.33  0.  ]
         [ 1.    0.  ]]
    """
    (points,) = checked_samples(x)
    centred = points - jnp.mean(points, 0, keepdims=True)
    largest = jnp.max(jnp.abs(centred), 0, keepdims=True)
    # The mean of equal numbers differs from them by rounding, which is no variation.
    is_constant = jnp.ptp(points, 0, keepdims=True) == 0
    return jnp.where(is_constant, 0, centred / jnp.where(is_constant, 1, largest))
