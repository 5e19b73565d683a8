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
"""Super-resolution: patches of images and the same enlarged, the L1 loss, PSNR and SSIM of whole images."""
import dataclasses
import itertools
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from PIL import Image

from ..data import SETS, bicubic, pictures
from ..data.images import brightness
from ..device import pynative
from ..errors import UserError
from ..identity import Identity
from .finite import finite
from .held_out import hold_out
from .pipeline import pipeline
from .quality import WINDOW, psnr, ssim

TILE = 192  # pixels of an image that a network enlarges at once, in rows and columns


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the task and of its networks, as in default_config.yaml."""
    dataset: str
    data_path: str
    validation_size: int
    num_parallel_workers: int
    batch_size: int
    seed: int
    patch_size: int
    patches_per_image: int
    scale: int
    n_feats: int
    n_resblocks: int
    res_scale: float
    self_shortcut: bool
    power_activation: bool
    batch_norm: bool

    def __post_init__(self):
        if self.patch_size % self.scale:
            raise UserError(f"patch_size {self.patch_size} is no multiple of scale {self.scale}")


class SuperResolution:
    """Images that networks enlarge `scale` times; see `src.tasks` for what every task has.

    Args:
        options (Options): of the data and the networks.
        network (Network): the network's entry in `src.networks.NETWORKS`.
        splits (tuple[str]): what must be there of "train" and "test".
        classes (tuple): none.
        rank, ranks (int): this process, and how many train together.

    Raises:
        UserError: see `src.data.images.Images`; there is nothing to test on.
    """

    Options = Options
    train_metrics = ("psnr",)
    metrics = ("psnr", "ssim")
    titles = ("PSNR", "SSIM")
    fraction, output, any_size, scheme, calibration_size = 100, "enlarged", True, "layers", 64

    def __init__(self, options, network, splits=("train", "test"), classes=(), rank=0, ranks=1):
        self.options, self.network, self.rank, self.ranks = options, network, rank, ranks
        self.batch_size, scale = options.batch_size, options.scale
        self.patch = options.patch_size // scale or min(network.size)  # of the small images
        self.name = f"{options.dataset}_x{scale}"
        side = self.patch * scale
        self.summary = f"{options.dataset}, enlarged {scale} times, patches of {side} x {side}"
        self.held_out = "validation" if options.validation_size else "test"
        images, path = SETS[options.dataset], Path(options.data_path)
        wanted = [split for split in splits if split == "train" or not options.validation_size]
        folders = {split: images.find(path, split) for split in wanted}
        if len(folders) > len(set(folders.values())):
            raise UserError(f"{path} has no images for tests beside those to train on: make folders train and test in "
                            "it, or hold some out by --validation_size")
        least = 2 + -(-WINDOW // scale)  # of images to evaluate on
        pairs = {split: images.read(folder, scale, least if split == "test" or options.validation_size else 1)
                 for split, folder in folders.items()}
        self.training, self.testing = pairs.get("train", []), pairs.get("test", [])
        if "train" in splits:
            self._leave_out(path)
        if options.validation_size:
            self.training, self.testing = hold_out(self.training, options.validation_size, path)

    def _leave_out(self, path):
        """Train on the images that are large enough for a patch."""
        large = [pair for pair in self.training if min(pair.low.shape[:2]) >= self.patch]
        if not large:
            raise UserError(f"{path}: every training image is smaller than a patch; take a smaller --patch_size")
        small = len(self.training) - len(large)
        self.training, self.summary = large, self.summary + (f", {small} smaller images left out" if small else "")

    def identity(self, network, layer):
        """What a network of this task is."""
        return Identity(network, layer, 0, self.options.dataset,
                        options={name: getattr(self.options, name) for name in self.network.options})

    @property
    def steps(self):
        """Batches of an epoch. Raises UserError where there is not one."""
        patches = len(self.training) * self.options.patches_per_image // self.ranks
        if patches < self.batch_size:
            raise UserError(f"{patches} patches of an epoch are fewer than batch_size {self.batch_size}; "
                            "--patches_per_image makes more")
        return patches // self.batch_size

    def batches(self, epoch):
        """Patches [N, C, h, w] and the same enlarged; seed and epoch decide order and places, turns and mirrors."""
        source = Patches(self.training, self.patch, self.options, self.network.channels, epoch, self.rank, self.ranks)
        return pipeline(source, ["low", "high"], self.options)

    def loss(self, net, objective=None):
        """The training loss of a network, see `Loss`; there is no objective beside it."""
        return Loss(net)

    def evaluate(self, net):
        """Mean PSNR in dB and SSIM, on brightness without `scale` pixels at the edges, of whole images."""
        scale, channels = self.options.scale, self.network.channels
        values = [quality(enlarged(net, pair.low, scale, channels), pair, scale) for pair in self.testing]
        return dict(zip(self.metrics, np.mean(values, 0).tolist()))

    @staticmethod
    def predict(net, network, identity, path, output=None):
        """Enlarge a picture into a file; a line that says so.

        Raises:
            UserError: the picture cannot be read or is too small, or no file for the result is said.
        """
        if output is None:
            raise UserError(f"{identity.network} gives a picture: say by --output_path where it goes")
        pictures.check_target(output, path)
        low = pictures.read(path)
        if min(low.shape) < 2:
            raise UserError(f"{path}: {low.shape[1]} x {low.shape[0]} pixels are too few to enlarge")
        scale = identity.options["scale"]
        image = enlarged(net, low, scale, network.channels, Shown())
        if image.shape[2] == 1:
            image = coloured(image, bicubic.resize(low, image.shape))
        pictures.write(Image.fromarray(bicubic.rounded(image)), output)
        return [f"{low.shape[1]} x {low.shape[0]} enlarged to {image.shape[1]} x {image.shape[0]}: {output}"]


class Patches:
    """The patches of an epoch in this process, by their numbers: (low [C, h, w], high [C, scale * h, scale * w])."""

    def __init__(self, pairs, patch, options, channels, epoch, rank, ranks):
        self.pairs, self.patch, self.scale, self.channels = pairs, patch, options.scale, channels
        random = np.random.Generator(np.random.PCG64([options.seed, epoch]))
        count = len(pairs) * options.patches_per_image
        numbers = random.permutation(np.arange(count) // options.patches_per_image)
        corners, forms = random.random((count, 2)), random.integers(8, size=count)
        mine = slice(rank, count - count % ranks, ranks)
        self.numbers, self.corners, self.forms = numbers[mine], corners[mine], forms[mine]

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        pair, form = self.pairs[self.numbers[index]], self.forms[index]
        top, left = (int(share * (side - self.patch + 1)) for share, side in zip(self.corners[index], pair.low.shape))
        patches = (image[scale * top:scale * (top + self.patch), scale * left:scale * (left + self.patch)]
                   for image, scale in ((pair.low, 1), (pair.high, self.scale)))
        return tuple(prepared(np.rot90(patch, form)[:, ::-1 if form > 3 else 1], self.channels) for patch in patches)


class Loss(nn.Cell):
    """Images and the same enlarged to the mean absolute error, and the PSNR of all values in dB."""

    def __init__(self, net):
        super().__init__(auto_prefix=False)  # parameters keep the names they have in the network
        self.net = net

    def construct(self, low, high):
        error = self.net(low) - high
        squares = ops.stop_gradient(error)
        return ops.abs(error).mean(), -10.0 * ops.log10((squares * squares).mean() + 1e-10)


def prepared(image, channels):
    """An image uint8 [h, w, 3] as networks see it: float32 [channels, h, w] of 0 .. 1, colours or brightness."""
    image = brightness(image) if channels == 1 else image
    return np.ascontiguousarray((image / 255).astype(np.float32).transpose(2, 0, 1))


def enlarged(net, image, scale, channels, show=lambda *_: None):
    """An image of any size enlarged by a network, tile by tile, so that memory has a bound.

    A tile comes with as much around it as decides its pixels, `net.radius`: the result is that of the whole image.

    Args:
        net (Cell): of `src.networks`, for super-resolution.
        image (ndarray): uint8 [h, w, 3].
        scale (int): how many times.
        channels (int): that the network takes, 3 or 1.
        show: called with the number of tiles that are done, and of all.

    Returns:
        ndarray, float64 [scale * h, scale * w, channels], integers 0 .. 255.

    Raises:
        UserError: what the network gives is not finite.
    """
    net.set_train(False)
    low, (height, width), radius = prepared(image, channels), image.shape[:2], net.radius
    result = np.empty((scale * height, scale * width, channels))
    corners = list(itertools.product(range(0, height, TILE), range(0, width, TILE)))
    with pynative():  # which takes one size like another
        for done, (top, left) in enumerate(corners, start=1):
            bottom, right = min(top + TILE, height), min(left + TILE, width)
            above, before = max(0, top - radius), max(0, left - radius)
            tile = finite(net(ms.Tensor(low[None, :, above:bottom + radius, before:right + radius])).asnumpy()[0])
            rows, columns = slice(scale * top, scale * bottom), slice(scale * left, scale * right)
            tile = tile[:, rows.start - scale * above:rows.stop - scale * above,
                        columns.start - scale * before:columns.stop - scale * before]
            result[rows, columns] = bicubic.rounded(255 * tile).transpose(1, 2, 0)
            show(done, len(corners))
    return result


def quality(image, pair, scale):
    """PSNR in dB and SSIM of an enlarged image [h, w, 3] or, of brightness, [h, w, 1]; see `SuperResolution.evaluate`."""
    image = image if image.shape[2] == 1 else brightness(image)
    images = [each[scale:-scale, scale:-scale, 0] for each in (image, brightness(pair.high))]
    return psnr(*images), ssim(*images)


def coloured(y, image):
    """An image [h, w, 3] with another brightness, y [h, w, 1]; its colour differences stay."""
    return image + (y - brightness(image)) * (255 / 219)


class Shown:
    """Shows how many tiles are done: in a terminal all the time, elsewhere every ten seconds."""

    def __init__(self):
        self.terminal, self.last = sys.stdout.isatty(), time.monotonic()

    def __call__(self, done, count):
        if self.terminal or time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            print(f"  tile {done} of {count}", end="\r" if self.terminal and done < count else "\n", flush=True)
