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

from src.errors import UserError
from src.networks.ghostnet import ghostnet
from src.networks.lenet import lenet5_bn
from src.networks.lenet_pp import lenet_pp
from src.networks.resnet import resnet18, resnet50
from src.networks.vgg_small import vgg_small
from src.res20_adder import resnet20, resnet32, resnet56

MOST_CLASSES = 1_000_000
LARGEST_IMAGE = 4096  # pixels of a side


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of the table.

    Attributes:
        build: makes it from (class_num, layer=, in_channels=, **options of `src.kinds.sockets`).
        size: height and width of its images, unless others are asked for.
        fixed: whether it takes images of this size only.
        channels: of its images, unless the data have others.
        task: what it learns, a key of `src.tasks.TASKS`.
    """
    build: Callable
    size: tuple
    fixed: bool = False
    channels: int = 3
    task: str = "classification"


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
}


def image_size(name, side=0):
    """Height and width of a network's images.

    Args:
        name (str): a key of `NETWORKS`.
        side (int): both of them, in pixels; 0 takes the table's.

    Raises:
        UserError: the network takes images of another size only.
    """
    network = NETWORKS[name]
    if network.fixed and side not in (0, *network.size):
        raise UserError(f"{name} takes images of {network.size[0]} pixels a side, not {side}; leave out --image_size")
    return (side, side) if side else network.size


def create(name, class_num, layer="l1", in_channels=None, **options):
    """A network with random weights: images [N, in_channels, *size] to logits [N, class_num].

    Args:
        name (str): a key of `NETWORKS`.
        class_num (int): number of classes.
        layer (str): a key of `src.kinds.KINDS`.
        in_channels (int): channels of an image; the table's if None.
        options: eta, backend and mix of `src.kinds.sockets`.

    Returns:
        Cell with `features(x)`, the features [N, size, 1, 1] before the last layer, and `head(features)`, the logits;
        `feature_size` is their number.
    """
    network = NETWORKS[name]
    return network.build(class_num, layer=layer, in_channels=in_channels or network.channels, **options)
