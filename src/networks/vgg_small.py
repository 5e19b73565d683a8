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
"""VGG-small for 32 x 32 images: 128-128-M-256-256-M-512-512-M and a classifier.

Source: AdderNet, arXiv 1912.13200, table 2; the classifier, which the paper does not describe, is that of its
ResNet-20, a 1x1 convolution and a norm, on all 8,192 values.
"""
from mindspore import nn, ops

from .. import kinds
from ..classifier import Classifier, pooled
from ..pairs import Floats

CHANNELS = (128, 256, 512)  # of two layers each, behind which the resolution is halved


def vgg_small(class_num=10, layer="l1", in_channels=3, **options):
    """VGG-small: images [N, in_channels, 32, 32] to logits [N, class_num]. Arguments as `src.networks.create`."""
    return VGGSmall(class_num, in_channels, *kinds.sockets(layer, **options))


class VGGSmall(Classifier):
    """The network over two sockets, see `src.kinds`; the first and the last layer are ordinary convolutions."""

    feature_size, stage_channels = CHANNELS[-1] * 4 * 4, CHANNELS

    def __init__(self, class_num, in_channels, layer, norm):
        super().__init__()
        cells = [nn.Conv2d(in_channels, CHANNELS[0], 3, pad_mode="pad", padding=1), norm(CHANNELS[0])]
        channels = CHANNELS[0]
        for wanted in CHANNELS:
            for _ in range(1 if wanted == CHANNELS[0] else 2):
                cells += [layer(channels, wanted, 3, 1, padding=1), norm(wanted)]
                channels = wanted
            cells += [Floats(), nn.MaxPool2d(2, 2)]
        self.body = nn.SequentialCell(*cells)
        self.fc = nn.Conv2d(self.feature_size, class_num, 1)
        self.bn = norm(class_num, relu=False)

    def stages(self, x):
        """Images to what each pool gives, [N, 128, 16, 16] to [N, 512, 4, 4], and the features."""
        maps = pooled(self.body, x)
        return (*maps, maps[-1].reshape((-1, self.feature_size, 1, 1)))

    def head(self, x):
        """Features to logits [N, class_num]."""
        return ops.flatten(self.bn(self.fc(x)))
