"""The solvers that are compared: ours, and those that SciPy and pyamg offer."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.fft
import scipy.sparse.linalg

from benchmarks.multigrid.cases import Case
from solvers import ConjugateGradient, FastDiagonalization, Multigrid
from solvers.iteration import Reason, with_budget

try:
    import pyamg
except ImportError:  # the extra `bench`; its rows say so
    pyamg = None

TOLERANCE, MOST_STEPS = 1e-8, 200

OURS: dict[str, tuple[str, Any]] = {
    "multigrid": ("Multigrid()", Multigrid),
    "multigrid_pre2": ("Multigrid(pre=2)", lambda: Multigrid(pre=2)),
    "multigrid_float64": (
        "Multigrid(precision=float64)",
        lambda: Multigrid(precision=jnp.float64),
    ),
    "full": ("Multigrid(full=True)", lambda: Multigrid(full=True)),
    "full_once": (
        "Multigrid(full=True), one pass",
        lambda: Multigrid(full=True, max_steps=1),
    ),
    "full_to_discretization": (
        "Multigrid(full=True, error_fraction=0.3)",
        lambda: Multigrid(full=True, error_fraction=0.3),
    ),
    "multigrid_cg": (
        "ConjugateGradient(Multigrid())",
        lambda: ConjugateGradient(preconditioner=Multigrid()),
    ),
    "cg": ("ConjugateGradient()", lambda: ConjugateGradient()),
    "direct": ("FastDiagonalization()", FastDiagonalization),
    "direct_cg": (
        "ConjugateGradient(FastDiagonalization())",
        lambda: ConjugateGradient(preconditioner=FastDiagonalization(), max_steps=MOST_STEPS),
    ),
}
PEERS = {
    "pyamg": "pyamg Ruge–Stüben + CG",
    "sine_1": "scipy DST-I, 1 worker",
    "sine_2": "scipy DST-I, 2 workers",
}
SINE = ("sine_1", "sine_2")
LABELS = {name: label for name, (label, _) in OURS.items()} | PEERS


def versions() -> dict[str, str | None]:
    """Of the peers; None where one is not installed."""
    found = {"scipy": scipy, "pyamg": pyamg}
    return {name: getattr(module, "__version__", None) for name, module in found.items()}


class Outcome(NamedTuple):
    """What one solve gave: u, steps, reason, history as (step, residual norm) rows, statistics."""

    u: np.ndarray
    steps: int
    status: str
    history: np.ndarray | None
    stats: dict[str, float]


class Contender(NamedTuple):
    """A solver made ready for one case.

    Attributes:
        run: solves once, waits until it is done, and gives back whatever `read` understands.
        read: turns that into an `Outcome`, outside the clock.
        setup_seconds: None where it is part of every solve and nobody has timed it apart.
        compile_seconds: first call less a warm one; None if an earlier case compiled the same.
        compile_processor_seconds: processor time of the first call, for machines that others use.
    """

    run: Callable[[], Any]
    read: Callable[[Any], Outcome]
    setup_seconds: float | None
    compile_seconds: float | None = None
    compile_processor_seconds: float | None = None


@eqx.filter_jit
def solve_compiled(operator: Any, b: jax.Array, method: Any) -> tuple[jax.Array, dict[str, Any]]:
    """Set up and solve; the coefficients are arguments and no constants of the program."""
    solved = lx.linear_solve(operator, b, method, throw=False)
    return solved.value, solved.stats


_seen: set[Any] = set()


def seconds_of(run: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = run()
    return time.perf_counter() - begin, result


def runner(case: Case, method: Any) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(solve_compiled(case.operator, case.b, method))


def make(name: str, case: Case) -> Contender:
    """Make a solver ready: compile ours, set up the others."""
    if name in OURS:
        return _ours(name, case)
    if name != "pyamg":
        return _sine(case, int(name[-1]))
    if pyamg is None:
        raise ImportError("install the extra bench: pip install ritzrelax[bench]")
    return _algebraic(case)


def _ours(name: str, case: Case) -> Contender:
    method = OURS[name][1]()
    # The budget is an argument, so that a single step compiles what all of them run.
    short = with_budget(method, 1) if hasattr(method, "max_steps") else method
    begin = time.process_time()
    first, _ = seconds_of(runner(case, short))
    processor = time.process_time() - begin
    warm, _ = seconds_of(runner(case, short))
    arguments, static = eqx.partition((case.operator, case.b, method), eqx.is_array)
    shapes = tuple(x.shape for x in jax.tree.leaves(arguments))
    key = jax.tree.structure(static), jax.tree.structure(arguments), shapes
    is_new = key not in _seen
    _seen.add(key)
    compiled = (first - warm, processor) if is_new else (None, None)
    return Contender(runner(case, method), read, None, *compiled)


def read(result: Any) -> Outcome:
    """Read what `solve_compiled` gave."""
    value, stats = result
    steps, norms = np.asarray(stats["residual_steps"]), np.asarray(stats["residual_norms"])
    known = {k: float(v) for k, v in stats.items() if k in KEPT}
    u = np.asarray(value)
    if "low" in stats:
        u = np.asarray(u, np.float64) + np.asarray(stats["low"], np.float64)
    return Outcome(u, int(stats["num_steps"]), _word(stats["reason"]),
                   np.stack([steps, norms], 1)[steps >= 0], known)  # fmt: skip


KEPT = ("factor", "work_units", "algebraic_error", "discretization_error")


def _word(reason: Any) -> str:
    if bool(reason == Reason.direct):
        return "converged"
    words = [name for name in REASONS if bool(reason == getattr(Reason, name))]
    return words[0] if words else str(reason)


REASONS = (
    "converged",
    "discretization",
    "max_steps",
    "diverged",
    "stagnated",
    "nonfinite_input",
    "singular",
    "incompatible",
)


def sparse_matrix(case: Case) -> Any:
    """A in SciPy's compressed rows, of the operator's face coefficients; not for periodic axes."""
    operator, shape = case.operator, case.operator.grid.shape
    bands = [np.broadcast_to(np.asarray(operator.diagonal()), shape).ravel()]
    offsets = [0]
    for axis in range(len(shape)):
        stride = int(np.prod(shape[axis + 1 :], initial=1))
        inner = tuple(slice(1, None) if d == axis else slice(None) for d in range(len(shape)))
        low = operator.weigh(jnp.broadcast_to(operator.face_pair(axis)[0], shape))
        band = np.zeros(shape)
        band[inner] = -np.asarray(low)[inner]
        band = band.ravel()[stride:]
        bands += [band, band]
        offsets += [-stride, stride]
    diagonals: Any = scipy.sparse.diags_array
    matrix = scipy.sparse.csr_matrix(diagonals(bands, offsets=offsets))
    matrix.eliminate_zeros()
    return matrix


def _algebraic(case: Case) -> Contender:
    """Set up outside the clock, the assembling of A not counted at all."""
    matrix, b = sparse_matrix(case), np.asarray(case.b).ravel()
    setup, hierarchy = seconds_of(lambda: algebraic_hierarchy(case, matrix))
    return Contender(
        lambda: algebraic_solve(hierarchy, b, MOST_STEPS), _read_algebraic(case), setup
    )


def algebraic_hierarchy(case: Case, matrix: Any) -> Any:
    assert pyamg is not None
    options: dict[str, Any] = {"coarse_solver": "pinv"} if case.operator.is_singular else {}
    return pyamg.ruge_stuben_solver(matrix, **options)


def algebraic_solve(hierarchy: Any, b: np.ndarray, steps: int) -> Any:
    norms: list[float] = []
    u = hierarchy.solve(b, tol=TOLERANCE, maxiter=steps, accel="cg", residuals=norms)
    return u, norms


def _read_algebraic(case: Case) -> Callable[[Any], Outcome]:
    def read_result(result: Any) -> Outcome:
        u, norms = result
        b = np.linalg.norm(np.asarray(case.b))
        # Its CG gives up where the preconditioner is not definite, as for singular problems.
        unmet = "max_steps" if len(norms) > MOST_STEPS else "stopped"
        status = "converged" if norms[-1] <= TOLERANCE * b else unmet
        field = np.asarray(u).reshape(case.b.shape)
        history = np.stack([np.arange(len(norms)), norms], 1)
        return Outcome(field, len(norms) - 1, status, history, {})

    return read_result


def _sine(case: Case, workers: int) -> Contender:
    """Analyse, divide by the eigenvalues, and synthesise; the eigenvalues are set up."""
    b, fft = np.asarray(case.b), scipy.fft

    def eigenvalues() -> Any:
        total = np.zeros(b.shape)
        for axis, a in enumerate(case.operator.conductances):
            n = b.shape[axis]
            values = 4 * float(a) * np.sin(np.pi * np.arange(1, n + 1) / (2 * n + 2)) ** 2
            total += values.reshape([-1 if d == axis else 1 for d in range(b.ndim)])
        return total

    setup, total = seconds_of(eigenvalues)

    def run() -> Any:
        modes = fft.dstn(b, type=1, workers=workers)
        modes /= total
        return fft.idstn(modes, type=1, workers=workers, overwrite_x=True)

    run()  # SciPy plans a length once

    def read_result(u: Any) -> Outcome:
        return Outcome(np.asarray(u), 1, "converged", None, {})

    return Contender(run, read_result, setup)
