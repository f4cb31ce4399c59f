"""What has to hold on a mesh of eight devices; `test_placement.py` runs it in a process of its own.

Prints a JSON object a line: what was compared, and how far apart it is.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.devices.messages import messages
from solvers import (
    Boundary,
    Chebyshev,
    ConjugateGradient,
    FastDiagonalization,
    FixedHandoff,
    GaussSeidel,
    Grid,
    Hybrid,
    Jacobi,
    LineRelaxation,
    Multigrid,
    Ordering,
    Poisson,
    Refined,
    iterates,
    place,
    solve,
)
from solvers.hybrid.price import MOST_GUESSES, _look, price_of
from solvers.placement import Placed, apply
from solvers.snapshots import Snapshot

D, N, P = Boundary.DIRICHLET, Boundary.NEUMANN, Boundary.PERIODIC


def source(*x: jax.Array) -> jax.Array:
    return jnp.sin(3 * x[0]) * jnp.cos(2 * x[1]) + x[0] * x[-1]


def rising(*x: jax.Array) -> jax.Array:
    return 1 + 9 * x[0] * x[1]


METHODS: dict[str, Any] = {
    "jacobi": Jacobi(max_steps=40, check_every=10),
    "red-black": GaussSeidel(max_steps=20, check_every=10),
    "lexicographic": GaussSeidel(ordering=Ordering.LEXICOGRAPHIC, max_steps=4, check_every=2),
    "chebyshev": Chebyshev(max_steps=10),
    "lines": LineRelaxation(max_steps=6, check_every=3),
    "multigrid": Multigrid(),
    "full multigrid": Multigrid(full=True),
    "direct": FastDiagonalization(),
    "cg": ConjugateGradient(preconditioner=Multigrid()),
    "refined": Refined(Jacobi(), every=10, max_steps=4),
}
# Sizes that divide over the mesh and sizes that do not, with all kinds of sides.
GRIDS: dict[str, tuple[tuple[int, ...], Any, tuple[int, ...]]] = {
    "256 x 256": ((256, 256), D, (4, 2)),
    "290 x 171": ((290, 171), (D, (N, D)), (4, 2)),
    "80 x 48": ((80, 48), (D, (D, N)), (2, 4)),
    "83 x 58": ((83, 58), (D, (N, D)), (4, 2)),
    "ring 192 x 131": ((192, 131), (P, (D, N)), (4, 2)),
    "even ring 64 x 40": ((64, 40), (P, D), (4, 2)),
    "odd ring 193 x 130": ((193, 130), (P, D), (8,)),
    "40 x 40 x 40": ((40, 40, 40), D, (2, 2, 2)),
    "45 x 38 x 50": ((45, 38, 50), (D, (N, D), P), (2, 2, 2)),
    "31 x 26": ((31, 26), D, (4, 2)),
    "6 x 5, whole": ((6, 5), D, (4, 2)),
}


def mesh_of(shape: tuple[int, ...]) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.devices()).reshape(shape), ("x", "y", "z")[: len(shape)])


def maker(name: str, diffusion: Any = 1.0, **data: Any) -> Callable[[], Poisson]:
    intervals, boundary, _ = GRIDS[name]
    grid = Grid(intervals, boundary=boundary)
    has_flux = any(N in pair for pair in grid.boundary)
    data = {"reaction": 0.5, "flux": rising if has_flux else 0.0} | data
    return lambda: Poisson(grid, source, diffusion=diffusion, **data)


def distance(a: Any, b: Any) -> float:
    return float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))


def agreement(method: Any, make: Callable[[], Poisson], shape: tuple[int, ...]) -> dict[str, Any]:
    """How far a solve on the mesh is from one on one device, in the field and in steps."""
    whole = solve(make(), method, throw=False)
    mesh = mesh_of(shape)
    # Making the problem in parts is compiled anew each time: once for each grid.
    ways = (make(), make) if isinstance(method, Jacobi) else (make(),)
    found = [solve(place(problem, mesh), method, throw=False) for problem in ways]
    return {
        "distance": max(distance(x.collect().field, whole.field) for x in found),
        "steps": [int(x.num_steps) - int(whole.num_steps) for x in found],
        "devices": len(found[-1].value.sharding.device_set),
    }


def largest_messages(text: str) -> dict[str, int]:
    """Numbers in the largest array of each kind of message in a compiled program."""
    largest: dict[str, int] = {}
    for message in messages(text):
        largest[message.kind] = max(largest.get(message.kind, 0), message.largest)
    return largest


def compiled(function: Any, *arguments: Any) -> tuple[Any, dict[str, int]]:
    """What a function gives, and its largest messages."""
    program = eqx.filter_jit(function).lower(*arguments).compile()
    return program(*arguments), largest_messages(program.compiled.as_text())


def communication(
    name: str, diffusion: Any, method: Any, *, with_gradient: bool = True
) -> dict[str, Any]:
    """The largest messages of a solve and its gradient, and how far it is from one device's."""
    make = maker(name, diffusion)

    def loss(problem: Any) -> tuple[jax.Array, Any]:
        solution = solve(problem, method, throw=False)
        return jnp.sum(solution.value**2), solution

    problem = place(make, mesh_of(GRIDS[name][2]))
    program = jax.grad(loss, has_aux=True) if with_gradient else loss
    (_, solution), largest = compiled(program, problem)
    whole = solve(make(), method, throw=False)
    return {
        "unknowns": int(np.prod(make().grid.shape)),
        "largest": largest,
        "distance": distance(solution.collect().field, whole.field),
    }


