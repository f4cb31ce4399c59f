"""States of a training in a folder, each with the configuration that it belongs to."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

INSTALL = "pip install 'ritzrelax[frequency]'"


class Saved(NamedTuple):
    """What a folder keeps of a training.

    Attributes:
        step: of the training.
        tree: of arrays, which may be keys of random numbers too.
        notes: whatever JSON can hold.
    """

    step: int
    tree: Any
    notes: Any


class Checkpoints:
    """The latest two states of a training, written by orbax whole or not at all.

    A state is written beside the others and renamed, so that a process may be killed at any moment.

    Args:
        folder: made where there is none.
        configuration: numbers and digests by name; a state of another configuration is refused.

    Raises:
        ImportError: without orbax-checkpoint.
        ValueError: if the folder is a file.

    Example:
        >>> import tempfile
        >>> folder = Checkpoints(tempfile.mkdtemp(), {"seed": 0})
        >>> folder.save(Saved(3, {"weights": np.ones(2)}, ["a note"]))
        >>> folder.latest(lambda step: {"weights": np.zeros(2)})
        Saved(step=3, tree={'weights': array([1., 1.])}, notes=['a note'])
    """

    def __init__(self, folder: str | Path, configuration: dict[str, Any]):
        _orbax()
        self.folder = Path(folder).resolve()
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"checkpoint: expected a folder, but {folder} is a file")
        self.configuration = configuration

    def save(self, saved: Saved) -> None:
        """Write a state, and delete all but the latest two."""
        args = _orbax().args
        notes = {"configuration": self.configuration, "notes": saved.notes}
        items = {
            "state": args.StandardSave(_plain(saved.tree)),
            "notes": args.JsonSave(notes),
        }
        with self._manager() as manager:
            manager.save(saved.step, args=args.Composite(**items))

    def latest(self, template: Callable[[int], Any]) -> Saved | None:
        """Read the latest state.

        Args:
            template: of its step; a tree of arrays like those that were saved.

        Returns:
            It, its arrays as those of the template; None if there is none.

        Raises:
            ValueError: if it belongs to another configuration.
        """
        args = _orbax().args
        with self._manager() as manager:
            step = manager.latest_step()
            if step is None:
                return None
            notes = manager.restore(step, args=args.Composite(notes=args.JsonRestore()))["notes"]
            self._refuse_other(notes["configuration"])
            tree = template(step)
            state = args.StandardRestore(_plain(tree))
            plain = manager.restore(step, args=args.Composite(state=state))["state"]
        leaves, structure = jax.tree.flatten(tree)
        arrays = [_like(leaf, plain[_name(i)]) for i, leaf in enumerate(leaves)]
        return Saved(step, jax.tree.unflatten(structure, arrays), notes["notes"])

    def _refuse_other(self, found: dict[str, Any]) -> None:
        names = sorted(found.keys() | self.configuration.keys())
        pairs = [(name, found.get(name), self.configuration.get(name)) for name in names]
        wrong = [_difference(*pair) for pair in pairs if pair[1] != pair[2]]
        if wrong:
            raise ValueError(
                f"checkpoint: {self.folder} keeps a training that differs in {'; '.join(wrong)}. "
                "Give the arguments of that training, name another folder, or delete this one "
                "to begin afresh"
            )

    def _manager(self) -> Any:
        orbax = _orbax()
        options = orbax.CheckpointManagerOptions(
            max_to_keep=2, cleanup_tmp_directories=True, enable_async_checkpointing=False
        )
        return orbax.CheckpointManager(self.folder, options=options)


def digest(*trees: Any) -> str:
    """A short name for the values of all arrays, their shapes and types.

    Example:
        >>> digest(np.zeros(2)) == digest(np.zeros(2)), digest(np.zeros(2)) == digest(np.ones(2))
        (True, False)
    """
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(trees):
        array = np.ascontiguousarray(_as_numpy(leaf))
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(array.data if array.size else b"")
    return f"#{total.hexdigest()[:12]}"


def program_digest(function: Callable[..., Any], *arguments: Any) -> str:
    """A short name for what a function does with such arguments: its operations and constants.

    Two optimisers that differ in a learning rate, or in a schedule, differ in it, which nothing in
    their states would show.

    Example:
        >>> program_digest(lambda x: 2 * x, 1.0) == program_digest(lambda x: 3 * x, 1.0)
        False
    """
    program = jax.make_jaxpr(function)(*arguments)
    text = re.sub(r"0x[0-9a-f]+", "", str(program.jaxpr))  # places in memory
    return digest(np.frombuffer(text.encode(), np.uint8), program.consts)


def _difference(name: str, found: Any, own: Any) -> str:
    if any(str(value).startswith("#") for value in (found, own)):
        return name
    return f"{name} ({found} there, {own} here)"


def _plain(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by number, as orbax takes them from any tree."""
    return {_name(i): _as_numpy(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _name(i: int) -> str:
    return f"{i:05d}"


def _as_numpy(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _like(leaf: Any, array: np.ndarray) -> Any:
    if _is_key(leaf):
        return jax.random.wrap_key_data(jax.numpy.asarray(array), impl=jax.random.key_impl(leaf))
    return jax.numpy.asarray(array) if isinstance(leaf, jax.Array) else array


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _orbax() -> Any:
    """Import orbax only for those who use it: it takes a second."""
    try:
        import orbax.checkpoint
    except ModuleNotFoundError as error:
        raise ImportError(f"checkpoint: orbax-checkpoint is not installed; {INSTALL}") from error
    return orbax.checkpoint
