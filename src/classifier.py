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
"""What all networks of classification share; each says what its `stages` give, and has a `head`."""
from mindspore import nn, ops


class Classifier(nn.Cell):
    """Images [N, C, H, W] to logits [N, class_num], see `src.networks.create`.

    Subclasses have `stages(x)`, images to what each stage gives, and the features; `head(x)`, features to logits;
    `feature_size` and `stage_channels`.
    """

    def construct(self, x):
        return self.head(self.features(x))

    def features(self, x):
        """Images to the features before the last layer, [N, feature_size, 1, 1]."""
        return self.stages(x)[-1]


def global_average(x):
    """The mean of each map, [N, C, H, W] to [N, C, 1, 1]; over two axes at once MindSpore takes three times as long on
    CPU."""
    channels, height, width = x.shape[1:]
    return ops.mean(x.reshape(-1, height * width), 1).reshape(-1, channels, 1, 1)


def pooled(body, x):
    """What each pool of a sequence of cells gives, which ends in one."""
    maps = ()
    for cell in body:
        x = cell(x)
        if isinstance(cell, nn.MaxPool2d):
            maps += (x,)
    return maps
