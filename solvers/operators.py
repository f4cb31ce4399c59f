"""The elliptic operator −∇·(a∇u) + c u on a grid, as a lineax operator."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from solvers.arguments import checked, expect, is_traced
from solvers.grid import Boundary, Cells, Grid
from solvers.sides import SideValues, add_on_sides, on_side, read_sides, side_pairs


class EllipticOperator(lx.AbstractLinearOperator):
    """−∇·(a∇u) + c u with homogeneous boundary data, second order, symmetric.

    On every unknown, with faces half-way to the neighbours and hᵢ the spacing,

        (Au)_j = W_j · ( Σᵢ [a_{j−½}(u_j − u_{j−1}) + a_{j+½}(u_j − u_{j+1})]/(wᵢhᵢ²) + c_j u_j ),
        c_j = c + Σᵢ α/(wᵢhᵢ) over the Neumann sides that j lies on,

    where neighbours beyond a Dirichlet side are 0, a Neumann side has no outer face, wᵢ is ½ on a
    Neumann side and 1 elsewhere and W = ∏wᵢ: interior rows are the equation as written, a row is
    halved once for each Neumann side it lies on, and A = Aᵀ in the plain inner product. Nodal a
    gives faces by the harmonic mean, a of `Cells` by the mean of the cells around a face, so that
    materials meet on the lines between nodes.

    Args:
        grid: where.
        diffusion: a > 0. A number, an array on all nodes, `Cells`, or a callable of the
            coordinates; or a tuple of these, one per axis. May be traced.
        reaction: c ≥ 0. A number, an array on all nodes, `Cells`, or a callable. May be traced; a
            traced c is taken to make a problem without Dirichlet sides regular.
        robin: α ≥ 0 of a ∂u/∂n + αu = 0 on Neumann sides, given as the flux of `Poisson`; a traced
            one as a traced c.

    Attributes:
        conductances: a/hᵢ² per axis, a scalar or an array on the faces, low to high, one more than
            there are unknowns along that axis.
        reaction: None where c and α are 0, else the scalar c, or all c_j at the unknowns.
        filled: unknowns at which there is a medium or u is given, None without a medium.
        null: of a singular problem with a medium the same, where constants are the null space.
        coupling: static; aᵢ/hᵢ² per axis relative to the largest, rounded to powers of √2. Arrays
            count by their geometric means, traced ones as isotropic.

    Raises:
        ValueError: if a coefficient has the wrong shape, or is known and a ≤ 0, c < 0 or α < 0;
            traced ones count as NaN there.

    Cost: one read of u and of each coefficient array, one write.

    Example:
        >>> operator = EllipticOperator(Grid(4))
        >>> print(operator.mv(jnp.array([0.0, 1.0, 0.0])))
        [-16.  32. -16.]
    """

    grid: Grid
    conductances: tuple[jax.Array, ...]
    reaction: jax.Array | None
    filled: jax.Array | None
    null: jax.Array | None
    coupling: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, grid: Grid, diffusion: Any = 1.0, reaction: Any = 0.0, robin: Any = 0.0):
        expect("grid", grid, Grid, "a Grid, such as Grid((64, 64))")
        self.grid = grid
        given = _diffusion_per_axis(grid, diffusion)
        self.conductances = _conductances(grid, given)
        self.reaction = _reaction(grid, reaction, robin)
        values = tuple(a.values if isinstance(a, Cells) else a for a in given)
        self.filled, self.null = None, None
        self.coupling = _coupling(grid, values)

    @property
    def is_constant(self) -> bool:
        """Whether a (per axis) and c are single numbers."""
        reaction_ndim = 0 if self.reaction is None else self.reaction.ndim
        return reaction_ndim == 0 and all(c.ndim == 0 for c in self.conductances)

    @property
    def is_singular(self) -> bool:
        """Whether constants are the null space: c = 0 and no Dirichlet side."""
        has_no_pull = self.reaction is None or self.null is not None
        return has_no_pull and not self.grid.has_dirichlet_side

    @property
    def is_bipartite(self) -> bool:
        """Whether nodes fall into two colours with no neighbours of one colour."""
        grid = self.grid
        return not any(grid.is_periodic(d) and grid.intervals[d] % 2 for d in range(grid.ndim))

    def mv(self, vector: jax.Array) -> jax.Array:
        """A u, shape `grid.shape`: the one place where the equation is written down.

        Differences are formed before they are multiplied, so that a smooth u loses no digits.
        """
        u = vector
        rows = None if self.reaction is None else self.reaction * u
        for axis in range(self.grid.ndim):
            low, high = self.face_pair(axis)
            before, after = neighbours(self.grid, u, axis)
            flow = low * (u - before) + high * (u - after)
            if low is high:
                flow = low * ((u - before) + (u - after))
            rows = flow if rows is None else rows + flow
        assert rows is not None
        return self.weigh(rows)

    def boundary_load(self, boundary_field: jax.Array) -> jax.Array:
        """What Dirichlet values put into the right-hand side, W Σ a g/(wᵢhᵢ²), shape `grid.shape`.

        Args:
            boundary_field: g, shape `grid.full_shape`, 0 at the unknowns.
        """
        rows = jnp.zeros(self.grid.shape, self.grid.dtype)
        for axis, conditions in enumerate(self.grid.boundary):
            g, size = boundary_field[self.grid.across(axis)], self.grid.shape[axis]
            for side, (condition, a) in enumerate(
                zip(conditions, self.face_pair(axis), strict=True)
            ):
                if condition is Boundary.DIRICHLET:
                    given = jax.lax.index_in_dim(g, -side, axis, keepdims=False)
                    rows = rows + a * on_side(given, axis, side, size)
        return self.weigh(rows)

    def face_pair(self, axis: int) -> tuple[jax.Array, jax.Array]:
        """Coefficients a/(wᵢhᵢ²) towards the low and the high neighbour along `axis`.

        They broadcast to `grid.shape`; for constant a without a Neumann side they are one scalar.
        """
        conductance = self.conductances[axis]
        sides, size = self.grid.boundary[axis], self.grid.shape[axis]
        shares = 1 / self.grid.row_weights(axis)
        if conductance.ndim > 0:
            low = jax.lax.slice_in_dim(conductance, 0, size, axis=axis)
            high = jax.lax.slice_in_dim(conductance, 1, size + 1, axis=axis)
            if Boundary.NEUMANN not in sides:
                return low, high
            share = self._along(shares, axis)
            return low * share, high * share
        if Boundary.NEUMANN not in sides:
            return conductance, conductance
        faces = open_faces(self.grid, axis)
        low, high = faces[:-1] * shares, faces[1:] * shares
        return conductance * self._along(low, axis), conductance * self._along(high, axis)

    def conductances_on_faces(self) -> tuple[jax.Array, ...]:
        """The conductances as arrays, 0 on the outer faces of Neumann sides."""
        grid, found = self.grid, []
        for axis, conductance in enumerate(self.conductances):
            if conductance.ndim == 0:
                conductance = conductance * self._along(open_faces(grid, axis), axis)
            shape = [n + (d == axis) for d, n in enumerate(grid.shape)]
            found.append(jnp.broadcast_to(conductance, shape))
        return tuple(found)

    def weigh(self, rows: jax.Array) -> jax.Array:
        """W · rows: halve a row once for each Neumann side it lies on."""
        for axis, sides in enumerate(self.grid.boundary):
            if Boundary.NEUMANN in sides:
                rows = rows * self._along(self.grid.row_weights(axis), axis)
        return rows

    def diagonal(self) -> jax.Array:
        """The diagonal D, a scalar where all rows are alike, else of shape `grid.shape`."""
        pairs = [self.face_pair(axis) for axis in range(self.grid.ndim)]
        total = sum((low + high for low, high in pairs), jnp.zeros((), self.grid.dtype))
        return self.weigh(total if self.reaction is None else total + self.reaction)

    def _along(self, values: np.ndarray, axis: int) -> jax.Array:
        shape = [1] * self.grid.ndim
        shape[axis] = -1
        return jnp.asarray(values.reshape(shape), self.grid.dtype)

    # What lineax asks of an operator.

    def as_matrix(self) -> jax.Array:
        """A as a dense matrix of N² entries, for looking at and for tests."""
        return _dense(self)

    def transpose(self) -> "EllipticOperator":
        return self

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.grid.shape, self.grid.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return self.in_structure()


@jax.jit
def _dense(operator: EllipticOperator) -> jax.Array:
    size = operator.grid.size
    basis = jnp.eye(size, dtype=operator.grid.dtype).reshape(size, *operator.grid.shape)
    return jax.vmap(operator.mv)(basis).reshape(size, size)


@lx.linearise.register(EllipticOperator)
@lx.materialise.register(EllipticOperator)
@lx.conj.register(EllipticOperator)
def _(operator: EllipticOperator) -> EllipticOperator:
    return operator


@lx.diagonal.register(EllipticOperator)
def _(operator: EllipticOperator) -> jax.Array:
    return jnp.broadcast_to(operator.diagonal(), operator.grid.shape).reshape(-1)


@lx.tridiagonal.register(EllipticOperator)
def _(operator: EllipticOperator) -> tuple[jax.Array, jax.Array, jax.Array]:
    grid = operator.grid
    low, high = (operator.weigh(jnp.broadcast_to(c, grid.shape)) for c in operator.face_pair(0))
    return lx.diagonal(operator), -low[1:], -high[:-1]


@lx.is_symmetric.register(EllipticOperator)
@lx.is_positive_semidefinite.register(EllipticOperator)
def _(operator: EllipticOperator) -> bool:
    return True


@lx.is_tridiagonal.register(EllipticOperator)
def _(operator: EllipticOperator) -> bool:
    return operator.grid.ndim == 1 and not operator.grid.is_periodic(0)


@lx.is_diagonal.register(EllipticOperator)
@lx.is_lower_triangular.register(EllipticOperator)
@lx.is_upper_triangular.register(EllipticOperator)
@lx.has_unit_diagonal.register(EllipticOperator)
@lx.is_negative_semidefinite.register(EllipticOperator)
def _(operator: EllipticOperator) -> bool:
    return False


def neighbours(grid: Grid, u: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The low and the high neighbour of every node along `axis`: 0 beyond a side, or wrapped.

    Each is one padded slice, which fuses into the loop that uses it. One array with ghost values
    all round, sliced many times, is written out first: measured 1.7 times slower in 1-D.
    """
    size = u.shape[axis]
    first, last = (jax.lax.slice_in_dim(u, i, i + 1, axis=axis) for i in (0, size - 1))
    inner = jax.lax.slice_in_dim(u, 0, size - 1, axis=axis)
    outer = jax.lax.slice_in_dim(u, 1, size, axis=axis)
    if grid.is_periodic(axis):
        return jnp.concatenate([last, inner], axis), jnp.concatenate([outer, first], axis)
    return _pad(inner, axis, 1, 0), _pad(outer, axis, 0, 1)


