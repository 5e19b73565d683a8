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
"""Bicubic resizing as MATLAB's imresize does it, which papers on super-resolution make their images by.

The kernel of Keys with a = -1/2; where an image shrinks it is wider by as much, and so averages; beyond its edges an
image is mirrored. Pillow's differs by rounding between rows and columns, and at the edges.
"""
import numpy as np


def resize(image, size):
    """An image [h, w, C] as float64 [height, width, C], not rounded; of `size` the first two count."""
    rows, columns = (weights(before, after) for before, after in zip(image.shape, size[:2]))
    return np.einsum("ih,hwc,jw->ijc", rows, image, columns, optimize=True)


def shrunk(image, scale):
    """An image uint8 [h, w, C] as uint8 [h / scale, w / scale, C]."""
    return rounded(resize(image, [side // scale for side in image.shape[:2]]))


def rounded(image):
    """As uint8."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def weights(before, after):
    """What each of `after` pixels in a row has of each of `before`, [after, before]."""
    scale = after / before
    width = 2 / min(scale, 1)  # of half the kernel
    at = (np.arange(after) + 0.5) / scale - 0.5
    taps = np.floor(at - width)[:, None] + np.arange(int(2 * width) + 2)
    shares = _kernel((at[:, None] - taps) * min(scale, 1))
    taps = taps.astype(int) % (2 * before)
    found = np.zeros((after, before))
    np.add.at(found, (np.arange(after)[:, None], np.minimum(taps, 2 * before - 1 - taps)), shares)
    return found / found.sum(1, keepdims=True)


def _kernel(x):
    x = np.abs(x)
    return np.where(x <= 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((2.5 - 0.5 * x) * x - 4) * x + 2, 0))
