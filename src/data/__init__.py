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
"""CIFAR-10, CIFAR-100 and the synthetic set, through MindSpore's own readers."""
import dataclasses
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
from mindspore import dtype
from mindspore.dataset import transforms, vision

from src.data import synthetic
from src.errors import UserError

# AdderNet's constants (main.py of its code), for CIFAR-10 and CIFAR-100 alike.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Attributes:
        folder: name of its official folder.
        files: split to the names of its binary files.
        sizes: split to its number of images.
        label_bytes: before the 3,072 pixel bytes of a record; the last one is the class.
        class_num: number of classes.
        reader: MindSpore's reader, or None.
        label: the reader's label column.
    """
    folder: str
    files: dict
    sizes: dict
    label_bytes: int
    class_num: int
    reader: type
    label: str

    @property
    def record_bytes(self):
        return self.label_bytes + 3072

    def present(self, folder, split):
        """The files of a split that are there."""
        return [folder / name for name in self.files[split] if (folder / name).is_file()]

    def count(self, folder, split):
        """Images in the files of a split."""
        return sum(file.stat().st_size for file in self.present(folder, split)) // self.record_bytes


_CIFAR100_FILES = {"train": ("train.bin",), "test": ("test.bin",)}
_CIFAR_SIZES = {"train": 50_000, "test": 10_000}
LAYOUTS = {
    "cifar10": Layout("cifar-10-batches-bin",
                      {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
                      _CIFAR_SIZES, 1, 10, ds.Cifar10Dataset, "label"),
    "cifar100": Layout("cifar-100-binary", _CIFAR100_FILES, _CIFAR_SIZES, 2, 100, ds.Cifar100Dataset, "fine_label"),
    "synthetic": Layout("synthetic-binary", _CIFAR100_FILES, synthetic.SIZES, 2, synthetic.CLASS_NUM,
                        None, "fine_label"),
}


def class_count(name, class_num=0):
    """Classes of a network for a data set: `class_num`, or the data set's own if that is 0."""
    return class_num or LAYOUTS[name].class_num


def prepare(name, path, splits, allow_small=False, class_num=0):
    """Find a data set and check its files; generate the synthetic one where it is missing.

    Args:
        name (str): a key of `LAYOUTS`.
        path (str): its official folder, or the folder around it.
        splits (tuple[str]): which of "train" and "test" must be there.
        allow_small (bool): accept fewer images, or fewer files, than the official ones.
        class_num (int): classes of the network; 0 takes the data set's own.

    Returns:
        Path, the folder with the binary files.

    Raises:
        UserError: a file is missing, truncated or too small, or an image has a class that is none.
    """
    layout, path = LAYOUTS[name], Path(path)
    if name == "synthetic":
        folder = path if path.name == layout.folder else path / layout.folder
        synthetic.write(folder)
    else:
        folder = _find_folder(layout, path, splits)
    for split in splits:
        _check_size(layout, folder, split, allow_small)
        _check_classes(layout, folder, split, class_count(name, class_num))
    return folder


def create_dataset(name, folder, split, batch_size, seed=0, workers=1, shards=1, shard_id=0, validation_size=0):
    """One pass over a split, as batches of normalised images [N, 3, 32, 32] float32 and labels [N] int32.

    Training images are shuffled, cropped at random from a margin of 4 and mirrored at random; an incomplete last batch
    is dropped. Test images are neither, and every one is there, whatever the batch size. The same seed, workers and
    shards give the same batches, so that a resumed run sees what the uninterrupted one would have seen.

    Args:
        name (str): a key of `LAYOUTS`.
        folder (Path): what `prepare` returned.
        split (str): "train", "test", or "validation": the last `validation_size` images of the training files, which
            "train" then leaves out; treated as test images.
        batch_size (int): images in a batch.
        seed (int): of shuffling and augmentation.
        workers (int): threads for the augmentation.
        shards, shard_id (int): split the images among devices, and which part to take.
        validation_size (int): training images to hold out, on a single device.

    Returns:
        Dataset of MindSpore.

    Raises:
        UserError: fewer training images than one batch, more workers than MindSpore allows here, or a validation set
            that leaves no training images or is asked for on several devices.
    """
    layout, training = LAYOUTS[name], split == "train"
    ds.config.set_seed(seed % 2**32)
    part = {"num_shards": shards, "shard_id": shard_id} if shards > 1 else {}
    if validation_size and split != "test":
        part["sampler"] = _held_out(layout.count(folder, "train"), validation_size, training, shards)
    else:
        part["shuffle"] = training
    try:
        data = _read(layout, folder, "test" if split == "test" else "train", num_parallel_workers=workers, **part)
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from error
    data = data.map(_image_operations(training), "image", num_parallel_workers=workers)
    data = data.map(transforms.TypeCast(dtype.int32), layout.label, num_parallel_workers=workers)
    if training and data.get_dataset_size() < batch_size:
        raise UserError(f"{folder}: {data.get_dataset_size()} training images are fewer than batch_size {batch_size}")
    return data.batch(batch_size, drop_remainder=training)


