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
"""COCO's average precision of boxes, on all sizes, as pycocotools computes it.

Source: cocodataset/cocoapi, cocoeval.py: at ten thresholds of overlap the best box first takes the truth that it
overlaps most; precision at 101 shares of what is there is the best one at that share or more; AP is the mean over
these, the classes and the thresholds.
"""
import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 100  # boxes of a class in an image


def average_precision(truths, found):
    """AP at overlaps of 0.5 to 0.95, at 0.5 and at 0.75.

    Args:
        truths (list): of each image, (boxes [n, 4], labels [n], crowd bool [n]); boxes are left, top, right, bottom.
        found (list): of each image, (boxes [m, 4], scores [m], labels [m]).

    Returns:
        tuple of three floats, 0 .. 1; NaN where there is no box that is none of a crowd.
    """
    labels = np.unique(np.concatenate([labels for _, labels, _ in truths] or [()]))
    values = [_of_class(label, truths, found) for label in labels]
    values = np.array([value for value in values if value is not None])  # [classes, thresholds]
    if not len(values):
        return np.nan, np.nan, np.nan
    return values.mean(), values[:, 0].mean(), values[:, 5].mean()


def overlaps(boxes, others, crowd=None):
    """Intersection over union of boxes [m, 4] and others [n, 4], as [m, n]; over the box alone where the other is a
    crowd (bool [n])."""
    boxes, others = (np.asarray(each, np.float64) for each in (boxes, others))
    start, end = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    common = np.prod(np.maximum(end - start, 0), 2)
    area, other = (np.prod(each[:, 2:] - each[:, :2], 1) for each in (boxes, others))
    union = area[:, None] + other - common
    return common / np.maximum(union if crowd is None else np.where(crowd, area[:, None], union), 1e-300)


def _of_class(label, truths, found):
    """AP of a class at each threshold; None where there is none of it to find."""
    scores, hits, ignored, count = [], [], [], 0
    for (boxes, labels, crowd), (own, values, own_labels) in zip(truths, found):
        boxes, crowd = boxes[labels == label], crowd[labels == label]
        own, values = own[own_labels == label], values[own_labels == label]
        best = np.argsort(-values, kind="stable")[:MOST]
        count += len(boxes) - crowd.sum()
        hit, of_crowd = match(overlaps(own[best], boxes, crowd), crowd)
        scores.append(values[best])
        hits.append(hit)
        ignored.append(of_crowd)
    if not count:
        return None
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits, ignored = (np.concatenate(each, 1)[:, order] for each in (hits, ignored))
    return np.array([_area(hit[~of_crowd], count) for hit, of_crowd in zip(hits, ignored)])


def match(values, crowd):
    """Which boxes are right, and which are neither right nor wrong.

    Args:
        values (ndarray): overlaps [m, n] of boxes, the best first, and truths.
        crowd (ndarray): bool [n]; a crowd can be found many times, where no truth of its own is left to a box.

    Returns:
        tuple of two arrays, bool [thresholds, m].
    """
    hits, ignored = np.zeros((2, len(THRESHOLDS), len(values)), bool)
    for row, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(crowd), bool)
        for number, each in enumerate(values):
            for candidates in (free & ~crowd, crowd):
                fitting = np.flatnonzero(candidates & (each >= min(threshold, 1 - 1e-10)))
                if len(fitting):
                    best = fitting[len(fitting) - 1 - np.argmax(each[fitting][::-1])]  # of equals the last, as there
                    free[best], hits[row, number], ignored[row, number] = crowd[best], True, crowd[best]
                    break
    return hits, ignored


def _area(hits, count):
    """The mean over RECALLS of the precision, from whether each box is right, the best first."""
    right = np.cumsum(hits)
    precision = np.maximum.accumulate((right / (np.arange(len(hits)) + 1 + np.spacing(1)))[::-1])[::-1]
    places = np.searchsorted(right / count, RECALLS, side="left")
    return np.append(precision, 0.0)[places].mean()
