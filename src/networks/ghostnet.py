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
"""GhostNet of several widths, for photographs and for small images.

Source: GhostNet, arXiv 1911.11907. Its 1x1 and its depthwise convolutions are adder layers. Convolutions stay the stem,
squeeze-and-excitation, the layer of 1,280 and the classifier; the last two have norms instead of biases, as AdderNet's
classifiers, and there is no dropout. Which layers AdderNGD's GhostNet has, and how it takes images of 32 x 32, is not
published: here the first two steps that halve the resolution keep that of small images, so that 4 x 4 are left.
"""
from mindspore import nn, ops

from .. import kinds
from ..classifier import Classifier, global_average

STEM, LAST, HEAD = 16, 960, 1280  # channels; those of the head are the same in every width
BLOCKS = (  # window, channels inside and of the output, squeeze-and-excitation, stride
    (3, 16, 16, False, 1), (3, 48, 24, False, 2), (3, 72, 24, False, 1), (5, 72, 40, True, 2), (5, 120, 40, True, 1),
    (3, 240, 80, False, 2), (3, 200, 80, False, 1), (3, 184, 80, False, 1), (3, 184, 80, False, 1),
    (3, 480, 112, True, 1), (3, 672, 112, True, 1), (5, 672, 160, True, 2), (5, 960, 160, False, 1),
    (5, 960, 160, True, 1), (5, 960, 160, False, 1), (5, 960, 160, True, 1))


def ghostnet(class_num=1000, layer="l1", in_channels=3, width=1.0, small=False, blocks=BLOCKS, **options):
    """GhostNet: images [N, in_channels, H, W] to logits [N, class_num].

    Args:
        class_num, layer, in_channels, options: as `src.networks.create`.
        width (float): how many times the source's channels.
        small (bool): whether it is for images of 32 x 32, and not for photographs.
        blocks (tuple): what its bottlenecks are, as `BLOCKS`.
    """
    return GhostNet(class_num, in_channels, width, small, blocks, *kinds.sockets(layer, **options))


class GhostNet(Classifier):
    """The network over two sockets, see `src.kinds`."""

    feature_size = HEAD

    def __init__(self, class_num, in_channels, width, small, blocks, layer, norm):
        super().__init__()
        channels, last = scaled(STEM, width), scaled(LAST, width)
        self.conv_stem = nn.Conv2d(in_channels, channels, 3, 1 if small else 2, pad_mode="pad", padding=1)
        self.bn1 = norm(channels)
        cells, ends = [], []
        for number, (kernel_size, inner, outer, squeezed, stride) in enumerate(blocks):
            inner, outer, stride = scaled(inner, width), scaled(outer, width), 1 if small and number == 1 else stride
            if stride > 1:
                ends.append(channels)
            cells.append(GhostBottleneck(channels, inner, outer, kernel_size, stride, squeezed, layer, norm))
            channels = outer
        self.blocks, self.stage_channels = nn.SequentialCell(*cells), (*ends, channels)
        self.conv_last = layer(channels, last, 1, 1, padding=0)
        self.bn_last = norm(last)
        self.conv_head = nn.Conv2d(last, HEAD, 1)
        self.bn_head = norm(HEAD)
        self.classifier = nn.Conv2d(HEAD, class_num, 1)
        self.bn2 = norm(class_num, relu=False)

    def stages(self, x):
        """Images to what there is of each resolution, before it is halved and in the end, and the features."""
        x, maps = self.bn1(self.conv_stem(x)), ()
        for block in self.blocks:
            if block.conv_dw is not None:
                maps += (x,)
            x = block(x)
        means = global_average(self.bn_last(self.conv_last(x)))                    # [N, 960 * width, 1, 1]
        return (*maps, x, self.bn_head(self.conv_head(means)))                     # [N, 1280, 1, 1]

    def head(self, x):
        """Features to logits [N, class_num]."""
        return ops.flatten(self.bn2(self.classifier(x)))


class GhostBottleneck(nn.Cell):
    """Two ghost modules and a shortcut: [N, C_in, H, W] -> [N, C_out, H / stride, W / stride]. No ReLU ends it."""

    def __init__(self, in_channels, inner_channels, out_channels, kernel_size, stride, squeezed, layer, norm):
        super().__init__()
        padding = kernel_size // 2
        self.ghost1 = GhostModule(in_channels, inner_channels, True, layer, norm)
        self.conv_dw, self.se, self.shortcut = None, None, None
        if stride > 1:
            self.conv_dw = nn.SequentialCell(
                layer(inner_channels, inner_channels, kernel_size, stride, padding=padding, group=inner_channels),
                norm(inner_channels, relu=False))
        if squeezed:
            self.se = SqueezeExcite(inner_channels)
        self.ghost2 = GhostModule(inner_channels, out_channels, False, layer, norm)
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.SequentialCell(
                layer(in_channels, in_channels, kernel_size, stride, padding=padding, group=in_channels),
                norm(in_channels, relu=False),
                layer(in_channels, out_channels, 1, 1, padding=0), norm(out_channels, relu=False))

    def construct(self, x):
        y = self.ghost1(x)
        if self.conv_dw is not None:
            y = self.conv_dw(y)
        if self.se is not None:
            y = self.se(y)
        return self.ghost2(y) + (x if self.shortcut is None else self.shortcut(x))


class GhostModule(nn.Cell):
    """A 1x1 layer for half of the channels, and a depthwise 3x3 layer that makes the other half of these."""

    def __init__(self, in_channels, out_channels, relu, layer, norm):
        super().__init__()
        half = out_channels // 2
        self.primary_conv = nn.SequentialCell(layer(in_channels, half, 1, 1, padding=0), norm(half, relu=relu))
        self.cheap_operation = nn.SequentialCell(layer(half, half, 3, 1, padding=1, group=half), norm(half, relu=relu))

    def construct(self, x):
        x = self.primary_conv(x)
        return ops.concat((x, self.cheap_operation(x)), 1)


class SqueezeExcite(nn.Cell):
    """Every channel times a factor of 0 .. 1, which two layers make of the means of all (arXiv 1709.01507)."""

    def __init__(self, channels):
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, scaled(channels, 0.25), 1, has_bias=True)
        self.conv_expand = nn.Conv2d(scaled(channels, 0.25), channels, 1, has_bias=True)

    def construct(self, x):
        means = global_average(x)
        return x * (ops.relu6(self.conv_expand(ops.relu(self.conv_reduce(means))) + 3.0) / 6.0)


def scaled(channels, factor):
    """A number of channels times a factor, rounded to a multiple of 4, but not to less than 0.9 of it."""
    rounded = max(4, int(channels * factor + 2) // 4 * 4)
    return rounded if rounded >= 0.9 * channels * factor else rounded + 4
