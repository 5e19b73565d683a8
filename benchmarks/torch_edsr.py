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
"""EDSR with ordinary convolutions in PyTorch, of the shape of `src.networks.adder_sr`: the network to compete with."""
from torch import nn


class EDSR(nn.Module):
    """Colours [N, 3, h, w] to [N, 3, 2 * h, 2 * w]."""

    def __init__(self, n_feats, n_resblocks):
        super().__init__()
        self.head = _conv(3, n_feats)
        self.body = nn.Sequential(*[_Block(n_feats) for _ in range(n_resblocks)], _conv(n_feats, n_feats))
        self.tail = nn.Sequential(_conv(n_feats, 4 * n_feats), nn.PixelShuffle(2), _conv(n_feats, 3))

    def forward(self, x):
        x = self.head(x)
        return self.tail(x + self.body(x))


class _Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(_conv(channels, channels), nn.ReLU(inplace=True), _conv(channels, channels))

    def forward(self, x):
        return x + self.layers(x)


def _conv(in_channels, out_channels):
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)
