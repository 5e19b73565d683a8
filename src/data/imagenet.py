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
from ..errors import UserError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SHORTER = 256 / 224  # shorter side of an image over that of its crop
LARGEST = 1 << 27  # pixels of a scaled image, 2048 times as long as high at 224; MindSpore's Resize fails at 2 GiB
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a crop in training: its share of the image, its width over its height


def operations(training, size):
    """From an image uint8 [h, w, 3] to one of `size`: a random part, mirrored at random, or the centre."""
    # This interpolation is Pillow's: it averages where an image shrinks, so that a photograph stays one.
    if training:
        return [vision.RandomResizedCrop(size, AREA, RATIO, vision.Inter.PILCUBIC), mirror(size)]
    return [vision.Resize(_shorter(size), vision.Inter.PILCUBIC), vision.CenterCrop(size)]


def check_image(image, size, source):
    """Refuse an image [h, w, 3] that is so long and narrow that it would not fit into memory when it is scaled.

    Args:
        image (ndarray): the image.
        size (tuple[int]): height and width of its crops.
        source (Path): of the image, for the message.

    Raises:
        UserError: it would have more than LARGEST pixels.
    """
    height, width = image.shape[:2]
    side = _shorter(size)
    if side * side * max(height, width) > LARGEST * min(height, width):
        raise UserError(f"{source}: {width} x {height} pixels are too long and narrow: the shorter side is scaled to "
                        f"{side}")


def _shorter(size):
    """Pixels of the shorter side of an image that crops of `size` are taken from."""
    return round(max(size) * SHORTER)