def _pad(u: jax.Array, axis: int, low: int, high: int) -> jax.Array:
    return jnp.pad(u, [(low, high) if d == axis else (0, 0) for d in range(u.ndim)])


def open_faces(grid: Grid, axis: int) -> np.ndarray:
    """1 for each face along `axis`, 0 for the outer one of a Neumann side; unknowns + 1 faces."""
    faces = np.ones(grid.shape[axis] + 1)
    low, high = grid.boundary[axis]
    faces[0] *= low is not Boundary.NEUMANN
    faces[-1] *= high is not Boundary.NEUMANN
    return faces


def _diffusion_per_axis(grid: Grid, diffusion: Any) -> tuple[jax.Array | Cells, ...]:
    """One scalar, nodal array or `Cells` of an array per axis."""

    def read(a: Any) -> jax.Array | Cells:
        name, is_cells = "diffusion", isinstance(a, Cells)
        values = grid.cells(name, a) if is_cells else grid.sample(name, a)
        wanted = "a positive finite number (the problem is elliptic)"
        values = checked(name, values, wanted, lambda x: x <= 0)
        return Cells(values) if is_cells else values

    if not isinstance(diffusion, Sequence):
        return (read(diffusion),) * grid.ndim
    if len(diffusion) != grid.ndim:
        raise ValueError(
            f"diffusion: expected one entry for each of {grid.ndim} axes, or an array of "
            f"shape {grid.full_shape}, got a sequence of {len(diffusion)}"
        )
    return tuple(map(read, diffusion))


