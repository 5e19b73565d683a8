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
"""Batch norm behind an adder layer: MindSpore's, but that on CPU its training pass is a C++ kernel.

MindSpore's operator takes a quarter of a training step of Adder ResNet-20, four times as long as memory would allow.
"""
import numpy as np
from mindspore import Tensor, nn, ops

from src import kernels
from src.kernels import cpu


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` of x [N, C, H, W]: same parameters, same numbers.

    Args:
        channels (int): C.
        backend (str): "auto", "kernel" or "composed", see `src.kernels.select`.
    """

    def __init__(self, channels, backend="auto"):
        super().__init__(channels)
        self.operation = BatchNormOp(1.0 - self.momentum, self.eps) if kernels.takes_kernel(backend) else None

    def construct(self, x):
        if self.operation is None or not self.training:
            return super().construct(x)
        y, mean, variance = self.operation(x, self.gamma, self.beta, self.moving_mean, self.moving_variance)[:3]
        y = ops.depend(y, ops.assign(self.moving_mean, mean))
        return ops.depend(y, ops.assign(self.moving_variance, variance))


class BatchNormOp(nn.Cell):
    """Batch norm in training, in the C++ kernel: arguments and results as those of `src.kernels.cpu.batch_norm`.

    Args:
        momentum (float): how much of the moving statistics stays.
        epsilon (float): added to the variance.
    """

    def __init__(self, momentum, epsilon):
        super().__init__()
        self.forward, self.grad = cpu.batch_norm()
        self.constants = Tensor(np.array([momentum, epsilon], np.float32))

    def construct(self, x, gamma, beta, moving_mean, moving_variance):
        return self.forward(x, gamma, beta, moving_mean, moving_variance, self.constants)

    def bprop(self, x, gamma, beta, moving_mean, moving_variance, out, dout):
        dx, dgamma, dbeta = self.grad(dout[0], x, gamma, out[3], out[4])
        return dx, dgamma, dbeta, ops.zeros_like(moving_mean), ops.zeros_like(moving_variance)
