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
"""The data sets: the only table of them. A new one is its file and a line here. Each has a `task`, see `src.tasks`.

Here stands what is the same for all of classification: seeds, shards, images held out, batches, the check of labels.
What differs is in the file of each set, behind the protocol `DataSet`.
"""
from pathlib import Path
from typing import Protocol

import mindspore.dataset as ds
import numpy as np
from mindspore import dtype
from mindspore.dataset import transforms, vision

from . import pictures
from .boxes import COCO, VOC
from .cifar import CIFAR10, CIFAR100
from .fashion_mnist import FASHION_MNIST
from .folder import FOLDER
from .images import IMAGES
from .mnist import MNIST
from .synthetic import SYNTHETIC
from ..errors import UserError
from ..files import check_name

SETS = {"cifar100": CIFAR100, "cifar10": CIFAR10, "mnist": MNIST, "fashion_mnist": FASHION_MNIST,
        "synthetic": SYNTHETIC, "folder": FOLDER, "images": IMAGES,
        "coco": COCO, "voc": VOC}


class DataSet(Protocol):
    """What an object of the table has, if its task is classification; `src.data.images` and `src.data.boxes` are for
    others. A split is
    "train" or "test" here.

    Attributes:
        class_num (int): its classes; 0 where only the files say how many.
        channels (int): of an image.
        size (tuple): height and width of its images, in pixels, unless another size is asked for.
        stored (tuple): those of its files; None if of any size.
        by_class (bool): its training images lie class by class, rather than mixed.
    """

    def find(self, path, splits):
        """Path of the folder that has the files of these splits, at `path` or in it; UserError if one is missing."""

    def check(self, folder, split, allow_small, size):
        """UserError if a file is damaged or no image of `size` can be made of it or, unless `allow_small`, if there are
        fewer images than the official ones."""

    def labels(self, folder, split):
        """Pairs of a file and the array of its labels; together the labels of all images of the split."""

    def read(self, folder, split, **options):
        """MindSpore's Dataset of columns image uint8 [h, w, channels] and label; the options are its readers'."""

    def picture(self, path, size):
        """Where `stored` is None: the pixels uint8 [h, w, 3] of a file; UserError if `operations` cannot take them."""

    def operations(self, training, size):
        """Operations that make such an image one of `size`, uint8, and augment it for training."""

    def statistics(self, size):
        """Mean and standard deviation of each channel, two tuples, of pixels between 0 and 1 of images of `size`."""

    def class_names(self, folder):
        """Names of the classes in the order of the labels; none if the files do not say."""


def channels(name):
    """Channels of an image of a data set; None where networks decide."""
    return SETS[name].channels


def class_count(name, class_num=0, folder=None):
    """Classes of a network for a data set: `class_num`, or the data set's own if that is 0.

    Args:
        name (str): a key of `SETS`.
        class_num (int): the number that was asked for, or 0.
        folder (Path): what `prepare` returned, for a set whose files say how many classes there are.

    Raises:
        UserError: only the files say it, and there is no folder.
    """
    count = class_num or SETS[name].class_num
    if not count and folder is None:
        raise UserError(f"data set {name} has as many classes as there are folders: say how many by --class_num")
    return count or len(SETS[name].class_names(folder))


def class_names(name, folder):
    """Names of a data set's own classes, in the order of the labels; () if they are unknown.

    Args:
        name (str): a key of `SETS`.
        folder (Path): what `prepare` returned.

    Returns:
        tuple[str], printable.
    """
    names = tuple(SETS[name].class_names(folder))
    known = len(names) == class_count(name, folder=folder) and all(each and each.isprintable() for each in names)
    return names if known else ()


def prepare(name, path, splits, allow_small=False, class_num=0, classes=(), size=None):
    """Find a data set and check its files; generate the synthetic one where it is missing.

    Args:
        name (str): a key of `SETS`.
        path (str): its folder, or the folder around it.
        splits (tuple[str]): which of "train" and "test" must be there.
        allow_small (bool): accept fewer images, or fewer files, than the official ones.
        class_num (int): classes of the network; 0 takes the data set's own.
        classes (tuple[str]): names of the classes that the network knows, if it does.
        size (tuple): height and width of the network's images; None is the data set's own.

    Returns:
        Path, the folder with the files.

    Raises:
        UserError: a file is missing, damaged or too small, an image has a class that is none or cannot be scaled to
            such a size, or the classes are others or none.
    """
    data_set = SETS[name]
    if data_set.task != "classification":
        raise UserError(f"data set {name} is not for classification, but for {data_set.task}")
    folder = data_set.find(Path(path), splits)
    check_name(folder)
    for split in splits:
        data_set.check(folder, split, allow_small, size or data_set.size)
        _check_classes(data_set.labels(folder, split), class_count(name, class_num, folder))
    names = class_names(name, folder)
    if classes and names and names != tuple(classes):
        odd = next((name for name in (*classes, *names) if (name in classes) != (name in names)), names[0])
        raise UserError(f"{folder} has other classes than the network, {len(names)} and {len(classes)}; one is {odd!r}")
    return folder


