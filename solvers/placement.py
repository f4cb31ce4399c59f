"""Where arrays live: one device, or a mesh of them, over which grid functions are spread.

The compiler does the rest: a stencil on spread arrays becomes neighbour exchanges by itself. Inside
a program that runs on a mesh the mesh is JAX's abstract one, of which the axis i is called `grid i`
and splits axis i of every grid function. XLA splits any length n over p devices, ⌈n/p⌉ entries each
and less on the last; arrays between programs have to be divisible, so that there they are padded
with zeros. That moves nothing: the entries of a device stay with it.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, get_abstract_mesh

NAMES = ("grid 0", "grid 1", "grid 2")
# Entries in all, and per device and axis, below which a grid function is whole on every device.
# Then it is small beside the coarsest level of multigrid, which is, up to some thousand devices.
SMALLEST, FEWEST = 512, 2

Tree = TypeVar("Tree")


def default_platform() -> str:
    """The platform of the device that runs what asks for no other: cpu, gpu or tpu."""
    config: Any = jax.config
    chosen = config.jax_default_device
    if chosen is None:
        return jax.default_backend()
    return chosen if isinstance(chosen, str) else chosen.platform


def is_spread() -> bool:
    """Whether what is being traced runs on a mesh of more than one device."""
    return bool(_splits())


def spread(tree: Tree) -> Tree:
    """Split grid functions over the mesh, and keep all else, and small ones, whole.

    The largest of a tree decides for all of them: blocks of a level stay together. The identity
    where there is no mesh.
    """
    shapes = [jnp.shape(x) for x in jax.tree.leaves(tree)]
    largest = {len(s): tuple(map(max, *[t for t in shapes if len(t) == len(s)], s)) for s in shapes}
    return _constrained(tree, lambda shape: spec_of(largest[len(shape)]))


def whole(tree: Tree) -> Tree:
    """Have all of the arrays on every device; the identity where there is no mesh."""
    return _constrained(tree, lambda shape: PartitionSpec())


def spec_of(shape: tuple[int, ...]) -> PartitionSpec:
    """How the mesh splits an array of this shape: its last axes are the grid's."""
    splits = _splits()
    ndim = len(get_abstract_mesh().axis_names)
    lead = len(shape) - ndim
    own = shape[max(lead, 0) :]
    is_small = math.prod(own) < SMALLEST or any(own[d] < FEWEST * p for d, p in splits.items())
    if lead < 0 or is_small:
        return PartitionSpec()
    names = [NAMES[d] if d in splits else None for d in range(ndim)]
    return PartitionSpec(*[None] * lead, *names)


def devices_along(shape: tuple[int, ...]) -> tuple[int, ...]:
    """How many devices share each axis of a grid function of this shape."""
    splits = _splits() if spec_of(shape) != PartitionSpec() else {}
    return tuple(splits.get(d, 1) for d in range(len(shape)))


