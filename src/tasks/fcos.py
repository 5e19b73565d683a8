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
"""The mathematics of FCOS: what the points of a network are to say of an image, the loss, and boxes from what they say.

Source: FCOS, arXiv 1904.01355 and 2006.09214, with the numbers of MMDetection's fcos_head.py and centre sampling; boxes
are learned by GIoU (arXiv 1902.09630), classes by the focal loss (arXiv 1708.02002).
"""
import mindspore as ms
import numpy as np
from mindspore import nn, ops

from .average_precision import overlaps
from ..networks.adder_fcos import STRIDES, points

RANGES = ((0, 64), (64, 128), (128, 256), (256, 512), (512, np.inf))  # of the longest distance, in pixels, by level
RADIUS = 1.5  # strides around the centre of a box in which points are its own
ALPHA, GAMMA = 0.25, 2.0  # of the focal loss
LEAST_SCORE, OVERLAP = 0.05, 0.6  # below which nothing is seen; from which a box is another one again
MOST_OF_LEVEL, MOST = 1000, 100  # boxes
TINY = 1e-9


def targets(boxes, labels, size):
    """What the points of an image are to say.

    A point is one of a box if it lies in it and near its centre, and the longest distance to its sides is in the range
    of the point's level; of several boxes it takes the smallest.

    Args:
        boxes (ndarray): [n, 4], left, top, right, bottom in pixels.
        labels (ndarray): [n].
        size (tuple[int]): height and width of the image, see `src.networks.adder_fcos.points`.

    Returns:
        tuple (classes int32 [points], 0 for none and else 1 + label; distances float32 [points, 4]).
    """
    centres, levels = points(size)
    if not len(boxes):
        return np.zeros(len(centres), np.int32), np.zeros((len(centres), 4), np.float32)
    middles, reach = (boxes[:, :2] + boxes[:, 2:]) / 2, RADIUS * np.array(STRIDES)[levels][:, None]
    distances = np.concatenate([centres[:, None] - boxes[:, :2], boxes[:, 2:] - centres[:, None]], 2)  # [points, n, 4]
    near = np.abs(centres[:, None] - middles).max(2) < reach
    longest, ranges = distances.max(2), np.array(RANGES)[levels]
    fits = (distances.min(2) > 0) & near & (longest >= ranges[:, :1]) & (longest <= ranges[:, 1:])
    areas = np.where(fits, np.prod(boxes[:, 2:] - boxes[:, :2], 1), np.inf)
    best, found = areas.argmin(1), fits.any(1)
    chosen = distances[np.arange(len(centres)), best] * found[:, None]
    return np.where(found, labels[best] + 1, 0).astype(np.int32), chosen.astype(np.float32)


class Loss(nn.Cell):
    """Images [N, 3, H, W], classes [N, points] and distances [N, points, 4] of `targets` to the loss and its three
    parts: of the classes, of the boxes and of the centreness, each a mean over the points that have a box."""

    def __init__(self, net, class_num):
        super().__init__(auto_prefix=False)  # parameters keep the names they have in the network
        self.net, self.class_num = net, class_num
        self.numbers = ms.Tensor(np.arange(1, class_num + 1), ms.int32)

    def construct(self, images, classes, distances):
        rows = self.net(images).astype(ms.float32)
        found = (classes > 0).astype(ms.float32)
        count = ops.maximum(found.sum(), 1.0)
        wanted = (classes.expand_dims(2) == self.numbers).astype(ms.float32)
        of_classes = focal(rows[:, :, :self.class_num], wanted).sum() / count
        centred = centreness(distances) * found
        error = 1.0 - giou(rows[:, :, self.class_num:self.class_num + 4], distances)
        of_boxes = (error * centred).sum() / ops.maximum(centred.sum(), TINY)
        of_centreness = (cross_entropy(rows[:, :, self.class_num + 4], centred) * found).sum() / count
        return of_classes + of_boxes + of_centreness, of_classes, of_boxes, of_centreness


