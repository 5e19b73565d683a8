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
"""Adder ResNet-20 for 32 x 32 images, with the model zoo's parameter names, and its relatives of the same shape.

Source: AdderNet, arXiv 1912.13200, section 4.2: every convolution but the first and the last is an adder layer.
"""
from mindspore import nn, ops

from . import kinds
from .classifier import Classifier, global_average
from .pairs import Floats, Stage


def resnet20(class_num=10, layer="l1", in_channels=3, width=1, **options):
    """Adder ResNet-20: images [N, in_channels, 32, 32] to logits [N, class_num].

    Args:
        class_num (int): number of classes.
        layer (str): of the blocks, a key of `src.kinds.KINDS`; "conv" makes the ordinary ResNet-20.
        in_channels (int): of an image.
        width (int): how many times the usual 16, 32 and 64 channels the stages have.
        options: eta, backend and mix of `src.kinds.sockets`.

    Returns:
        Cell with 110 parameters, and `mix` if there is one.

    Raises:
        KeyError: unknown layer.
        ValueError, BuildError: see `src.adder.adder2d_function`.
    """
    return _resnet(3, class_num, layer, in_channels, width, options)


def resnet32(class_num=10, layer="l1", in_channels=3, width=1, **options):
    """Adder ResNet-32: the same with five blocks in a stage. Arguments as those of `resnet20`."""
    return _resnet(5, class_num, layer, in_channels, width, options)


def resnet56(class_num=10, layer="l1", in_channels=3, width=1, **options):
    """Adder ResNet-56: the same with nine blocks in a stage. Arguments as those of `resnet20`."""
    return _resnet(9, class_num, layer, in_channels, width, options)


def _resnet(blocks, class_num, layer, in_channels, width, options):
    channels = tuple(width * channels for channels in (16, 32, 64))
    return ResNet(class_num, (blocks,) * 3, channels, in_channels, *kinds.sockets(layer, **options))


class ResNet(Classifier):
    """A residual network of three stages; stages two and three halve the resolution.

    Args:
        class_num (int): number of classes.
        layer_nums (tuple[int]): blocks in each stage.
        channels (tuple[int]): channels of each stage; the stem has those of the first.
        in_channels (int): of an image.
        layer: makes a layer of the blocks from (in_channels, out_channels, kernel_size, stride, padding=).
        norm: makes what stands behind a layer from (channels, relu=, shortcut=).
    """

    def __init__(self, class_num, layer_nums, channels, in_channels, layer, norm):
        super().__init__()
        self.feature_size, self.stage_channels = channels[-1], channels
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, pad_mode="pad", padding=1)
        self.bn1 = norm(channels[0])
        self.layer1 = stage(BasicBlock, channels[0], channels[0], layer_nums[0], 1, layer, norm)
        self.layer2 = stage(BasicBlock, channels[0], channels[1], layer_nums[1], 2, layer, norm)
        self.layer3 = stage(BasicBlock, channels[1], channels[2], layer_nums[2], 2, layer, norm)
        self.floats = Floats()
        self.fc = nn.Conv2d(channels[2], class_num, 1)
        self.bn2 = norm(class_num, relu=False)

    def stages(self, x):
        """Images to what each stage gives, and the features."""
        x = self.bn1(self.conv1(x))                                            # [N, 16, 32, 32]
        first = self.layer1(x)                                                 # [N, 16, 32, 32]
        second = self.layer2(first)                                            # [N, 32, 16, 16]
        third = self.layer3(second)                                            # [N, 64, 8, 8]
        features = global_average(self.floats(third))                          # [N, 64, 1, 1]
        return first, second, third, features

    def head(self, x):
        """Features to logits [N, class_num]."""
        return ops.flatten(self.bn2(self.fc(x)))


class BasicBlock(nn.Cell):
    """Two 3x3 layers and a shortcut: [N, C_in, H, W] -> [N, C_out, H / stride, W / stride]."""

    def __init__(self, in_channels, out_channels, stride, layer, norm):
        super().__init__()
        self.conv1 = layer(in_channels, out_channels, 3, stride, padding=1)
        self.bn1 = norm(out_channels)
        self.conv2 = layer(out_channels, out_channels, 3, 1, padding=1)
        self.bn2 = norm(out_channels, shortcut=True)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.SequentialCell(layer(in_channels, out_channels, 1, stride, padding=0),
                                                norm(out_channels, relu=False))

    def construct(self, x):
        y = self.bn1(self.conv1(x))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.bn2(self.conv2(y), shortcut)

    def norms(self):
        """See `src.pairs.Stage`."""
        return self.bn1, self.bn2


def stage(block, in_channels, out_channels, blocks, stride, layer, norm):
    """Blocks of one resolution, such as `BasicBlock`; the first changes channels and resolution."""
    return Stage(*[block(in_channels if i == 0 else out_channels, out_channels, stride if i == 0 else 1, layer, norm)
                   for i in range(blocks)])