def split_apply(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Apply a function to the parts of some arrays on each device; parts that fit are expected.

    The first array is split as the result is.
    """
    specs = tuple(spec_of(x.shape) for x in arrays)
    mesh = get_abstract_mesh()
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=specs[0])(*arrays)


def exchanged(
    low: jax.Array, high: jax.Array, axis: int, *, wraps: bool
) -> tuple[jax.Array, jax.Array]:
    """Within `split_apply`: send to the devices below and above; give what these send.

    Zeros come from beyond the ends of the mesh, or what the other end sends.
    """
    count = get_abstract_mesh().shape[NAMES[axis]]
    up = [(i, (i + 1) % count) for i in range(count if wraps else count - 1)]
    down = [(target, source) for source, target in up]
    before = jax.lax.ppermute(high, NAMES[axis], up)
    return before, jax.lax.ppermute(low, NAMES[axis], down)


def along_lines(function: Callable[[jax.Array], jax.Array], u: jax.Array, axis: int) -> jax.Array:
    """Apply what works on whole lines along `axis`, on each by itself, and keeps their lengths.

    On a mesh that splits the lines, each device first sends a part of what it has to each other one
    that has parts of the same lines, and gets it back afterwards.
    """
    splits = _splits()
    if not splits or spec_of(u.shape) == PartitionSpec() or u.ndim == 1:
        return function(whole(u))
    count, across = splits.get(axis, 1), (axis + 1) % u.ndim
    length, name = u.shape[axis], NAMES[axis]

    def on_whole_lines(part: jax.Array) -> jax.Array:
        if count > 1:
            part = jax.lax.all_to_all(part, name, across, axis, tiled=True)
        found = function(jax.lax.slice_in_dim(part, 0, length, axis=axis))
        found = _resized(found, part.shape)
        return jax.lax.all_to_all(found, name, axis, across, tiled=True) if count > 1 else found

    steps = {d: splits.get(d, 1) * (count if d == across else 1) for d in range(u.ndim)}
    sizes = tuple(_rounded(n, steps[d]) for d, n in enumerate(u.shape))
    found = split_apply(on_whole_lines, spread(_resized(u, sizes)))
    return spread(_resized(found, u.shape))


class Placed(eqx.Module, Generic[Tree]):
    """A problem, or what comes of it, with its arrays on a mesh of devices.

    Attributes:
        arrays: the leaves; grid functions padded at the high ends with zeros and split.
        shapes: of the leaves without padding; static.
        mesh: with one axis for each axis of the grid, of which some may be 1; static.
    """

    arrays: list[Any]
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)
    mesh: Mesh = eqx.field(static=True)

    @property
    def like(self) -> Tree:
        """The tree with shapes and types in the place of arrays."""
        pairs = zip(self.arrays, self.shapes, strict=True)
        leaves = [jax.ShapeDtypeStruct(shape, x.dtype) for x, shape in pairs]
        return jax.tree.unflatten(self.structure, leaves)

    def inside(self) -> Tree:
        """The tree itself, for use in a program that runs `on(mesh)`."""
        leaves = [spread(_resized(x, s)) for x, s in zip(self.arrays, self.shapes, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)

    def collect(self) -> Tree:
        """The tree with whole arrays on one device, in every process."""
        everywhere = jax.jit(lambda x: x, out_shardings=NamedSharding(self.mesh, PartitionSpec()))
        arrays = [jnp.asarray(np.asarray(x)) for x in everywhere(self.arrays)]
        leaves = [_resized(x, s) for x, s in zip(arrays, self.shapes, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)


@contextmanager
def on(mesh: Mesh) -> Iterator[None]:
    """Trace and run what follows for `mesh`; within other programs, trace it."""
    try:
        entered: Any = jax.set_mesh(mesh)
    except ValueError:  # within another program, where devices follow from its arguments
        entered = jax.sharding.use_abstract_mesh(mesh.abstract_mesh)
    with entered:
        yield


def placed(tree: Tree, mesh: Mesh) -> Placed[Tree]:
    """Pad and split a tree at the end of a program that runs `on(mesh)`."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = [spread(_padded(jnp.asarray(x))) for x in leaves]
    return Placed(arrays, tuple(np.shape(x) for x in leaves), structure, mesh)


def like(problem: Any) -> Any:
    """A problem, or, where it is on a mesh, one with shapes and types in the place of arrays."""
    return problem.like if isinstance(problem, Placed) else problem


def apply(function: Callable[..., Any], problem: Any, *arguments: Any) -> Any:
    """Compile function(problem, *arguments) and run it where the problem is.

    On a mesh the function sees ordinary arrays, `Placed` arguments too; of its results, arrays on
    the nodes or the unknowns come back as `Placed`, and all others whole.

    Args:
        function: of a module, or else hashable; what is static about it is compiled in.
        problem: a `Poisson`, or one on a mesh.
        arguments: of the function.
    """
    if not isinstance(problem, Placed):
        # What eqx.filter_jit does, which takes 0.1 ms more: as long as some of these functions.
        leaves, structure = jax.tree.flatten((problem, arguments))
        static = tuple(None if eqx.is_array(x) else x for x in leaves)
        return _applied(function, structure, static, [x for x in leaves if eqx.is_array(x)])
    with on(problem.mesh):
        return _applied_on_mesh(function, problem, arguments)


def kept(function: Callable[..., tuple[Any, ...]], tree: Placed[Any], *arguments: Any) -> Any:
    """Compile function(tree, *arguments) and run it on the mesh; each of its results stays there.

    Other than by `apply`, whatever shapes there are in the results: a `Placed` for each.
    """
    with on(tree.mesh):
        return _kept(function, tree, arguments)


@eqx.filter_jit
def _kept(
    function: Callable[..., tuple[Any, ...]], tree: Placed[Any], arguments: tuple[Any, ...]
) -> tuple[Placed[Any], ...]:
    found = function(tree.inside(), *map(_entered, arguments))
    return tuple(placed(x, tree.mesh) for x in found)


def _entered(x: Any) -> Any:
    return x.inside() if isinstance(x, Placed) else x


@partial(jax.jit, static_argnums=(0, 1, 2))
def _applied(
    function: Callable[..., Any], structure: Any, static: tuple[Any, ...], arrays: list[jax.Array]
) -> Any:
    rest = iter(arrays)
    leaves = [next(rest) if x is None else x for x in static]
    problem, arguments = jax.tree.unflatten(structure, leaves)
    return function(problem, *arguments)


@eqx.filter_jit
def _applied_on_mesh(
    function: Callable[..., Any], problem: Placed[Any], arguments: tuple[Any, ...]
) -> Any:
    grid = like(problem).grid

    def left(x: Any) -> Any:
        is_on_grid = jnp.shape(x)[-grid.ndim :] in (grid.shape, grid.full_shape)
        return placed(x, problem.mesh) if is_on_grid else whole(x)

    inner = jax.tree.map(_entered, arguments, is_leaf=lambda x: isinstance(x, Placed))
    found, static = eqx.partition(function(problem.inside(), *inner), eqx.is_array)
    return eqx.combine(jax.tree.map(left, found), static, is_leaf=lambda x: isinstance(x, Placed))


def _padded(x: jax.Array) -> jax.Array:
    """A grid function with zeros added, so that its shape divides over the mesh."""
    parts = devices_along(x.shape)
    return _resized(x, tuple(_rounded(n, p) for n, p in zip(x.shape, parts, strict=True)))


def place(problem: Any, mesh: Mesh) -> Placed[Any]:
    """Put a problem on a mesh of devices, so that `solve` runs there.

    Axis i of the mesh splits axis i of the grid. Grids of any size will do. Small ones, of less
    than 512 nodes or two per device along a split axis, are kept whole on each device, as are the
    coarse levels of multigrid. What `solve` gives has arrays on the mesh, padded with zeros at the
    high ends to what it divides; `collect()` gives an ordinary `Solution`.

    Within jit a solve on a mesh raises nothing: look at its `reason`. Gradients through a solve
    that failed in the adjoint are NaN.

    Cost: a sweep, a residual or a cycle sends to neighbours what lies on the sides of a device's
    part, and gathers coarse levels; norms are one number each. The direct solver and relaxations of
    lines send all of the array, in parts, from each device to those on one line of the mesh.

    Args:
        problem: a `Poisson`, or a function that makes one: that is traced, and its callables are
            worked out in parts, so that a grid may be larger than a device. What is not traced is
            checked as ever: a coefficient that a callable gives is then only met by the solver.
        mesh: of at most as many axes as the grid has.

    Raises:
        ValueError: for arguments that are no such thing.

    Example:
        >>> from solvers import Grid, Poisson, place, solve
        >>> mesh = jax.make_mesh((1,), ("x",))
        >>> problem = place(Poisson(Grid(64), source=2.0), mesh)
        >>> print(solve(problem).collect().field[32].round(6))
        0.25
    """
    if not isinstance(mesh, Mesh):
        raise ValueError(f"mesh: expected a jax.sharding.Mesh, got {type(mesh).__name__}")
    is_made = hasattr(problem, "grid") and hasattr(problem, "rhs")
    like = eqx.filter_eval_shape(problem) if callable(problem) and not is_made else problem
    if not hasattr(like, "rhs"):
        raise ValueError(
            f"problem: expected a Poisson or a function that makes one, got {problem!r}"
        )
    ours = _mesh_of(mesh, like.grid.ndim)
    with on(ours):
        if not is_made:
            return eqx.filter_jit(lambda: placed(problem(), ours))()
        leaves, structure = jax.tree.flatten(problem)
        arrays = [_put(_padded(jnp.asarray(x)), ours) for x in leaves]
        return Placed(arrays, tuple(np.shape(x) for x in leaves), structure, ours)


def _put(x: jax.Array, mesh: Mesh) -> jax.Array:
    return jax.device_put(x, NamedSharding(mesh, spec_of(x.shape)))


def _mesh_of(mesh: Mesh, ndim: int) -> Mesh:
    """The same devices with an axis for each of the grid's, split by the compiler."""
    if mesh.devices.ndim > ndim:
        raise ValueError(f"mesh: expected at most {ndim} axes, as the grid has, got {mesh.shape}")
    devices = mesh.devices.reshape(*mesh.devices.shape, *[1] * (ndim - mesh.devices.ndim))
    return Mesh(devices, NAMES[:ndim], axis_types=(AxisType.Auto,) * ndim)


def _splits() -> dict[int, int]:
    """Devices along each axis that is split."""
    mesh = get_abstract_mesh()
    if mesh.axis_names[:1] != NAMES[:1]:
        return {}
    return {d: size for d, size in enumerate(mesh.axis_sizes) if size > 1}


def _constrained(tree: Tree, spec: Callable[[tuple[int, ...]], PartitionSpec]) -> Tree:
    if not is_spread():
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, spec(jnp.shape(x))), tree)


def _rounded(n: int, step: int) -> int:
    return -(-n // step) * step


def _resized(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Zeros added, or entries taken away, at the high ends."""
    widths = [(0, new - old, 0) for old, new in zip(x.shape, shape, strict=True)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), widths)
