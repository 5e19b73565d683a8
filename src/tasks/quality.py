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
"""How near an image is to another, on brightness of 0 .. 255, [h, w].

MindSpore's nn.SSIM is not used: in PYNATIVE mode that of version 2.8 raises.
"""
import numpy as np

WINDOW = 11  # pixels of SSIM's window, a Gaussian of deviation 1.5
BEST = 100.0  # dB, of images that are equal


def psnr(image, other):
    """Peak signal-to-noise ratio in dB, 100 at most."""
    error = np.square(image - other, dtype=np.float64).mean()
    return float(min(BEST, 10 * np.log10(255 ** 2 / max(error, 1e-9))))


def ssim(image, other):
    """Structural similarity, 1 at most; Wang et al., IEEE TIP 2004."""
    x, y = _smooth(image), _smooth(other)
    variances = _smooth(image * image) - x * x + _smooth(other * other) - y * y
    covariance = _smooth(image * other) - x * y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(((2 * x * y + c1) * (2 * covariance + c2) / ((x * x + y * y + c1) * (variances + c2))).mean())


def _smooth(image):
    """Means under the window wherever it lies within the image."""
    window = np.exp(-np.square(np.arange(WINDOW) - WINDOW // 2) / (2 * 1.5 ** 2))
    for axis in (0, 1):
        count = image.shape[axis] - WINDOW + 1
        image = sum(share * np.take(image, range(place, place + count), axis)
                    for place, share in enumerate(window / window.sum()))
    return image