def gradients(name: str) -> dict[str, Any]:
    """Gradients with respect to coefficients and right-hand side, on the mesh and without."""
    make, method = maker(name, rising), ConjugateGradient(preconditioner=GaussSeidel(), rtol=1e-8)

    def loss(problem: Any) -> jax.Array:
        return jnp.sum(solve(problem, method).value ** 3)

    whole = jax.grad(loss)(make())
    found = jax.grad(loss)(place(make(), mesh_of(GRIDS[name][2]))).collect()
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True)
    return {"distance": max(distance(a, b) for a, b in pairs if jnp.any(b != 0))}


def hybrid(name: str) -> dict[str, Any]:
    """A hybrid solve on the mesh and without, and the largest messages of a look."""
    make, mesh = maker(name), mesh_of(GRIDS[name][2])
    field = solve(make()).field
    stream = [Snapshot(i, 0.1 * i, lambda _, c=c: c * field) for i, c in enumerate((0, 2, 1.1))]
    method, target = Jacobi(max_steps=40, check_every=20), 1e-3
    solver = Hybrid(method, FixedHandoff(2, target=target))
    whole = solver.solve(make(), stream, throw=False)
    found = solver.solve(place(make, mesh), stream, throw=False)
    price = price_of(place(make, mesh), method, target=target)
    _, guess, seen = price.combined(found.handoff.initial, [])

    def look(problem: Any, modes: Any, guess: Any, seen: Any) -> Any:
        rule, is_used = (method, jnp.asarray(target)), jnp.ones(MOST_GUESSES + 1, bool)
        return apply(_look, problem, modes, rule, guess, [seen] * MOST_GUESSES, is_used)

    return {
        "distance": distance(found.solution.collect().field, whole.solution.field),
        "steps": int(found.solution.num_steps) - int(whole.solution.num_steps),
        "predicted": [x.trace[0].remaining_steps for x in (whole, found)],
        "unknowns": int(np.prod(make().grid.shape)),
        "look": compiled(look, place(make, mesh), price._modes, guess, seen)[1],
    }


def viewing() -> dict[str, Any]:
    """Iterates, derivatives, fluxes and values between nodes, on the mesh and without."""
    name, method, points = "83 x 58", METHODS["red-black"], [np.linspace(0, 1, 5)] * 2
    make = maker(name, rising)
    problem = place(make, mesh_of(GRIDS[name][2]))
    pairs = zip(iterates(make(), method), iterates(problem, method), strict=True)
    distances = [distance(b.collect(), a) for a, b in itertools.islice(pairs, 1, 3)]
    whole, found = (solve(p, method, throw=False) for p in (make(), problem))
    views: tuple[Callable[[Any], Any], ...] = (
        lambda s: s.gradient(),
        lambda s: s.flux(),
        lambda s: s.evaluate(*points),
    )
    largest: list[int] = []
    for view in views:
        seen, sizes = compiled(view, found)
        parts = seen if isinstance(seen, tuple) else (seen,)
        pairs = zip(parts, jax.tree.leaves(view(whole)), strict=True)
        distances += [distance(a.collect() if isinstance(a, Placed) else a, b) for a, b in pairs]
        largest += sizes.values()
    unknowns = int(np.prod(make().grid.shape))
    return {"distances": distances, "largest": max(largest), "unknowns": unknowns}


def report(group: str, name: str, found: dict[str, Any]) -> None:
    print(json.dumps({"group": group, "name": name} | found), flush=True)


def agreements() -> Iterator[tuple[str, Any, Callable[[], Poisson], tuple[int, ...]]]:
    """A table thin enough to compile in a minute, with every method and every grid in it."""
    pairs = {
        **dict.fromkeys(itertools.product(METHODS, ["83 x 58"]), 1.0),
        **dict.fromkeys(itertools.product(["jacobi"], GRIDS), 1.0),
        **dict.fromkeys(itertools.product(["red-black", "direct"], ["45 x 38 x 50"]), 1.0),
        ("multigrid", "40 x 40 x 40"): 1.0,
        ("multigrid", "odd ring 193 x 130"): 1.0,
        ("multigrid", "even ring 64 x 40"): rising,
        ("red-black", "ring 192 x 131"): rising,
    }
    for (method, grid), diffusion in pairs.items():
        yield f"{method}, {grid}", METHODS[method], maker(grid, diffusion), GRIDS[grid][2]
    holed = maker("31 x 26", rising, medium=lambda x, y: jnp.hypot(x - 0.4, y - 0.6) - 0.25)
    yield "multigrid, 31 x 26, holed", METHODS["multigrid"], holed, GRIDS["31 x 26"][2]


def main() -> None:
    for name, *case in agreements():
        report("agreement", name, agreement(*case))
    report("gradient", "31 x 26", gradients("31 x 26"))
    for method, diffusion in (
        ("jacobi", 1.0),
        ("red-black", rising),
        ("multigrid", 1.0),
        ("refined", 1.0),
    ):
        report("communication", method, communication("290 x 171", diffusion, METHODS[method]))
    # Its gradient is made as that of the others, and it and more levels would take another minute.
    varying = communication("83 x 58", rising, METHODS["multigrid"], with_gradient=False)
    report("communication", "multigrid, varying", varying)
    report("hybrid", "290 x 171", hybrid("290 x 171"))
    report("viewing", "83 x 58", viewing())


if __name__ == "__main__":
    main()
