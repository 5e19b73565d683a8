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
"""Images with boxes around what is on them, for detection: COCO's JSON and PASCAL VOC's XML.

    coco    PATH/annotations/instances_train2017.json, images in PATH/train2017 or PATH/ANY/train2017; any year, or
            none; PATH/train/_annotations.coco.json with the images beside it
    voc     PATH/ImageSets/Main/trainval.txt, PATH/Annotations/NAME.xml, PATH/JPEGImages/NAME.jpg; or folders of that
            kind in PATH or in PATH/VOCdevkit, whose images are taken together

Tests are on test, else on val or valid. VOC trains on trainval, or on train where there is no test.
"""
import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from . import pictures
from ..errors import UserError, quote
from ..files import bytes_of

FOLDERS = {"train": ("train",), "test": ("test", "val", "valid")}
LONGEST = 1 << 16  # pixels; a coordinate beyond it makes no sense


@dataclasses.dataclass(frozen=True)
class Record:
    """An image and what is on it.

    Attributes:
        path: of the image.
        size: its height and width, in pixels.
        boxes: float32 [n, 4]: left, top, right, bottom in pixels, inside the image.
        labels: int32 [n], numbers of classes.
        crowd: bool [n]: boxes around many, or around what is hard to tell (VOC's `difficult`): not trained on, and what
            is found in them counts neither as right nor as wrong.
    """
    path: Path
    size: tuple
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray


@dataclasses.dataclass(frozen=True)
class Split:
    """Names of the classes, the images, and how many boxes without an area inside their image were left out."""
    classes: tuple
    records: list
    left_out: int


class Coco:
    """See `read`. Crowds are those of `iscrowd`; the classes are in the order of the numbers of their categories."""
    task = "detection"
    class_num, channels = 0, 3

    def read(self, path, split, classes=()):
        """The images of a split, "train" or "test".

        Args:
            path (Path): the folder of the data set.
            split (str): "train" or "test".
            classes (tuple[str]): the names of the classes, in the order of the labels; those of the files if none.

        Returns:
            Split.

        Raises:
            UserError: a file is missing or damaged, or a record makes no sense; it says which.
        """
        file, folder = self.find(path, split)
        content = _json(file)
        categories = _by_id(_field(content, "categories", list, file), "category", file,
                            lambda each, where: _field(each, "name", str, where))
        classes = classes or _checked_classes([categories[key] for key in sorted(categories)], file)
        items = _by_id(_field(content, "images", list, file), "image", file, lambda each, where: Item(
            folder / _field(each, "file_name", str, where), where,
            tuple(_field(each, side, int, where) for side in SIDES)))
        for annotation in _field(content, "annotations", list, file):
            where = _named("annotation", annotation, file)
            number, category = (_field(annotation, name, int, where) for name in ("image_id", "category_id"))
            if number not in items:
                raise UserError(f"{where}: there is no image {quote(number)}")
            if category not in categories:
                raise UserError(f"{where}: there is no category {quote(category)}")
            left, top, width, height = _numbers(_field(annotation, "bbox", list, where), where)
            items[number].add((left, top, left + width, top + height), _label(categories[category], classes, where),
                              _flag(annotation.get("iscrowd", 0), (0, 1), f"{where}: iscrowd"))
        return _split(classes, list(items.values()))

    @staticmethod
    def find(path, split):
        """The file of annotations and the folder of images of a split. Raises UserError."""
        for name in FOLDERS[split]:
            files = sorted((path / "annotations").glob(f"instances_{name}*.json"))
            if len(files) > 1:
                raise UserError(f"{path / 'annotations'} has several files for {name}: {files[0].name}, "
                                f"{files[1].name}")
            if files:
                folder = files[0].stem[len("instances_"):]
                places = (path / folder, *sorted(path.glob(f"*/{folder}")))
                return files[0], next(filter(Path.is_dir, places), path / name)
            if (path / name / "_annotations.coco.json").is_file():
                return path / name / "_annotations.coco.json", path / name
        raise UserError(f"no annotations to {'train' if split == 'train' else 'test'} on in {path}: neither "
                        f"annotations/instances_{FOLDERS[split][0]}*.json nor "
                        f"{FOLDERS[split][0]}/_annotations.coco.json")


class Voc:
    """See `Coco.read`, whose arguments and errors are the same. The classes are in alphabetical order."""
    task = "detection"
    class_num, channels = 0, 3

    def read(self, path, split, classes=()):
        files = [folder / "Annotations" / f"{name}.xml" for folder, names in self.find(path, split) for name in names]
        roots = [_xml(file) for file in files]
        named = {_text(each, "name", file) for file, root in zip(files, roots) for each in root.iter("object")}
        classes = classes or _checked_classes(sorted(named), path)
        items = []
        for file, root in zip(files, roots):
            image = file.parents[1] / "JPEGImages" / f"{file.stem}.jpg"
            items.append(Item(image, str(file)))
            for number, each in enumerate(root.iter("object"), start=1):
                where = f"{file}: object {number}"
                left, top, right, bottom = _numbers([_text(each, f"bndbox/{side}", where) for side in CORNERS], where)
                items[-1].add((left - 1, top - 1, right, bottom),  # pixels are counted from 1, the last one included
                              _label(_text(each, "name", where), classes, where),
                              _flag(each.findtext("difficult", "").strip() or "0", ("0", "1"), f"{where}: difficult"))
        return _split(classes, items)

    @staticmethod
    def find(path, split):
        """Pairs of a folder and the names of its images of a split. Raises UserError."""
        places = [path, *(each for parent in (path, path / "VOCdevkit") if parent.is_dir()
                          for each in sorted(parent.iterdir()))]
        folders = [place / "ImageSets" / "Main" for place in places if (place / "Annotations").is_dir()]
        tested = any((folder / "test.txt").is_file() for folder in folders)
        wanted = {"train": ("trainval", "train") if tested else ("train",), "test": ("test",) if tested else ("val",)}
        lists = [next((file for name in wanted[split] if (file := folder / f"{name}.txt").is_file()), None)
                 for folder in folders]
        found = [(file.parents[2], _names(file)) for file in lists if file]
        if not any(names for _, names in found):
            raise UserError(f"no images to {'train' if split == 'train' else 'test'} on in {path}: they are named in "
                            f"ImageSets/Main/{wanted[split][-1]}.txt, beside the folder Annotations")
        return found


