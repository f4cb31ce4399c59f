"""What `test_sharded_training.py` asks of a process with eight devices, printed as JSON."""

import json
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree

import nets.energies
import nets.evaluation
from nets import (
    MLP,
    GaussLegendre,
    GridEnergy,
    PaperSum,
    PenaltyBoundary,
    RitzTraining,
    energy_natural_gradient,
    input_size,
)
from solvers import (
    Boundary,
    ConjugateGradient,
    FixedHandoff,
    Galerkin,
    Grid,
    Hybrid,
    Jacobi,
    Poisson,
    place,
    solve,
)
from solvers.snapshots import Snapshot

# Fewer than the points of a device, so that these are cut up.
nets.energies.BLOCK, nets.evaluation.BLOCK = 7, 5

D, N, P = Boundary.DIRICHLET, Boundary.NEUMANN, Boundary.PERIODIC
MESH = jax.make_mesh((8,), ("points",))
AUTOMATIC = jax.make_mesh((4, 2), ("a", "b"), (jax.sharding.AxisType.Auto,) * 2)


def line(**data: Any) -> Poisson:
    return Poisson(Grid(32), lambda x: jnp.pi**2 * jnp.sin(jnp.pi * x) + 2, **data)


def plane() -> Poisson:
    """With varying coefficients, a flux and Dirichlet data that is not zero."""
    grid = Grid((12, 11), boundary=((D, N), D))
    return Poisson(
        grid,
        lambda x, y: 1 + x * y,
        diffusion=lambda x, y: 1 + x,
        reaction=2.0,
        boundary_values=lambda x, y: x - y,
        flux=((None, lambda x, y: y), (None, None)),
    )


def jumps(grid: Grid) -> Poisson:
    x, *_ = grid.coordinates()
    return Poisson(grid, jnp.sin(3 * x), diffusion=jnp.where(x < 0.4, 1.0, 9.0), boundary_values=x)


# Numbers of points, rows and penalty points that eight does not divide.
TRAININGS: dict[str, tuple[Poisson, dict[str, Any]]] = {
    "adam": (
        line(),
        {"quadrature": GaussLegendre(9, 3), "boundary": PenaltyBoundary(), "average": 0.9},
    ),
    "adam, paper sum": (line(), {"quadrature": PaperSum()}),
    "lbfgs": (line(), {"quadrature": GaussLegendre(7, 3), "optimizer": optax.lbfgs(memory_size=3)}),
    "natural gradient": (
        plane(),
        {"quadrature": GaussLegendre((5, 4), 3), "optimizer": energy_natural_gradient()},
    ),
    "natural gradient, few points": (
        line(),
        {"quadrature": GaussLegendre(3, 3), "optimizer": energy_natural_gradient()},
    ),
    "periodic": (
        Poisson(Grid(24, boundary=P), lambda x: jnp.sin(2 * jnp.pi * x)),
        {"quadrature": GaussLegendre(7, 3), "optimizer": energy_natural_gradient()},
    ),
    "nodes": (jumps(Grid((12, 11))), {"boundary": PenaltyBoundary()}),
    "nodes, fewer rows than devices": (jumps(Grid((4, 4, 5), boundary=(P, N, D))), {}),
    "nodes, natural gradient": (
        jumps(Grid((12, 11), boundary=((N, D), D))),
        {"quadrature": GridEnergy(), "optimizer": energy_natural_gradient()},
    ),
    "refined": (
        Poisson(Grid(32), lambda x: jnp.pi**2 * jnp.sin(jnp.pi * x)),
        {"quadrature": GaussLegendre(2), "every": 50, "max_steps": 100, "frequency": 6.0},
    ),
}
FOR_ADAM = {"optimizer": optax.adam(2e-2), "every": 6, "max_steps": 12}
FOR_OTHERS = {"every": 2, "max_steps": 4}


def trained(name: str, mesh: Any) -> tuple[RitzTraining, list[Snapshot]]:
    problem, options = TRAININGS[name]
    options = (FOR_OTHERS if "optimizer" in options else FOR_ADAM) | options
    model = MLP(
        input_size(problem.grid),
        (8,),
        frequency=options.pop("frequency", 3.0),
        dtype=jnp.float64,
        rngs=nnx.Rngs(0),
    )
    training = RitzTraining(problem, model, mesh=mesh, **options)
    return training, list(training)


def worst(one: Any, other: Any) -> float:
    """Largest difference of two trees, in the largest number of either."""
    a, b = (ravel_pytree(tree)[0] for tree in (one, other))
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max() / max(np.abs(a).max(), np.abs(b).max()))