def _check_classes(labels, class_num):
    for file, values in labels:
        if values.max() >= class_num:
            raise UserError(f"{file}: an image has class {values.max()}, and the network's {class_num} classes end at "
                            f"{class_num - 1}")


def create_dataset(name, folder, split, batch_size, seed=0, workers=1, shards=1, shard_id=0, validation_size=0,
                   size=None):
    """One pass over a split, as batches of normalised images [N, C, H, W] float32 and labels [N] int32.

    Training images are shuffled and augmented as `image_operations` says; an incomplete last batch is dropped. Test
    images are neither, and every one is there, whatever the batch size. The same seed, workers and shards give the same
    batches, so that a resumed run sees what the uninterrupted one would have seen. For that the seed of all of
    MindSpore's data sets, which is global, is set: make the pipeline anew for each pass.

    Args:
        name (str): a key of `SETS`.
        folder (Path): what `prepare` returned.
        split (str): "train", "test", or "validation": `validation_size` of the training images, which "train" then
            leaves out; treated as test images. They are the last ones, or spread evenly where images lie class by
            class.
        batch_size (int): images in a batch.
        seed (int): of shuffling and augmentation.
        workers (int): threads for the augmentation.
        shards, shard_id (int): split the images among devices, and which part to take.
        validation_size (int): training images to hold out, on a single device.
        size (tuple): height and width of the images; None leaves the data set's own.

    Returns:
        Dataset of MindSpore with columns image and label.

    Raises:
        UserError: fewer training images than one batch, more workers than MindSpore allows here, or a validation set
            that leaves no training images or is asked for on several devices.
    """
    data_set, training = SETS[name], split == "train"
    ds.config.set_seed(seed % 2**32)
    part = {"num_shards": shards, "shard_id": shard_id} if shards > 1 else {}
    if validation_size and split != "test":
        part["sampler"] = _held_out(data_set, folder, validation_size, training, shards)
    else:
        part["shuffle"] = training
    try:
        data = data_set.read(folder, "test" if split == "test" else "train", num_parallel_workers=workers, **part)
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from error
    data = data.map(image_operations(name, training, size), "image", num_parallel_workers=workers)
    data = data.map(transforms.TypeCast(dtype.int32), "label", num_parallel_workers=workers)
    if training and data.get_dataset_size() < batch_size:
        raise UserError(f"{folder}: {data.get_dataset_size()} training images are fewer than batch_size {batch_size}")
    return data.batch(batch_size, drop_remainder=training)


def _held_out(data_set, folder, validation_size, training, shards):
    """Which training images to take: those for validation in order, or all others in a random one."""
    if shards > 1:
        raise UserError("validation_size needs a single device")
    count = sum(len(values) for _, values in data_set.labels(folder, "train"))
    if validation_size >= count:
        raise UserError(f"validation_size {validation_size} leaves nothing of {count} training images")
    held = np.arange(validation_size)
    held = held * count // validation_size if data_set.by_class else held + count - validation_size
    if training:
        return ds.SubsetRandomSampler(np.setdiff1d(np.arange(count), held).tolist())
    return ds.SubsetSampler(held.tolist())


def image_operations(name, training, size=None):
    """Operations from an image uint8 [h, w, C], as the data set has it, to a normalised one, float32 [C, H, W].

    Args:
        name (str): a key of `SETS`.
        training (bool): augment it at random.
        size (tuple): height and width of the result; None leaves the data set's own.

    Returns:
        list of MindSpore's vision operations.
    """
    data_set = SETS[name]
    size = size or data_set.size
    return [*data_set.operations(training, size), vision.Rescale(1 / 255, 0.0),
            vision.Normalize(*data_set.statistics(size)), vision.HWC2CHW()]


def from_picture(name, path, size=None):
    """An image file as the networks of a data set see its images; where these have one size, scaled to it before.

    Args:
        name (str): a key of `SETS`.
        path (Path): of the file.
        size (tuple): height and width of the network's images; None leaves the data set's own.

    Returns:
        ndarray, float32 [C, H, W].

    Raises:
        UserError: no image, a damaged one, or one that cannot be scaled so.
    """
    data_set = SETS[name]
    size = size or data_set.size
    image = pictures.read(path, data_set.stored) if data_set.stored else data_set.picture(path, size)
    image = pictures.grey(image) if data_set.channels == 1 else image
    for operation in image_operations(name, False, size):
        image = operation(image)
    return image
