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
"""FCOS against formulas in float64: targets, losses, boxes from outputs."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from src.networks.adder_fcos import STRIDES, points
from src.tasks import fcos
from src.tasks.average_precision import overlaps

SIZE = (192, 128)
RANGES = [(0, 64), (64, 128), (128, 256), (256, 512), (512, 1e9)]


def scene(seed, count):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(2, 90, (count, 2))], 1)
    return np.clip(boxes, 0, [128, 192, 128, 192]).astype(np.float32), random.integers(0, 3, count).astype(np.int32)


@pytest.mark.parametrize("seed, count", [(0, 1), (1, 5), (2, 12), (3, 0)])
def test_targets(seed, count):
    """Point by point: in a box, near its centre, at the level of its size; the smallest box of several."""
    boxes, labels = scene(seed, count)
    classes, distances = fcos.targets(boxes, labels, SIZE)
    assert classes.dtype == np.int32 and distances.dtype == np.float32
    row, found = 0, 0
    for stride, (least, most) in zip(STRIDES, RANGES):
        for i in range(-(-SIZE[0] // stride)):
            for j in range(-(-SIZE[1] // stride)):
                x, y, best = (j + 0.5) * stride, (i + 0.5) * stride, None
                for box, label in zip(boxes.astype(float), labels):
                    sides = np.array([x - box[0], y - box[1], box[2] - x, box[3] - y])
                    offset = max(abs(x - (box[0] + box[2]) / 2), abs(y - (box[1] + box[3]) / 2))
                    size = (box[2] - box[0]) * (box[3] - box[1])
                    if sides.min() > 0 and offset < 1.5 * stride and least <= sides.max() <= most and (
                            best is None or size < best[0]):
                        best = size, label, sides
                assert classes[row] == (0 if best is None else 1 + best[1])
                np.testing.assert_allclose(distances[row], np.zeros(4) if best is None else best[2], atol=1e-4)
                row, found = row + 1, found + (best is not None)
    assert row == len(classes) and (found > 0) == (count > 0)


def test_points():
    centres, levels = points((64, 96))
    assert np.bincount(levels).tolist() == [96, 24, 6, 2, 1]
    np.testing.assert_array_equal(centres[[0, 1, 12, 96, 128]], [[4, 4], [12, 4], [4, 12], [8, 8], [64, 64]])


def batch(random, images=2, count=9, classes=3):
    """Outputs as of a network and what they are to be; some points have no box."""
    rows = np.concatenate([random.normal(0, 3, (images, count, classes)), random.uniform(1, 80, (images, count, 4)),
                           random.normal(0, 3, (images, count, 1))], 2)
    numbers = random.integers(0, classes + 1, (images, count))
    return rows, numbers, random.uniform(1, 80, (images, count, 4)) * (numbers > 0)[..., None]


def exact(rows, numbers, wanted):
    """The three parts in float64, point by point where there is one."""
    count, classes = max((numbers > 0).sum(), 1), rows.shape[2] - 5
    p, one = 1 / (1 + np.exp(-rows[..., :classes])), numbers[..., None] == np.arange(1, classes + 1)
    focal = -np.where(one, 0.25 * (1 - p) ** 2 * np.log(p), 0.75 * p ** 2 * np.log(1 - p)).sum() / count
    boxes, centres, total = 0.0, 0.0, 0.0
    for image, place in zip(*np.nonzero(numbers)):
        l, t, r, b = wanted[image, place]
        centre = np.sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))
        seen, there = rows[image, place, classes:classes + 4] * [-1, -1, 1, 1], np.array([-l, -t, r, b])
        low, high = np.minimum(seen, there), np.maximum(seen, there)
        common = (low[2] - high[0]) * (low[3] - high[1])
        union = (seen[2:] - seen[:2]).prod() + (there[2:] - there[:2]).prod() - common
        hull = (high[2] - low[0]) * (high[3] - low[1])
        boxes += centre * (1 - (common / union - (hull - union) / hull))
        q = 1 / (1 + np.exp(-rows[image, place, -1]))
        centres -= centre * np.log(q) + (1 - centre) * np.log(1 - q)
        total += centre
    return [focal, boxes / (total or 1), centres / count]


def slopes(function, x, step=1e-6):
    """The gradient of function at x, value by value, by central differences."""
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[place] = step
        gradient[place] = (function(x + shift) - function(x - shift)) / (2 * step)
    return gradient


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_loss(seed):
    """Its parts and its gradient; seed 3 has no box at all, as a batch may."""
    rows, numbers, wanted = batch(np.random.default_rng(seed), classes=seed + 1)
    if seed == 3:
        numbers, wanted = numbers * 0, wanted * 0
    parts = exact(rows, numbers, wanted)
    gradient = slopes(lambda x: sum(exact(x, numbers, wanted)), rows)
    loss = fcos.Loss(nn.Identity(), seed + 1)
    inputs = ms.Tensor(rows, ms.float32), ms.Tensor(numbers, ms.int32), ms.Tensor(wanted, ms.float32)
    got = [float(value) for value in loss(*inputs)]
    np.testing.assert_allclose(got, [sum(parts), *parts], rtol=1e-5, atol=1e-6)
    found = ops.grad(lambda x: loss(x, *inputs[1:])[0])(inputs[0]).asnumpy()
    np.testing.assert_allclose(found, gradient, rtol=1e-3, atol=1e-5 * np.abs(gradient).max())


def test_loss_of_extreme_outputs():
    """Nothing overflows."""
    rows = np.zeros((1, 4, 6), np.float32)
    rows[0, :, 0], rows[0, :, 5] = (500, -500, 500, -500), (-500, 500, 500, -500)
    rows[0, :, 1:5] = 2.8e6
    inputs = ms.Tensor(rows), ms.Tensor([[1, 1, 0, 0]], ms.int32), ms.Tensor(np.full((1, 4, 4), 1e-3), ms.float32)
    loss = fcos.Loss(nn.Identity(), 1)
    assert np.isfinite([float(value) for value in loss(*inputs)]).all()
    assert np.isfinite(ops.grad(lambda x: loss(x, *inputs[1:])[0])(inputs[0]).asnumpy()).all()


@pytest.mark.parametrize("seed", range(4))
def test_decoded_targets_are_the_boxes(seed):
    """What is asked of the points gives back every box that has one, with its class."""
    boxes, labels = scene(seed, 6)
    classes, distances = fcos.targets(boxes, labels, SIZE)
    logits = np.where(classes[:, None] == np.arange(1, 4), 8.0, -8.0)
    got, scores, numbers = fcos.decode(np.concatenate([logits, distances, np.full((len(classes), 1), 3.0)], 1), SIZE)
    assert (np.diff(scores) <= 0).all() and scores.max() <= 1 and len(got) <= 6
    for box, number in zip(got, numbers):
        place = overlaps(box[None], boxes)[0].argmax()
        np.testing.assert_allclose(box, boxes[place], atol=1e-3)
        assert number == labels[place]


def test_decode():
    """Scores are of class and centreness; what is improbable is not seen; boxes end with the image; 100 at most."""
    rows = np.full((len(points(SIZE)[0]), 2 + 5), -9.0)
    rows[:, 2:6] = 3.0
    rows[50, [1, 6]] = 1.0, 2.0
    boxes, scores, labels = fcos.decode(rows, SIZE)
    x, y = points(SIZE)[0][50]
    np.testing.assert_allclose(boxes, [[x - 3, y - 3, x + 3, y + 3]])
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-1)) / (1 + np.exp(-2)))
    assert labels.tolist() == [1]
    rows[:, :2], rows[:, 6] = 1.0, 0.0
    boxes, scores, labels = fcos.decode(rows, SIZE)
    assert len(boxes) == 100 and set(labels) == {0}  # of equals the first
    rows[:, 2:6] = 1e6
    boxes, _, labels = fcos.decode(rows, SIZE)
    np.testing.assert_array_equal(boxes, [[0, 0, 128, 192]] * 2)
    assert all(len(each) == 0 for each in fcos.decode(rows - 1e4, SIZE))


@pytest.mark.parametrize("seed", range(5))
def test_suppress(seed):
    """A box stays if it overlaps no better one of its class that stays by 0.6; ties keep their order."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 20, (60, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 15, (60, 2))], 1)
    scores, labels, kept = np.round(random.random(60), 1), random.integers(0, 3, 60), []
    for number in np.argsort(-scores, kind="stable"):
        if all(labels[number] != labels[other] or overlaps(boxes[[number]], boxes[[other]])[0, 0] < 0.6
               for other in kept):
            kept.append(number)
    got = fcos.suppress(boxes, scores, labels)
    assert set(got) == set(kept) and (np.diff(scores[got]) <= 0).all() and len(kept) < 60
