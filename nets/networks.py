"""Networks that take points of the box to values."""

import itertools
import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nets.ansatz import cast
from solvers.arguments import as_count, expect
from solvers.compiler import HIGHEST

# A network as a function of parameters and inputs, shape (N, inputs), to (N,).
PureNetwork = Callable[[Any, jax.Array], jax.Array]


class MLP(nnx.Module):
    """Multilayer perceptron, N(ξ) = W_L σ(… σ(W₁ξ + b₁) …) + b_L, one number for each point or m.

    A training scales every axis of the box to [−1, 1] before the network sees it, and gives a
    periodic axis as sine and cosine; `nets.input_size(grid)` counts the inputs.

    Three ways to draw the parameters:

    - by default weights ~ N(0, 1/fan_in) and biases 0;
    - `frequency` s makes the first layer W₁ ~ N(0, s²) and b₁ = −W₁·c, with a centre c uniform in
      [−1, 1]^inputs for each neuron, so that the neurons bend all over the box and reach up to
      about s radians per unit of ξ; the other layers keep the default;
    - `deviation` s draws all parameters, biases too, from N(0, s²), as the publication does.

    Args:
        inputs: number of inputs; 1 for a plain axis, 2 for a periodic one.
        widths: neurons of each hidden layer.
        outputs: m numbers for each point, such as one for each class; by default one, without an
            axis of its own, which is what a `RitzTraining` takes.
        frequency: s of the first layer, of the order of the highest frequency in the solution.
        deviation: s of all parameters.
        activation: σ, smooth where the energy needs ∇u.
        dtype: precision of the parameters, which is that of the training.
        rngs: `nnx.Rngs(seed)`.

    Raises:
        ValueError: if a size or scale is not positive, or both scales are given.

    Cost: 2·Σ wᵢwᵢ₊₁ floating-point operations a point; twice that with ∇N, and six times that for
        the gradient by the parameters of an energy with ∇N in it.

    Reference: Xu, Zhang, Luo, Xiao, Ma 2019, arXiv 1901.06523, section 5 (`deviation=0.02`).

    Example:
        >>> network = MLP(2, (16, 16), frequency=4.0, rngs=nnx.Rngs(0))
        >>> network(jnp.zeros((5, 2))).shape
        (5,)
        >>> MLP(784, (500, 500), outputs=10, rngs=nnx.Rngs(0))(jnp.zeros((5, 784))).shape
        (5, 10)
    """

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int] = (64, 64),
        *,
        outputs: int | None = None,
        frequency: float | None = None,
        deviation: float | None = None,
        activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.outputs = None if outputs is None else as_count("outputs", outputs)
        expect("widths", widths, Sequence, "a sequence, such as (64, 64)")
        expect("activation", activation, Callable, "a function, such as jnp.tanh")
        hidden = [as_count("widths", width) for width in widths]
        sizes = (as_count("inputs", inputs), *hidden, self.outputs or 1)
        if not hidden:
            raise ValueError("widths: expected at least one hidden layer, got none")
        if frequency is not None and deviation is not None:
            raise ValueError("frequency, deviation: expected at most one of them, got both")
        options: dict[str, Any] = {"param_dtype": dtype, "precision": HIGHEST, "rngs": rngs}
        if deviation is not None:
            normal = nnx.initializers.normal(_scale("deviation", deviation))
            options |= {"kernel_init": normal, "bias_init": normal}
        self.inputs = sizes[0]
        self.widths = sizes[1:-1]
        self.activation = activation
        pairs = itertools.pairwise(sizes)
        self.layers = nnx.List([nnx.Linear(low, high, **options) for low, high in pairs])
        if frequency is not None:
            _spread(self.layers[0], _scale("frequency", frequency), rngs)

    def __call__(self, points: jax.Array) -> jax.Array:
        """N at `points`, shape (N, inputs) to (N,), or to (N, outputs) where these are given."""
        if points.ndim != 2 or points.shape[1] != self.inputs:
            raise ValueError(f"points: expected shape (N, {self.inputs}), got {points.shape}")
        values = self.layers[-1](self.features(points))
        return values[:, 0] if self.outputs is None else values

    def features(self, points: jax.Array) -> jax.Array:
        """Output of the last hidden layer, shape (N, inputs) to (N, width): N is linear in it."""
        for layer in list(self.layers)[:-1]:
            points = self.activation(layer(points))
        return points


