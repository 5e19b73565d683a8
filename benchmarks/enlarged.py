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
"""How well networks enlarge images: PSNR and SSIM beside bicubic enlargement, and a picture of a part of an image.

Usage: python -m benchmarks.enlarged CHECKPOINT ... --data_path SET [SET ...]
           [--crop IMAGE LEFT TOP SIDE --output PICTURE]

A set is a folder of images, see `src.data.images`; all networks enlarge equally many times. LEFT, TOP and SIDE are
pixels of the image in full resolution.
"""
from src import errors

errors.guard(__name__)  # before what takes seconds to import

import argparse
from pathlib import Path

import numpy as np

from src import checkpoint, device, loading, picture
from src.config import Parser
from src.data import bicubic
from src.data.images import IMAGES
from src.errors import UserError
from src.files import check_output
from src.folding import fold
from src.networks import NETWORKS
from src.tasks.super_resolution import coloured, enlarged, quality

NOTHING_GIVEN = argparse.Namespace(given=())


def main():
    parser = Parser("python -m benchmarks.enlarged", __doc__)
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="file, or folder with one best checkpoint")
    parser.add_argument("--data_path", nargs="+", type=Path, required=True, metavar="SET", help="folders of images")
    parser.add_argument("--crop", nargs=4, metavar=("IMAGE", "LEFT", "TOP", "SIDE"), help="what the picture shows")
    parser.add_argument("--output", type=Path, default=Path("crops.png"), help="the picture")
    options = parser.parse_args()
    if options.crop:
        check_output(options.output, ".png")
    device.set_up("CPU")
    scale, networks = load(options.checkpoints)
    print(f"{'x' + str(scale):40}" + "".join(f"{path.name:>20}" for path in options.data_path), flush=True)
    sets = [IMAGES.read(IMAGES.find(path, "test"), scale, 6) for path in options.data_path]
    part = find_part(sets, *options.crop) if options.crop else None
    for name, enlarge in networks.items():
        print(f"{name:40}", end="", flush=True)
        for pairs in sets:
            values = np.mean([quality(enlarge(pair.low), pair, scale) for pair in pairs], 0)
            print(f"{values[0]:12.2f}{values[1]:8.4f}", end="", flush=True)
        print()
    if part:
        picture.save(draw(*part, networks, scale), options.output)
        print(f"wrote {options.output}")


def load(paths):
    """By how much the networks enlarge, and name to a function that enlarges an image uint8 [h, w, 3]; bicubic too.

    Raises:
        UserError: a network does not enlarge images, or not as many times as the first.
    """
    found, scale = {}, None
    for path in map(checkpoint.find_checkpoint, paths):
        net, identity = loading.load(path, NOTHING_GIVEN)
        network = NETWORKS[identity.network]
        if network.task != "super_resolution" or identity.options["scale"] != (scale or identity.options["scale"]):
            raise UserError(f"{path}: {identity.network} does not enlarge images" + (f" {scale} times" if scale else ""))
        scale = identity.options["scale"]
        found[str(path) if path.stem in found else path.stem] = by_network(fold(net), scale, network.channels)
    return scale, {"bicubic": lambda low: bicubic.rounded(by_bicubic(low, scale)), **found}


def by_network(net, scale, channels):
    def enlarge(low):
        image = enlarged(net, low, scale, channels)
        return image if channels == 3 else coloured(image, by_bicubic(low, scale))
    return enlarge


def by_bicubic(low, scale):
    return bicubic.resize(low, [side * scale for side in low.shape[:2]])


def find_part(sets, name, *box):
    """The first image of a name, and a square of it: (pair, left, top, side). Raises UserError where there is none."""
    pair = next((pair for pairs in sets for pair in pairs if pair.path.name == name), None)
    if pair is None:
        raise UserError(f"no image {name} in the sets")
    left, top, side = (int(value) if value.isdecimal() and len(value) < 10 else -1 for value in box)
    if not (0 <= left < left + side <= pair.high.shape[1] and 0 <= top < top + side <= pair.high.shape[0]):
        raise UserError(f"--crop {' '.join((name, *box))} lies outside of {pair.high.shape[1]} x {pair.high.shape[0]} pixels")
    return pair, left, top, side


def draw(pair, left, top, side, networks, scale):
    """A square of an image as it is, and as each network enlarges it."""
    images = {"original": pair.high}
    for title, enlarge in networks.items():
        image = enlarge(pair.low)
        images[f"{title}\n{quality(image, pair, scale)[0]:.2f} dB"] = bicubic.rounded(image)
    figure = picture.new_figure(3 * len(images), 3.7)
    for axes, (title, image) in zip(figure.subplots(1, len(images)), images.items()):
        axes.imshow(image[top:top + side, left:left + side], interpolation="nearest")
        axes.set(title=title, xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    errors.run(main)
