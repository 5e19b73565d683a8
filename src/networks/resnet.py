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
"""ResNet-18 and ResNet-50 for photographs, with the parameter names of AdderNet's code.

Source: AdderNet, arXiv 1912.13200, and its resnet50.py: every convolution but the first and the last is an adder layer,
those of the shortcuts too; the 3x3 layer has the stride; the last is a 1x1 convolution with a bias, and a norm behind.
There is no such file for ResNet-18, which is the same here with the blocks of ResNet-20.
"""
from mindspore import nn, ops

from .. import kinds
from ..classifier import Classifier, global_average
from ..pairs import Floats
from ..res20_adder import BasicBlock, stage

STEM = 64  # channels


def resnet18(class_num=1000, layer="l1", in_channels=3, **options):
    """ResNet-18: images [N, in_channels, H, W] to logits [N, class_num]. Arguments as `src.networks.create`."""
    return ResNet(class_num, BasicBlock, (2, 2, 2, 2), (64, 128, 256, 512), in_channels,
                  *kinds.sockets(layer, **options))


def resnet50(class_num=1000, layer="l1", in_channels=3, **options):
    """ResNet-50: images [N, in_channels, H, W] to logits [N, class_num]. Arguments as `src.networks.create`."""
    return ResNet(class_num, Bottleneck, (3, 4, 6, 3), (256, 512, 1024, 2048), in_channels,
                  *kinds.sockets(layer, **options))


class ResNet(Classifier):
    """A residual network of four stages, of which all but the first halve the resolution, over two sockets, see
    `src.kinds`.

    Args:
        class_num (int): number of classes; of 0 it has no head, see `stages`.
        block: makes a block from (in_channels, out_channels, stride, layer, norm).
        layer_nums, channels (tuple[int]): of each stage: how many blocks, and channels of its output.
        in_channels (int): of an image.
        layer, norm: the sockets.
    """

    def __init__(self, class_num, block, layer_nums, channels, in_channels, layer, norm):
        super().__init__()
        self.feature_size, self.stage_channels = channels[-1], channels
        self.conv1 = nn.Conv2d(in_channels, STEM, 7, 2, pad_mode="pad", padding=3)
        self.bn1 = norm(STEM)
        self.floats = Floats()
        # Zeros on each side do not change a maximum behind ReLU, and other paddings of a pool cannot be exported.
        self.pad, self.maxpool = ops.Pad(((0, 0), (0, 0), (1, 1), (1, 1))), nn.MaxPool2d(3, 2)
        self.layer1 = stage(block, STEM, channels[0], layer_nums[0], 1, layer, norm)
        self.layer2 = stage(block, channels[0], channels[1], layer_nums[1], 2, layer, norm)
        self.layer3 = stage(block, channels[1], channels[2], layer_nums[2], 2, layer, norm)
        self.layer4 = stage(block, channels[2], channels[3], layer_nums[3], 2, layer, norm)
        if class_num:
            self.fc = nn.Conv2d(channels[3], class_num, 1, has_bias=True)
            self.bn2 = norm(class_num, relu=False)

    def stages(self, x):
        """Images to what each stage gives, and the features."""
        x = self.floats(self.bn1(self.conv1(x)))                 # [N, 64, H / 2, W / 2]
        first = self.layer1(self.maxpool(self.pad(x)))           # [N, channels[0], H / 4, W / 4]
        second = self.layer2(first)                              # [N, channels[1], H / 8, W / 8]
        third = self.layer3(second)                              # [N, channels[2], H / 16, W / 16]
        fourth = self.layer4(third)                              # [N, channels[3], H / 32, W / 32]
        features = global_average(self.floats(fourth))
        return first, second, third, fourth, features

    def head(self, x):
        """Features to logits [N, class_num]."""
        return ops.flatten(self.bn2(self.fc(x)))


class Bottleneck(nn.Cell):
    """A 3x3 layer of a quarter of the channels between two 1x1 layers, and a shortcut: [N, C_in, H, W] -> [N, C_out,
    H / stride, W / stride]."""

    def __init__(self, in_channels, out_channels, stride, layer, norm):
        super().__init__()
        channels = out_channels // 4
        self.conv1 = layer(in_channels, channels, 1, 1, padding=0)
        self.bn1 = norm(channels)
        self.conv2 = layer(channels, channels, 3, stride, padding=1)
        self.bn2 = norm(channels)
        self.conv3 = layer(channels, out_channels, 1, 1, padding=0)
        self.bn3 = norm(out_channels, shortcut=True)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.SequentialCell(layer(in_channels, out_channels, 1, stride, padding=0),
                                                norm(out_channels, relu=False))

    def construct(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.bn3(self.conv3(y), shortcut)

    def norms(self):
        """See `src.pairs.Stage`."""
        return self.bn1, self.bn2, self.bn3