class FourierMLP(nnx.Module):
    """A perceptron of sines and cosines, N(ξ) = MLP(sin Bξ, cos Bξ), B fixed.

    Frequencies below those of B are learned about as fast as these.

    Args:
        inputs: number of inputs.
        frequencies: standard deviation of B ~ N(0, s²) in radians per unit of ξ, or B itself, shape
            (inputs, features).
        features: rows of B; 32 by default, not for a given B.
        widths, activation, dtype, rngs: as for `MLP`.

    Raises:
        ValueError: if a size or scale is not positive, or B has the wrong shape.

    Cost: of `MLP` with twice as many inputs as features.

    Reference: Tancik et al. 2020, "Fourier features let networks learn high frequency functions in
    low dimensional domains", NeurIPS, arXiv 2006.10739.

    Example:
        >>> network = FourierMLP(1, [[1.0, 2.0, 4.0]], rngs=nnx.Rngs(0))
        >>> network(jnp.zeros((5, 1))).shape
        (5,)
    """

    def __init__(
        self,
        inputs: int,
        frequencies: Any,
        *,
        features: int | None = None,
        widths: Sequence[int] = (64,),
        activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.inputs = as_count("inputs", inputs)
        if np.ndim(frequencies) == 0:
            scale = _scale("frequencies", frequencies)
            shape = self.inputs, as_count("features", 32 if features is None else features)
            matrix = scale * jax.random.normal(rngs.params(), shape, dtype)
        else:
            matrix = jnp.asarray(frequencies, dtype)
            if features is not None or matrix.ndim != 2 or len(matrix) != self.inputs:
                raise ValueError(
                    f"frequencies: expected a number, or an array ({self.inputs}, features) "
                    f"without features=, got shape {matrix.shape} and features={features!r}"
                )
        self.frequencies = nnx.Variable(matrix)
        count = 2 * matrix.shape[1]
        self.perceptron = MLP(count, widths, activation=activation, dtype=dtype, rngs=rngs)

    def __call__(self, points: jax.Array) -> jax.Array:
        """N at `points`, shape (N, inputs) to (N,)."""
        return self.perceptron(self._waves(points))

    def features(self, points: jax.Array) -> jax.Array:
        """Output of the last hidden layer, shape (N, inputs) to (N, width): N is linear in it."""
        return self.perceptron.features(self._waves(points))

    def _waves(self, points: jax.Array) -> jax.Array:
        if points.ndim != 2 or points.shape[1] != self.inputs:
            raise ValueError(f"points: expected shape (N, {self.inputs}), got {points.shape}")
        angles = jnp.matmul(points, self.frequencies[...], precision=HIGHEST)
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], 1)


