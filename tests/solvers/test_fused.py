"""Fused sweeps against plain ones in Pallas's interpreters, and lowered for the TPU."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax.experimental import topologies
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import SingleDeviceSharding

from solvers import (
    Deflated,
    EllipticOperator,
    Grid,
    Jacobi,
    Multigrid,
    Poisson,
    Reason,
    as_preconditioner,
    solve,
)
from solvers.iteration import repeated
from solvers.relaxation import tiles
from tests.solvers.cases import sides

SWEEPS = 3


def operator_on(grid: Grid, coefficients: str) -> EllipticOperator:
    a, c = np.random.default_rng(3).uniform(0.5, 2, (2, *grid.full_shape))
    given: dict[str, tuple[Any, Any]] = {
        "one": (1.0, 0.0),
        "numbers": ((1.0, 2.0, 0.5)[: grid.ndim], 0.7),
        "reaction": (1.0, c),
        "diffusion": (a, 0.0),
        "both": (a, c),
    }
    return EllipticOperator(grid, *given[coefficients])


def after(method: Jacobi, operator: EllipticOperator, b: Any, u: Any) -> jax.Array:
    """SWEEPS sweeps at once, then one more."""

    @jax.jit
    def run(operator: EllipticOperator, b: jax.Array, u: jax.Array) -> jax.Array:
        setup = method.prepare(operator)
        carry = repeated(method, setup, b, method.start(setup, b, u), SWEEPS)
        return method.current(setup, method.step(setup, b, carry))

    return run(operator, b, u)


F, DOUBLE = np.float32, np.float64
TABLE = [
    # sides, intervals, coefficients, precision, KiB of fast memory, tiles along the axes cut
    ("DD-DD", (8, 8), "one", F, 500, (1,)),
    ("NN-DN", (150, 140), "numbers", F, 500, (4,)),
    ("DN-PP", (100, 9), "diffusion", DOUBLE, 500, (7,)),
    ("PP-ND", (121, 9), "both", F, 500, (4,)),
    ("PP-PP", (3, 128), "reaction", DOUBLE, 500, (1,)),
    ("ND-NN-PP", (5, 29, 128), "numbers", F, 700, (5, 4)),
    ("PP-PP-DN", (9, 29, 5), "both", DOUBLE, 3600, (5, 4)),
    ("DD-DN-DD", (4, 5, 128), "diffusion", F, 3000, (1, 1)),
]


@pytest.mark.parametrize(("names", "intervals", "coefficients", "dtype", "fast", "counts"), TABLE)
def test_fused_sweeps_are_plain_ones(
    names: str,
    intervals: tuple[int, ...],
    coefficients: str,
    dtype: Any,
    fast: int,
    counts: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiles, "BUDGET", fast * 2**10)
    monkeypatch.setattr(tiles, "CHUNK", 8 * tiles.LANES)
    grid = Grid(intervals, boundary=sides(names), dtype=dtype)
    operator = operator_on(grid, coefficients)
    layout = tiles.lay_out(operator, SWEEPS)
    assert tuple(axis.count for axis in layout.axes[:-1]) == counts
    b, u = np.random.default_rng(4).normal(size=(2, *grid.shape)).astype(dtype)
    found = after(Jacobi(0.7, fused=SWEEPS, interpret=True), operator, b, u)
    expected = after(Jacobi(0.7), operator, b, u)
    assert found.dtype == dtype
    # A sweep rounds a dozen times, at most at the size of the largest number there is.
    size = float(jnp.max(jnp.abs(u))) + float(jnp.max(jnp.abs(b / operator.diagonal())))
    np.testing.assert_allclose(found, expected, atol=20 * np.finfo(dtype).eps * size, rtol=0)


def test_what_no_kernel_wrote_is_never_used() -> None:
    """The TPU's interpreter fills it with NaN, and stops at reads out of bounds."""
    grid = Grid((30, 5), boundary=sides("PP-DN"))
    operator = operator_on(grid, "both")
    b, u = np.random.default_rng(5).normal(size=(2, *grid.shape))
    method = Jacobi(0.7, fused=SWEEPS, interpret=pltpu.InterpretParams())
    expected = after(Jacobi(0.7), operator, b, u)
    np.testing.assert_allclose(after(method, operator, b, u), expected, rtol=1e-12)


PROBLEM = Poisson(Grid((9, 6), boundary=sides("DN-PP")), lambda x, y: jnp.exp(x))


