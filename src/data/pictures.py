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
"""Image files: their pixels as one sees them, red, green and blue."""
import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UserError
from ..files import bytes_of, check_output, replacing

warnings.filterwarnings("ignore", module=r"PIL\.")  # of large pictures, say; what it refuses, it still does
FORMATS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")  # that a picture is written in


def decode(data):
    """The pixels of an image file, turned as the camera says, without transparency, 8 bits of 16.

    MindSpore's own Decode is not used: a truncated JPEG ends the process.

    Args:
        data (ndarray): uint8 [bytes].

    Returns:
        ndarray, uint8 [h, w, 3].

    Raises:
        Exception: of nearly any type, from Pillow, over what is no image.
    """
    return np.asarray(_open(data.tobytes()))


def read(path, size=None):
    """The pixels of an image file.

    Args:
        path (Path): of the file.
        size (tuple[int]): height and width to which it is scaled, whatever its form; its own if None.

    Returns:
        ndarray, uint8 [h, w, 3].

    Raises:
        UserError: no image, a damaged one, or one of more pixels than Pillow takes.
    """
    image = _load(path)
    return np.asarray(image.resize(size[::-1], Image.BICUBIC) if size else image)


def check_target(output, path):
    """Refuse a file for a picture that is made of the one in `path`: raises UserError where it cannot be written."""
    if output.suffix.lower() not in FORMATS:
        raise UserError(f"{output}: a picture's name ends in {', '.join(FORMATS)}")
    check_output(output, output.suffix)
    if output.exists() and output.samefile(path):
        raise UserError(f"{output} is the picture itself")


def write(image, output):
    """Write an image of Pillow; the file is there when it is complete."""
    with replacing(output) as temporary:
        image.save(temporary, quality=95)  # which PNG has no use for


def grey(image):
    """The brightness of an image uint8 [h, w, 3], as uint8 [h, w, 1]."""
    return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]


def _load(path):
    try:
        return _open(bytes_of(path))
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: damaged, or no image") from error
    except Exception as error:  # pylint: disable=broad-except
        # Pillow's decoders raise nearly any exception over damaged files.
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read: {reason}") from error


def _open(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip to 8
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("pixels are floating-point numbers")
    elif image.mode == "P":  # Pillow warns of the transparency of a palette otherwise
        image = image.convert("RGBA")
    return image.convert("RGB")
