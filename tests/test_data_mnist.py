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
"""src.data with MNIST: its four files are checked, and arrive as they are on disk."""
import gzip
import os

import numpy as np
import pytest

from src import data
from src.data.mnist import FILES
from src.errors import UserError

BOTH = ("train", "test")


def write(folder, train=60, test=20):
    """Small files of random digits; returns split to (images, labels)."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    content = {}
    for split, count in (("train", train), ("test", test)):
        content[split] = random.integers(0, 256, (count, 28, 28), np.uint8), random.integers(0, 10, count, np.uint8)
        for name, array, magic in zip(FILES[split], content[split], (2051, 2049)):
            header = np.array([magic, *array.shape], ">i4")
            (folder / name).write_bytes(header.tobytes() + array.tobytes())
    return content


def batches(*args, **options):
    return list(data.create_dataset("mnist", *args, **options).create_tuple_iterator(num_epochs=1, output_numpy=True))


def everything(*args, **options):
    """Pixels uint8 [N, *size] and labels [N]."""
    images, labels = (np.concatenate(column) for column in zip(*batches(*args, **options)))
    values = (images * np.float32(0.3081) + np.float32(0.1307)) * 255
    assert images.shape[1:] == (1, *options.get("size", (32, 32))) and labels.dtype == np.int32
    assert abs(values - values.round()).max() < 1e-3
    return values.round().astype(np.uint8)[:, 0], labels


def refused(path, *words, allow_small=True, splits=BOTH):
    with pytest.raises(UserError) as caught:
        data.prepare("mnist", str(path), splits, allow_small)
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words), caught.value


def test_folder_itself_or_the_one_around_it(tmp_path):
    write(tmp_path / "mnist")
    for path in (tmp_path, tmp_path / "mnist"):
        assert data.prepare("mnist", str(path), BOTH, True) == tmp_path / "mnist"
    assert data.channels("mnist") == 1 and data.class_count("mnist") == 10
    assert data.class_names("mnist", tmp_path / "mnist") == tuple("0123456789")


def test_path_that_is_not_utf8(tmp_path):
    """MindSpore's reader takes none."""
    folder = tmp_path / os.fsdecode(b"a\xff")
    write(folder)
    refused(folder, f"{folder}: the name is not UTF-8, as it must be for MindSpore")


@pytest.mark.parametrize("stray", [None, "t10k-images-idx3-ubyte.gz", "._t10k-labels-idx1-ubyte"])
def test_images_arrive_exactly_whatever_lies_beside_them(stray, tmp_path):
    """A black margin of 2 around them, in order; not one of another file."""
    images, labels = write(tmp_path)["test"]
    if stray:
        (tmp_path / stray).write_bytes(bytes(100))
    data.prepare("mnist", str(tmp_path), BOTH, True)
    got = everything(tmp_path, "test", 8)
    np.testing.assert_array_equal(got[0], np.pad(images, ((0, 0), (2, 2), (2, 2))))
    np.testing.assert_array_equal(got[1], labels)


def test_training_images_are_shuffled_and_nothing_else(tmp_path):
    images, _ = write(tmp_path)["train"]
    got, _ = everything(tmp_path, "train", 20, seed=3)
    assert sorted(map(bytes, got)) == sorted(map(bytes, np.pad(images, ((0, 0), (2, 2), (2, 2)))))
    assert np.any(got[:, 2:-2, 2:-2] != images)


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"shards": 2, "shard_id": 1}, {"validation_size": 13}])
def test_both_readers_give_the_same_batches(options, tmp_path):
    write(tmp_path)
    through_mindspore = everything(tmp_path, "train", 5, seed=4, **options)
    (tmp_path / "train-images-idx3-ubyte.old").write_bytes((tmp_path / FILES["train"][0]).read_bytes())
    for one, other in zip(through_mindspore, everything(tmp_path, "train", 5, seed=4, **options)):
        np.testing.assert_array_equal(one, other)