SIDES, CORNERS = ("height", "width"), ("xmin", "ymin", "xmax", "ymax")


@dataclasses.dataclass
class Item:
    """An image that is being read: `where` names it in messages; `stated` is the size that the file of annotations has
    of it, if any."""
    path: Path
    where: str
    stated: tuple = None
    boxes: list = dataclasses.field(default_factory=list)
    labels: list = dataclasses.field(default_factory=list)
    crowd: list = dataclasses.field(default_factory=list)

    def add(self, box, label, crowd):
        self.boxes.append(box)
        self.labels.append(label)
        self.crowd.append(crowd)

    def record(self):
        """The Record, and how many boxes it has not. Raises UserError where the image is no image of that size."""
        try:
            size = pictures.read(self.path).shape[:2]
        except UserError as error:
            raise UserError(f"{self.where}: {error}") from error
        if self.stated not in (None, size):
            raise UserError(f"{self.where}: {self.path} has {size[1]} x {size[0]} pixels, not {self.stated[1]} x "
                            f"{self.stated[0]}")
        boxes, labels, crowd = boxes_within(np.reshape(self.boxes, (-1, 4)), np.array(self.labels, np.int32),
                                            np.array(self.crowd, bool), size)
        return Record(self.path, size, boxes, labels, crowd), len(self.boxes) - len(boxes)


def boxes_within(boxes, labels, crowd, size):
    """The part of boxes [n, 4] that lies in an image of `size`, float32, without those of which nothing does."""
    height, width = size
    boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return boxes[kept], labels[kept], crowd[kept]


def _split(classes, items):
    with ThreadPoolExecutor() as threads:
        found = list(threads.map(Item.record, items))
    return Split(tuple(classes), [record for record, _ in found], sum(left_out for _, left_out in found))


def _checked_classes(names, source):
    if not names or not all(name and name.isprintable() for name in names) or len(set(names)) < len(names):
        raise UserError(f"{source}: the names of the classes are {'no words' if names else 'missing'}, or not all "
                        "different")
    return tuple(names)


def _label(name, classes, where):
    if name not in classes:
        raise UserError(f"{where}: class {quote(name)} is none of {', '.join(classes[:5])}"
                        f"{', ...' if len(classes) > 5 else ''}, which the network knows")
    return classes.index(name)


def _numbers(values, where):
    """The four numbers of a box."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):  # an integer of more than 308 digits
        numbers = []
    if len(numbers) != 4 or not all(abs(number) <= LONGEST for number in numbers):  # nor is NaN
        raise UserError(f"{where}: {quote(values)} is no box")
    return numbers


def _flag(value, choices, where):
    """Whether a value is the second of two choices."""
    if value not in choices:
        raise UserError(f"{where} is {quote(value)}, neither {choices[0]} nor {choices[1]}")
    return value == choices[1]


def _by_id(records, kind, file, read):
    """Records of COCO's as a dict, number to what `read(record, where)` makes of one."""
    found = {}
    for record in records:
        where = _named(kind, record, file)
        number = _field(record, "id", int, where)
        if number in found:
            raise UserError(f"{where}: there are two of this id")
        found[number] = read(record, where)
    return found


def _named(kind, record, file):
    """A record of COCO's for messages."""
    return f"{file}: {kind} {quote(record.get('id') if isinstance(record, dict) else record)}"


def _field(record, name, kind, where):
    value = record.get(name) if isinstance(record, dict) else None
    if type(value) is not kind:
        raise UserError(f"{where}: {name} is {'missing' if value is None else quote(value)}")
    return value


def _text(element, name, where):
    text = (element.findtext(name) or "").strip()
    if not text:
        raise UserError(f"{where}: {name} is missing")
    return text


def _json(file):
    try:
        return json.loads(bytes_of(file))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: damaged, or no JSON") from error


def _xml(file):
    try:
        return ElementTree.fromstring(bytes_of(file))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except ElementTree.ParseError as error:
        raise UserError(f"{file}: damaged, or no XML: {error}") from error
    except (ValueError, LookupError) as error:
        raise UserError(f"{file}: cannot be read in the encoding that it names: {error}; UTF-8 can") from error


def _names(file):
    """The first word of each line."""
    try:
        return [line.split()[0] for line in file.read_text("utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise UserError(f"{file}: no text") from error


COCO, VOC = Coco(), Voc()