def diffusion_at_nodes(grid: Grid, diffusion: Any) -> tuple[jax.Array, ...]:
    """a of each axis, numbers or on all nodes."""
    given = diffusion if isinstance(diffusion, Sequence) else (diffusion,) * grid.ndim
    return tuple(grid.sample("diffusion", a) for a in given)


def _conductances(grid: Grid, given: tuple[jax.Array | Cells, ...]) -> tuple[jax.Array, ...]:
    """a/hᵢ² as scalars, or on faces where any of them varies."""
    squares = tuple(jnp.asarray(h**2, grid.dtype) for h in grid.spacing)
    numbers = [a for a in given if not isinstance(a, Cells) and a.ndim == 0]
    if len(numbers) < grid.ndim:
        return _on_faces(grid, given, squares)
    return tuple(a / h2 for a, h2 in zip(numbers, squares, strict=True))


@jax.jit
def _on_faces(
    grid: Grid, given: tuple[jax.Array | Cells, ...], squares: tuple[jax.Array, ...]
) -> tuple[jax.Array, ...]:
    """a/hᵢ² on the faces along each axis, by means of what is around them."""
    found = []
    for axis, (a, h2) in enumerate(zip(given, squares, strict=True)):
        across = grid.across(axis)
        if isinstance(a, Cells):
            faces = grid.around(a.values, [d for d in range(grid.ndim) if d != axis])[across]
        else:
            faces = _between_nodes(grid, axis, jnp.broadcast_to(a, grid.full_shape)[across])
        found.append(with_outer(grid, axis, faces) / h2)
    return tuple(found)


