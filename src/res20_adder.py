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
"""Adder ResNet-20 for 32 x 32 images, with the model zoo's parameter names.

Source: AdderNet, arXiv 1912.13200, section 4.2: every convolution but the first and the last is an adder layer.
"""
from mindspore import nn, ops

from src.adder import ETA, Adder2d
from src.norm import BatchNorm2d


def resnet20(class_num=10, eta=ETA, backend="auto"):
    """Adder ResNet-20: images [N, 3, 32, 32] to logits [N, class_num].

    Args:
        class_num (int): number of classes.
        eta, backend: of every adder layer, see `src.adder.adder2d_function`.

    Returns:
        Cell with 110 parameters.

    Raises:
        ValueError, BuildError: see `src.adder.adder2d_function`.
    """
    return ResNet(class_num, layer_nums=(3, 3, 3), channels=(16, 32, 64), eta=eta, backend=backend)


class ResNet(nn.Cell):
    """A residual network of three stages; stages two and three halve the resolution.

    Args:
        class_num (int): number of classes.
        layer_nums (tuple[int]): blocks in each stage.
        channels (tuple[int]): channels of each stage; the stem has those of the first.
        eta, backend: of the adder layers.
    """

    def __init__(self, class_num, layer_nums, channels, eta, backend):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 3, pad_mode="pad", padding=1)
        self.bn1 = BatchNorm2d(channels[0], backend)
        self.relu = nn.ReLU()
        self.layer1 = _stage(channels[0], channels[0], layer_nums[0], 1, eta, backend)
        self.layer2 = _stage(channels[0], channels[1], layer_nums[1], 2, eta, backend)
        self.layer3 = _stage(channels[1], channels[2], layer_nums[2], 2, eta, backend)
        self.fc = nn.Conv2d(channels[2], class_num, 1)
        self.bn2 = BatchNorm2d(class_num, backend)

    def construct(self, x):
        x = self.relu(self.bn1(self.conv1(x)))   # [N, 16, 32, 32]
        x = self.layer1(x)                       # [N, 16, 32, 32]
        x = self.layer2(x)                       # [N, 32, 16, 16]
        x = self.layer3(x)                       # [N, 64, 8, 8]
        x = ops.mean(x, (2, 3), keep_dims=True)  # [N, 64, 1, 1]
        x = self.bn2(self.fc(x))                 # [N, class_num, 1, 1]
        return x.reshape((x.shape[0], -1))


class BasicBlock(nn.Cell):
    """Two 3x3 adder layers and a shortcut: [N, C_in, H, W] -> [N, C_out, H / stride, W / stride]."""

    def __init__(self, in_channels, out_channels, stride, eta, backend):
        super().__init__()
        self.conv1 = Adder2d(in_channels, out_channels, 3, stride, padding=1, eta=eta, backend=backend)
        self.bn1 = BatchNorm2d(out_channels, backend)
        self.conv2 = Adder2d(out_channels, out_channels, 3, 1, padding=1, eta=eta, backend=backend)
        self.bn2 = BatchNorm2d(out_channels, backend)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.SequentialCell(Adder2d(in_channels, out_channels, 1, stride, eta=eta, backend=backend),
                                                BatchNorm2d(out_channels, backend))

    def construct(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y + shortcut)


def _stage(in_channels, out_channels, blocks, stride, eta, backend):
    """Blocks of one resolution; the first changes channels and resolution."""
    return nn.SequentialCell(*[BasicBlock(in_channels if i == 0 else out_channels, out_channels,
                                          stride if i == 0 else 1, eta, backend) for i in range(blocks)])