def collectives(program: Any) -> list[tuple[str, int, int]]:
    """What devices tell each other in a program, by the compiled text: kind, numbers, and depth.

    The depth is how many loops it is in.
    """
    kinds = (
        "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    )
    found, depths = [], {}
    # Each computation stands after those that it calls.
    for block in reversed(program.as_text().split("\n\n")):
        name = re.search(r"^(?:ENTRY )?(%\S+) ", block, re.MULTILINE)
        if name is None:
            continue
        depth = depths.setdefault(name[1], 0)
        for called in re.findall(r"body=(%[\w.-]+)", block):
            depths[called] = depth + 1
        for called in re.findall(r"(?:calls|to_apply|condition)=(%[\w.-]+)", block):
            depths.setdefault(called, depth)
        for branches in re.findall(r"branch_computations=\{(.*?)\}", block):
            depths |= dict.fromkeys(branches.split(", "), depth)
        for shapes, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", block):
            sizes = re.findall(r"\w+\[([\d,]*)\]", shapes)
            numbers = sum(math.prod(map(int, filter(None, size.split(",")))) for size in sizes)
            found.append((kind, numbers, depth))
    return found


def comparison(name: str) -> dict[str, Any]:
    """A training on eight devices beside the same on one."""
    mesh = AUTOMATIC if TRAININGS[name][0].grid.ndim > 1 else MESH
    (alone, one), (training, many) = trained(name, None), trained(name, mesh)
    grid = TRAININGS[name][0].grid
    fields = [(s[-1].evaluate(grid), s[-1].features(grid)) for s in (one, many)]  # type: ignore
    ((_, evaluation),) = training._evaluation._ready.values()
    return {
        "steps": [[s.step for s in stream] for stream in (one, many)],
        "refinements": [[s.state.refinements for s in stream] for stream in (one, many)],
        "params": worst(many[-1].state.params, one[-1].state.params),
        "moved": worst(many[-1].state.params, many[0].state.params),
        "energies": worst(training.energies, alone.energies),
        "fields": worst(*fields),
        "size": ravel_pytree(many[-1].state.params)[0].size,
        "row": math.prod(grid.shape[1:]),
        "nodes": math.prod(grid.full_shape),
        "in steps": collectives(training._programs._steps[0]),
        "in checks": [
            x for check in training._programs._checks.values() for x in collectives(check)
        ],
        "in evaluations": collectives(evaluation),
        "shares": sorted(
            {
                x.addressable_shards[0].data.shape[0] / len(x)
                for x in jax.tree.leaves(training._ladder.energy(0).ansatz)
            }
        ),
    }


def going_on() -> dict[str, float]:
    """Resuming, cooling down and restarting are those of one device."""
    found = {}
    (alone, one), (training, many) = trained("adam", None), trained("adam", MESH)
    resumed = list(training.resume(many[1]))
    found["resumed"] = worst(resumed[-1].state.params, many[-1].state.params)
    cooled = [t.cool_down(s[1], 9).state.params for t, s in ((alone, one), (training, many))]
    found["cooled"] = worst(*cooled)
    model = MLP(1, (8,), frequency=3.0, dtype=jnp.float64, rngs=nnx.Rngs(1))
    restarted = [list(t.restarted(model))[-1].state.params for t in (alone, training)]
    found["restarted"] = worst(*restarted)
    checks = [t.check_quadrature(s[-1]) for t, s in ((alone, one), (training, many))]
    found["checked"] = worst(*checks)
    return found


def in_a_context() -> float:
    """A mesh that the caller has set, here of explicit axes, is no matter."""
    with jax.set_mesh(MESH):
        _, many = trained("natural gradient", MESH)
    _, one = trained("natural gradient", None)
    return worst(many[-1].state.params, one[-1].state.params)


def handed_over() -> dict[str, Any]:
    """A field goes with arrays on one device and on eight, and into solves and a hybrid."""
    problem = line()
    training, stream = trained("adam", MESH)
    u = stream[-1].evaluate(problem.grid)
    places = [jax.devices()[3], jax.NamedSharding(MESH, jax.P())]
    sums = [jax.jit(jnp.add)(u, jax.device_put(jnp.zeros(33), place)) for place in places]
    hybrid = Hybrid(Jacobi(rtol=1e-8), FixedHandoff(6), handover=Galerkin())
    found = hybrid.solve(problem, training).solution
    on_mesh = solve(place(problem, MESH), ConjugateGradient(), initial=u)
    return {
        "devices": [len(x.devices()) for x in (u, *sums, on_mesh.value, found.field)],
        "errors": [worst(x, solve(problem).field) for x in (on_mesh.collect().field, found.field)],
    }


def main() -> None:
    """Print all findings."""
    found = {name: comparison(name) for name in TRAININGS}
    others = {"going on": going_on(), "in a context": in_a_context(), "handed over": handed_over()}
    print(json.dumps(found | others))


if __name__ == "__main__":
    main()
