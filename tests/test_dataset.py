# Copyright 2026 The AdderNGD for MindSpore Authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
# http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
# ============================================================================
"""src.data, with CIFAR and the synthetic set: files are checked, images and labels arrive as they are on disk."""
import dataclasses
import hashlib
import os

import numpy as np
import pytest

from src import data as dataset
from src.data import synthetic
from src.data import SETS, create_dataset, prepare
from src.data.cifar import MEAN, STD
from src.errors import UserError

BOTH = ("train", "test")
CIFAR = ("cifar10", "cifar100")
SYNTHETIC_SHA256 = {"train": "72846330ceb5fb1b899f0f2c08fe9737c99ec0dc59f0eeb3e82f9f3326f85351",
                    "test": "d84adfee18a126ae3d25938db2f4f9dc3ae13ece76e64c1d5b231560bc7cafdb"}


# Writing data sets.

def records(name, size, seed=0):
    """Random records [size, label bytes + 3072] of a data set; a coarse label never equals the fine one."""
    layout, random = SETS[name], np.random.default_rng(seed)
    fine = random.integers(0, layout.class_num, (size, 1), np.uint8)
    labels = np.concatenate([(fine + 1) % 20, fine], 1)[:, -layout.label_bytes:]
    return np.concatenate([labels, random.integers(0, 256, (size, 3072), np.uint8)], 1)


def coordinates(name, size):
    """Records in whose images red is 8 * column, green is 8 * row + 7 and blue is the image's number."""
    data = records(name, size)
    rows, columns = np.mgrid[:32, :32]
    for number, image in enumerate(data[:, -3072:].reshape(-1, 3, 32, 32)):
        image[:] = columns * 8, rows * 8 + 7, np.full((32, 32), number)
    return data


def write(folder, files):
    """Files from a dictionary name -> records."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data.tobytes())
    return folder


def small(name, parent, train=20, test=12):
    """The official folder of a data set with few images in every file."""
    files = SETS[name].files
    contents = {file: records(name, train, seed) for seed, file in enumerate(files["train"], 1)}
    return write(parent / SETS[name].folder, contents | {files["test"][0]: records(name, test)})


def sized(name, parent):
    """An official folder whose files have the official sizes and, on disk, no content."""
    layout = SETS[name]
    folder = write(parent / layout.folder, {})
    for split in BOTH:
        for file in layout.files[split]:
            resize(folder / file, layout.counts[split] // len(layout.files[split]) * layout.record_bytes)
    return folder


def resize(file, size):
    with open(file, "ab") as stream:
        stream.truncate(size)


# Reading them back.

def batches(*args, **kwargs):
    return list(create_dataset(*args, **kwargs).create_tuple_iterator(num_epochs=1, output_numpy=True))


def everything(*args, **kwargs):
    """Pixels uint8 [N, 3, 32, 32] and labels [N] of one pass."""
    images, labels = (np.concatenate(column) for column in zip(*batches(*args, **kwargs)))
    return pixels(images), labels


def pixels(images):
    """Undo the normalisation, which must leave whole numbers."""
    mean, std = (np.reshape(values, (3, 1, 1)).astype(np.float32) * 255 for values in (MEAN, STD))
    values = images * std + mean
    whole = values.round()
    assert abs(values - whole).max() < 1e-3
    return whole.astype(np.uint8)


def assert_same(got, data):
    """Pixels and labels are those of the records, in this order."""
    np.testing.assert_array_equal(got[0], data[:, -3072:].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(got[1], data[:, -3073])


def multiset(images):
    return sorted(image.tobytes() for image in images)


@pytest.fixture(name="own_reader")
def fixture_own_reader(monkeypatch):
    """Turns MindSpore's reader off, so that files of the official size take the way of small ones."""
    def off(name):
        monkeypatch.setitem(SETS, name, dataclasses.replace(SETS[name], reader=None))
    return off


@pytest.fixture(name="plain")
def fixture_plain(monkeypatch):
    """Turns augmentation off."""
    operations = dataset.image_operations
    monkeypatch.setattr(dataset, "image_operations", lambda name, training, size: operations(name, False, size))


