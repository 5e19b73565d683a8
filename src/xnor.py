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
"""The layer of binary networks: activations and weights are signs, for hardware that has XNOR and counts ones.

Source: XNOR-Net, arXiv 1603.05279: batch norm, signs, binary convolution; its scales of the activations are left out.
MindSpore's convolution multiplies the signs in floats: the numbers are the same, and it takes as long as any other.
"""
import mindspore as ms
from mindspore import nn, ops

from .kernels import Float32, check_float


class XnorConv2d(Float32, nn.Conv2d):
    """Binary convolution, used like `nn.Conv2d`: y = alpha * sum sign(norm(x)) * sign(w), alpha = mean |w| of a filter.

    Without the norm all that comes from a ReLU would have one sign. Zeros of the padding stay zeros. Gradients go
    straight through a sign where its argument is from -1 to 1, and end beyond; through alpha they are exact.

    Args:
        in_channels, out_channels (int): C_in and C_out.
        kernel_size, stride, padding, group (int), has_bias (bool): as those of `nn.Conv2d` with pad_mode "pad".
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, group=1, has_bias=False):
        super().__init__(in_channels, out_channels, kernel_size, stride, "pad", padding, group=group, has_bias=has_bias)
        self.norm, self.sign = nn.BatchNorm2d(in_channels), Sign()

    def construct(self, x):
        check_float("binary layer", "x", x)
        alpha = ops.abs(self.weight).mean((1, 2, 3), True)
        y = self.conv2d(self.sign(self.norm(x.astype(ms.float32))), alpha * self.sign(self.weight))
        y = self.bias_add(y, self.bias) if self.has_bias else y
        return y.astype(x.dtype)


class Sign(Float32):
    """1 or, below 0, -1; the gradient passes straight through from -1 to 1 and ends beyond."""

    def construct(self, x):
        return ops.where(x >= 0, 1.0, -1.0)

    def bprop(self, x, out, dout):
        return (ops.where(ops.abs(x) <= 1, dout, 0.0),)
