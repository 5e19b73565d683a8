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
"""The adder layer: y = -sum |x - w| with AdderNet's gradients, or y = -1/2 sum (x - w)^2 with its exact ones.

Sources: norm 1: AdderNet, CVPR 2020, arXiv 1912.13200: forward eq. 2, weight gradient eq. 5, input gradient eq. 6,
adaptive local learning rate eqs. 12-13. Norm 2: EuclidNet, arXiv 2212.11803. Mixed gradient: after "Rethinking 3D
convolution in lp-norm space".
"""
import functools
import math

from mindspore import Parameter, nn, ops
from mindspore.common.initializer import Normal, initializer

from src import kernels
from src.kernels import Geometry

ETA = 0.2


def adder2d_function(x, w, stride=1, padding=0, eta=ETA, backend="auto", norm=1):
    """Adder layer as a function, differentiable in x and w.

    Args:
        x (Tensor): input [N, C_in, H, W], float32.
        w (Tensor): filters [C_out, C_in, k, k], float32.
        stride (int): step of the window.
        padding (int): rows and columns of zeros on each side; they take part in the sum, adding -|w| or -w^2 / 2 each.
        eta (float): strength of the adaptive rate, see `AdderOp`; 0 switches it off.
        backend (str): "auto", "kernel" or "composed", see `src.kernels.operation`.
        norm (int): 1 or 2.

    Returns:
        Tensor [N, C_out, H_out, W_out], H_out = (H + 2 * padding - k) // stride + 1.

    Raises:
        ValueError: unknown backend or norm; a stride, padding or eta out of range; shapes that do not fit.
        BuildError: backend "kernel" was asked for and cannot be had.
    """
    return _operation(stride, padding, eta, backend, norm)(x, w)


class Adder2d(nn.Cell):
    """Adder layer with its filters, used like `nn.Conv2d`. Inputs x [N, C_in, H, W], output [N, C_out, H_out, W_out].

    Args:
        in_channels (int): C_in.
        out_channels (int): C_out.
        kernel_size (int): k, of a square window.
        stride, padding, eta, backend, norm: as in `adder2d_function`.
        bias (bool): add a learnable constant per filter, parameter `b` [C_out].
        mix (Parameter): for a mixed weight gradient, see `MixedAdderOp`; AdderNet's if None.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, bias=False, eta=ETA,
                 backend="auto", norm=1, mix=None):
        super().__init__()
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.adder = Parameter(initializer(Normal(1.0), shape))  # N(0, 1), as AdderNet's code
        self.b = Parameter(initializer("zeros", (out_channels,))) if bias else None
        self.mix = mix
        self.operation = (AdderOp if mix is None else MixedAdderOp)(stride, padding, eta, backend, norm)

    def construct(self, x):
        y = self.operation(x, self.adder) if self.mix is None else self.operation(x, self.adder, self.mix)
        if self.b is not None:
            y = ops.bias_add(y, self.b)
        return y


class AdderOp(nn.Cell):
    """The operation on (x, w). The gradients of norm 1 are AdderNet's, not the derivatives of the forward pass:

    dw = sum dy * (x - w), the "full precision" gradient, then scaled by eta * sqrt(numel) / max(||dw||, 1e-12), so
    that layers learn at one pace whatever the size of their inputs; dx = sum dy * clip(w - x, -1, 1).

    Those of norm 2 are its derivatives, dw = sum dy * (x - w), scaled likewise unless eta is 0, and dx = sum dy *
    (w - x).

    Args: see `adder2d_function`.
    """

    filters_grad = "weight_grad"

    def __init__(self, stride=1, padding=0, eta=ETA, backend="auto", norm=1):
        super().__init__()
        if not 0 <= eta < math.inf:
            raise ValueError(f"eta must be a number from 0 on, not {eta}")
        self.geometry, self.eta = Geometry(stride, padding, norm), eta
        self.padding = padding
        self.forward, self.input_grad, self.weight_grad = (
            kernels.operation(name, backend, self.geometry) for name in ("forward", "input_grad", self.filters_grad))

    def construct(self, x, w):
        _check_shapes(x.shape, w.shape, self.padding)
        return self.forward(x, w)

    def bprop(self, x, w, out, dout):
        return self.input_grad(dout, x, w), self.adapt(self.weight_grad(dout, x, w))

    def adapt(self, dw):
        """The adaptive rate."""
        if self.eta:
            dw = dw * (self.eta * dw.size ** 0.5 / ops.maximum(1e-12, ops.sqrt((dw * dw).sum())))
        return dw


class MixedAdderOp(AdderOp):
    """The operation on (x, w, mix), with dw = sum dy * (mix * (x - w) + (1 - mix) * sign(x - w)).

    1 is AdderNet's gradient, which is that of norm 2, and 0 the derivative of norm 1. `mix` is a tensor [1], so that it
    can change in training.
    """

    filters_grad = "mixed_weight_grad"

    def construct(self, x, w, mix):
        return super().construct(x, w)

    def bprop(self, x, w, mix, out, dout):
        return self.input_grad(dout, x, w), self.adapt(self.weight_grad(dout, x, w, mix)), ops.zeros_like(mix)


@ops.constexpr
def _check_shapes(x, w, padding):
    if len(x) != 4 or len(w) != 4:
        raise ValueError(f"adder layer: x and w must have four axes each, not the shapes {x} and {w}")
    if 0 in (*x, *w):
        raise ValueError(f"adder layer: x of shape {x} or w of shape {w} is empty")
    if x[1] != w[1] or w[2] != w[3] or min(x[2:]) + 2 * padding < w[2]:
        raise ValueError(f"adder layer: filters of shape {w} do not fit an input of shape {x}, padding {padding}")


@functools.lru_cache(maxsize=None)
def _operation(stride, padding, eta, backend, norm):
    return AdderOp(stride, padding, eta, backend, norm)