# prepare: where the files are, and whether they are whole.

@pytest.mark.parametrize("name", CIFAR)
def test_folder_itself_or_the_one_around_it(name, tmp_path):
    folder = small(name, tmp_path)
    assert prepare(name, str(folder), BOTH, True) == folder
    assert prepare(name, str(tmp_path), BOTH, True) == folder


@pytest.mark.parametrize("name", CIFAR)
def test_folder_may_have_another_name(name, tmp_path):
    folder = small(name, tmp_path).rename(tmp_path / "mine")
    assert prepare(name, str(folder), BOTH, True) == folder


@pytest.mark.parametrize("name", CIFAR)
def test_official_sizes_are_accepted(name, tmp_path):
    assert prepare(name, str(sized(name, tmp_path)), BOTH) == tmp_path / SETS[name].folder


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("split", BOTH)
def test_only_the_wanted_split_must_be_there(name, split, tmp_path):
    folder = small(name, tmp_path)
    other = BOTH[split == "train"]
    for file in SETS[name].files[other]:
        (folder / file).unlink()
    assert prepare(name, str(folder), (split,), True) == folder
    refused(name, tmp_path, BOTH, True, "no ", SETS[name].files[other][0])


def refused(name, path, splits, allow_small, *words):
    """The message is one line that has all the words."""
    with pytest.raises(UserError) as caught:
        prepare(name, str(path), splits, allow_small)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", CIFAR)
def test_missing_folder(name, tmp_path):
    refused(name, tmp_path / "absent", BOTH, True, str(tmp_path / "absent"), SETS[name].folder, "download_data.sh")


@pytest.mark.parametrize("name", CIFAR)
def test_other_data_set_in_the_folder(name, tmp_path):
    refused(name, small(CIFAR[name == "cifar10"], tmp_path), ("test",), True, SETS[name].files["test"][0])


@pytest.mark.parametrize("name, file", [(name, file) for name in CIFAR for split in BOTH
                                        for file in SETS[name].files[split]])
@pytest.mark.parametrize("change", [-1, 1, -1500], ids=["a byte short", "a byte long", "half an image short"])
def test_truncated_file(name, file, change, tmp_path):
    path = sized(name, tmp_path) / file
    resize(path, path.stat().st_size + change)
    refused(name, tmp_path, BOTH, True, str(path), "truncated", str(path.stat().st_size))


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("split", BOTH)
def test_empty_file(name, split, tmp_path):
    path = sized(name, tmp_path) / SETS[name].files[split][0]
    resize(path, 0)
    refused(name, tmp_path, BOTH, True, str(path), "0 bytes")


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("split, expected", [("train", 50_000), ("test", 10_000)])
def test_an_image_too_few(name, split, expected, tmp_path):
    path = sized(name, tmp_path) / SETS[name].files[split][0]
    resize(path, path.stat().st_size - SETS[name].record_bytes)
    refused(name, tmp_path, BOTH, False, f"{expected - 1} {split} images instead of {expected}", "allow_small_dataset")
    assert prepare(name, str(tmp_path), BOTH, True) == path.parent


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("split, expected", [("train", 50_000), ("test", 10_000)])
@pytest.mark.parametrize("allow_small", [False, True])
def test_an_image_too_many(name, split, expected, allow_small, tmp_path):
    path = sized(name, tmp_path) / SETS[name].files[split][0]
    resize(path, path.stat().st_size + SETS[name].record_bytes)
    refused(name, tmp_path, BOTH, allow_small, f"{expected + 1} {split} images instead of {expected}")


