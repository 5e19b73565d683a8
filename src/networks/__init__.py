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
"""The networks: the only table of them. A new one is its file and a line here."""
import dataclasses
from functools import partial
from typing import Callable

from ..errors import UserError
from .adder_fcos import MULTIPLE, OPTIONS as FCOS, fcos_resnet18, fcos_resnet50
from .adder_sr import OPTIONS, edsr, vdsr
from .ghostnet import ghostnet
from .lenet import lenet5_bn
from .lenet_pp import lenet_pp
from .resnet import resnet18, resnet50
from .vgg_small import vgg_small
from ..res20_adder import resnet20, resnet32, resnet56

MOST_CLASSES = 1_000_000
LARGEST_IMAGE = 4096  # pixels of a side


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of the table.

    Attributes:
        build: makes it from (layer=, in_channels=, **its options, **options of `src.kinds.sockets`).
        size: height and width of its images, unless others are asked for; of a network for images of any size, those
            that it is trained on.
        fixed: whether it takes images of this size only.
        channels: of its images, unless the data have others.
        task: what it learns, a key of `src.tasks.TASKS`.
        options: names of what else decides its form, as in default_config.yaml.
        multiple: height and width are multiples of this number of pixels.
        backbone: the network of the table whose weights it can begin with, its parameters called `backbone.` there.
    """
    build: Callable
    size: tuple
    fixed: bool = False
    channels: int = 3
    task: str = "classification"
    options: tuple = ("class_num",)
    multiple: int = 1
    backbone: str = ""

    def image_size(self, side=0):
        """Height and width of its images.

        Args:
            side (int): both of them, in pixels; 0 takes its own.

        Raises:
            UserError: it takes images of another size only.
        """
        if self.fixed and side not in (0, *self.size):
            raise UserError(f"the network takes images of {self.size[0]} pixels a side, not {side}; leave out --image_size")
        if side % self.multiple:
            raise UserError(f"the network takes images of multiples of {self.multiple} pixels a side, not {side}")
        return (side, side) if side else self.size


NETWORKS = {
    "resnet20": Network(resnet20, (32, 32)),
    "resnet20_w2": Network(partial(resnet20, width=2), (32, 32)),
    "resnet20_w4": Network(partial(resnet20, width=4), (32, 32)),
    "resnet32": Network(resnet32, (32, 32)),
    "resnet56": Network(resnet56, (32, 32)),
    "vgg_small": Network(vgg_small, (32, 32), fixed=True),
    "lenet5_bn": Network(lenet5_bn, (32, 32), fixed=True, channels=1),
    "lenet_pp": Network(lenet_pp, (28, 28), fixed=True, channels=1),
    "resnet18": Network(resnet18, (224, 224)),
    "resnet50": Network(resnet50, (224, 224)),
    "ghostnet_025": Network(partial(ghostnet, width=0.25, small=True), (32, 32)),
    "ghostnet_050": Network(partial(ghostnet, width=0.5, small=True), (32, 32)),
    "ghostnet_100": Network(partial(ghostnet, small=True), (32, 32)),
    "ghostnet_025_imagenet": Network(partial(ghostnet, width=0.25), (224, 224)),
    "ghostnet_050_imagenet": Network(partial(ghostnet, width=0.5), (224, 224)),
    "ghostnet_100_imagenet": Network(ghostnet, (224, 224)),
    "edsr": Network(edsr, (48, 48), task="super_resolution", options=OPTIONS["edsr"]),
    "vdsr": Network(vdsr, (20, 20), channels=1, task="super_resolution", options=OPTIONS["vdsr"]),
    "fcos_resnet18": Network(fcos_resnet18, (320, 320), task="detection", options=FCOS, multiple=MULTIPLE,
                             backbone="resnet18"),
    "fcos_resnet50": Network(fcos_resnet50, (800, 1344), task="detection", options=FCOS, multiple=MULTIPLE,
                             backbone="resnet50"),
}


def create(name, class_num=0, layer="l1", in_channels=None, **options):
    """A network with random weights: images [N, in_channels, *size] to what its task wants, see `src.tasks`.

    Args:
        name (str): a key of `NETWORKS`.
        class_num (int): number of classes, of a classifier or a detector.
        layer (str): a key of `src.kinds.KINDS`.
        in_channels (int): channels of an image; the table's if None.
        options: other options of the network; eta, backend and mix of `src.kinds.sockets`.

    Returns:
        Cell; a classifier gives logits [N, class_num], and has `features(x)`, the features [N, size, 1, 1] before the
        last layer, and `head(features)`, the logits; `feature_size` is their number. `stages(x)` is what each stage
        gives, [N, C, H, W] with C of `stage_channels`, and behind these the features.
    """
    network = NETWORKS[name]
    if class_num:
        options["class_num"] = class_num
    return network.build(layer=layer, in_channels=in_channels or network.channels, **options)
