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
"""A generated data set in the binary layout of CIFAR-100, so that everything runs offline."""
import numpy as np

from .cifar import FILES, Cifar
from ..files import replacing

CLASS_NUM = 10
SIZES = {"train": 2560, "test": 500}
SIDE = 32


class Synthetic(Cifar):
    """CIFAR-100's layout, written where it is missing. See `src.data.DataSet`."""

    def find(self, path, splits):
        folder = path if path.name == self.folder else path / self.folder
        write(folder)
        return folder


SYNTHETIC = Synthetic("synthetic-binary", FILES, SIZES, 2, CLASS_NUM)


def write(folder):
    """Write train.bin and test.bin, the same bytes on every machine, unless they are there.

    Ten textures (stripes across and down, checks, rings, diagonal lattices; each coarse and fine) in random colours,
    at random places and under heavy noise. Mirroring leaves a class what it is.

    Args:
        folder (Path): made if missing.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, size) in enumerate(SIZES.items()):
        path = folder / f"{split}.bin"
        if not path.exists():
            with replacing(path) as temporary:
                _records(np.random.Generator(np.random.PCG64(seed)), size).tofile(temporary)


def _records(random, size):
    """uint8 [size, 2 + 3072]: coarse label (the texture), fine label (the class), then red, green and blue planes."""
    labels = random.permutation(np.arange(size) % CLASS_NUM)
    textures = np.stack([_texture(random, label // 2, 3 + 3 * (label % 2)) for label in labels])  # [size, 32, 32]
    ground, colour = random.uniform(70, 185, (2, size, 3, 1, 1))
    images = ground + (colour - 127) * textures[:, None] + random.normal(0, 30, (size, 3, SIDE, SIDE))
    pixels = np.clip(images.round(), 0, 255).astype(np.uint8).reshape(size, -1)
    return np.concatenate([np.stack([labels // 2, labels], 1).astype(np.uint8), pixels], axis=1)


def _texture(random, kind, waves):
    """One pattern with values in -1..1, `waves` periods to a side."""
    scale = 2 * np.pi * waves / SIDE
    v, u = (np.mgrid[:SIDE, :SIDE] - random.uniform(0, SIDE, (2, 1, 1))) * scale
    return (np.sin(u), np.sin(v), np.sin(u) * np.sin(v), np.sin(np.hypot(u, v)), np.sin(u + v) * np.sin(u - v))[kind]
