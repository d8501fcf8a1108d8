"""Data sets: what is embedded, what is read from files, what is drawn, and what is refused."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import healmpi.learning.datasets
from healmpi.extension import discover
from healmpi.learning.data import Data, Dataset, dataset
from healmpi.learning.datasets.csv_file import Csv
from healmpi.learning.datasets.idx import IDX_NAMES, FashionMnist, Mnist
from healmpi.learning.datasets.mnist10k import Mnist10k
from healmpi.learning.datasets.npz_file import Npz
from healmpi.learning.datasets.spambase import Spambase
from healmpi.learning.datasets.synthetic import Synthetic
from healmpi.settings import UsageError


def load(kind: type[Data], seed: int, **options: object) -> Dataset:
    return kind(kind.Settings(**options)).load(seed)


def idx_bytes(array: np.ndarray) -> bytes:
    head = bytes((0, 0, 8, array.ndim)) + b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return head + array.astype(np.uint8).tobytes()


def idx_arrays(train: int = 40, test: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = ((train, 28, 28), (train,), (test, 28, 28), (test,))
    return {name: rng.integers(0, 256 if len(shape) == 3 else 10, shape) for name, shape in zip(IDX_NAMES, shapes, strict=True)}


def write_folder(folder, packed: bool, arrays: dict[str, np.ndarray] | None = None) -> Mnist:
    for name, array in (arrays or idx_arrays()).items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
        else:
            (folder / name).write_bytes(idx_bytes(array))
    return Mnist(Mnist.Settings(folder=str(folder)))


def test_spambase_has_4597_mails_of_57_features_standardised_by_the_training_part():
    spam = load(Spambase, 1)
    assert (spam.train_x.shape, spam.test_x.shape) == ((4137, 57), (460, 57))
    assert (spam.train_x.dtype, spam.train_y.dtype, spam.input_shape, spam.classes) == (np.float32, np.int64, (57,), 2)
    scaled = spam.scaled(spam.train_x).astype(np.float64)
    assert np.allclose(scaled.mean(axis=0), 0, atol=1e-3)
    assert np.allclose(scaled.std(axis=0), 1, atol=1e-3)
    assert 0.35 < np.mean(np.concatenate([spam.train_y, spam.test_y])) < 0.45


def test_mnist10k_keeps_bytes_and_scales_the_rows_it_is_given():
    digits = load(Mnist10k, 1)
    assert (digits.train_x.shape, digits.test_x.shape) == ((9000, 28, 28), (1000, 28, 28))
    assert (digits.train_x.dtype, digits.train_y.dtype, digits.input_shape, digits.classes) == (np.uint8, np.int64, (1, 28, 28), 10)
    assert set(digits.train_y) == set(range(10))
    scaled = digits.scaled(digits.train_x[:3000])
    assert (scaled.shape, scaled.dtype) == ((3000, 1, 28, 28), np.float32)
    assert abs(scaled.mean()) < 0.05 and abs(scaled.std() - 1) < 0.05
    assert digits.mean == pytest.approx(digits.train_x.mean(), rel=1e-5)
    assert digits.std == pytest.approx(digits.train_x.std(), rel=1e-5)


def test_the_split_depends_on_the_seed_and_on_nothing_else():
    one, same, other = (load(Spambase, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.test_x, same.test_x)
    assert not np.array_equal(one.test_x, other.test_x)


@pytest.mark.parametrize(("samples", "fraction", "held_back"), [(4, 0.9, 3), (4, 0.01, 1), (200, 0.25, 50)])
def test_neither_part_of_a_split_is_empty(samples, fraction, held_back):
    blobs = load(Synthetic, 1, samples=samples, test_fraction=fraction)
    assert (len(blobs.test_y), len(blobs.train_y)) == (held_back, samples - held_back)


def test_synthetic_blobs_lie_around_their_centres():
    blobs = load(Synthetic, 4, samples=3000, features=7, classes=3, noise=0.01)
    assert (blobs.input_shape, blobs.classes, blobs.train_x.dtype) == ((7,), 3, np.float32)
    for label in range(3):
        assert blobs.train_x[blobs.train_y == label].std(axis=0) == pytest.approx(np.full(7, 0.01), rel=0.2)
    assert sorted(np.bincount(np.concatenate([blobs.train_y, blobs.test_y]))) == [1000, 1000, 1000]


def test_a_constant_feature_is_scaled_to_zero_and_not_to_nan():
    blobs = load(Synthetic, 1, samples=50, features=2, classes=50, noise=0.0)
    constant = np.ones((9, 2), np.float32)
    made = dataset("made", constant, blobs.train_y[:9], constant, blobs.train_y[:9], 50)
    assert np.array_equal(made.scaled(constant), np.zeros((9, 2), np.float32))


@pytest.mark.parametrize("packed", [True, False])
def test_the_four_idx_files_are_read_packed_or_plain(tmp_path, packed):
    arrays = idx_arrays()
    digits = write_folder(tmp_path, packed, arrays).load(1)
    for name, found in zip(IDX_NAMES, (digits.train_x, digits.train_y, digits.test_x, digits.test_y), strict=True):
        assert np.array_equal(found, arrays[name]), name
    assert (digits.name, digits.input_shape, digits.train_x.dtype, digits.test_y.dtype) == ("mnist", (1, 28, 28), np.uint8, np.int64)


@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw"])
def test_the_four_idx_files_are_read_under_both_of_their_names_and_where_torchvision_puts_them(tmp_path, place):
    arrays, folder = idx_arrays(), tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, array) in enumerate(arrays.items()):
        spelling = name.replace("-idx", ".idx") if number % 2 == 0 else name
        packed = number in (1, 2)
        (folder / f"{spelling}{'.gz' if packed else ''}").write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
    digits = load(Mnist, 1, folder=str(tmp_path))
    assert np.array_equal(digits.train_x, arrays[IDX_NAMES[0]]) and np.array_equal(digits.test_y, arrays[IDX_NAMES[3]])


def test_a_folder_of_fashion_mnist_by_torchvision_is_not_taken_for_mnist(tmp_path):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    write_folder(folder, True)
    assert len(load(FashionMnist, 1, folder=str(tmp_path)).train_y) == 40
    with pytest.raises(UsageError, match=r"MNIST/raw below it; there are FashionMNIST/"):
        load(Mnist, 1, folder=str(tmp_path))


def test_a_folder_without_the_idx_files_is_refused_with_what_lies_in_it(tmp_path):
    with pytest.raises(UsageError, match="it is empty"):
        load(Mnist, 1, folder=str(tmp_path))
    for number in range(12):
        (tmp_path / f"picture{number:02}.png").touch()
    with pytest.raises(UsageError, match=r"there are picture00\.png, .*picture07\.png and 4 more"):
        load(Mnist, 1, folder=str(tmp_path))


def test_an_empty_folder_option_means_debians_place(tmp_path, monkeypatch):
    write_folder(tmp_path, True)
    monkeypatch.setattr(FashionMnist, "debian_folder", str(tmp_path))
    assert len(load(FashionMnist, 1).train_y) == 40


@pytest.mark.parametrize("kind", [Mnist, FashionMnist])
def test_a_missing_debian_folder_says_what_to_install(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(kind, "debian_folder", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match=r"data\.folder.*dataset-fashion-mnist"):
        load(kind, 1)


def test_a_folder_that_does_not_exist_or_lacks_a_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"data\.folder = .*nothing.*existing folder"):
        load(Mnist, 1, folder=str(tmp_path / "nothing"))
    digits = write_folder(tmp_path, True)
    (tmp_path / f"{IDX_NAMES[3]}.gz").unlink()
    with pytest.raises(UsageError, match=IDX_NAMES[3]):
        digits.load(1)


def test_files_whose_counts_differ_are_refused(tmp_path):
    arrays = idx_arrays()
    arrays[IDX_NAMES[1]] = arrays[IDX_NAMES[1]][:-1]
    with pytest.raises(UsageError, match=rf"{IDX_NAMES[1]}.*40; there are 39"):
        write_folder(tmp_path, False, arrays).load(1)


def test_test_images_of_another_size_are_refused(tmp_path):
    arrays = idx_arrays()
    arrays[IDX_NAMES[2]] = arrays[IDX_NAMES[2]][:, :20]
    with pytest.raises(UsageError, match=rf"{IDX_NAMES[2]}.*\(28, 28\).*\(20, 28\)"):
        write_folder(tmp_path, False, arrays).load(1)


def test_a_label_above_nine_is_refused(tmp_path):
    arrays = idx_arrays()
    arrays[IDX_NAMES[3]][4] = 10
    with pytest.raises(UsageError, match=rf"{IDX_NAMES[3]}.*there is a 10"):
        write_folder(tmp_path, False, arrays).load(1)


def test_an_empty_set_is_refused(tmp_path):
    with pytest.raises(UsageError, match=rf"{IDX_NAMES[0]}.*at least one"):
        write_folder(tmp_path, False, idx_arrays(train=0)).load(1)


WHOLE = idx_bytes(idx_arrays()[IDX_NAMES[0]])
MALFORMED = {
    "empty": (b"", "begins with nothing"),
    "wrong magic": (b"\x00\x00\x0d\x03" + WHOLE[4:], "begins with 00000d03"),
    "labels in the place of images": (idx_bytes(np.zeros(5)), "begins with 00000801"),
    "no sizes": (WHOLE[:9], "header of 16 bytes"),
    "truncated": (WHOLE[:-1], "bytes after the header"),
    "too long": (WHOLE + b"!", "bytes after the header"),
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("content", "text"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_idx_file_is_refused_by_name(tmp_path, content, text, packed):
    digits = write_folder(tmp_path, packed)
    name = IDX_NAMES[0] + (".gz" if packed else "")
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(UsageError, match=rf"{name}.*{text}"):
        digits.load(1)


DAMAGE = {
    "cut short": lambda data: data[:-9],
    "not packed": lambda data: b"no gzip at all",
    "overwritten": lambda data: data[:200] + b"\xff" * 50 + data[250:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_gzip_file_is_refused_by_name(tmp_path, damage):
    digits = write_folder(tmp_path, True)
    path = tmp_path / f"{IDX_NAMES[0]}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=rf"{IDX_NAMES[0]}\.gz.*a readable, complete file"):
        digits.load(1)


# numpy's files


def npz(folder, **arrays) -> Npz:
    np.savez(folder / "set.npz", **arrays)
    return Npz(Npz.Settings(file=str(folder / "set.npz"), test_fraction=0.25))


LABELS = np.arange(20) % 3


@pytest.mark.parametrize(("x", "y"), [("x", "y"), ("images", "labels")])
def test_npz_with_features_is_split_and_made_float32(tmp_path, x, y):
    features = np.random.default_rng(1).normal(size=(20, 4))
    data = npz(tmp_path, **{x: features, y: LABELS.astype(np.uint8)})
    found = data.load(1)
    assert (found.train_x.shape, found.test_x.shape, found.train_x.dtype, found.train_y.dtype) == ((15, 4), (5, 4), np.float32, np.int64)
    assert (found.name, found.classes, found.input_shape, data.samples()) == ("npz", 3, (4,), 20)
    everything = {tuple(row): label for row, label in zip(features.astype(np.float32), LABELS, strict=True)}
    for row, label in zip((*found.train_x, *found.test_x), (*found.train_y, *found.test_y), strict=True):
        assert everything.pop(tuple(row)) == label


def test_npz_is_split_as_the_embedded_set_that_it_was_made_of(tmp_path):
    digits = load(Mnist10k, 3)
    two_parts = npz(tmp_path, x_train=digits.train_x, y_train=digits.train_y, x_test=digits.test_x, y_test=digits.test_y)
    again = two_parts.load(8)
    for name in ("train_x", "train_y", "test_x", "test_y", "mean", "std"):
        assert np.array_equal(getattr(digits, name), getattr(again, name)), name
    assert (again.input_shape, again.train_x.dtype, two_parts.samples()) == ((1, 28, 28), np.uint8, 9000)


def test_npz_with_images_of_several_channels_scales_them_by_one_mean(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (20, 3, 8, 6)).astype(np.uint8)
    found = npz(tmp_path, x=images, y=LABELS).load(1)
    scaled = found.scaled(found.train_x)
    assert (found.input_shape, found.mean.shape, scaled.shape, scaled.dtype) == ((3, 8, 6), (), (15, 3, 8, 6), np.float32)
    assert abs(scaled.mean()) < 1e-3 and abs(scaled.std() - 1) < 1e-3


def test_npz_takes_whole_numbers_stored_as_floats_for_labels(tmp_path):
    found = npz(tmp_path, x=np.ones((20, 2)), y=LABELS.astype(float)).load(1)
    assert found.classes == 3


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def with_value(array: np.ndarray, place, value) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


PARTS = {"x_train": ones(20, 2), "y_train": LABELS, "x_test": ones(20, 2), "y_test": LABELS}
BAD_NPZ = {
    "no arrays": ({}, "arrays x_train, y_train, x_test, y_test; or x, y; or images, labels; there are none"),
    "other arrays": ({"a": LABELS, "b": LABELS}, "or images, labels; there are a, b"),
    "half a pair": ({"x": ones(20, 2), "labels": LABELS}, "there are labels, x"),
    "pickled samples": ({"x": np.array([[1], ["a", 2]] * 10, object), "y": LABELS}, "without pickle; x cannot"),
    "pickled labels": ({"x": ones(20, 2), "y": np.array([None] * 20)}, "without pickle; y cannot"),
    "texts": ({"x": ones(20, 2), "y": np.array(["a"] * 20)}, "numbers; y is <U1"),
    "one axis": ({"x": ones(20), "y": LABELS}, r"samples with one to three axes each; x has the shape \(20,\)"),
    "no sample": ({"x": ones(0, 2), "y": LABELS[:0]}, r"at least one sample of at least one feature; x has the shape \(0, 2\)"),
    "no feature": ({"x": ones(20, 0), "y": LABELS}, r"at least one sample of at least one feature; x has the shape \(20, 0\)"),
    "labels in a column": ({"x": ones(20, 2), "y": LABELS[:, None]}, r"one label a sample, .*; y has the shape \(20, 1\)"),
    "fewer labels": ({"x": ones(20, 2), "y": LABELS[1:]}, "as many labels as samples; x has 20 and y 19"),
    "a negative label": ({"x": ones(20, 2), "y": LABELS - 1}, r"whole numbers from 0 to 9999; y\[0\] is -1"),
    "half a label": ({"x": ones(20, 2), "y": with_value(LABELS * 1.0, 4, 0.5)}, r"whole numbers from 0 to 9999; y\[4\] is 0\.5"),
    "a label that is not a number": ({"x": ones(20, 2), "y": with_value(LABELS * 1.0, 4, np.nan)}, r"y\[4\] is nan"),
    "a huge label": ({"x": ones(20, 2), "y": with_value(LABELS, 6, 2**40)}, r"y\[6\] is 1099511627776"),
    "one class": ({"x": ones(20, 2), "y": LABELS * 0 + 2}, "labels of at least two classes; all of them are 2"),
    "nan": ({"x": with_value(ones(20, 2), (7, 1), np.nan), "y": LABELS}, r"finite in float32; x\[7, 1\] is nan"),
    "too large": ({"x": with_value(np.ones((20, 2)), (7, 0), 1e60), "y": LABELS}, r"finite in float32; x\[7, 0\] is 1e\+60"),
    "another shape": (PARTS | {"x_test": ones(20, 3)}, r"samples of one shape; x_train has \(2,\) and x_test \(3,\)"),
    "fewer test labels": (PARTS | {"y_test": LABELS[1:]}, "as many labels as samples; x_test has 20 and y_test 19"),
    "no test sample": (PARTS | {"x_test": ones(0, 2), "y_test": LABELS[:0]}, r"at least one sample .*; x_test has the shape"),
}


@pytest.mark.parametrize(("arrays", "text"), BAD_NPZ.values(), ids=BAD_NPZ)
def test_an_unusable_npz_file_is_refused_with_its_reason(tmp_path, arrays, text):
    data = npz(tmp_path, **arrays)
    with pytest.raises(UsageError, match=rf"data\.file = '.*set\.npz' is not allowed: .*{text}"):
        data.load(1)


def test_what_is_no_npz_file_is_refused(tmp_path):
    np.save(tmp_path / "one.npy", LABELS)
    (tmp_path / "text.npz").write_text("x, y")
    for name in ("one.npy", "text.npz"):
        with pytest.raises(UsageError, match=rf"data\.file = '.*{name}' .*an npz file, as numpy\.savez writes it"):
            load(Npz, 1, file=str(tmp_path / name))


def test_a_damaged_npz_file_is_refused(tmp_path):
    path = tmp_path / "set.npz"
    np.savez_compressed(path, x=np.random.default_rng(1).random((200, 9)), y=np.arange(200) % 2)
    content = path.read_bytes()
    path.write_bytes(content[:200] + b"\xff" * 50 + content[250:])
    with pytest.raises(UsageError, match=r"data\.file = .*a readable, complete file"):
        load(Npz, 1, file=str(path))


# Text files


def csv(folder, text: str | bytes, name: str = "set.csv", **options: object) -> Csv:
    content = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return Csv(Csv.Settings(file=str(folder / name), **options))


def rows_of(found: Dataset) -> list[tuple[float, ...]]:
    """All samples with their labels, sorted."""
    return sorted((*map(float, x), int(y)) for x, y in zip((*found.train_x, *found.test_x), (*found.train_y, *found.test_y), strict=True))


PLAIN = [(-1.0, 1e3, 2), (0.5, 2.0, 1), (1.5, -2.0, 0)]
GOOD_CSV = {
    "plain": ("0.5,2,1\n1.5,-2,0\n-1,1e3,2\n", {}),
    "with a header": ("a,b,c\n0.5,2,1\n1.5,-2,0\n-1,1e3,2\n", {}),
    "label by name": ("c,a,b\n1,0.5,2\n0,1.5,-2\n2,-1,1e3\n", {"label": "c"}),
    "label by number": ("0.5,1,2\n1.5,0,-2\n-1,2,1e3\n", {"label": 2}),
    "label by number with a header": ("a,c,b\n0.5,1,2\n1.5,0,-2\n-1,2,1e3\n", {"label": 2}),
    "a header of numbers": ("2019,2020,2021\n0.5,2,1\n1.5,-2,0\n-1,1e3,2\n", {"label": "2021"}),
    "labels as texts": ("0.5,2,dog\n1.5,-2,cat\n-1,1e3,wolf\n", {}),
    "labels written as floats": ("0.5,2,1.0\n1.5,-2,0.0\n-1,1e3,2.0\n", {}),
    "quotes, spaces, empty lines": ('"a", b , c\r\n\r\n 0.5, "2", 1\r\n1.5, -2, 0\r\n \r\n-1,1e3,2', {"label": "c"}),
    "a byte order mark": ("\ufeffc,a,b\n1,0.5,2\n0,1.5,-2\n2,-1,1e3\n", {"label": "c"}),
}


@pytest.mark.parametrize("name", ["set.csv", "set.csv.gz"])
@pytest.mark.parametrize(("text", "options"), GOOD_CSV.values(), ids=GOOD_CSV)
def test_csv_is_read_packed_or_plain(tmp_path, text, options, name):
    found = csv(tmp_path, text, name, **options).load(1)
    assert rows_of(found) == PLAIN
    assert (found.name, found.classes, found.input_shape, len(found.test_y)) == ("csv", 3, (2,), 1)
    assert (found.train_x.dtype, found.train_y.dtype) == (np.float32, np.int64)


def test_csv_is_split_as_the_embedded_set_that_it_holds(tmp_path):
    spam = load(Spambase, 5)
    content = gzip.decompress((Path(healmpi.__file__).parent / "data" / "spambase.csv.gz").read_bytes())
    again = csv(tmp_path, content).load(5)
    for name in ("train_x", "train_y", "test_x", "test_y", "mean", "std"):
        assert np.array_equal(getattr(spam, name), getattr(again, name)), name


@pytest.mark.parametrize("name", ["set.csv", "set.csv.gz"])
def test_the_samples_of_a_csv_file_are_estimated_without_reading_it(tmp_path, name):
    rng = np.random.default_rng(2)
    text = "".join(f"{a:.6f},{b:.6f},{c}\n" for a, b, c in zip(rng.random(9000), rng.random(9000), rng.integers(2, size=9000), strict=True))
    assert csv(tmp_path, text, name).samples() == pytest.approx(9000, rel=0.05)


BAD_CSV = {
    "empty": ("", {}, "a file with samples; it is empty"),
    "a header alone": ("a,b\n", {}, "at least two lines with samples; there are 0"),
    "one sample": ("1,0\n", {}, "at least two lines with samples; there are 1"),
    "one column": ("1\n2\n", {}, "line 1: at least two columns, with a comma between; there is one"),
    "a short line": ("1,2,0\n3,1\n", {}, "line 2: 3 columns, as the first line has; there are 2"),
    "a text among features": ("a,b,c\n1,2,0\n\n3,x,1\n", {}, r"line 4, column 2 \(b\): a number that is finite in float32; there is 'x'"),
    "a hole": ("1,,0\n3,4,1\n", {}, "line 1, column 2: a number that is finite in float32; there is ''"),
    "nan": ("1,2,0\n1,nan,0\n", {}, "line 2, column 2: a number that is finite in float32; there is 'nan'"),
    "too large": ("1,0,2\n0,1,1e60\n", {"label": 1}, "line 2, column 3: a number that is finite in float32; there is '1e60'"),
    "no label": ("1,2,a\n1,3, \n", {}, "line 2, column 3: a label; there is ''"),
    "a negative label": ("1,2,0\n1,3,-1\n", {}, "line 2, column 3: a text, or a whole number from 0 to 9999; there is '-1'"),
    "half a label": ("1,2,0\n1,3,0.5\n", {}, "line 2, column 3: a text, or a whole number from 0 to 9999; there is '0.5'"),
    "a huge label": ("1,2,0\n1,3,10000\n", {}, "line 2, column 3: .*; there is '10000'"),
    "texts among numbers": ("1,2,0\n1,3,1\n1,3,x\n", {}, "line 3, column 3: a label of the kind of the first one: .*; there is 'x'"),
    "one class": ("1,2,x\n1,3,x\n", {}, "labels of at least two classes; all of them are 'x'"),
    "an open quote": ('1,2,0\n1,"3,1\n', {}, r"line 2: columns with a comma between \("),
    "another encoding": (b"1,2,caf\xe9\n1,3,th\xe9\n", {}, r"a text in UTF-8 \("),
}


@pytest.mark.parametrize("name", ["set.csv", "set.csv.gz"])
@pytest.mark.parametrize(("text", "options", "reason"), BAD_CSV.values(), ids=BAD_CSV)
def test_an_unusable_csv_file_is_refused_with_its_reason(tmp_path, text, options, reason, name):
    data = csv(tmp_path, text, name, **options)
    with pytest.raises(UsageError, match=rf"data\.file = '.*{name}' is not allowed: {reason}"):
        data.load(1)


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("d", "'d' is not allowed: a column: one of a, b, a in the first line, or a number, 1 to 3"),
        ("a", "'a' is not allowed: a column"),
        (0, "0 is not allowed: 1 to 3"),
        (4, "4 is not allowed: 1 to 3"),
    ],
)
def test_a_label_column_that_is_not_there_or_not_clear_is_refused(tmp_path, label, reason):
    with pytest.raises(UsageError, match=rf"data\.label = {reason}"):
        csv(tmp_path, "a,b,a\n1,2,0\n3,4,1\n", label=label).load(1)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_packed_csv_file_is_refused(tmp_path, damage):
    rng = np.random.default_rng(2)
    data = csv(tmp_path, "".join(f"{a:.9f},{b:.9f},{a > b:d}\n" for a, b in rng.random((99, 2))), "set.csv.gz")
    path = tmp_path / "set.csv.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=r"data\.file = '.*set\.csv\.gz'.*a readable, complete file"):
        data.load(1)


# Any file


@pytest.mark.parametrize("kind", [Npz, Csv])
def test_a_file_that_is_not_there_is_named_and_counts_as_no_samples(tmp_path, kind):
    for name in ("", str(tmp_path / "nothing"), str(tmp_path)):
        data = kind(kind.Settings(file=name))
        assert data.samples() == 0
        with pytest.raises(UsageError, match=rf"data\.file = '{name}' is not allowed: an existing file"):
            data.load(1)


def test_a_tilde_means_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path, True)
    npz(tmp_path, x=ones(20, 2), y=LABELS)
    csv(tmp_path, "1,0\n2,1\n")
    assert len(load(Mnist, 1, folder="~").train_y) == 40
    assert len(load(Npz, 1, file="~/set.npz").train_y) == 18
    assert len(load(Csv, 1, file="~/set.csv").train_y) == 1


# The catalogue


def test_the_shipped_data_sets_say_about_how_many_samples_they_have_and_which_model_suits():
    found = discover(healmpi.learning.datasets, Data)
    said = {name: (kind(kind.Settings()).samples(), kind.images, kind.model) for name, kind in found.items()}
    assert said == {
        "csv": (0, False, "mlp"),
        "fashion-mnist": (60_000, True, "lenet5"),
        "mnist": (60_000, True, "lenet5"),
        "mnist10k": (9_000, True, "lenet5"),
        "npz": (0, True, "mlp"),
        "spambase": (4_100, False, "logistic"),
        "synthetic": (2_000, False, "mlp"),
    }


def test_data_partition_and_declarations_need_no_torch():
    code = """if True:
        import sys, healmpi.learning.datasets, healmpi.learning.models, healmpi.learning.learners, healmpi.learning.partition
        from healmpi.extension import discover
        for package in (healmpi.learning.datasets, healmpi.learning.models, healmpi.learning.learners):
            assert discover(package, object)
        sys.exit("torch" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