def fused() -> tuple[Jacobi, ...]:
    """Fused, with a last leap that is shorter before each look; and plain."""
    return tuple(Jacobi(rtol=1e-9, check_every=25, fused=m, interpret=True) for m in (4, 1))


def test_a_solve_takes_as_many_steps_and_gives_the_same() -> None:
    found, expected = (solve(PROBLEM, method) for method in fused())
    assert int(found.num_steps) == int(expected.num_steps) > 100
    np.testing.assert_allclose(found.field, expected.field, rtol=1e-12)
    np.testing.assert_array_equal(found.residual_steps, expected.residual_steps)


def test_each_lane_of_a_batch_has_its_status_and_gradients_are_its_slope() -> None:
    grid, method = PROBLEM.grid, Jacobi(rtol=1e-8, check_every=8, fused=4, interpret=True)

    def value(a: jax.Array) -> Any:
        problem = Poisson(grid, 1.0, diffusion=a * (1 + grid.coordinates()[0]), reaction=a)
        solution = solve(problem, method, throw=False)
        return jnp.sum(solution.value**2), solution.reason

    a, h = 2.0, 1e-2
    values, reasons = jax.jit(jax.vmap(value))(jnp.asarray([a - h, a, a + h, jnp.nan]))
    np.testing.assert_array_equal(reasons == Reason.nonfinite_input, [False, False, False, True])
    (alone, _), slope = jax.jit(jax.value_and_grad(value, has_aux=True))(a)
    np.testing.assert_allclose(values[1], alone, rtol=1e-12)
    # Truncation is of order (h/a)² = 2.5e-5, and of order 1e-8/h what the tolerance leaves.
    np.testing.assert_allclose(slope, (values[2] - values[0]) / (2 * h), rtol=1e-4)


def test_it_preconditions_and_is_deflated_as_plain_jacobi() -> None:
    operator, r = PROBLEM.operator, PROBLEM.rhs
    ones = jnp.ones((1, *PROBLEM.grid.shape))

    def run(method: Jacobi) -> Any:
        deflated = Deflated(method, ones, every=5)
        setup = deflated.prepare(operator)
        u = deflated.step(setup, r, deflated.start(setup, r, 0 * r))
        return as_preconditioner(method, operator, steps=6).mv(r), u

    found, expected = (jax.jit(lambda method=method: run(method))() for method in fused())
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def batched_solve(names: str, intervals: tuple[int, ...], coefficients: str) -> tuple[Any, Any]:
    """A compiled function of dampings and right-hand sides, and the shapes of these."""
    grid = Grid(intervals, boundary=sides(names), dtype=np.float32)
    operator = operator_on(grid, coefficients)

    def run(damping: jax.Array, b: jax.Array) -> jax.Array:
        method = Jacobi(damping, rtol=1e-4, fused=4)
        return lx.linear_solve(operator, b, method, throw=False).value

    shapes = [jax.ShapeDtypeStruct((2, *shape), np.float32) for shape in ((), grid.shape)]
    return jax.jit(jax.vmap(run)), shapes


FOR_TPU = [
    ("DN-PP", (600, 700), "both"),
    ("PP-NN-DD", (60, 80, 129), "numbers"),
    ("DD-PP-PP", (60, 80, 128), "diffusion"),
]


