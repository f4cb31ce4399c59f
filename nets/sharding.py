"""Points in equal shares, one for each device of a mesh."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

Array = jax.Array | np.ndarray
POINTS = "points"  # the one axis of a mesh here
# Of points that are worked out together: of an odd number XLA's CPU backend did 32 neurons on one
# thread, in twice the time.
MULTIPLE = 16


@dataclass(frozen=True)
class PointSharding:
    """N points in s equal shares, share k being points kN/s … (k + 1)N/s − 1 and on the kth device.

    What a program does with its arguments' points is split by JAX's compiler, which puts in what
    devices have to tell each other. Where shapes alone do not show it how to go on, a program says
    so by `split` and `whole`. Without a mesh there is one share, and none of this does anything.

    Args:
        mesh: the devices, along one axis, or None; see `as_sharding`.

    Example:
        >>> PointSharding().shares
        1
    """

    mesh: Mesh | None = None

    @property
    def shares(self) -> int:
        """s, one without a mesh."""
        return 1 if self.mesh is None else self.mesh.size

    def order(self, *groups: tuple[int, int]) -> np.ndarray:
        """Which point comes where, −1 for those that only fill shares up.

        Args:
            groups: of points one after the other, each n rows of w points: (n, w). Rows stay whole,
                and each share has as many of each group.

        Returns:
            indices of points, shape (N,).

        Example:
            >>> PointSharding().order((2, 3))
            array([0, 1, 2, 3, 4, 5])
        """
        columns, first = [], 0
        for rows, width in groups:
            indices = first + np.arange(self.shares * self.rows(rows) * width)
            indices[rows * width :] = -1
            columns.append(indices.reshape(self.shares, -1))
            first += rows * width
        return np.concatenate(columns, axis=1).ravel()

    def rows(self, number: int) -> int:
        """Of a group with so many, those in each share."""
        return -(-number // self.shares)

    def deal(self, tree: Any, order: np.ndarray) -> Any:
        """Put points on their devices, by the first axis of each array; the first one fills up."""
        if self.mesh is None:
            return tree
        return self._placed(jax.tree.map(lambda x: x[np.maximum(order, 0)], tree), 0)

    def deal_weights(self, tree: Any, order: np.ndarray) -> Any:
        """Likewise, with zeros where shares are filled up."""

        def weighed(x: Array) -> Array:
            return jnp.where(order < 0, jnp.zeros((), x.dtype), x[np.maximum(order, 0)])

        return tree if self.mesh is None else self._placed(jax.tree.map(weighed, tree), 0)

    def copied(self, tree: Any) -> Any:
        """Put arrays on each of the devices."""
        return self._placed(tree, None)

    def split(self, x: jax.Array, axis: int = 0) -> jax.Array:
        """Say in a program that an axis is split as the points are."""
        return x if self.mesh is None else jax.lax.with_sharding_constraint(x, self._along(axis))

    def whole(self, x: jax.Array) -> jax.Array:
        """Say in a program that each device has all of an array."""
        return x if self.mesh is None else jax.lax.with_sharding_constraint(x, self._along(None))

    def compiled(self, function: Any, *arguments: Any) -> Any:
        """Compile a program of such arguments, of which each device has all results."""
        if self.mesh is None:
            return jax.jit(function).lower(*arguments).compile()
        with jax.set_mesh(self.mesh):  # the caller may have set another
            program = jax.jit(function, out_shardings=self._along(None))
            return program.lower(*arguments).compile()

    def free(self, result: jax.Array) -> jax.Array:
        """What each device has, as an array that goes with those on one device and on any mesh.

        JAX refuses to mix arrays that are bound to different devices. This one is bound to none.
        """
        return result if self.mesh is None else jnp.asarray(np.asarray(result))

    def parts(self, x: jax.Array, most: int, mode: str = "constant") -> jax.Array:
        """Cut each share into equal parts of at most `most` points, filled up to `MULTIPLE`.

        Args:
            x: points along the first axis, shape (N, …).
            most: a multiple of `MULTIPLE`, or it is passed by less than that.
            mode: what fills up the last part of each share, as for `jnp.pad`.

        Returns:
            parts, shape (parts, points of all shares, …), the second axis split.
        """
        number = len(x) // self.shares
        count = -(-number // most)
        size = MULTIPLE * -(-number // (count * MULTIPLE))
        shares = x.reshape(self.shares, number, *x.shape[1:])
        widths = [(0, 0), (0, count * size - number)] + [(0, 0)] * (x.ndim - 1)
        cut = jnp.pad(shares, widths, mode=mode).reshape(self.shares, count, size, *x.shape[1:])
        return self.split(jnp.moveaxis(cut, 1, 0).reshape(count, -1, *x.shape[1:]), 1)

    def joined(self, parts: jax.Array, number: int) -> jax.Array:
        """Put the parts of `number` points together again, shape (number, …)."""
        count, rest = len(parts), parts.shape[2:]
        shares = jnp.moveaxis(parts.reshape(count, self.shares, -1, *rest), 1, 0)
        points = shares.reshape(self.shares, -1, *rest)[:, : number // self.shares]
        return self.split(points.reshape(number, *rest))

    def _placed(self, tree: Any, axis: int | None) -> Any:
        return tree if self.mesh is None else jax.device_put(tree, self._along(axis))

    def _along(self, axis: int | None) -> NamedSharding:
        assert self.mesh is not None
        spec = [] if axis is None else [*[None] * axis, POINTS]
        return NamedSharding(self.mesh, PartitionSpec(*spec))


def as_sharding(mesh: Any) -> PointSharding:
    """Check a `mesh=` and take its devices.

    Raises:
        ValueError: if it is no mesh of at least one device.
    """
    if mesh is None:
        return PointSharding()
    if not isinstance(mesh, Mesh) or mesh.size == 0:
        raise ValueError(
            "mesh: expected a jax.sharding.Mesh of at least one device, such as "
            f'jax.make_mesh((8,), ("points",)), got {mesh!r}'
        )
    # Whatever its axes are called and of what type they are, the compiler splits along all of them.
    return PointSharding(Mesh(mesh.devices.ravel(), (POINTS,), axis_types=(AxisType.Auto,)))