def test_missing_batch_of_cifar10_is_named(tmp_path):
    (sized("cifar10", tmp_path) / "data_batch_4.bin").unlink()
    refused("cifar10", tmp_path, BOTH, False, "40000 train images instead of 50000", "data_batch_4.bin missing")
    assert prepare("cifar10", str(tmp_path), BOTH, True)


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("split", BOTH)
def test_class_that_is_none(name, split, tmp_path):
    """Damaged labels, or a network of too few classes."""
    layout, folder = SETS[name], small(name, tmp_path)
    data = records(name, 20)
    data[:, layout.label_bytes - 1] = 3
    data[5, layout.label_bytes - 1] = layout.class_num
    path = write(folder, {layout.files[split][-1]: data}) / layout.files[split][-1]
    refused(name, tmp_path, BOTH, True, str(path), f"class {layout.class_num}", f"end at {layout.class_num - 1}")
    assert prepare(name, str(tmp_path), BOTH, True, layout.class_num + 1) == folder
    with pytest.raises(UserError, match=r"network's 3 classes end at 2"):
        prepare(name, str(tmp_path), (split,), True, 3)


# Content: images and labels arrive as they are on disk.

@pytest.mark.parametrize("name", CIFAR)
def test_small_files_arrive_exactly(name, tmp_path):
    folder = small(name, tmp_path)
    assert_same(everything(name, folder, "test", 5), records(name, 12))


@pytest.mark.parametrize("name", CIFAR)
def test_official_test_file_arrives_exactly_through_both_readers(name, tmp_path, own_reader):
    data = records(name, 10_000)
    folder = write(tmp_path, {SETS[name].files["test"][0]: data})
    through_mindspore = everything(name, folder, "test", 1000)
    own_reader(name)
    assert_same(through_mindspore, data)
    assert_same(everything(name, folder, "test", 1000), data)


@pytest.mark.parametrize("name", CIFAR)
def test_official_files_take_mindspores_reader(name, tmp_path, monkeypatch):
    def reader(folder, usage, **_):
        raise ValueError(f"{usage} of {folder}")
    monkeypatch.setitem(SETS, name, dataclasses.replace(SETS[name], reader=reader))
    folder = sized(name, tmp_path)
    for split in BOTH:
        with pytest.raises(UserError, match=f"{split} of {folder}"):
            create_dataset(name, folder, split, 1)


def test_images_and_labels_have_the_networks_types(tmp_path):
    images, labels = batches("cifar100", small("cifar100", tmp_path), "test", 5)[0]
    assert (images.dtype, images.shape, labels.dtype, labels.shape) == (np.float32, (5, 3, 32, 32), np.int32, (5,))


@pytest.mark.parametrize("name", CIFAR)
def test_small_train_and_test_are_never_mixed(name, tmp_path, plain):
    folder = small(name, tmp_path)
    files = [np.frombuffer((folder / file).read_bytes(), np.uint8) for file in SETS[name].files["train"]]
    on_disk = np.concatenate(files).reshape(-1, SETS[name].record_bytes)
    assert multiset(everything(name, folder, "train", 1)[0]) == multiset(on_disk[:, -3072:])
    assert multiset(everything(name, folder, "test", 1)[0]) == multiset(records(name, 12)[:, -3072:])


def test_official_train_files_of_cifar10_are_read_and_test_is_not(tmp_path, plain):
    data = records("cifar10", 10_000)
    files = {f"data_batch_{i}.bin": data for i in (1, 3)} | {"test_batch.bin": data * 0}
    images, labels = everything("cifar10", write(tmp_path, files), "train", 100)
    assert len(images) == 20_000
    assert np.array_equal(np.bincount(labels), 2 * np.bincount(data[:, 0]))
    sums = np.sort(images.reshape(len(images), -1).sum(1))
    assert np.array_equal(sums, np.repeat(np.sort(data[:, 1:].sum(1)), 2))


def test_official_cifar100_as_a_whole(tmp_path):
    """50,000 images through MindSpore's reader: whole batches, fine labels, none of the test set."""
    labels = np.arange(50_000) % 99
    data = np.full((50_000, 3074), 200, np.uint8)
    data[:, 0], data[:, 1] = 99, labels
    folder = write(tmp_path, {"train.bin": data, "test.bin": np.full((10_000, 3074), 99, np.uint8)})
    assert prepare("cifar100", str(tmp_path), BOTH) == folder
    got = [column for _, column in batches("cifar100", folder, "train", 256)]
    assert {len(column) for column in got} == {256} and len(got) == 50_000 // 256
    counts = np.bincount(np.concatenate(got), minlength=99)
    assert counts.sum() == 195 * 256 and np.all(counts <= np.bincount(labels)) and len(counts) == 99
    (tmp_path / "train.bin").unlink()
    (tmp_path / "test.bin").unlink()


