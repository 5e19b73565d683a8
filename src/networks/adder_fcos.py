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
"""AdderDet: FCOS whose backbone and neck are of adder layers, and the ordinary one of convolutions, for detection.

Sources: FCOS, arXiv 1904.01355, with its later improvements (the sampling around centres is the task's, centreness is
read from the boxes' branch); AdderDet, arXiv 2112.13608: the norms of the backbone learn on, the head stays a
convolution, and the neck, R-PAFPN, goes bottom-up first, since final features of adders are nearly all 0, with a
shortcut around every 3x3 layer. Here a norm stands behind every layer of the neck, of convolutions too; where a 3x3
layer halves the resolution, its shortcut takes every second row and column.
"""
import math

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import Normal

from .. import kinds
from .resnet import resnet18, resnet50

OPTIONS = ("class_num", "neck", "fpn_channels", "head_convs", "frozen_norm")  # of default_config.yaml
STRIDES = (8, 16, 32, 64, 128)  # pixels from point to point, in each level
MULTIPLE = 32  # pixels that the sides of an image are multiples of
GROUPS, LEAST = 32, 8  # of the norms of the head: groups at most, and channels of one at least, where there are so many
PRIOR = 0.01  # probability of every class at first
LONGEST = 10.0  # logarithm of a distance in strides


def fcos_resnet18(class_num=80, **options):
    """FCOS over ResNet-18: images [N, in_channels, H, W], sides multiples of 32, to [N, points, class_num + 5], see
    `Head`.

    Args:
        class_num (int): number of classes.
        options: of `fcos`.
    """
    return fcos(resnet18, class_num, **options)


def fcos_resnet50(class_num=80, **options):
    """FCOS over ResNet-50; as `fcos_resnet18`."""
    return fcos(resnet50, class_num, **options)


def fcos(backbone, class_num, layer="l1", in_channels=3, neck="r_pafpn", fpn_channels=256, head_convs=4,
         frozen_norm=False, **options):
    """FCOS.

    Args:
        backbone: makes a `src.networks.resnet.ResNet`; with these names its parameters are those of a classifier.
        class_num (int): number of classes.
        layer (str): of backbone and neck, a key of `src.kinds.KINDS`.
        in_channels (int): of an image.
        neck (str): a key of `NECKS`.
        fpn_channels (int): of neck and head.
        head_convs (int): layers of each branch of the head before the last.
        frozen_norm (bool): whether the norms of the backbone stay as they are.
        options: eta, backend, mix and input_gradient of `src.kinds.sockets`.
    """
    body = backbone(0, layer, in_channels, frozen_norm=frozen_norm, **options)
    parts, shortcuts = NECKS[neck]
    return Fcos(body, Neck(parts, shortcuts, body.feature_size, fpn_channels, *kinds.sockets(layer, **options)),
                Head(class_num, fpn_channels, head_convs))


class Fcos(nn.Cell):
    """A backbone whose `stages` are those of `src.networks.resnet`, a neck and a head."""

    def __init__(self, backbone, neck, head):
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head

    def construct(self, x):
        return self.head(self.neck(self.backbone.stages(x)[1:4]))


class Unit(nn.Cell):
    """A layer and its norm, which keep the resolution or halve it, and a shortcut around them: [N, C_in, H, W] ->
    [N, C_out, H / stride, W / stride]."""

    def __init__(self, in_channels, out_channels, kernel_size, stride, shortcut, layer, norm):
        super().__init__()
        self.shortcut = shortcut
        self.conv = layer(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)
        self.bn = norm(out_channels, relu=False, shortcut=shortcut)
        self.thin = nn.MaxPool2d(1, stride) if stride > 1 else None

    def construct(self, x):
        y = self.conv(x)
        if not self.shortcut:
            return self.bn(y)
        return self.bn(y, x if self.thin is None else self.thin(x))


class TopDown(nn.Cell):
    """Three maps, each of half the resolution of the one before: every one takes up what is above it; then 3x3."""

    def __init__(self, channels, shortcuts, layer, norm):
        super().__init__()
        self.out = nn.CellList([Unit(channels, channels, 3, 1, shortcuts, layer, norm) for _ in range(3)])

    def construct(self, maps):
        third = maps[2]
        second = maps[1] + enlarged(third)
        first = maps[0] + enlarged(second)
        return self.out[0](first), self.out[1](second), self.out[2](third)


class BottomUp(nn.Cell):
    """Three maps, each of half the resolution of the one before: the second and the third take up what is below, by 3x3
    of stride 2; then 3x3."""

    def __init__(self, channels, shortcuts, layer, norm):
        super().__init__()
        self.down = nn.CellList([Unit(channels, channels, 3, 2, shortcuts, layer, norm) for _ in range(2)])
        self.out = nn.CellList([Unit(channels, channels, 3, 1, shortcuts, layer, norm) for _ in range(2)])

    def construct(self, maps):
        first = maps[0]
        second = self.out[0](maps[1] + self.down[0](first))
        third = self.out[1](maps[2] + self.down[1](second))
        return first, second, third