def with_outer(grid: Grid, axis: int, faces: jax.Array) -> jax.Array:
    """One more than there are unknowns: a ring's seam twice, closed ones on Neumann sides."""
    if grid.is_periodic(axis):
        return jnp.concatenate([jax.lax.slice_in_dim(faces, -1, None, axis=axis), faces], axis)
    closed = [int(side is Boundary.NEUMANN) for side in grid.boundary[axis]]
    return jnp.pad(faces, [closed if d == axis else (0, 0) for d in range(grid.ndim)])


def _between_nodes(grid: Grid, axis: int, a: jax.Array) -> jax.Array:
    """The harmonic mean of each node and the next one; of a ring the last and the first, too."""
    low, high = a, jnp.roll(a, -1, axis)
    # A product low·high would leave float32's range.
    faces = 2 * low * (high / (low + high))
    return jax.lax.slice_in_dim(faces, 0, grid.intervals[axis], axis=axis)


def _reaction(grid: Grid, reaction: Any, robin: Any) -> jax.Array | None:
    """None, the number c, or each c_j."""
    c = checked_reaction(grid.sample("reaction", reaction))
    alpha = read_sides("robin", side_pairs("robin", robin, grid), grid, signed=False)
    if any(value is not None for pair in alpha for value in pair):
        return _with_robin(grid, c, alpha)
    if not is_traced(c) and not np.asarray(c).any():
        return None
    return c if c.ndim == 0 else c[grid.unknowns]


def checked_reaction(c: jax.Array) -> jax.Array:
    """Give c ≥ 0, as `checked` does."""
    wanted = "a finite number that is not negative (c < 0 is Helmholtz)"
    return checked("reaction", c, wanted, lambda x: x < 0)


@jax.jit
def _with_robin(grid: Grid, c: jax.Array, alpha: SideValues) -> jax.Array:
    """Each c_j."""
    return add_on_sides(grid, jnp.broadcast_to(c, grid.full_shape)[grid.unknowns], alpha)


def _coupling(grid: Grid, values: tuple[jax.Array, ...]) -> tuple[float, ...]:
    a = [1.0] * grid.ndim
    is_one_for_all = all(x is values[0] for x in values)
    if not is_one_for_all and not any(map(is_traced, values)):
        a = [float(np.exp(np.mean(np.log(np.asarray(x, np.float64))))) for x in values]
    strengths = [x / h**2 for x, h in zip(a, grid.spacing, strict=True)]
    largest = max(strengths)
    return tuple(2.0 ** (round(2 * math.log2(s / largest)) / 2) for s in strengths)