def cross_entropy(logits, wanted):
    """Of probabilities sigmoid(logits) that are to be `wanted`, 0 .. 1; tensors of one shape."""
    return ops.relu(logits) - logits * wanted + ops.log(1.0 + ops.exp(-ops.abs(logits)))


def focal(logits, wanted):
    """The same of `wanted` 0 or 1, less where it is nearly so, and with a weight for either."""
    p = ops.sigmoid(logits)
    missed = wanted + p - 2.0 * wanted * p  # 1 - the probability of what is wanted
    return (ALPHA * wanted + (1.0 - ALPHA) * (1.0 - wanted)) * missed ** GAMMA * cross_entropy(logits, wanted)


def centreness(distances):
    """How near points are to the centre of their box, 0 .. 1: distances [..., 4] to [...]."""
    left, top, right, bottom = sides(distances)
    ratio = (ops.minimum(left, right) / ops.maximum(ops.maximum(left, right), TINY)
             * ops.minimum(top, bottom) / ops.maximum(ops.maximum(top, bottom), TINY))
    return ops.sqrt(ops.maximum(ratio, 0.0))


def giou(distances, wanted):
    """Generalised overlap, -1 .. 1, of pairs of boxes around the same points: [..., 4] each to [...]."""
    common = area(ops.minimum(distances, wanted))
    union = area(distances) + area(wanted) - common
    hull = area(ops.maximum(distances, wanted))
    return common / ops.maximum(union, TINY) - (hull - union) / ops.maximum(hull, TINY)


def area(distances):
    """Of boxes: distances [..., 4] to [...]."""
    left, top, right, bottom = sides(distances)
    return (left + right) * (top + bottom)


def sides(distances):
    """Left, upper, right and lower ones of [..., 4], each [...]."""
    return distances[..., 0], distances[..., 1], distances[..., 2], distances[..., 3]


def decode(rows, size):
    """The boxes that a network sees in an image.

    Args:
        rows (ndarray): [points, class_num + 5], its output, see `src.networks.adder_fcos.Head`.
        size (tuple[int]): height and width of the image.

    Returns:
        tuple (boxes float64 [m, 4], inside the image; scores [m], falling; labels [m]); at most 100.
    """
    centres, levels = points(size)
    rows = rows.astype(np.float64)
    probabilities, certain = sigmoid(rows[:, :-5]), sigmoid(rows[:, -1:])
    scores = np.where(probabilities > LEAST_SCORE, probabilities * certain, 0)
    boxes = np.concatenate([centres - rows[:, -5:-3], centres + rows[:, -3:-1]], 1)
    boxes = np.clip(boxes, 0, [size[1], size[0], size[1], size[0]])
    chosen = []
    for level in range(len(STRIDES)):
        place, label = np.nonzero(scores * (levels == level)[:, None])
        best = np.argsort(-scores[place, label], kind="stable")[:MOST_OF_LEVEL]
        chosen.append(np.stack([place[best], label[best]]))
    place, labels = np.concatenate(chosen, 1)
    scores, boxes = scores[place, labels], boxes[place]
    kept = suppress(boxes, scores, labels)[:MOST]
    return boxes[kept], scores[kept], labels[kept]


def suppress(boxes, scores, labels):
    """Non-maximum suppression in each class: the numbers of the boxes that stay, the best first."""
    kept = []
    for label in np.unique(labels):
        left = np.flatnonzero(labels == label)
        left = left[np.argsort(-scores[left], kind="stable")]
        while len(left):
            kept.append(left[0])
            left = left[1:][overlaps(boxes[left[:1]], boxes[left[1:]])[0] < OVERLAP]
    kept = np.array(kept, int)
    return kept[np.argsort(-scores[kept], kind="stable")]


def sigmoid(x):
    """1 / (1 + exp(-x)) of an array."""
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))
