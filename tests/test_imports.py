"""Imports point one way, in the order that docs/architecture.md gives, and change no setting."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("solvers", "nets", "benchmarks")

# An entry imports only what stands before it. A sub-package is one entry: its files are free
# to import each other.
ORDER = (
    "threads",
    "processes",
    "placement",
    "compiler",
    "arguments",
    "grid",
    "transforms",
    "tridiagonal",
    "dominant",
    "snapshots",
    "sides",
    "interface",
    "medium",
    "pieces",
    "operators",
    "domain",
    "pairs",
    "implicit",
    "problems",
    "gallery",
    "iteration",
    "krylov",
    "relaxation",
    "deflation",
    "refinement",
    "direct",
    "multigrid",
    "stepping",
    "differences",
    "failures",
    "solution",
    "order",
    "spectrum",
    "hybrid",
)
NETS_MAY_IMPORT = {
    "threads",
    "compiler",
    "arguments",
    "grid",
    "transforms",
    "snapshots",
    "operators",
    "problems",
}


def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of each module of the three packages by its dotted name."""
    trees = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            trees[name] = ast.parse(file.read_text(encoding="utf-8"))
    return trees


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of all that a module imports, inside its functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            yield from (f"{source}.{alias.name}" for alias in node.names)


def entry(name: str) -> str:
    """Return the entry of ORDER that a dotted name belongs to: its second part."""
    return name.partition(".")[2].partition(".")[0]


def rank(name: str) -> int:
    """Return the place of a name in ORDER; the package itself stands behind all of them."""
    return ORDER.index(entry(name)) if entry(name) in ORDER else len(ORDER)


def allowed(importer: str, target: str) -> bool:
    """Say whether one module may import another."""
    package, source = importer.split(".")[0], target.split(".")[0]
    if source not in PACKAGES:
        return source != ""  # other people's packages, but no relative imports
    if package == "solvers":
        inside = importer == "solvers" or entry(importer) == entry(target)
        return source == "solvers" and (inside or rank(target) < rank(importer))
    if package == "nets":
        return source == "nets" or (source == "solvers" and entry(target) in NETS_MAY_IMPORT)
    return True


def updates_config(node: ast.AST) -> bool:
    """Say whether a node is a call of `config.update` or `jax.config.update`."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("config.update")


@pytest.mark.parametrize(
    ("importer", "target", "expected"),
    [
        ("solvers.problems", "solvers.grid.Grid", True),
        ("solvers.krylov", "solvers.iteration.iterate", True),
        ("solvers.relaxation.jacobi", "solvers.relaxation.lines.sweep", True),
        ("solvers.relaxation.jacobi", "solvers.iteration.iterate", True),
        ("solvers", "solvers.hybrid.Hybrid", True),
        ("solvers.grid", "jax.numpy", True),
        ("solvers.grid", "solvers.problems.Poisson", False),
        ("solvers.iteration", "solvers.relaxation.jacobi.Jacobi", False),
        ("solvers.gallery", "solvers.Poisson", False),
        ("solvers.gallery", "solvers", False),
        ("solvers.gallery", ".problems.Poisson", False),
        ("solvers.hybrid.hybrid", "nets.RitzTraining", False),
        ("solvers", "benchmarks.poisson_hybrid", False),
        ("nets.training", "nets.ritz.energy", True),
        ("nets.training", "solvers.snapshots.Snapshot", True),
        ("nets.training", "solvers.hybrid.Hybrid", False),
        ("nets.training", "solvers.Poisson", False),
        ("nets.training", "benchmarks.poisson_hybrid", False),
        ("benchmarks.poisson_hybrid", "solvers.Hybrid", True),
    ],
)
def test_rule(importer: str, target: str, expected: bool) -> None:
    assert allowed(importer, target) is expected


def test_every_module_has_its_place_in_the_order() -> None:
    names = modules()
    assert set(PACKAGES) <= set(names), "each package has an __init__.py"
    solvers = [name for name in names if name.startswith("solvers.")]
    assert [name for name in solvers if entry(name) not in ORDER] == []


def test_imports_point_down_the_order() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules().items()
        for target in imported(tree)
        if not allowed(name, target)
    ]
    assert wrong == []


def test_the_library_leaves_the_configuration_of_jax_alone() -> None:
    calls = [
        f"{name}, line {node.lineno}"
        for name, tree in modules().items()
        if not name.startswith("benchmarks")
        for node in ast.walk(tree)
        if updates_config(node)
    ]
    assert calls == []
