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
"""CIFAR-10 and CIFAR-100 in their official binary files. https://www.cs.toronto.edu/~kriz/cifar.html"""
import dataclasses

import mindspore.dataset as ds
import numpy as np
from mindspore.dataset import transforms, vision

from . import binary
from ..errors import UserError
from ..files import bytes_of

# AdderNet's constants (main.py of its code), for CIFAR-10 and CIFAR-100 alike.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
MARGIN = 4  # pixels on each side of an image, from which it is cropped
PIXELS = 3 * 32 * 32  # bytes


@dataclasses.dataclass(frozen=True)
class Cifar:
    """A data set whose records are a label, or two, and an image: its red, its green and its blue plane.

    Attributes:
        folder: name of its official folder.
        files: split to the names of its files.
        counts: split to its number of images.
        label_bytes: of a record; the last one is the class.
        class_num: number of classes.
        reader: MindSpore's reader, or None.
        label: the reader's label column.
        names: the file that names the classes.
    """
    folder: str
    files: dict
    counts: dict
    label_bytes: int
    class_num: int
    reader: type = None
    label: str = "label"
    names: str = ""
    task = "classification"
    channels, size, stored, by_class = 3, (32, 32), (32, 32), False

    @property
    def record_bytes(self):
        return self.label_bytes + PIXELS

    def present(self, folder, split):
        """The files of a split that are there."""
        return [folder / name for name in self.files[split] if (folder / name).is_file()]

    def find(self, path, splits):
        return binary.find_folder(path, self.folder, [self.files[split][0] for split in splits])

    def check(self, folder, split, allow_small, size):  # pylint: disable=unused-argument
        present = self.present(folder, split)
        for file in present:
            length = file.stat().st_size
            if length % self.record_bytes or not length:
                raise UserError(f"{file}: truncated or damaged: {length} bytes are no multiple of an image's "
                                f"{self.record_bytes}")
        count = sum(file.stat().st_size for file in present) // self.record_bytes
        missing = [name for name in self.files[split] if folder / name not in present]
        binary.check_count(f"{folder}: {count} {split}", count, self.counts[split], allow_small, missing)

    def labels(self, folder, split):
        for file in self.present(folder, split):
            yield file, np.memmap(file, np.uint8, "r")[self.label_bytes - 1::self.record_bytes]

    def read(self, folder, split, **options):
        files = self.present(folder, split)
        if self._readable(folder, split, files):
            data = self.reader(str(folder), usage=split, **options).project(["image", self.label])
            return data.rename([self.label], ["label"])
        records = np.concatenate([np.fromfile(file, np.uint8).reshape(-1, self.record_bytes) for file in files])
        images = records[:, self.label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return ds.NumpySlicesDataset((np.ascontiguousarray(images), records[:, self.label_bytes - 1]),
                                     ["image", "label"], **options)

    def _readable(self, folder, split, files):
        """MindSpore's reader takes the files of a split: it refuses other sizes than the official one."""
        official = self.counts[split] // len(self.files[split]) * self.record_bytes
        return (self.reader and all(file.stat().st_size == official for file in files)
                and not binary.others(folder, "*.bin", sum(self.files.values(), ())))

    def operations(self, training, size):
        resize = [vision.Resize(size)] if size != self.size else []
        return [*resize, *(crop_and_mirror(size) if training else [])]

    def statistics(self, size):  # pylint: disable=unused-argument
        return MEAN, STD

    def class_names(self, folder):
        try:
            return bytes_of(folder / self.names).decode("utf-8").split()
        except (OSError, UnicodeDecodeError):
            return ()


def crop_and_mirror(size):
    """Random operations from an image uint8 [*size, C] to one of the same size, moved by up to MARGIN pixels."""
    return [vision.RandomCrop(size, MARGIN), mirror(size)]


def mirror(size):
    """A random operation from an image uint8 [*size, C] to itself, or to its mirror image."""
    # RandomHorizontalFlip would draw from the same numbers as RandomCrop: upward shifts mirrored, downward ones not.
    return transforms.RandomChoice([vision.HorizontalFlip(), vision.Crop((0, 0), size)])


FILES = {"train": ("train.bin",), "test": ("test.bin",)}
COUNTS = {"train": 50_000, "test": 10_000}
CIFAR100 = Cifar("cifar-100-binary", FILES, COUNTS, 2, 100, ds.Cifar100Dataset, "fine_label", "fine_label_names.txt")
CIFAR10 = Cifar("cifar-10-batches-bin",
                {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
                COUNTS, 1, 10, ds.Cifar10Dataset, "label", "batches.meta.txt")