# Other files beside the official ones.

STRAY = {"cifar10": ("extra.bin", "data_batch_6.bin", "test_batch_old.bin", "._data_batch_1.bin", "._test_batch.bin"),
         "cifar100": ("extra.bin", "test_old.bin", "._test.bin", "data_batch_1.bin")}


@pytest.mark.parametrize("name, stray", [(name, stray) for name in CIFAR for stray in STRAY[name]])
def test_other_files_are_not_read(name, stray, tmp_path):
    """Neither those that a Mac leaves, nor copies, nor another set's; MindSpore's readers would take them."""
    test, train = (SETS[name].files[split][0] for split in ("test", "train"))
    folder = write(tmp_path, {test: records(name, 10_000) * 0, train: records(name, 10_000)})
    (folder / stray).write_bytes(b"\1" * (4096 if stray.startswith("._") else 10_000 * SETS[name].record_bytes))
    prepare(name, str(folder), BOTH, True)
    labels = np.concatenate([labels for _, labels in batches(name, folder, "test", 1000)])
    assert len(labels) == 10_000 and not labels.any()
    assert create_dataset(name, folder, "train", 1000).get_dataset_size() == 10


def test_both_sets_in_one_folder(tmp_path):
    for name in CIFAR:
        sized(name, tmp_path)
    both = write(tmp_path / "both", {})
    for file in (*tmp_path.glob("cifar-10-*/*"), *tmp_path.glob("cifar-100-*/*")):
        file.rename(both / file.name)
    for name in CIFAR:
        assert prepare(name, str(both), BOTH) == both
        assert create_dataset(name, both, "train", 1000).get_dataset_size() == 50
        assert create_dataset(name, both, "test", 1000).get_dataset_size() == 10


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"shards": 2, "shard_id": 1}, {"validation_size": 1000}])
def test_both_readers_give_the_same_training_batches(options, tmp_path):
    folder = write(tmp_path, {"data_batch_1.bin": records("cifar10", 10_000)})
    through_mindspore = batches("cifar10", folder, "train", 500, 7, **options)
    (folder / "extra.bin").touch()
    assert same(through_mindspore, batches("cifar10", folder, "train", 500, 7, **options))


# Names of the classes.

@pytest.mark.parametrize("name, file, count", [("cifar10", "batches.meta.txt", 10),
                                               ("cifar100", "fine_label_names.txt", 100)])
def test_names_of_the_classes(name, file, count, tmp_path):
    folder, names = small(name, tmp_path), [f"class_{number}" for number in range(count)]
    assert dataset.class_names(name, folder) == ()
    (folder / file).write_text("\n".join(names) + "\n\n", encoding="utf-8")
    assert dataset.class_names(name, folder) == tuple(names)
    for bad in ("\n".join(names[1:]), "\n".join(names).replace("1", "\x1b[31m"), "\udcff"):
        (folder / file).write_text(bad, encoding="utf-8", errors="surrogateescape")
        assert dataset.class_names(name, folder) == ()


# Batches.

@pytest.mark.parametrize("batch_size", [1, 5, 7, 12, 100])
def test_evaluation_covers_every_image_once(batch_size, tmp_path):
    folder = small("cifar100", tmp_path)
    sizes = [len(labels) for _, labels in batches("cifar100", folder, "test", batch_size)]
    assert sum(sizes) == 12 and set(sizes[:-1]) <= {batch_size}
    assert_same(everything("cifar100", folder, "test", batch_size), records("cifar100", 12))


@pytest.mark.parametrize("batch_size, expected", [(1, 20), (7, 2), (10, 2), (20, 1)])
def test_training_drops_only_the_incomplete_batch(batch_size, expected, tmp_path):
    folder = small("cifar100", tmp_path)
    got = batches("cifar100", folder, "train", batch_size)
    assert [len(labels) for _, labels in got] == [batch_size] * expected
    assert create_dataset("cifar100", folder, "train", batch_size).get_dataset_size() == expected


