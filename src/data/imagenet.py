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
"""How photographs are cropped and normalised for networks of ImageNet; the images themselves are `src.data.folder`.

Source: the usual evaluation at 224 of a shorter side of 256 pixels, and training on crops of 8 to 100 % of the area
(PyTorch's imagenet example, which AdderNet was trained by).
"""
from mindspore.dataset import vision

from .cifar import mirror

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SHORTER = 256 / 224  # shorter side of an image over that of its crop
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a crop in training: its share of the image, its width over its height


def operations(training, size):
    """From an image uint8 [h, w, 3] to one of `size`: a random part, mirrored at random, or the centre."""
    # This interpolation is Pillow's: it averages where an image shrinks, so that a photograph stays one.
    if training:
        return [vision.RandomResizedCrop(size, AREA, RATIO, vision.Inter.PILCUBIC), mirror(size)]
    return [vision.Resize(round(max(size) * SHORTER), vision.Inter.PILCUBIC), vision.CenterCrop(size)]
