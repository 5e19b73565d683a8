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
"""Average precision: cases by hand, and a transcript of pycocotools' loops; itself where it is installed."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from src.tasks.average_precision import average_precision, overlaps


def truths(boxes, labels=None, crowd=None):
    boxes = np.reshape(np.array(boxes, float), (-1, 4))
    return (boxes, np.zeros(len(boxes), int) if labels is None else np.array(labels),
            np.zeros(len(boxes), bool) if crowd is None else np.array(crowd))


def found(boxes, scores, labels=None):
    boxes = np.reshape(np.array(boxes, float), (-1, 4))
    return boxes, np.array(scores, float), np.zeros(len(boxes), int) if labels is None else np.array(labels)


def scene(seed, images=12, classes=3):
    """Random truths, crowds among them, and boxes near them or anywhere, with scores that are often the same."""
    random, scenes = np.random.default_rng(seed), ([], [])
    for _ in range(images):
        n, m = random.integers(0, 7), random.integers(0, 15)
        corners = random.uniform(0, 60, (n, 2))
        boxes = np.concatenate([corners, corners + random.uniform(1, 30, (n, 2))], 1)
        labels = random.integers(0, classes, n)
        scenes[0].append(truths(boxes, labels, random.random(n) < 0.2))
        source = random.integers(0, n, m) if n else np.zeros(0, int)
        near = boxes[source] + random.normal(0, random.choice([0.3, 3.0], (len(source), 1)), (len(source), 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 0.5)
        kinds = np.where(random.random(len(source)) < 0.8, labels[source] if n else source, random.integers(0, classes))
        scenes[1].append(found(near, np.round(random.random(len(source)), 1), kinds))
    return scenes


def transcript(scenes, most=100):
    """COCOeval.evaluateImg and accumulate, loop by loop, as cocoeval.py has them; AP of each class and threshold."""
    thresholds, recalls = np.linspace(.5, 0.95, 10), np.linspace(.0, 1.00, 101)
    values = []
    for label in sorted({label for each in scenes[0] for label in each[1]}):
        matched, skipped, scores, count = [], [], [], 0
        for (boxes, labels, crowd), (own, own_scores, own_labels) in zip(*scenes):
            gt = [(box, bool(many)) for box, one, many in zip(boxes, labels, crowd) if one == label]
            gt.sort(key=lambda each: each[1])
            dt = [(box, score) for box, score, one in zip(own, own_scores, own_labels) if one == label]
            dt = [dt[i] for i in np.argsort([-score for _, score in dt], kind="mergesort")[:most]]
            count += sum(not many for _, many in gt)
            scores += [score for _, score in dt]
            dtm, dtig = np.zeros((10, len(dt)), bool), np.zeros((10, len(dt)), bool)
            for row, threshold in enumerate(thresholds):
                taken = set()
                for number, (box, _) in enumerate(dt):
                    iou, m = min(threshold, 1 - 1e-10), -1
                    for g, (other, many) in enumerate(gt):
                        if g in taken and not many:
                            continue
                        if m > -1 and not gt[m][1] and many:
                            break
                        width = max(0, min(box[2], other[2]) - max(box[0], other[0]))
                        height = max(0, min(box[3], other[3]) - max(box[1], other[1]))
                        area = (box[2] - box[0]) * (box[3] - box[1])
                        whole = area if many else area + (other[2] - other[0]) * (other[3] - other[1]) - width * height
                        if width * height / whole < iou:
                            continue
                        iou, m = width * height / whole, g
                    if m > -1:
                        taken.add(m)
                        dtm[row, number], dtig[row, number] = True, gt[m][1]
            matched.append(dtm)
            skipped.append(dtig)
        if not count:
            continue
        order = np.argsort(-np.array(scores), kind="mergesort")
        dtm, dtig = (np.concatenate(each, 1)[:, order] for each in (matched, skipped))
        row = []
        for tp, fp in zip(np.cumsum(dtm & ~dtig, 1).astype(float), np.cumsum(~dtm & ~dtig, 1).astype(float)):
            precision, q = (tp / (fp + tp + np.spacing(1))).tolist(), np.zeros(101)
            for i in range(len(precision) - 1, 0, -1):
                precision[i - 1] = max(precision[i], precision[i - 1])
            for place, index in enumerate(np.searchsorted(tp / count, recalls, side="left")):
                if index < len(precision):
                    q[place] = precision[index]
            row.append(q.mean())
        values.append(row)
    return np.array(values)


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_the_loops(seed):
    scenes = scene(seed)
    wanted = transcript(scenes)
    np.testing.assert_allclose(average_precision(*scenes), [wanted.mean(), wanted[:, 0].mean(), wanted[:, 5].mean()],
                               atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_pycocotools(seed):
    scenes, coco, results = scene(seed), COCO(), []
    annotations = []
    for image, (boxes, labels, crowd) in enumerate(scenes[0], start=1):
        for box, label, many in zip(boxes, labels, crowd):
            width, height = box[2:] - box[:2]
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": int(label) + 1, "area":
                                width * height, "bbox": [*box[:2], width, height], "iscrowd": int(many)})
    coco.dataset = {"images": [{"id": number + 1} for number in range(len(scenes[0]))], "annotations": annotations,
                    "categories": [{"id": number} for number in (1, 2, 3)]}
    coco.createIndex()
    for image, (boxes, scores, labels) in enumerate(scenes[1], start=1):
        results += [[image, *box[:2], *(box[2:] - box[:2]), score, label + 1]
                    for box, score, label in zip(boxes, scores, labels)]
    evaluation = COCOeval(coco, coco.loadRes(np.array(results)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    np.testing.assert_allclose(average_precision(*scenes), evaluation.stats[:3], atol=1e-6)


ONE, OTHER = [0, 0, 10, 10], [20, 20, 30, 40]


@pytest.mark.parametrize("there, seen, wanted", [
    ([truths([ONE])], [found([ONE], [0.3])], (1, 1, 1)),
    ([truths([ONE])], [found([], [])], (0, 0, 0)),
    ([truths([ONE])], [found([OTHER, ONE], [0.9, 0.3])], (0.5, 0.5, 0.5)),  # half of what is found, at every share
    ([truths([ONE, OTHER])], [found([ONE], [0.9])], (51 / 101,) * 3),  # shares 0 .. 0.5 of what is there
    ([truths([ONE])], [found([ONE, ONE], [0.9, 0.8])], (1, 1, 1)),  # the second is wrong, but comes too late
    ([truths([ONE])], [found([[0, 0, 10, 8]], [0.9])], (0.7, 1, 1)),  # overlap 0.8: right up to it
    ([truths([ONE, [0, 0, 10, 12]], crowd=[False, True])], [found([ONE, [0, 5, 10, 12]], [0.3, 0.9])], (1, 1, 1)),
    ([truths([ONE]), truths([])], [found([ONE], [0.5]), found([ONE], [0.6])], (0.5, 0.5, 0.5)),  # an image with nothing
    ([truths([ONE, OTHER], [0, 1])], [found([ONE, OTHER], [0.5, 0.6], [0, 0])], (0.25, 0.25, 0.25)),
    ([truths([ONE], [1])], [found([ONE, ONE], [0.5, 0.6], [1, 0])], (1, 1, 1))])  # nobody asks for class 0
def test_by_hand(there, seen, wanted):
    np.testing.assert_allclose(average_precision(there, seen), wanted, atol=1e-12)


def test_nothing_to_find():
    assert np.isnan(average_precision([truths([]), truths([ONE], crowd=[True])], [found([], [])] * 2)).all()
    assert np.isnan(average_precision([], [])).all()


def test_hundred_boxes_of_a_class_count():
    many = found([OTHER] * 100 + [ONE], np.linspace(1, 0.1, 101))
    assert average_precision([truths([ONE])], [many]) == (0, 0, 0)


def test_overlaps():
    boxes = np.float32([ONE, OTHER, [5, 5, 15, 15]])
    wanted = [[1, 0, 25 / 175], [0, 1, 0], [25 / 175, 0, 1]]
    np.testing.assert_allclose(overlaps(boxes, boxes), wanted, rtol=1e-6)
    np.testing.assert_allclose(overlaps(boxes, boxes, np.array([True, False, False]))[2], [0.25, 0, 1], rtol=1e-6)