def test_batch_larger_than_the_training_set(tmp_path):
    with pytest.raises(UserError, match="20 training images are fewer than batch_size 21"):
        create_dataset("cifar100", small("cifar100", tmp_path), "train", 21)


@pytest.mark.parametrize("workers", [0, -1, 100_000])
def test_impossible_number_of_workers(workers, tmp_path):
    with pytest.raises(UserError, match="num_parallel_workers"):
        create_dataset("cifar100", small("cifar100", tmp_path), "test", 1, workers=workers)


def test_every_training_image_is_drawn_at_most_once(tmp_path):
    folder = write(tmp_path, {"train.bin": coordinates("cifar100", 250)})
    numbers = everything("cifar100", folder, "train", 100)[0][:, 2, 16, 16]
    assert len(set(numbers)) == len(numbers) == 200


# Images held out for the choice of settings.

@pytest.mark.parametrize("count", [20, 3000])
def test_held_out_images_are_the_last_and_not_trained_on(count, tmp_path, plain):
    """Validation images come in order, each once; training images in another order for another seed."""
    data = records("cifar100", count)
    folder = write(tmp_path, {"train.bin": data})
    held, batch = count // 5, count // 5
    assert_same(everything("cifar100", folder, "validation", batch, validation_size=held), data[-held:])
    orders = [everything("cifar100", folder, "train", batch, seed=seed, validation_size=held) for seed in (1, 1, 2)]
    assert multiset(orders[0][0]) == multiset(data[:-held, -3072:])
    np.testing.assert_array_equal(orders[0][0], orders[1][0])
    assert np.any(orders[0][0] != orders[2][0])


def test_the_test_set_is_not_touched_by_holding_out(tmp_path):
    folder = small("cifar100", tmp_path)
    assert_same(everything("cifar100", folder, "test", 5, validation_size=3), records("cifar100", 12))


@pytest.mark.parametrize("options, words", [({"validation_size": 20}, "leaves nothing of 20"),
                                            ({"validation_size": 2, "shards": 2}, "single device")])
def test_impossible_validation_set(options, words, tmp_path):
    with pytest.raises(UserError, match=words):
        create_dataset("cifar100", small("cifar100", tmp_path), "train", 1, **options)


# Augmentation.

def crop(image):
    """(right, down, mirrored): how far the window of a cropped image of `coordinates` was moved; checks every pixel."""
    red, green, blue = image.astype(int)
    mirrored = red[16, 16] < red[16, 15]
    right = red[16, 15 if mirrored else 16] // 8 - 16
    down = green[16, 16] // 8 - 16
    rows, columns = np.mgrid[:32, :32] + np.array([down, right]).reshape(2, 1, 1)
    inside = (rows >= 0) & (rows < 32) & (columns >= 0) & (columns < 32)
    expected = np.where(inside, [columns * 8, rows * 8 + 7, np.full((32, 32), blue[16, 16])], 0)
    np.testing.assert_array_equal(image, expected[:, :, ::-1] if mirrored else expected)
    return right, down, mirrored


def test_training_images_are_cropped_from_a_margin_of_4_and_mirrored(tmp_path):
    folder = write(tmp_path, {"train.bin": coordinates("cifar100", 250)})
    crops = [crop(image) for seed in range(4) for image in everything("cifar100", folder, "train", 250, seed)[0]]
    right, down, mirrored = np.transpose(crops)
    for moved in (right, down):
        values, counts = np.unique(moved, return_counts=True)
        assert list(values) == list(range(-4, 5))
        assert counts.min() > 60 and counts.max() < 170  # 111 expected
    assert 420 < mirrored.sum() < 580


def test_crops_and_mirroring_are_independent(tmp_path):
    """MindSpore seeds every random operator alike: two that draw in step would do everything in step."""
    folder = write(tmp_path, {"train.bin": coordinates("cifar100", 250)})
    crops = [crop(image) for seed in range(4) for image in everything("cifar100", folder, "train", 250, seed)[0]]
    assert abs(np.corrcoef(np.transpose(crops)) - np.eye(3)).max() < 0.15


