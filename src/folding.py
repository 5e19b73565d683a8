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
"""Evaluation of a trained network with its norms, shortcuts and activations folded into the layers before them.

In evaluation a norm is y = scale * x + shift. As operators of their own, norm, addition and ReLU each read and write
all activations once more, which takes as long as the adder layers themselves.
"""
import numpy as np
from mindspore import Tensor, nn

from src import kernels
from src.adder import Adder2d
from src.kernels import cpu
from src.res20_adder import ResNet


def fold(net, backend="auto"):
    """The network for evaluation, folded where its layers run in the C++ kernel, and itself elsewhere.

    Args:
        net (Cell): a `src.res20_adder.ResNet` with its final weights and statistics, of which a copy is made.
        backend (str): that of its adder layers, see `src.kernels.select`.

    Returns:
        Cell, images [N, 3, H, W] to logits [N, class_num].
    """
    has_adders = any(isinstance(cell, Adder2d) for _, cell in net.cells_and_names())
    return (FoldedResNet(net) if has_adders and kernels.takes_kernel(backend) else net).set_train(False)


class FoldedResNet(ResNet):
    """A `src.res20_adder.ResNet` in evaluation: images [N, 3, H, W] to logits [N, class_num]."""

    def __init__(self, net):
        nn.Cell.__init__(self)  # pylint: disable=non-parent-init-called,super-init-not-called
        self.conv1, self.bn1, self.relu = _folded_conv(net.conv1, net.bn1), nn.Identity(), nn.ReLU()
        self.layer1, self.layer2, self.layer3 = (nn.SequentialCell(*map(FoldedBlock, stage))
                                                 for stage in (net.layer1, net.layer2, net.layer3))
        self.fc, self.bn2 = _folded_conv(net.fc, net.bn2), nn.Identity()


class FoldedBlock(nn.Cell):
    """A `src.res20_adder.BasicBlock` in evaluation: [N, C_in, H, W] -> [N, C_out, H / stride, W / stride]."""

    def __init__(self, block):
        super().__init__()
        self.conv1 = FoldedAdder(block.conv1, block.bn1, relu=True)
        self.conv2 = FoldedAdder(block.conv2, block.bn2, relu=True)
        self.downsample = None
        if block.downsample is not None:
            self.downsample = FoldedAdder(*block.downsample, relu=False)

    def construct(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.conv2(self.conv1(x), shortcut)


class FoldedAdder(nn.Cell):
    """An adder layer without bias and the norm behind it, and ReLU if wanted: x and, if any, a shortcut to add."""

    def __init__(self, adder, norm, relu):
        super().__init__()
        scale, shift = scale_and_shift(norm)
        self.adder, self.scale, self.shift = (Tensor(value) for value in (adder.adder.asnumpy(), scale, shift))
        operation = adder.operation
        self.operation = cpu.folded(operation.stride, operation.padding, operation.norm, relu)

    def construct(self, x, *shortcut):
        return self.operation(x, self.adder, self.scale, self.shift, *shortcut)


def _folded_conv(conv, norm):
    """A convolution with the norm's scale in its weights and the shift as its bias."""
    scale, shift = scale_and_shift(norm)
    return nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.pad_mode, conv.padding,
                     has_bias=True, weight_init=Tensor(conv.weight.asnumpy() * scale[:, None, None, None]),
                     bias_init=Tensor(shift))


def scale_and_shift(norm):
    """A norm in evaluation, scale * x + shift: vectors [C] float32."""
    gamma, beta, mean, variance = (parameter.asnumpy().astype(np.float64) for parameter in (
        norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance))
    scale = gamma / np.sqrt(variance + norm.eps)
    return scale.astype(np.float32), (beta - mean * scale).astype(np.float32)
