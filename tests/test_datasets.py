"""Data sets: what is embedded, what is read from files, what is drawn, and what is refused."""

from __future__ import annotations

import gzip
import subprocess
import sys

import numpy as np
import pytest

from healmpi.config import ConfigError, DataSection
from healmpi.learning import datasets
from healmpi.learning.datasets import IDX_NAMES, load


def idx_bytes(array: np.ndarray) -> bytes:
    head = bytes((0, 0, 8, array.ndim)) + b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return head + array.astype(np.uint8).tobytes()


def idx_arrays(train: int = 40, test: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = ((train, 28, 28), (train,), (test, 28, 28), (test,))
    return {name: rng.integers(0, 256 if len(shape) == 3 else 10, shape) for name, shape in zip(IDX_NAMES, shapes, strict=True)}


def write_folder(folder, packed: bool, arrays: dict[str, np.ndarray] | None = None) -> DataSection:
    for name, array in (arrays or idx_arrays()).items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
        else:
            (folder / name).write_bytes(idx_bytes(array))
    return DataSection(dataset="mnist", folder=str(folder))


def test_spambase_has_4597_mails_of_57_features_standardised_by_the_training_part():
    spam = load(DataSection(dataset="spambase"), 1)
    assert (spam.train_x.shape, spam.test_x.shape) == ((4137, 57), (460, 57))
    assert (spam.train_x.dtype, spam.train_y.dtype, spam.input_shape, spam.classes) == (np.float32, np.int64, (57,), 2)
    scaled = spam.scaled(spam.train_x).astype(np.float64)
    assert np.allclose(scaled.mean(axis=0), 0, atol=1e-3)
    assert np.allclose(scaled.std(axis=0), 1, atol=1e-3)
    assert 0.35 < np.mean(np.concatenate([spam.train_y, spam.test_y])) < 0.45


def test_mnist10k_keeps_bytes_and_scales_the_rows_it_is_given():
    digits = load(DataSection(dataset="mnist10k"), 1)
    assert (digits.train_x.shape, digits.test_x.shape) == ((9000, 28, 28), (1000, 28, 28))
    assert (digits.train_x.dtype, digits.train_y.dtype, digits.input_shape, digits.classes) == (np.uint8, np.int64, (1, 28, 28), 10)
    assert set(digits.train_y) == set(range(10))
    scaled = digits.scaled(digits.train_x[:3000])
    assert (scaled.shape, scaled.dtype) == ((3000, 1, 28, 28), np.float32)
    assert abs(scaled.mean()) < 0.05 and abs(scaled.std() - 1) < 0.05
    assert digits.mean == pytest.approx(digits.train_x.mean(), rel=1e-5)
    assert digits.std == pytest.approx(digits.train_x.std(), rel=1e-5)


def test_the_split_depends_on_the_seed_and_on_nothing_else():
    one, same, other = (load(DataSection(dataset="spambase"), seed) for seed in (1, 1, 2))
    assert np.array_equal(one.test_x, same.test_x)
    assert not np.array_equal(one.test_x, other.test_x)


@pytest.mark.parametrize(("samples", "fraction", "held_back"), [(4, 0.9, 3), (4, 0.01, 1), (200, 0.25, 50)])
def test_neither_part_of_a_split_is_empty(samples, fraction, held_back):
    blobs = load(DataSection(dataset="synthetic", samples=samples, test_fraction=fraction), 1)
    assert (len(blobs.test_y), len(blobs.train_y)) == (held_back, samples - held_back)


def test_synthetic_blobs_lie_around_their_centres():
    blobs = load(DataSection(dataset="synthetic", samples=3000, features=7, classes=3, noise=0.01), 4)
    assert (blobs.input_shape, blobs.classes, blobs.train_x.dtype) == ((7,), 3, np.float32)
    for label in range(3):
        assert blobs.train_x[blobs.train_y == label].std(axis=0) == pytest.approx(np.full(7, 0.01), rel=0.2)
    assert sorted(np.bincount(np.concatenate([blobs.train_y, blobs.test_y]))) == [1000, 1000, 1000]


def test_a_constant_feature_is_scaled_to_zero_and_not_to_nan():
    blobs = load(DataSection(dataset="synthetic", samples=50, features=2, classes=50, noise=0.0), 1)
    constant = np.ones((9, 2), np.float32)
    made = datasets._dataset("made", constant, blobs.train_y[:9], constant, blobs.train_y[:9], 50)
    assert np.array_equal(made.scaled(constant), np.zeros((9, 2), np.float32))


@pytest.mark.parametrize("packed", [True, False])
def test_the_four_idx_files_are_read_packed_or_plain(tmp_path, packed):
    arrays = idx_arrays()
    digits = load(write_folder(tmp_path, packed, arrays), 1)
    for name, found in zip(IDX_NAMES, (digits.train_x, digits.train_y, digits.test_x, digits.test_y), strict=True):
        assert np.array_equal(found, arrays[name]), name
    assert (digits.name, digits.input_shape, digits.train_x.dtype, digits.test_y.dtype) == ("mnist", (1, 28, 28), np.uint8, np.int64)


def test_an_empty_folder_option_means_debians_place(tmp_path, monkeypatch):
    write_folder(tmp_path, True)
    monkeypatch.setitem(datasets.DEBIAN_FOLDERS, "fashion-mnist", str(tmp_path))
    assert len(load(DataSection(dataset="fashion-mnist"), 1).train_y) == 40


@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_a_missing_debian_folder_says_what_to_install(tmp_path, monkeypatch, dataset):
    monkeypatch.setitem(datasets.DEBIAN_FOLDERS, dataset, str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"data\.folder.*dataset-fashion-mnist"):
        load(DataSection(dataset=dataset), 1)


def test_a_folder_that_does_not_exist_or_lacks_a_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.folder = .*nothing.*existing folder"):
        load(DataSection(dataset="mnist", folder=str(tmp_path / "nothing")), 1)
    section = write_folder(tmp_path, True)
    (tmp_path / f"{IDX_NAMES[3]}.gz").unlink()
    with pytest.raises(ConfigError, match=IDX_NAMES[3]):
        load(section, 1)


def test_files_whose_counts_differ_are_refused(tmp_path):
    arrays = idx_arrays()
    arrays[IDX_NAMES[1]] = arrays[IDX_NAMES[1]][:-1]
    with pytest.raises(ConfigError, match=rf"{IDX_NAMES[1]}.*40; there are 39"):
        load(write_folder(tmp_path, False, arrays), 1)


def test_test_images_of_another_size_are_refused(tmp_path):
    arrays = idx_arrays()
    arrays[IDX_NAMES[2]] = arrays[IDX_NAMES[2]][:, :20]
    with pytest.raises(ConfigError, match=rf"{IDX_NAMES[2]}.*\(28, 28\).*\(20, 28\)"):
        load(write_folder(tmp_path, False, arrays), 1)


def test_a_label_above_nine_is_refused(tmp_path):
    arrays = idx_arrays()
    arrays[IDX_NAMES[3]][4] = 10
    with pytest.raises(ConfigError, match=rf"{IDX_NAMES[3]}.*there is a 10"):
        load(write_folder(tmp_path, False, arrays), 1)


def test_an_empty_set_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=rf"{IDX_NAMES[0]}.*at least one"):
        load(write_folder(tmp_path, False, idx_arrays(train=0)), 1)


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
    section = write_folder(tmp_path, packed)
    name = IDX_NAMES[0] + (".gz" if packed else "")
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ConfigError, match=rf"{name}.*{text}"):
        load(section, 1)


DAMAGE = {
    "cut short": lambda data: data[:-9],
    "not packed": lambda data: b"no gzip at all",
    "overwritten": lambda data: data[:200] + b"\xff" * 50 + data[250:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_gzip_file_is_refused_by_name(tmp_path, damage):
    section = write_folder(tmp_path, True)
    path = tmp_path / f"{IDX_NAMES[0]}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match=rf"{IDX_NAMES[0]}\.gz.*a readable, complete file"):
        load(section, 1)


def test_data_and_partition_need_no_torch():
    code = "import sys, healmpi.learning.datasets, healmpi.learning.partition; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