def test_labels_stay_with_their_images(tmp_path):
    data = coordinates("cifar100", 250)
    images, labels = everything("cifar100", write(tmp_path, {"train.bin": data}), "train", 250)
    assert np.array_equal(labels, data[images[:, 2, 16, 16], 1])


def test_evaluation_images_are_untouched(tmp_path):
    data = coordinates("cifar100", 250)
    assert_same(everything("cifar100", write(tmp_path, {"test.bin": data}), "test", 100), data)


# Networks of other image sizes.

@pytest.mark.parametrize("split", BOTH)
@pytest.mark.parametrize("size", [(28, 28), (40, 48), (64, 64)])
def test_images_of_another_size(size, split, tmp_path):
    folder = small("cifar100", tmp_path)
    (images, labels), *_ = batches("cifar100", folder, split, 4, size=size)
    assert images.shape == (4, 3, *size) and images.dtype == np.float32 and labels.shape == (4,)


def test_a_larger_image_is_the_same_one(tmp_path):
    data = coordinates("cifar100", 5)
    folder = write(tmp_path, {"test.bin": data})
    larger = everything("cifar100", folder, "test", 5, size=(64, 64))[0].astype(int)
    means = larger.reshape(5, 3, 32, 2, 32, 2).mean((3, 5))
    inner = (..., slice(1, -1), slice(1, -1))
    assert abs(means - data[:, -3072:].reshape(-1, 3, 32, 32))[inner].max() <= 1


def test_the_sets_own_size_changes_nothing(tmp_path):
    folder = small("cifar100", tmp_path)
    assert same(batches("cifar100", folder, "train", 5), batches("cifar100", folder, "train", 5, size=(32, 32)))


# Seeds and shards.

def same(one, other):
    return all(np.array_equal(a, b) for left, right in zip(one, other) for a, b in zip(left, right))


@pytest.mark.parametrize("official, workers", [(False, 1), (False, 2), (True, 2)])
def test_the_seed_decides_the_batches(official, workers, tmp_path):
    data = coordinates("cifar10", 10_000 if official else 250)
    folder = write(tmp_path, {"data_batch_1.bin": data})
    first, again, other = (batches("cifar10", folder, "train", 50, seed, workers) for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)
    crops = [[crop(image) for image in pixels(images)[:50]] for (images, _), *_ in (first, other)]
    assert crops[0] != crops[1]


@pytest.mark.parametrize("seed", [0, 5])
def test_training_images_are_shuffled(seed, tmp_path):
    folder = write(tmp_path, {"train.bin": coordinates("cifar100", 250)})
    numbers = everything("cifar100", folder, "train", 250, seed)[0][:, 2, 16, 16].astype(int)
    assert abs(np.corrcoef(numbers, np.arange(250))[0, 1]) < 0.3