class MultiscaleMLP(nnx.Module):
    """Perceptrons side by side, each of which sees the box stretched, N(ξ) = Σᵢ Nᵢ(αᵢξ).

    Each learns its own band of frequencies, at the pace at which a plain one learns low ones.

    Args:
        inputs: number of inputs.
        scales: αᵢ, one for each perceptron.
        widths, activation, dtype, rngs: of each, as for `MLP`; sine is a good activation here.

    Raises:
        ValueError: if a size or scale is not positive.

    Cost: that of `MLP` for each scale.

    Reference: Liu, Cai, Xu 2020, "Multi-scale deep neural network (MscaleDNN) for solving
    Poisson–Boltzmann equation in complex domains", Commun. Comput. Phys. 28, 1970–2001,
    arXiv 2007.11207.

    Example:
        >>> network = MultiscaleMLP(2, (1, 2, 4), widths=(16,), rngs=nnx.Rngs(0))
        >>> network.features(jnp.zeros((5, 2))).shape
        (5, 48)
    """

    def __init__(
        self,
        inputs: int,
        scales: Sequence[float] = (1.0, 2.0, 4.0, 8.0),
        *,
        widths: Sequence[int] = (32, 32),
        activation: Callable[[jax.Array], jax.Array] = jnp.sin,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.scales = tuple(_scale("scales", scale) for scale in scales)
        if not self.scales:
            raise ValueError("scales: expected at least one, got none")
        options: dict[str, Any] = {"activation": activation, "dtype": dtype, "rngs": rngs}
        self.parts = nnx.List([MLP(inputs, widths, **options) for _ in self.scales])

    def __call__(self, points: jax.Array) -> jax.Array:
        """N at `points`, shape (N, inputs) to (N,)."""
        values = [part(scale * points) for scale, part in zip(self.scales, self.parts, strict=True)]
        return sum(values[1:], values[0])

    def features(self, points: jax.Array) -> jax.Array:
        """Outputs of all last hidden layers, shape (N, inputs) to (N, Σ widths)."""
        pairs = zip(self.scales, self.parts, strict=True)
        return jnp.concatenate([part.features(scale * points) for scale, part in pairs], 1)


def split_network(model: nnx.Module) -> tuple[PureNetwork, Any]:
    """Take a model apart: a pure function of parameters and inputs, and the parameters.

    The parameters are plain arrays, so that nothing that is done with them reaches the model.

    Raises:
        ValueError: if the parameters have not one floating-point type in common.

    Example:
        >>> network, params = split_network(MLP(1, (4,), rngs=nnx.Rngs(0)))
        >>> network(params, jnp.zeros((3, 1))).shape
        (3,)
    """
    _, params, _ = nnx.split(model, nnx.Param, ...)
    params = nnx.as_pure(params)
    precision(params)
    return _pure(model, "__call__"), params


def split_features(model: nnx.Module) -> PureNetwork | None:
    """The model's last-layer features as a pure function: (N, inputs) to (N, k); None without."""
    return _pure(model, "features") if hasattr(model, "features") else None


def have_same_shapes(one: Any, other: Any) -> bool:
    """Whether two trees are built alike, of leaves of the same shapes and types."""
    (leaves, structure), (others, other_structure) = map(jax.tree.flatten, (one, other))

    def kinds(found: list[Any]) -> list[Any]:
        return [(np.shape(x), getattr(x, "dtype", None)) for x in found]

    return structure == other_structure and kinds(leaves) == kinds(others)


def same_but_for_params(one: nnx.Module, other: nnx.Module) -> bool:
    """Whether two models are the same function, but for their parameters and random states."""
    (graph, *_, rest), (other_graph, *_, other_rest) = (
        nnx.split(model, nnx.Param, nnx.RngState, ...) for model in (one, other)
    )
    leaves = zip(*map(jax.tree.leaves, (rest, other_rest)), strict=False)
    return graph == other_graph and all(np.array_equal(a, b) for a, b in leaves)


def _pure(model: nnx.Module, method: str) -> PureNetwork:
    """A method of the model as a function of parameters and inputs."""
    graph, _, rest = nnx.split(model, nnx.Param, ...)
    rest = nnx.as_pure(rest)

    def function(params: Any, inputs: jax.Array) -> jax.Array:
        return getattr(nnx.merge(graph, params, cast(rest, precision(params))), method)(inputs)

    return function


def precision(params: Any) -> np.dtype:
    """Give the one floating-point type of all parameters, or raise a `ValueError`."""
    kinds = {np.dtype(leaf.dtype) for leaf in jax.tree.leaves(params)}
    if len(kinds) != 1 or not all(jnp.issubdtype(kind, jnp.floating) for kind in kinds):
        found = ", ".join(sorted(map(str, kinds))) or "none"
        raise ValueError(f"model: expected parameters of one floating-point type, got {found}")
    return kinds.pop()


def _spread(layer: nnx.Linear, frequency: float, rngs: nnx.Rngs) -> None:
    """Draw W ~ N(0, frequency²) and b = −W·c, c uniform in [−1, 1]^inputs."""
    shape, dtype = layer.kernel[...].shape, layer.kernel[...].dtype
    weights = frequency * jax.random.normal(rngs.params(), shape, dtype)
    centres = jax.random.uniform(rngs.params(), shape, dtype, -1.0, 1.0)
    layer.kernel[...] = weights
    assert layer.bias is not None
    layer.bias[...] = -jnp.sum(weights * centres, axis=0)


def _scale(name: str, value: Any) -> float:
    if not isinstance(value, Real) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
    return float(value)


def check_evaluation(model: nnx.Module) -> None:
    """Refuse layers that make the output at a point depend on chance or on the other points.

    Raises:
        ValueError: for `nnx.BatchNorm` and `nnx.Dropout` that are not set to evaluation.
    """
    for path, layer in nnx.iter_modules(model):
        is_batch = isinstance(layer, nnx.BatchNorm) and not layer.use_running_average
        is_chance = isinstance(layer, nnx.Dropout) and not layer.deterministic
        if is_batch or is_chance:
            raise ValueError(
                f"model: {type(layer).__name__} at {'/'.join(map(str, path))} makes u at a point "
                "depend on chance or on the other points; leave it out, or call model.eval() first"
            )


def check_network(network: PureNetwork, params: Any, size: int) -> None:
    """Raise a `ValueError` for one that does not map (N, size) to (N,)."""
    points = jax.ShapeDtypeStruct((3, size), precision(params))
    try:
        result = jax.eval_shape(network, params, points)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"model: expected {size} inputs (one for each axis, two for a periodic one), "
            f"but it does not map (3, {size}) to (3,): {error}"
        ) from error
    if getattr(result, "shape", None) != (3,):
        raise ValueError(f"model: expected to map (3, {size}) to (3,), got {result}")
