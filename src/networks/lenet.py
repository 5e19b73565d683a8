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
"""LeNet-5-BN for 32 x 32 images of digits: every layer an adder layer, the first and the last too.

Source: AdderNet, arXiv 1912.13200, section 4.1: 870,000 additions, batch norm behind every layer. A dense layer is one
of a 1x1 window on a single position.
"""
from mindspore import nn, ops

from .. import kinds
from ..classifier import Classifier
from ..pairs import Floats


def lenet5_bn(class_num=10, layer="l1", in_channels=1, **options):
    """LeNet-5-BN: images [N, in_channels, 32, 32] to logits [N, class_num]. Arguments as `src.networks.create`."""
    return LeNet5(class_num, in_channels, *kinds.sockets(layer, **options))


class LeNet5(Classifier):
    """The network over two sockets, see `src.kinds`."""

    feature_size, stage_channels = 84, (6, 16)

    def __init__(self, class_num, in_channels, layer, norm):
        super().__init__()
        self.floats, self.pool = Floats(), nn.MaxPool2d(2, 2)
        self.conv1 = layer(in_channels, 6, 5, 1, padding=0)
        self.bn1 = norm(6)
        self.conv2 = layer(6, 16, 5, 1, padding=0)
        self.bn2 = norm(16)
        self.fc1 = layer(16 * 5 * 5, 120, 1, 1, padding=0)
        self.bn3 = norm(120)
        self.fc2 = layer(120, self.feature_size, 1, 1, padding=0)
        self.bn4 = norm(self.feature_size)
        self.fc3 = layer(self.feature_size, class_num, 1, 1, padding=0)
        self.bn5 = norm(class_num, relu=False)

    def stages(self, x):
        """Images to what each pool gives, and the features."""
        first = self.pool(self.floats(self.bn1(self.conv1(x))))       # [N, 6, 14, 14]
        second = self.pool(self.floats(self.bn2(self.conv2(first))))  # [N, 16, 5, 5]
        x = second.reshape((-1, 16 * 5 * 5, 1, 1))
        return first, second, self.bn4(self.fc2(self.bn3(self.fc1(x))))  # [N, 84, 1, 1]

    def head(self, x):
        """Features to logits [N, class_num]."""
        return ops.flatten(self.bn5(self.fc3(x)))
