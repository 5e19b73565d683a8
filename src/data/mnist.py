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
"""MNIST in its four official files, unpacked. Images of 28 x 28 get a black margin of 2: 32 x 32."""
import mindspore.dataset as ds
import numpy as np
from mindspore.dataset import vision

from . import binary
from ..errors import UserError

FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
         "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}
COUNTS = {"train": 60_000, "test": 10_000}
MAGIC = {"images": 2051, "labels": 2049}
SIDE, MARGIN = 28, 2  # pixels


class Mnist:
    """See `src.data.DataSet`."""
    task = "classification"
    class_num, channels, size, stored, by_class = 10, 1, (32, 32), (SIDE, SIDE), False
    mean, std = (0.1307,), (0.3081,)  # of pixels between 0 and 1
    folder, source = "mnist", binary.DOWNLOAD  # name of the official folder; where the files come from

    def find(self, path, splits):
        files = sum((FILES[split] for split in splits), ())
        packed = [folder / f"{file}.gz" for folder in (path, path / self.folder) for file in files]
        packed = [file for file in packed if file.is_file()]
        advice = f"{packed[0]} must be unpacked first (gunzip)" if packed else self.source
        return binary.find_folder(path, self.folder, files, advice)

    def check(self, folder, split, allow_small, size):  # pylint: disable=unused-argument
        images, labels = (folder / file for file in FILES[split])
        count = _check_file(images, MAGIC["images"], (SIDE, SIDE))
        if _check_file(labels, MAGIC["labels"], ()) != count:
            raise UserError(f"{labels}: not as many labels as {images.name} has images, {count}")
        binary.check_count(f"{folder}: {count} {split}", count, COUNTS[split], allow_small)

    def labels(self, folder, split):
        file = folder / FILES[split][1]
        yield file, np.memmap(file, np.uint8, "r", offset=8)

    def read(self, folder, split, **options):
        if not binary.others(folder, "*-ubyte*", sum(FILES.values(), ())):
            return ds.MnistDataset(str(folder), usage=split, **options)
        images, labels = (np.fromfile(folder / file, np.uint8) for file in FILES[split])
        return ds.NumpySlicesDataset((images[16:].reshape(-1, SIDE, SIDE, 1), labels[8:]), ["image", "label"],
                                     **options)

    def operations(self, training, size):  # pylint: disable=unused-argument
        """Nothing at random: a mirrored digit is none."""
        if size == self.stored:
            return []
        return [vision.Pad(MARGIN), *([vision.Resize(size)] if size != self.size else [])]

    def statistics(self, size):  # pylint: disable=unused-argument
        return self.mean, self.std

    def class_names(self, folder):  # pylint: disable=unused-argument
        return [str(digit) for digit in range(10)]


def _check_file(file, magic, shape):
    """The number of items in a file: int32 magic, number and `shape`, big-endian, then as many bytes."""
    header = np.fromfile(file, ">i4", 2 + len(shape))
    if len(header) < 2 + len(shape) or header[0] != magic or tuple(header[2:]) != shape:
        raise UserError(f"{file}: damaged, or not one of MNIST's files")
    count, size = int(header[1]), file.stat().st_size
    expected = header.nbytes + count * int(np.prod(shape))
    if size != expected or not count:
        raise UserError(f"{file}: truncated or damaged: {size} bytes instead of {expected} for {count} images")
    return count


MNIST = Mnist()