def _held_out(count, validation_size, training, shards):
    """Which of `count` training images to take: the last ones for validation, or all others in a random order."""
    if shards > 1:
        raise UserError("validation_size needs a single device")
    if validation_size >= count:
        raise UserError(f"validation_size {validation_size} leaves nothing of {count} training images")
    first = count - validation_size
    return ds.SubsetRandomSampler(range(first)) if training else ds.SequentialSampler(first, validation_size)


def _read(layout, folder, split, **options):
    """Columns image [32, 32, 3] uint8 and label."""
    official = layout.sizes[split] // len(layout.files[split]) * layout.record_bytes
    files = layout.present(folder, split)
    if layout.reader and all(file.stat().st_size == official for file in files):
        return layout.reader(str(folder), usage=split, **options).project(["image", layout.label])
    # MindSpore's readers refuse files of any other size than the official one.
    records = np.concatenate([np.fromfile(file, np.uint8).reshape(-1, layout.record_bytes) for file in files])
    images = records[:, layout.label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return ds.NumpySlicesDataset((np.ascontiguousarray(images), records[:, layout.label_bytes - 1]),
                                 ["image", layout.label], **options)


def _image_operations(training):
    # RandomHorizontalFlip would draw from the same numbers as RandomCrop: upward shifts mirrored, downward ones not.
    mirror = transforms.RandomChoice([vision.HorizontalFlip(), vision.Crop((0, 0), 32)])
    augmentation = [vision.RandomCrop(32, 4), mirror] if training else []
    return [*augmentation, vision.Rescale(1 / 255, 0.0), vision.Normalize(MEAN, STD), vision.HWC2CHW()]


def _find_folder(layout, path, splits):
    """The folder itself or the official one in it, whichever has a first file of each split."""
    for folder in (path, path / layout.folder):
        if all((folder / layout.files[split][0]).is_file() for split in splits):
            return folder
    wanted = " and ".join(layout.files[split][0] for split in splits)
    raise UserError(f"no {wanted} in {path} or {path / layout.folder}; "
                    "scripts/download_data.sh fetches the official archives")


def _check_size(layout, folder, split, allow_small):
    present = layout.present(folder, split)
    for file in present:
        size = file.stat().st_size
        if size % layout.record_bytes or not size:
            raise UserError(f"{file}: truncated or damaged: {size} bytes are no multiple of an image's "
                            f"{layout.record_bytes}")
    count, official = layout.count(folder, split), layout.sizes[split]
    if count > official or (count < official and not allow_small):
        missing = [name for name in layout.files[split] if folder / name not in present]
        raise UserError(f"{folder}: {count} {split} images instead of {official}"
                        + (f", {', '.join(missing)} missing" if missing else "")
                        + (" (--allow_small_dataset accepts fewer)" if count < official else ""))


def _check_classes(layout, folder, split, class_num):
    for file in layout.present(folder, split):
        largest = np.memmap(file, np.uint8, "r")[layout.label_bytes - 1::layout.record_bytes].max()
        if largest >= class_num:
            raise UserError(f"{file}: an image has class {largest}, and the network's {class_num} classes end at "
                            f"{class_num - 1}")