@pytest.mark.parametrize("case", FOR_TPU)
def test_a_batch_lowers_for_the_tpu(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 64 bits on, of which a TPU's kernels know nothing."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    run, shapes = batched_solve(*case)
    exported = jax.export.export(run, platforms=["tpu"])(*shapes)
    assert exported.mlir_module().count("@tpu_custom_call") == 2  # to and fro


@pytest.mark.parametrize(
    ("chip", "case"), [*zip(("v5e:2x2", "v5p:2x2x1", "v6e:2x2"), FOR_TPU, strict=True)]
)
def test_the_tpus_compiler_takes_it(chip: str, case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is installed; it needs no TPU."""
    pytest.importorskip("libtpu", reason="the extra tpu brings the compiler")
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")  # there is nobody to ask what machine this is
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    there = SingleDeviceSharding(topologies.get_topology_desc(chip, "tpu").devices[0])
    run, shapes = batched_solve(*case)
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there) for x in shapes]
    text = run.trace(*shapes).lower(lowering_platforms=("tpu",)).compile().as_text()
    loop = next(part for part in text.split("\n\n") if "tpu_custom_call" in part)
    # No grid function is copied between the kernels, be it for its rims.
    assert not re.search(r"= f32\[[^ ]* copy\(", loop)


@pytest.mark.parametrize("size", [7, 513, 4096, 60_000])
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("sweeps", [2, 4, 9])
def test_tiles_cover_the_grid_and_fit_fast_memory(size: int, ndim: int, sweeps: int) -> None:
    intervals = (size, 300) if ndim == 2 else (min(size, 600), 300, min(size, 600))
    operator = EllipticOperator(Grid(intervals, dtype=np.float32))
    layout = tiles.lay_out(operator, sweeps)
    for axis, rounded in zip(layout.axes, (1, 8, 128)[-ndim:], strict=True):
        assert axis.count * axis.tile >= axis.unknowns > (axis.count - 1) * axis.tile
        assert axis.tile % rounded == axis.rim % rounded == axis.block % rounded == 0
    assert all(axis.rim >= sweeps for axis in layout.axes[:-1])
    assert layout.block[0] % layout.chunk == 0
    # u, b and the result twice, two copies.
    assert 8 * 4 * np.prod(layout.block) <= tiles.BUDGET


def test_the_traffic_is_as_documented() -> None:
    text = " ".join(str(Jacobi.__doc__).split())
    for intervals, claim in (
        ((4096, 4096), "is {} instead of 12 numbers at 4096² (t = {}, r = {})"),
        ((512, 512, 512), "and {} at 512³ (t = {} and {}, r = {} and {})"),
    ):
        axes = tiles.lay_out(EllipticOperator(Grid(intervals, dtype=np.float32)), 4).axes[:-1]
        overlap = np.prod([axis.block / axis.tile for axis in axes])
        sides = [axis.tile for axis in axes] + [axis.rim for axis in axes]
        assert claim.format(f"{2 * overlap + 1:.1f}", *sides) in text


PLANE = EllipticOperator(Grid((8, 8)))
LARGE = EllipticOperator(Grid((300, 300)))
LINE = EllipticOperator(Grid(8))
WIDE = EllipticOperator(Grid((8, 60_000), dtype=np.float32))
SHORT = EllipticOperator(Grid((8, 3), boundary=sides("DD-PP")))


@pytest.mark.parametrize(
    ("make", "platform", "message"),
    [
        (lambda: Jacobi(fused=0), "tpu", "fused: expected a positive integer"),
        (lambda: Jacobi(fused=4, check_every=3), "tpu", "at most check_every, 3, got 4"),
        (lambda: Jacobi(fused=4).init(PLANE, {}), "cpu", "expected a TPU, for the platform cpu"),
        (lambda: Jacobi(fused=4).init(PLANE, {}), "gpu", "expected a TPU, for the platform gpu"),
        (lambda: Jacobi(fused=4).init(PLANE, {}), "tpu", "in float32, the grid is in float64"),
        (lambda: Jacobi(fused=4).init(LINE, {}), "tpu", "a grid of two or three axes"),
        (lambda: Jacobi(fused=4).init(WIDE, {}), "tpu", "no room for tiles of a rim of 4 nodes"),
        (lambda: Jacobi(fused=4).init(SHORT, {}), "tpu", "at most 3, as a periodic axis"),
        (
            lambda: Jacobi(fused=4).init(lx.MatrixLinearOperator(jnp.eye(2)), {}),
            "tpu",
            "an EllipticOperator",
        ),
        (
            lambda: Multigrid(smoother=Jacobi(fused=2)).init(LARGE, {}),
            "tpu",
            "smoother: Multigrid has no fused sweeps",
        ),
    ],
)
def test_where_there_is_no_kernel_the_argument_is_named(
    make: Any, platform: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert str(caught.value).startswith(("fused: ", "smoother: "))


def test_a_mesh_is_refused() -> None:
    mesh = jax.sharding.AbstractMesh((2, 1), ("grid 0", "grid 1"))
    with jax.sharding.use_abstract_mesh(mesh), pytest.raises(ValueError, match="one device"):
        Jacobi(fused=2, interpret=True).init(PLANE, {})


def test_the_platform_is_that_of_the_device_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with jax.default_device(jax.devices("cpu")[0]), pytest.raises(ValueError, match="platform cpu"):
        Jacobi(fused=2).init(PLANE, {})
