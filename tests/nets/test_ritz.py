"""The Ritz energy: closed forms, stationarity at exact solutions, the publication's penalty."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nets import (
    MLP,
    GaussLegendre,
    GridEnergy,
    HardBoundary,
    PaperSum,
    PenaltyBoundary,
    input_size,
    ritz_energy,
)
from nets.ansatz import Network
from nets.boundaries import BoundaryTreatment
from nets.energies import NodalEnergy, PointEnergy
from nets.quadrature import Quadrature
from solvers.grid import Boundary, Cells, Grid
from solvers.problems import Poisson

D, N, P = Boundary.DIRICHLET, Boundary.NEUMANN, Boundary.PERIODIC


def value(energy: PointEnergy | NodalEnergy, network: Network) -> float:
    return float(jax.jit(lambda energy: energy(network))(energy))


def linear(inputs: jax.Array) -> jax.Array:
    """Return x + 2y + 3z on the unit box, from inputs in [−1, 1]."""
    t = (inputs + 1) / 2
    return sum(((d + 1) * t[:, d] for d in range(1, t.shape[1])), t[:, 0])


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_energy_of_a_linear_function_in_closed_form(ndim: int) -> None:
    """With u = x + 2y + 3z, a = 1 + x, c = 2, f = x and the flux 5 through the side x = 1."""
    flux = [(0.0, 5.0), *[(0.0, 0.0)] * (ndim - 1)]
    problem = Poisson(
        Grid((4,) * ndim, boundary=N),
        lambda *x: x[0],
        diffusion=lambda *x: 1 + x[0],
        reaction=2.0,
        flux=flux[0] if ndim == 1 else tuple(flux),
    )
    squares, rest = sum(k * k for k in range(1, ndim + 1)), sum(range(2, ndim + 1))
    mean = (1 + rest) / 2
    expected = (
        1.5 * squares / 2 + (squares / 12 + mean**2) - (1 / 3 + rest / 4) - 5 * (1 + rest / 2)
    )
    energy = ritz_energy(problem, quadrature=GaussLegendre(2), dtype=jnp.float64)
    assert value(energy, linear) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (
            Poisson(Grid((3, 3)), 0.0, diffusion=(2.0, 3.0)),
            7 + 10.0 * (4 / 3 + 13 / 3 + 1 / 3 + 19 / 3),
        ),
        (Poisson(Grid(3), 0.0, boundary_values=1.0), 0.5 + 10.0),
        (Poisson(Grid(3, boundary=(N, D)), 0.0, boundary_values=lambda x: 3 * x), 0.5 + 40.0),
    ],
)
def test_penalty_in_closed_form(problem: Poisson, expected: float) -> None:
    penalty = PenaltyBoundary(10.0)
    energy = ritz_energy(problem, boundary=penalty, quadrature=GaussLegendre(1), dtype=jnp.float64)
    assert value(energy, linear) == pytest.approx(expected, abs=1e-12)


def test_paper_sum_is_the_published_sum() -> None:
    grid = Grid(1000, -1, 1)
    x = np.linspace(-1, 1, 1001)
    expected = np.sum(np.cos(x) ** 2 / 2 - np.exp(x) * np.sin(x)) * 0.002 + 20 * np.sin(1) ** 2
    for source in (jnp.exp, jnp.exp(grid.coordinates()[0])):
        energy = ritz_energy(
            Poisson(grid, source),
            boundary=PenaltyBoundary(),
            quadrature=PaperSum(),
            dtype=jnp.float64,
        )
        assert value(energy, lambda inputs: jnp.sin(inputs[:, 0])) == pytest.approx(
            expected, abs=1e-12
        )


# Exact solutions, by which the energy has to be stationary.

Field = Callable[..., jax.Array]


def at_points(function: Field) -> Field:
    """Let a function of d numbers take d arrays."""
    return jax.jit(lambda *x: jax.vmap(function)(*map(jnp.ravel, x)).reshape(x[0].shape))


def manufacture(grid: Grid, u: Field, a: Field, c: Field, robin: float) -> Poisson:
    """Build the problem that u solves, its source by automatic differentiation."""
    axes = range(grid.ndim)

    def flow(*x: jax.Array) -> list[jax.Array]:
        return [a(*x) * slope for slope in jax.grad(u, argnums=tuple(axes))(*x)]

    def source(*x: jax.Array) -> jax.Array:
        divergence = sum(jax.grad(lambda *y, d=d: flow(*y)[d], argnums=d)(*x) for d in axes)
        return c(*x) * u(*x) - divergence

    flux = tuple(
        tuple(
            at_points(lambda *x, d=d, s=s: s * flow(*x)[d] + robin * u(*x)) if side is N else None
            for s, side in zip((-1, 1), grid.boundary[d], strict=True)
        )
        for d in axes
    )
    coefficients = {"diffusion": at_points(a), "reaction": at_points(c)}
    if grid.has_dirichlet_side:
        coefficients["boundary_values"] = at_points(u)
    if any(N in pair for pair in grid.boundary):
        coefficients["robin"] = robin
    return Poisson(
        grid, at_points(source), flux=flux[0] if grid.ndim == 1 else flux, **coefficients
    )


def wave(*x: jax.Array) -> jax.Array:
    """Return a function of period 1 in the last coordinate."""
    smooth = 1.0
    for d, y in enumerate(x[:-1]):
        smooth = smooth + jnp.sin((1 + d) * y)
    return smooth * jnp.cos(2 * jnp.pi * x[-1] + 0.3)


def unit(*x: jax.Array) -> jax.Array:
    return 1.0 + 0 * x[0]


GRIDS = {
    "mixed": Grid(8, boundary=(N, D)),
    "periodic": Grid(8, boundary=P),
    "mixed × periodic": Grid((6, 6), boundary=((D, N), P)),
    "all three": Grid((4, 4, 4), boundary=((N, D), D, P)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_exact_solutions_are_stationary(name: str) -> None:
    grid, boundary = GRIDS[name], HardBoundary()
    panels = (16, 8, 4)[grid.ndim - 1]
    a = lambda *x: 1 + x[0] * (1 - x[0])  # noqa: E731
    problem = manufacture(grid, wave, a, lambda *x: 1 + x[-1] * 0, robin=1.5)
    energy = ritz_energy(
        problem, boundary=boundary, quadrature=GaussLegendre(panels, points=8), dtype=jnp.float64
    )
    variation = MLP(input_size(grid), (8,), dtype=jnp.float64, rngs=nnx.Rngs(0))

    def coordinates(inputs: jax.Array) -> tuple[jax.Array, ...]:
        columns = iter(inputs.T)
        return tuple(
            jnp.arctan2(next(columns), next(columns)) / (2 * jnp.pi)
            if grid.is_periodic(d)
            else (next(columns) + 1) / 2
            for d in range(grid.ndim)
        )

    def perturbed(size: float) -> Callable[[jax.Array], jax.Array]:
        def network(inputs: jax.Array) -> jax.Array:
            x = coordinates(inputs)
            lift, factor = boundary.lift(problem), boundary.factor(grid)
            return (at_points(wave)(*x) - lift(*x)) / factor(*x) + size * variation(inputs)

        return network

    at = jax.jit(lambda size: energy(perturbed(size)))
    low, least, high = (float(at(size)) for size in (-0.1, 0.0, 0.1))
    curvature = high + low - 2 * least
    assert curvature > 0
    # What is left of the first variation is the quadrature's error; data gone wrong leaves it 1e2.
    assert abs(high - low) < 1e-4 * curvature


def test_the_penalty_biases_the_published_problem_as_derived() -> None:
    """Minimise over x and sines, whose span has the penalised solution u + 0.00898 x to 1e-6."""

    def source(x: jax.Array) -> jax.Array:
        return jnp.sin(x) + 4 * jnp.sin(4 * x) - 8 * jnp.sin(8 * x) + 16 * jnp.sin(24 * x)

    def exact(x: np.ndarray) -> np.ndarray:
        def g(x: np.ndarray) -> np.ndarray:
            return np.sin(x) + np.sin(4 * x) / 4 - np.sin(8 * x) / 8 + np.sin(24 * x) / 36

        return g(x) + (g(-1) - g(1)) / 2 * x

    def basis(inputs: jax.Array) -> jax.Array:
        frequencies = jnp.array([[1.0, 4.0, 8.0, 24.0]])
        return jnp.concatenate([inputs, jnp.sin(inputs * frequencies)], axis=1)

    for strength, bias in ((10.0, 8.98e-3), (100.0, 9.4e-4)):
        energy = ritz_energy(
            Poisson(Grid(1000, -1, 1), source),
            boundary=PenaltyBoundary(strength),
            dtype=jnp.float64,
        )

        def of(c: jax.Array, energy: PointEnergy | NodalEnergy = energy) -> jax.Array:
            return energy(lambda inputs: basis(inputs) @ c)

        zero = jnp.zeros(5)
        hessian, grad = jax.jit(lambda c: (jax.hessian(of)(c), jax.grad(of)(c)))(zero)
        c = np.linalg.solve(hessian, -np.asarray(grad))
        x = np.linspace(-1, 1, 101)
        error = np.asarray(basis(jnp.asarray(x)[:, None])) @ c - exact(x)
        np.testing.assert_allclose(error, error[-1] * x, atol=1e-9)
        assert abs(error[-1]) == pytest.approx(
            bias, rel=0.01
        )  # the derived numbers have 2–3 digits


@pytest.mark.parametrize("name", GRIDS)
def test_grid_energy_is_the_grids_own(name: str) -> None:
    grid = GRIDS[name]
    problem = manufacture(grid, wave, lambda *x: 1 + x[0] * (1 - x[0]), unit, robin=1.5)
    network = MLP(input_size(grid), (8,), dtype=jnp.float64, rngs=nnx.Rngs(0))
    energy = ritz_energy(problem, quadrature=GridEnergy(), dtype=jnp.float64)
    u = jax.jit(lambda ansatz: ansatz.values(network))(energy.ansatz).reshape(grid.shape)
    # b holds g/h², some 1e2, and the sum has 1e2 terms.
    assert value(energy, network) == pytest.approx(float(problem.energy(u)), abs=1e-11)


@pytest.mark.parametrize("quadrature", [GaussLegendre(4), GridEnergy()])
def test_constants_cost_nothing_in_a_singular_problem(quadrature: Quadrature) -> None:
    problem = Poisson(Grid(8, boundary=N), lambda x: x)  # not compatible: ∫f = ½
    energy = ritz_energy(problem, quadrature=quadrature, dtype=jnp.float64)
    one, other = (value(energy, lambda x, c=c: jnp.sin(x[:, 0]) + c) for c in (0.0, 100.0))
    assert one == pytest.approx(other, abs=1e-12)


def test_grid_energy_takes_a_penalty() -> None:
    problem = Poisson(Grid(10), 1.0, boundary_values=2.0)
    hard, soft = (
        ritz_energy(problem, boundary=boundary, quadrature=GridEnergy(), dtype=jnp.float64)
        for boundary in (HardBoundary(), PenaltyBoundary(10.0))
    )
    field = value(hard, lambda x: 0 * x[:, 0])  # u = 2
    assert value(soft, lambda x: 0 * x[:, 0] + 2) == pytest.approx(field, abs=1e-12)
    inside = float(problem.energy(jnp.full(9, 2.5)))
    assert value(soft, lambda x: 0 * x[:, 0] + 2.5) == pytest.approx(inside + 20 * 0.25, abs=1e-12)


NODAL = np.ones(9)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"source": 1.0}, PointEnergy),
        ({"source": jnp.sin, "diffusion": jnp.exp, "flux": (0.0, jnp.cos)}, PointEnergy),
        ({"source": NODAL}, NodalEnergy),
        ({"source": 1.0, "diffusion": NODAL}, NodalEnergy),
        ({"source": 1.0, "reaction": NODAL}, NodalEnergy),
        ({"source": 1.0, "boundary_values": NODAL}, NodalEnergy),
        ({"source": 1.0, "boundary_values": Cells(NODAL[1:])}, NodalEnergy),
        ({"source": 1.0, "flux": (0.0, np.asarray(2.0))}, PointEnergy),
    ],
)
def test_nodal_data_chooses_the_grid_energy(data: dict, kind: type) -> None:
    assert isinstance(ritz_energy(Poisson(Grid(8, boundary=(D, N)), **data)), kind)


@pytest.mark.parametrize("quadrature", [GaussLegendre(2), PaperSum(), GridEnergy()])
@pytest.mark.parametrize("boundary", [HardBoundary(), PenaltyBoundary()])
def test_single_precision_stays_single_under_x64(
    quadrature: Quadrature, boundary: BoundaryTreatment
) -> None:
    grid = Grid((4, 4), boundary=(D, (D, N)))
    problem = Poisson(grid, lambda x, y: x, diffusion=lambda x, y: 1 + x, boundary_values=1.0)
    energy = ritz_energy(problem, boundary=boundary, quadrature=quadrature)
    weights = jnp.ones((2, 3), jnp.float32)

    def loss(weights: jax.Array) -> jax.Array:
        return energy(lambda x: jnp.sum(jnp.tanh(x @ weights), axis=1))

    assert problem.rhs.dtype == np.float64
    assert "f64" not in str(jax.make_jaxpr(jax.value_and_grad(loss))(weights))


def numpy_only(*x: jax.Array) -> np.ndarray:
    return np.sin(np.asarray(x[0]))


@pytest.mark.parametrize(
    ("data", "quadrature", "message"),
    [
        ({"source": NODAL}, GaussLegendre(), "source: GaussLegendre needs a number or a callable"),
        ({"diffusion": NODAL}, GaussLegendre(), "diffusion: GaussLegendre needs"),
        ({"diffusion": Cells(NODAL[1:])}, PaperSum(), "diffusion: PaperSum needs.*GridEnergy"),
        (
            {"source": lambda x: 1 / (x - 0.3)},
            GaussLegendre(5, 1),
            "source: expected finite values",
        ),
    ],
)
def test_refuses(data: dict, quadrature: Quadrature, message: str) -> None:
    problem = Poisson(Grid(8), **({"source": 0.0} | data))
    with pytest.raises(ValueError, match=message):
        ritz_energy(problem, quadrature=quadrature)


def test_grid_energy_needs_no_derivative_of_the_data() -> None:
    problem = Poisson(Grid((8, 8)), 1.0, boundary_values=numpy_only)
    with pytest.raises(ValueError, match=r"boundary_values: .*jax\.numpy"):
        ritz_energy(problem)
    energy = ritz_energy(problem, quadrature=GridEnergy())
    assert math.isfinite(value(energy, lambda x: x[:, 0]))


@pytest.mark.parametrize("domain", ["inside", "medium"])
def test_a_domain_within_the_box_has_the_energy_of_its_grid(domain: str) -> None:
    """Where there is no equation, the network may be anything."""
    problem = Poisson(
        Grid((8, 6)), 1.0, boundary_values=lambda x, y: x, **{domain: lambda x, y: x + y - 0.4}
    )
    field = np.random.default_rng(0).normal(size=problem.grid.full_shape)
    field = jnp.where(problem.boundary_field == 0, field, problem.boundary_field)

    def network(inputs: jax.Array) -> jax.Array:
        places = jnp.round((inputs + 1) / 2 * np.array([[8, 6]])).astype(int)
        return field[places[:, 0], places[:, 1]]

    energy = ritz_energy(problem, boundary=PenaltyBoundary(1e-12), dtype=jnp.float64)
    assert isinstance(energy, NodalEnergy)
    field = problem.field(field[problem.grid.unknowns])
    assert float(energy(network)) == pytest.approx(float(problem.energy(field)), rel=1e-9)
    with pytest.raises(ValueError, match="quadrature: GaussLegendre knows the box only"):
        ritz_energy(problem, quadrature=GaussLegendre())