@pytest.mark.parametrize("shards", [1, 2, 5])
@pytest.mark.parametrize("seed", [0, 8])
def test_shards_are_disjoint_and_together_the_whole(shards, seed, tmp_path):
    folder = write(tmp_path, {"train.bin": coordinates("cifar100", 250)})
    parts = [everything("cifar100", folder, "train", 25, seed, shards=shards, shard_id=i)[0] for i in range(shards)]
    assert [len(part) for part in parts] == [250 // shards] * shards
    assert sorted(np.concatenate(parts)[:, 2, 16, 16]) == list(range(250))


def test_shards_of_official_files(tmp_path):
    folder = write(tmp_path, {"data_batch_1.bin": records("cifar10", 10_000)})
    columns = [everything("cifar10", folder, "train", 5000, 1, shards=2, shard_id=i)[1] for i in (0, 1)]
    assert np.array_equal(np.bincount(np.concatenate(columns)), np.bincount(records("cifar10", 10_000)[:, 0]))


def test_shards_change_with_the_seed(tmp_path):
    folder = write(tmp_path, {"train.bin": coordinates("cifar100", 250)})
    one, two = (set(everything("cifar100", folder, "train", 125, seed, shards=2, shard_id=0)[0][:, 2, 16, 16])
                for seed in (1, 2))
    assert one != two


# The synthetic set.

@pytest.fixture(name="generated", scope="module")
def fixture_generated(tmp_path_factory):
    """The synthetic set's folder."""
    folder = tmp_path_factory.mktemp("synthetic")
    synthetic.write(folder)
    return folder


def read(folder, split):
    return np.fromfile(folder / f"{split}.bin", np.uint8).reshape(-1, 3074)


@pytest.mark.parametrize("split", BOTH)
def test_synthetic_bytes_are_the_same_everywhere(split, generated):
    assert hashlib.sha256((generated / f"{split}.bin").read_bytes()).hexdigest() == SYNTHETIC_SHA256[split]


@pytest.mark.parametrize("split, size", [("train", 2560), ("test", 500)])
def test_synthetic_layout(split, size, generated):
    data = read(generated, split)
    assert len(data) == size
    assert np.array_equal(np.bincount(data[:, 1]), [size // 10] * 10)
    assert np.array_equal(data[:, 0], data[:, 1] // 2)
    assert np.any(np.diff(data[:, 1].astype(int)) < 0), "sorted by class"


def test_synthetic_splits_share_no_image(generated):
    assert not set(multiset(read(generated, "train"))) & set(multiset(read(generated, "test")))


def test_synthetic_arrives_exactly(generated):
    assert_same(everything("synthetic", generated, "test", 100), read(generated, "test"))


@pytest.mark.parametrize("path", ["data", "data/synthetic-binary"])
def test_synthetic_is_generated_on_first_use(path, tmp_path):
    folder = prepare("synthetic", str(tmp_path / path), BOTH)
    assert folder == tmp_path / "data" / "synthetic-binary"
    assert sorted(os.listdir(folder)) == ["test.bin", "train.bin"]
    before = (folder / "train.bin").stat()
    assert prepare("synthetic", str(tmp_path / path), BOTH) == folder
    assert (folder / "train.bin").stat().st_mtime_ns == before.st_mtime_ns


def test_synthetic_appears_by_a_rename(tmp_path, monkeypatch):
    def fail(source, target):
        assert target not in tmp_path.iterdir() and len(os.listdir(tmp_path)) == 1
        assert os.stat(source).st_size == 2560 * 3074
        raise OSError(28, "No space left on device", str(target))
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        synthetic.write(tmp_path)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("change, words", [(-1, "truncated"), (-3074, "2559 train images"), (3074, "2561 train images"),
                                           (-2560 * 3074, "0 bytes")])
def test_damaged_synthetic_file_is_reported_not_replaced(change, words, tmp_path):
    file = prepare("synthetic", str(tmp_path), BOTH) / "train.bin"
    size = file.stat().st_size + change
    resize(file, size)
    refused("synthetic", tmp_path, BOTH, False, words)
    assert file.stat().st_size == size


def nearest_mean(generated, feature):
    """Test accuracy of the class whose mean training feature is nearest."""
    train, test = (read(generated, split) for split in BOTH)
    known, wanted = (feature(data[:, 2:].reshape(-1, 3, 32, 32).astype(float)) for data in (train, test))
    means = np.stack([known[train[:, 1] == label].mean(0) for label in range(10)])
    distances = ((wanted[:, None] - means) ** 2).sum(2)
    return (distances.argmin(1) == test[:, 1]).mean()


def test_synthetic_is_not_solved_by_raw_pixels(generated):
    assert nearest_mean(generated, lambda images: images.reshape(len(images), -1)) < 0.25


def spectrum(images):
    return np.abs(np.fft.fft2(images.mean(1) - 127)).reshape(len(images), -1)


def test_synthetic_can_be_learned(generated):
    assert nearest_mean(generated, spectrum) > 0.5


def test_mirroring_leaves_a_synthetic_class_what_it_is(generated):
    """Mirrored test images look like their classes as much as the images themselves do."""
    mirrored = nearest_mean(generated, lambda images: spectrum(images[..., ::-1] if len(images) == 500 else images))
    assert abs(mirrored - nearest_mean(generated, spectrum)) < 0.05
