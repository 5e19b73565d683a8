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
"""LeNet++ for 28 x 28 images of digits, whose features are points of a plane: made to be looked at, see `src.figures`.

Source: center loss (Wen et al., ECCV 2016), whose network AdderNet, arXiv 1912.13200, draws: pairs of 5x5 layers of 32,
64 and 128 channels, each with a pool behind it, and two dense layers, 1,152 -> 2 -> 10. Every layer is one of the kind,
the first and the last too, with batch norm and ReLU behind it for the source's PReLU; none ends the features.
"""
from mindspore import nn, ops

from .. import kinds
from ..classifier import Classifier, pooled
from ..pairs import Floats

CHANNELS = (32, 64, 128)  # of two layers each, behind which the resolution is halved


def lenet_pp(class_num=10, layer="l1", in_channels=1, **options):
    """LeNet++: images [N, in_channels, 28, 28] to logits [N, class_num]. Arguments as `src.networks.create`."""
    return LeNetPP(class_num, in_channels, *kinds.sockets(layer, **options))


class LeNetPP(Classifier):
    """The network over two sockets, see `src.kinds`."""

    feature_size, stage_channels = 2, CHANNELS

    def __init__(self, class_num, in_channels, layer, norm):
        super().__init__()
        cells = []
        for before, channels in zip((in_channels, *CHANNELS), CHANNELS):
            cells += [layer(before, channels, 5, 1, padding=2), norm(channels),
                      layer(channels, channels, 5, 1, padding=2), norm(channels), Floats(), nn.MaxPool2d(2, 2)]
        self.body = nn.SequentialCell(*cells)
        self.fc1 = layer(CHANNELS[-1] * 3 * 3, self.feature_size, 1, 1, padding=0)
        self.bn1 = norm(self.feature_size, relu=False)
        self.fc2 = layer(self.feature_size, class_num, 1, 1, padding=0)
        self.bn2 = norm(class_num, relu=False)

    def stages(self, x):
        """Images to what each pool gives, [N, 32, 14, 14] to [N, 128, 3, 3], and the features."""
        maps = pooled(self.body, x)
        return (*maps, self.bn1(self.fc1(maps[-1].reshape((-1, CHANNELS[-1] * 3 * 3, 1, 1)))))

    def head(self, x):
        """Features to logits [N, class_num]."""
        return ops.flatten(self.bn2(self.fc2(x)))
