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
"""Bicubic resizing, against the formula pixel by pixel and a published figure; PSNR and SSIM against their formulas."""
import math
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data import bicubic, pictures
from src.data.images import IMAGES, brightness
from src.tasks.quality import psnr, ssim

SET5 = Path(os.environ.get("SET5", Path(__file__).parents[1] / "data" / "Set5"))


def slowly(row, after):
    """A row of pixels resized as the documentation of imresize says: one output, one input at a time."""
    scale, result = after / len(row), []
    stretch = min(scale, 1)
    for number in range(after):
        at, total, weight = (number + 0.5) / scale - 0.5, 0.0, 0.0
        for place in range(math.floor(at - 2 / stretch), math.ceil(at + 2 / stretch) + 1):
            x = abs(at - place) * stretch
            far = -0.5 * x ** 3 + 2.5 * x ** 2 - 4 * x + 2 if x < 2 else 0
            share = 1.5 * x ** 3 - 2.5 * x ** 2 + 1 if x <= 1 else far
            mirrored = place % (2 * len(row))
            total += share * row[min(mirrored, 2 * len(row) - 1 - mirrored)]
            weight += share
        result.append(total / weight)
    return np.array(result)


@pytest.mark.parametrize("before, after", [(12, 6), (13, 4), (24, 6), (5, 10), (7, 21), (6, 24), (1, 3), (2, 1)])
def test_every_row_and_column(before, after):
    image = np.random.default_rng(0).uniform(0, 255, (before, before + 3, 2))
    rows = np.stack([[slowly(image[:, i, c], after) for c in range(2)] for i in range(before + 3)])  # [w, 2, after]
    wanted = np.stack([[slowly(rows[:, c, j], after + 1) for j in range(after)] for c in range(2)])
    np.testing.assert_allclose(bicubic.resize(image, (after, after + 1)), wanted.transpose(1, 2, 0), atol=1e-10)


def test_small_images_are_rounded_within_their_range():
    image = np.tile(np.array([[0, 255]], np.uint8).repeat(6, 1), (8, 1))[..., None]
    small = bicubic.shrunk(image, 2)
    assert small.dtype == np.uint8 and small.shape == (4, 6, 1)
    np.testing.assert_array_equal(small[0, :, 0], np.clip(np.rint(slowly(image[0, :, 0] / 1.0, 6)), 0, 255))


@pytest.mark.skipif(not SET5.is_dir(), reason="no images of Set5 in data/Set5")
@pytest.mark.parametrize("scale, wanted", [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_published_figure_of_set5(scale, wanted):
    """As papers have it: brightness made small and large again, `scale` pixels less on each side."""
    values = []
    for pair in IMAGES.read(IMAGES.find(SET5, "test"), scale):
        y = brightness(pair.high)
        small = bicubic.resize(y, pair.low.shape)
        again = bicubic.rounded(bicubic.resize(small, y.shape)).astype(float)
        values.append(psnr(*(each[scale:-scale, scale:-scale, 0] for each in (again, np.rint(y)))))
    assert len(values) == 5 and np.mean(values) == pytest.approx(wanted, abs=0.006)


def test_brightness():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(brightness(colours)[0, :, 0], [16, 235, 81.481, 144.553, 40.966], atol=1e-6)


def test_psnr():
    image = np.random.default_rng(0).uniform(0, 255, (9, 7))
    assert psnr(image, image + 5) == pytest.approx(10 * math.log10(255 ** 2 / 25)) and psnr(image, image) == 100


def test_ssim():
    """Window by window."""
    random = np.random.default_rng(0)
    image = random.uniform(0, 255, (13, 16))
    other = image + random.normal(0, 30, image.shape)
    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window, values = np.outer(line, line) / line.sum() ** 2, []
    for i in range(3):
        for j in range(6):
            x, y = (each[i:i + 11, j:j + 11] for each in (image, other))
            mx, my = (x * window).sum(), (y * window).sum()
            vx, vy, cov = ((window * (a - ma) * (b - mb)).sum()
                           for a, ma, b, mb in ((x, mx, x, mx), (y, my, y, my), (x, mx, y, my)))
            c1, c2 = 2.55 ** 2, 7.65 ** 2
            values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx ** 2 + my ** 2 + c1) * (vx + vy + c2)))
    assert ssim(image, other) == pytest.approx(np.mean(values), rel=1e-9) and ssim(image, image) == pytest.approx(1)


def test_grey_and_colour_have_one_brightness(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (6, 8), np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    got = brightness(pictures.read(tmp_path / "a.png"))[..., 0]
    np.testing.assert_allclose(got, 16 + grey * (219 / 255), atol=1e-9)