NECKS = {"fpn": ((TopDown,), False), "pafpn": ((TopDown, BottomUp), False),
         "pafpn_shortcuts": ((TopDown, BottomUp), True),  # AdderDet's way to the last
         "r_pafpn": ((BottomUp, TopDown), True)}


class Neck(nn.Cell):
    """The maps of three stages to five of the same channels, of strides STRIDES.

    Args:
        parts (tuple): what the three pass through, such as `TopDown`.
        shortcuts (bool): around every 3x3 layer.
        feature_size (int): channels of the last stage, twice those of the one before.
        channels (int): of the five.
        layer, norm: the sockets, see `src.kinds`.
    """

    def __init__(self, parts, shortcuts, feature_size, channels, layer, norm):
        super().__init__()
        self.lateral = nn.CellList([Unit(feature_size // share, channels, 1, 1, False, layer, norm)
                                    for share in (4, 2, 1)])
        self.parts = nn.SequentialCell(*[part(channels, shortcuts, layer, norm) for part in parts])
        self.extra = nn.CellList([Unit(channels, channels, 3, 2, shortcuts, layer, norm) for _ in range(2)])

    def construct(self, stages):
        maps = self.parts((self.lateral[0](stages[0]), self.lateral[1](stages[1]), self.lateral[2](stages[2])))
        fourth = self.extra[0](maps[2])
        return (*maps, fourth, self.extra[1](fourth))


class Head(nn.Cell):
    """Five maps to one row for every point of them, [N, points, class_num + 5]; `points` says where these lie.

    A row has the logit of each class, then the distances in pixels from the point to the left, upper, right and lower
    side of its box, then the logit of its centreness. The two branches are the same for all maps.

    Args:
        class_num (int): number of classes.
        channels (int): of the maps.
        convs (int): layers of each branch before the last.
    """

    def __init__(self, class_num, channels, convs):
        super().__init__()
        self.class_branch, self.box_branch = branch(channels, convs), branch(channels, convs)
        self.classes = conv(channels, class_num, math.log(PRIOR / (1 - PRIOR)))
        self.distances, self.centreness = conv(channels, 4), conv(channels, 1)
        self.scales = Parameter(ms.Tensor(np.ones(len(STRIDES), np.float32)))

    def construct(self, maps):
        rows = ()
        for level, x in enumerate(maps):
            boxes = self.box_branch(x)
            distances = ops.exp(ops.minimum(self.scales[level] * self.distances(boxes), LONGEST)) * STRIDES[level]
            y = ops.concat((self.classes(self.class_branch(x)), distances, self.centreness(boxes)), 1)
            y = ops.transpose(y, (0, 2, 3, 1))
            rows += (y.reshape((-1, y.shape[1] * y.shape[2], y.shape[3])),)
        return ops.concat(rows, 1)


class GroupNorm(nn.GroupNorm):
    """MindSpore's, by operators that can become ONNX."""

    def construct(self, x):
        _, channels, height, width = x.shape
        x = x.reshape((-1, self.num_groups, channels // self.num_groups * height * width))
        x = x - x.mean(2, keep_dims=True)
        x = x / ops.sqrt((x * x).mean(2, keep_dims=True) + self.eps)
        x = x.reshape((-1, channels, height, width))
        return x * self.gamma.reshape((1, -1, 1, 1)) + self.beta.reshape((1, -1, 1, 1))


def branch(channels, convs):
    """Layers of 3x3, each with a norm and ReLU."""
    groups = math.gcd(GROUPS, channels, channels // LEAST or 1)
    cells = [(conv(channels, channels), GroupNorm(groups, channels), nn.ReLU()) for _ in range(convs)]
    return nn.SequentialCell(*[cell for each in cells for cell in each])


def conv(in_channels, out_channels, bias=0.0):
    """A convolution of the head."""
    return nn.Conv2d(in_channels, out_channels, 3, pad_mode="pad", padding=1, has_bias=True, weight_init=Normal(0.01),
                     bias_init=bias)


def enlarged(x):
    """[N, C, H, W] to [N, C, 2 * H, 2 * W], every pixel four times."""
    _, channels, height, width = x.shape
    x = x.reshape((-1, channels, height, 1, width, 1)) * ops.ones((1, 1, 1, 2, 1, 2), x.dtype)
    return x.reshape((-1, channels, 2 * height, 2 * width))


def points(size):
    """Where the rows of a network's output lie, for images of `size`.

    Args:
        size (tuple[int]): height and width, multiples of 32.

    Returns:
        tuple (centres float32 [points, 2], x before y, in pixels; level int [points], an index of STRIDES).
    """
    centres, levels = [], []
    for level, stride in enumerate(STRIDES):
        y, x = ((np.arange(-(-side // stride)) + 0.5) * stride for side in size)
        centres.append(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2))
        levels.append(np.full(len(centres[-1]), level))
    return np.concatenate(centres).astype(np.float32), np.concatenate(levels)
