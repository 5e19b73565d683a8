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
"""Detection: images in a frame and the boxes on them, FCOS, COCO's average precision."""
import dataclasses
import math
from pathlib import Path

import mindspore as ms
import numpy as np
from PIL import Image, ImageDraw

from ..data import SETS, pictures
from ..data.boxes import boxes_within
from ..data.imagenet import MEAN, STD
from ..errors import UserError
from ..identity import Identity
from .average_precision import average_precision
from .fcos import Loss, decode, targets
from .finite import finite
from .held_out import hold_out
from .pipeline import pipeline

MOST_PIXELS = 4 << 20  # that a network sees at once in evaluation: of each, resnet50 writes 256 bytes in its first layer
SHOWN = 0.3  # score from which a box is drawn
COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000")  # of the classes


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the task and of its networks, as in default_config.yaml."""
    dataset: str
    data_path: str
    class_num: int
    image_size: int
    validation_size: int
    num_parallel_workers: int
    batch_size: int
    seed: int
    scale_jitter: float
    neck: str
    fpn_channels: int
    head_convs: int
    frozen_norm: bool


class Detection:
    """Images whose objects have boxes and classes; see `src.tasks` for what every task has.

    Args:
        options (Options): of the data and the networks.
        network (Network): the network's entry in `src.networks.NETWORKS`.
        splits (tuple[str]): what must be there of "train" and "test".
        classes (tuple[str]): names of the classes that a trained network knows, if it does.
        rank, ranks (int): this process, and how many train together.

    Raises:
        UserError: see `src.data.boxes.Coco.read`; no image has a box; class_num is another number than there are.
    """

    Options = Options
    train_metrics = ("classes", "boxes", "centreness")
    metrics = ("ap", "ap50", "ap75")
    titles = ("AP", "AP50", "AP75")
    fraction, output, any_size, scheme, calibration_size = 10_000, "detections", False, "layers", 64

    def __init__(self, options, network, splits=("train", "test"), classes=(), rank=0, ranks=1):
        self.options, self.network, self.rank, self.ranks = options, network, rank, ranks
        self.size, self.batch_size = network.image_size(options.image_size), options.batch_size
        self.name = options.dataset
        self.held_out = "validation" if options.validation_size else "test"
        path, self.classes, self.training, self.testing, left_out = Path(options.data_path), classes, [], [], 0
        for split in ("train", "test"):
            if split in splits and not (split == "test" and options.validation_size):
                part = SETS[options.dataset].read(path, split, self.classes)
                self.classes, left_out = part.classes, left_out + part.left_out
                setattr(self, "training" if split == "train" else "testing", part.records)
        if options.class_num not in (0, len(self.classes)):
            raise UserError(f"{path} has {len(self.classes)} classes, not {options.class_num}; leave out --class_num")
        if options.validation_size:
            self.training, self.testing = hold_out(self.training, options.validation_size, path)
        if ("test" in splits or options.validation_size) and all(record.crowd.all() for record in self.testing):
            raise UserError(f"{path}: no image to {self.held_out} on has a box")
        boxed = [record for record in self.training if not record.crowd.all()]
        if "train" in splits and not boxed:
            raise UserError(f"{path}: no training image has a box")
        empty, self.training = len(self.training) - len(boxed), boxed
        self.summary = (f"{options.dataset}, {len(self.classes)} classes, images of {self.size[0]} x {self.size[1]}"
                        + (f", {left_out} boxes without an area left out" if left_out else "")
                        + (f", {empty} images without boxes left out" if empty else ""))

    def identity(self, network, layer):
        """What a network of this task is."""
        form = {name: getattr(self.options, name) for name in self.network.options if name != "class_num"}
        return Identity(network, layer, len(self.classes), self.options.dataset, self.classes, self.options.image_size,
                        form)

    @property
    def steps(self):
        """Batches of an epoch. Raises UserError where there is not one."""
        images = len(self.training) // self.ranks
        if images < self.batch_size:
            raise UserError(f"{images} training images are fewer than batch_size {self.batch_size}")
        return images // self.batch_size

    def batches(self, epoch):
        """Images [N, 3, H, W], classes [N, points] and distances [N, points, 4], see `src.tasks.fcos.targets`; seed and
        epoch decide order, mirrors, sizes and places."""
        source = Samples(self.training, self.size, self.options, epoch, self.rank, self.ranks)
        return pipeline(source, ["image", "classes", "distances"], self.options)

    def loss(self, net, objective=None):
        """The training loss of a network, see `Loss`; there is no objective beside it."""
        return Loss(net, len(self.classes))

    def evaluate(self, net):
        """AP, AP50 and AP75 (0..1) on all images, in their own pixels."""
        truths = [(record.boxes, record.labels, record.crowd) for record in self.testing]
        found, count = [], max(1, min(self.batch_size, MOST_PIXELS // math.prod(self.size)))
        for first in range(0, len(self.testing), count):
            images = [pictures.read(record.path) for record in self.testing[first:first + count]]
            found += detect(net, images, self.size)
        return dict(zip(self.metrics, map(float, average_precision(truths, found))))

    @staticmethod
    def predict(net, network, identity, path, output=None):
        """Lines of text that say what a network sees in a picture and where; `output` is for the picture with boxes.

        Raises:
            UserError: the picture cannot be read, or the other one cannot be written.
        """
        if output is not None:
            pictures.check_target(output, path)
        image = pictures.read(path)
        boxes, scores, labels = detect(net, [image], identity.size)[0]
        boxes, scores, labels = (each[scores >= SHOWN] for each in (boxes, scores, labels))
        if output is not None:
            pictures.write(drawn(image, boxes, [identity.classes[label] for label in labels], labels), output)
        lines = [f"{100 * score:5.1f} %  {identity.classes[label]} at " + ", ".join(f"{value:.0f}" for value in box)
                 for box, score, label in zip(boxes, scores, labels)]
        return [*(lines or ["nothing"]), *([f"drawn: {output}"] if output is not None else [])]


class Samples:
    """The images of an epoch in this process, by their numbers, and what a network is to say of them."""

    def __init__(self, records, size, options, epoch, rank, ranks):
        random = np.random.Generator(np.random.PCG64([options.seed, epoch]))
        count, jitter = len(records), options.scale_jitter
        columns = (random.permutation(count), random.integers(2, size=count),
                   random.uniform(1 - jitter, 1 + jitter, count), random.random((count, 2)) * bool(jitter))
        self.records, self.size = records, size
        self.numbers, self.mirrored, self.zooms, self.places = (each[rank:count - count % ranks:ranks]
                                                                for each in columns)

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        record = self.records[self.numbers[index]]
        image, boxes = pictures.read(record.path), record.boxes
        if self.mirrored[index]:
            width = record.size[1]
            image, boxes = image[:, ::-1], (width, 0, width, 0) + boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1)
        image, factor, corner = framed(image, self.size, self.zooms[index], self.places[index])
        boxes = boxes * np.tile(factor, 2) + np.tile(corner, 2)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centres > 0) & (centres < self.size[::-1])).all(1) & ~record.crowd
        boxes, labels, _ = boxes_within(boxes[inside], record.labels[inside], record.crowd[inside], self.size)
        return (image, *targets(boxes, labels, self.size))


def framed(image, size, zoom=1.0, place=(0.0, 0.0)):
    """An image in a frame, as large as fits, normalised as ImageNet's; 0 is around it.

    Args:
        image (ndarray): uint8 [h, w, 3].
        size (tuple[int]): height and width of the frame.
        zoom (float): how many times larger than fits; what lies outside then is cut off.
        place (ndarray): shares, of rows and columns, of what is left of the frame that lie before the image.

    Returns:
        tuple (float32 [3, height, width]; factors [2] and corner [2], x before y, that take the image's pixels to the
        frame's).
    """
    sides = np.array(image.shape[:2])
    scaled = np.maximum(np.rint(sides * zoom * np.min(np.array(size) / sides)).astype(int), 1)
    image = np.asarray(Image.fromarray(image).resize(scaled[::-1].tolist(), Image.BILINEAR))
    corner = np.rint((np.array(size) - scaled) * place).astype(int)
    start, end = np.maximum(corner, 0), np.minimum(corner + scaled, size)
    frame, (top, left) = np.zeros((3, *size), np.float32), start - corner
    part = image[top:top + end[0] - start[0], left:left + end[1] - start[1]] / np.float32(255)
    frame[:, start[0]:end[0], start[1]:end[1]] = ((part - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)
    return frame, (scaled / sides)[::-1], corner[::-1]


def detect(net, images, size):
    """What a network sees.

    Args:
        net (Cell): of `src.networks`, for detection.
        images (list): uint8 [h, w, 3] each.
        size (tuple[int]): height and width of the frame that it takes images in.

    Returns:
        list of tuples (boxes [m, 4], scores [m], labels [m]), see `src.tasks.fcos.decode`, in the pixels of each image.

    Raises:
        UserError: what the network gives is not finite.
    """
    net.set_train(False)
    frames = [framed(image, size) for image in images]
    rows = finite(net(ms.Tensor(np.stack([frame for frame, _, _ in frames]))).asnumpy())
    found = []
    for each, image, (_, factor, _) in zip(rows, images, frames):
        boxes, scores, labels = decode(each, size)
        boxes = boxes / np.tile(factor, 2)
        found.append((np.clip(boxes, 0, np.tile(image.shape[1::-1], 2)), scores, labels))
    return found


def drawn(image, boxes, names, labels):
    """An image of Pillow with boxes and the names of what is in them; a colour for each class."""
    picture = Image.fromarray(image)
    draw, width = ImageDraw.Draw(picture), max(1, max(image.shape) // 300)
    for box, name, label in reversed(list(zip(boxes, names, labels))):  # the best one lies on top
        colour = COLOURS[label % len(COLOURS)]
        draw.rectangle([round(value) for value in box], outline=colour, width=width)
        place = draw.textbbox((box[0] + width, box[1] + width), name)
        draw.rectangle(place, fill=colour)
        draw.text(place[:2], name, fill="white")
    return picture