def test_held_out_images_are_the_last(tmp_path):
    images, labels = write(tmp_path)["train"]
    got = everything(tmp_path, "validation", 4, validation_size=10)
    np.testing.assert_array_equal(got[0][:, 2:-2, 2:-2], images[-10:])
    np.testing.assert_array_equal(got[1], labels[-10:])


def test_images_of_another_size(tmp_path):
    write(tmp_path)
    assert batches(tmp_path, "test", 4, size=(40, 48))[0][0].shape == (4, 1, 40, 48)


@pytest.mark.parametrize("split", BOTH)
def test_images_of_their_own_size(split, tmp_path):
    """Without a margin, as LeNet++ takes them."""
    images, _ = write(tmp_path)[split]
    got, _ = everything(tmp_path, split, 20, size=(28, 28))
    assert sorted(map(bytes, got)) == sorted(map(bytes, images))


def test_missing_files(tmp_path):
    write(tmp_path)
    (tmp_path / FILES["train"][1]).unlink()
    refused(tmp_path, FILES["train"][1], str(tmp_path), "scripts/download_data.sh")
    assert data.prepare("mnist", str(tmp_path), ("test",), True) == tmp_path


def test_packed_files_are_named(tmp_path):
    write(tmp_path / "mnist")
    file = tmp_path / "mnist" / FILES["test"][0]
    (tmp_path / "mnist" / (file.name + ".gz")).write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    refused(tmp_path, f"{file}.gz must be unpacked")


@pytest.mark.parametrize("name", [name for split in BOTH for name in FILES[split]])
@pytest.mark.parametrize("change, word", [(lambda old: old[:-1], "truncated"), (lambda old: old + b"\0", "truncated"),
                                          (lambda old: old[:5], "damaged"), (lambda old: b"", "damaged"),
                                          (lambda old: old[:3] + b"\7" + old[4:], "not one of MNIST's files"),
                                          (lambda old: old[:4] + bytes(4) + old[8:], "truncated")])
def test_damaged_file(name, change, word, tmp_path):
    write(tmp_path)
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    refused(tmp_path, str(tmp_path / name), word)


def test_images_without_labels(tmp_path):
    write(tmp_path / "a", train=60)
    write(tmp_path, train=59)
    (tmp_path / FILES["train"][1]).write_bytes((tmp_path / "a" / FILES["train"][1]).read_bytes())
    refused(tmp_path, FILES["train"][1], "59")


def test_number_of_images(tmp_path):
    write(tmp_path)
    refused(tmp_path, "60 train images instead of 60000", "allow_small_dataset", allow_small=False)
    write(tmp_path, test=10_001)
    refused(tmp_path, "10001 test images instead of 10000", splits=("test",))


def test_class_that_is_none(tmp_path):
    write(tmp_path)
    path = tmp_path / FILES["test"][1]
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")
    refused(tmp_path, str(path), "class 10", "end at 9")


def test_fashion_mnist(tmp_path):
    """MNIST's files in a folder of another name, with names for the classes."""
    write(tmp_path / "fashion-mnist")
    folder = data.prepare("fashion_mnist", str(tmp_path), ("train", "test"), allow_small=True)
    assert folder == tmp_path / "fashion-mnist" and data.class_names("fashion_mnist", folder)[9] == "ankle boot"
    (image, _), = data.create_dataset("fashion_mnist", folder, "test", 100).create_tuple_iterator(output_numpy=True)
    assert image.shape[1:] == (1, 32, 32)
    np.testing.assert_allclose(image[:, 0, 0, 0], -0.2860 / 0.3530, rtol=1e-4)  # the black margin
    with pytest.raises(UserError, match="zalandoresearch/fashion-mnist has the files"):
        data.prepare("fashion_mnist", str(tmp_path / "fashion-mnist" / "nothing"), ("test",))
