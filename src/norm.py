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
"""What stands behind a layer: batch norm, a shortcut and ReLU in one Cell, relu(batch_norm(x) + shortcut).

In training on CPU and GPU a kernel does all of it in one pass over memory, forward and backward. Norm, addition and
ReLU as operators of their own read and write all activations three times, which takes half as long as the adder layers.
"""
import mindspore as ms
import numpy as np
from mindspore import nn, ops

from . import kernels
from .kernels import Float32, check_float


class BatchNormAct2d(Float32, nn.BatchNorm2d):
    """`nn.BatchNorm2d` with what follows it: same parameters, same numbers. `amp` wants another name than MindSpore's.

    Inputs: x [N, C, H, W] and, if there is one, a shortcut of the same shape, which is added; float32, float16 or
    bfloat16. Output of that shape, float32, which everything is computed in.

    Args:
        channels (int): C.
        relu (bool): whether a ReLU ends it.
        shortcut (bool): whether it takes one.
        frozen (bool): whether statistics, gamma and beta stay as they are, in training too.
        backend (str): "auto", "kernel" or "composed", see `src.kernels.operation`.

    Raises:
        TypeError: an input is no tensor of these types; in GRAPH mode float64 is cast before.
        ValueError: unknown backend; shapes that do not fit.
    """

    def __init__(self, channels, relu=True, shortcut=False, backend="auto", frozen=False):
        super().__init__(channels)
        self.frozen = frozen
        self.gamma.requires_grad = self.beta.requires_grad = not frozen
        self.relu, self.shortcut = relu, shortcut
        self.fused = None
        if kernels.has("batch_norm", backend) and not frozen:
            kind = FusedBatchNormAdd if shortcut else FusedBatchNorm
            self.fused = kind(relu, shortcut, backend, 1.0 - self.momentum, self.eps)

    def construct(self, x, *shortcut):
        check_float("batch norm", "x", x)
        _check_shape("x", x.shape, (None, self.num_features, None, None))
        for value in shortcut:
            check_float("batch norm", "the shortcut", value)
            _check_shape("the shortcut", value.shape, x.shape)
        # Here and not by the kernel's Cell, whose gradient is its own.
        x, *shortcut = [value.astype(ms.float32) for value in (x, *shortcut)]
        if self.training and self.fused is not None:
            y, mean, variance = self.fused(x, *self.values(), *shortcut)[:3]
            y = ops.depend(y, ops.assign(self.moving_mean, mean))
            return ops.depend(y, ops.assign(self.moving_variance, variance))
        y = self.normalise(x)
        for value in shortcut:
            y = y + value
        return ops.relu(y) if self.relu else y

    def normalise(self, x):
        """The norm alone, by MindSpore's operator."""
        operator = self.bn_train if self.training and not self.frozen else self.bn_infer
        return operator(x, *self.values())[0]

    def values(self):
        return self.gamma, self.beta, self.moving_mean, self.moving_variance


class AddRelu(nn.Cell):
    """What is left without the norm, or where it was folded into a convolution: the shortcut and ReLU."""

    def __init__(self, relu):
        super().__init__()
        self.relu = relu

    def construct(self, x, *shortcut):
        for value in shortcut:
            x = x + value
        return ops.relu(x) if self.relu else x


class FusedBatchNorm(Float32):
    """Batch norm in training, and ReLU if wanted, in the kernel; see `src.kernels.operations.batch_norm`.

    Args:
        relu, shortcut (bool): whether a ReLU ends it, and whether it takes a shortcut.
        backend (str): that has the operations.
        momentum (float): how much of the moving statistics stays.
        epsilon (float): added to the variance.
    """

    def __init__(self, relu, shortcut, backend, momentum, epsilon):
        super().__init__()
        self.relu = relu
        self.forward = kernels.operation("batch_norm", backend, relu)
        self.grad = kernels.operation("batch_norm_grad", backend, relu, shortcut)
        self.constants = ms.Tensor(np.array([momentum, epsilon], np.float32))

    def construct(self, x, gamma, beta, moving_mean, moving_variance):
        return self.forward(x, gamma, beta, moving_mean, moving_variance, self.constants)

    def bprop(self, x, gamma, beta, moving_mean, moving_variance, out, dout):
        dx, dgamma, dbeta = self.grad(dout[0], x, gamma, out[3], out[4], *self.outputs(out))
        return dx, dgamma, dbeta, ops.zeros_like(moving_mean), ops.zeros_like(moving_variance)

    def outputs(self, out):
        """What the gradient wants to know of the result: where ReLU let it through."""
        return (out[0],) if self.relu else ()


class FusedBatchNormAdd(FusedBatchNorm):
    """The same with a shortcut as the last input."""

    def construct(self, x, gamma, beta, moving_mean, moving_variance, shortcut):
        return self.forward(x, gamma, beta, moving_mean, moving_variance, self.constants, shortcut)

    def bprop(self, x, gamma, beta, moving_mean, moving_variance, shortcut, out, dout):
        gradients = self.grad(dout[0], x, gamma, out[3], out[4], *self.outputs(out))
        dx, dgamma, dbeta = gradients[:3]
        zeros = ops.zeros_like(moving_mean), ops.zeros_like(moving_variance)
        return (dx, dgamma, dbeta, *zeros, gradients[3] if self.relu else dout[0])


@ops.constexpr(check=False)
def _check_shape(name, shape, wanted):
    """Refuse another shape; of what is None nothing is known before the network runs."""
    if shape is None or wanted is None:
        return
    if len(shape) != len(wanted) or any(size != other and None not in (size, other)
                                        for size, other in zip(shape, wanted)):
        raise ValueError(f"batch norm: {name} must be of shape {list(wanted)}, not {list(shape)}")
