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
"""Own images: PATH/train/CLASS/IMAGE and PATH/test/CLASS/IMAGE (or val, or validation), of any size and colours."""
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import mindspore.dataset as ds
import numpy as np
from mindspore.dataset import vision

from . import cifar, imagenet, pictures
from ..errors import UserError
from ..files import check_name

FOLDERS = {"train": ("train",), "test": ("test", "val", "validation")}
FORMATS = ("bmp", "gif", "jpeg", "jpg", "png", "ppm", "pgm", "tif", "tiff", "webp")
PHOTOGRAPH = 96  # pixels of a side, from which images are cropped and normalised as ImageNet's
SUFFIXES = tuple(f".{form}" for lower in FORMATS for form in (lower, lower.upper(), lower.capitalize()))


class Folder:
    """See `src.data.DataSet`. The classes are the folders in alphabetical order, the same ones in both splits."""
    task = "classification"
    class_num, channels, size, stored, by_class = 0, 3, (32, 32), None, True

    def find(self, path, splits):
        for split in splits:
            if _split(path, split) is None:
                raise UserError(f"no folder {' or '.join(FOLDERS[split])} in {path}; images are looked for as "
                                f"{path / FOLDERS[split][0]}/CLASS/IMAGE")
        _check_same_classes(_split(path, "train"), _split(path, "test"))
        return path

    def check(self, folder, split, allow_small, size):  # pylint: disable=unused-argument
        """Decode every image: a damaged one found later would end a training, and MindSpore's message is long."""
        for name in self.class_names(folder):
            where = _split(folder, split) / name
            check_name(where)
            images = images_in(where)
            if not images:
                raise UserError(f"no images in {where}; they end in {', '.join(FORMATS)}")
            with ThreadPoolExecutor() as threads:
                for _ in threads.map(partial(self.picture, size=size), images):
                    pass

    def picture(self, path, size):
        """See `src.data.DataSet`; any form will do where images are not scaled as ImageNet's."""
        image = pictures.read(path)
        if _large(size):
            imagenet.check_image(image, size, path)
        return image

    def labels(self, folder, split):
        for label, name in enumerate(self.class_names(folder)):
            where = _split(folder, split) / name
            yield where, np.full(len(images_in(where)), label)

    def read(self, folder, split, **options):
        indices = {name: label for label, name in enumerate(self.class_names(folder))}
        data = ds.ImageFolderDataset(str(_split(folder, split)), extensions=list(SUFFIXES), class_indexing=indices,
                                     **options)
        return data.map(pictures.decode, "image", num_parallel_workers=options["num_parallel_workers"])

    def operations(self, training, size):
        """As ImageNet's if they are as large as photographs; else the whole image is scaled, and then as CIFAR's."""
        if _large(size):
            return imagenet.operations(training, size)
        scale = vision.Resize(size, vision.Inter.PILCUBIC)  # which averages where an image shrinks
        return [scale, *(cifar.crop_and_mirror(size) if training else [])]

    def statistics(self, size):
        return (imagenet.MEAN, imagenet.STD) if _large(size) else (cifar.MEAN, cifar.STD)

    def class_names(self, folder):
        return _classes(_split(folder, "train") or _split(folder, "test"))


def _large(size):
    return min(size) >= PHOTOGRAPH


def _split(path, split):
    """The folder of a split, None where there is none."""
    return next((path / name for name in FOLDERS[split] if (path / name).is_dir()), None)


def _classes(folder):
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def images_in(folder):
    """The image files of a folder, in the order of their names."""
    return sorted(entry for entry in folder.iterdir() if entry.name.endswith(SUFFIXES))


def _check_same_classes(train, test):
    """The folders of the splits have the same classes, and some, as far as they are there."""
    for folder in (train, test):
        if folder and not _classes(folder):
            raise UserError(f"no folders of classes in {folder}; images are looked for as {folder}/CLASS/IMAGE")
    odd = sorted(set(_classes(train)) ^ set(_classes(test))) if train and test else []
    if odd:
        raise UserError(f"{train} and {test} must have the same classes, and {odd[0]!r} is only in one of them")


FOLDER = Folder()
