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
"""Images for super-resolution: any folder of images in full resolution, or one in the layout of the benchmarks.

    PATH/train/IMAGE, PATH/test/IMAGE (or val, or validation), or PATH/IMAGE where only one of both is wanted
    DIV2K_train_HR/IMAGE, DIV2K_valid_HR/IMAGE       the same, in PATH
    HR/IMAGE                                         in any of those, or in PATH

Where there is a folder LR_bicubic/X2 beside HR (DIV2K_train_LR_bicubic/X2 beside DIV2K_train_HR, and so on), images of
low resolution are read from there, 0001x2.png for 0001.png. Else they are made, see `src.data.bicubic`.
"""
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from . import bicubic, pictures
from .folder import FORMATS, FOLDERS, images_in
from ..errors import UserError

OFFICIAL = {"train": "DIV2K_train_HR", "test": "DIV2K_valid_HR"}


class Images:
    """The data set; its networks say how many channels they take, see `src.networks`."""
    task = "super_resolution"
    class_num, channels = 0, None

    def find(self, path, split):
        """The folder with the images of a split. Raises UserError."""
        places = [path / name for name in (*FOLDERS[split], OFFICIAL[split], ".")]
        folders = (folder for place in places for folder in (place / "HR", place))
        found = [folder for folder in folders if folder.is_dir() and images_in(folder)]
        if not found:
            inner = ", ".join(place.name for place in places[:-1])
            raise UserError(f"no images in {path}, nor in {inner} in it; they end in {', '.join(FORMATS)}")
        return found[0]

    def read(self, folder, scale, least=1):
        """The images of a folder in both resolutions.

        Args:
            folder (Path): what `find` returned.
            scale (int): how many times larger the large ones are.
            least (int): height and width that the small ones must have.

        Returns:
            list[Pair], in the order of the names.

        Raises:
            UserError: an image is damaged or too small, or the small ones that are there do not fit.
        """
        with ThreadPoolExecutor() as threads:
            return list(threads.map(partial(_pair, scale=scale, least=least), images_in(folder)))


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image in both resolutions: low uint8 [h, w, 3], high uint8 [scale * h, scale * w, 3]."""
    path: Path
    low: np.ndarray
    high: np.ndarray


def _pair(path, scale, least):
    high = pictures.read(path)
    size = [side // scale for side in high.shape[:2]]
    if min(size) < least:
        raise UserError(f"{path}: {high.shape[1]} x {high.shape[0]} pixels are too few, at least {least * scale} x "
                        f"{least * scale} are needed")
    high = high[:size[0] * scale, :size[1] * scale]
    folder = path.parent.parent / path.parent.name.replace("HR", "LR_bicubic") / f"X{scale}"
    if folder == path.parent / f"X{scale}" or not folder.is_dir():
        return Pair(path, bicubic.shrunk(high, scale), high)
    small = folder / f"{path.stem}x{scale}{path.suffix}"
    low = pictures.read(small)
    if list(low.shape[:2]) != size:
        raise UserError(f"{small}: {low.shape[1]} x {low.shape[0]} pixels, where {path} asks for "
                        f"{size[1]} x {size[0]}")
    return Pair(path, low, high)


def brightness(image):
    """Y of ITU-R BT.601, 16 .. 235, of an image [..., 3] of 0 .. 255, as [..., 1] float64; as MATLAB's rgb2ycbcr."""
    return 16 + image @ np.array([[65.481], [128.553], [24.966]]) / 255


IMAGES = Images()
