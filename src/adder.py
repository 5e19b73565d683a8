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

import mindspore as ms
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import Normal, initializer
from mindspore.ops import functional as F

from . import kernels
from .kernels import Float32, Geometry, check_float, one_of_pair

ETA = 0.2
SHARP = 2.0 ** 64  # a power of two, by which float32 is multiplied without rounding


def adder2d_function(x, w, stride=1, padding=0, eta=ETA, backend="auto", norm=1, group=1):
    """Adder layer as a function, differentiable in x and w. It computes in float32 whatever the types of x and w are.

    Args:
        x (Tensor): input [N, C_in, H, W], float32, float16 or bfloat16; its shape must be known in GRAPH mode.
        w (Tensor): filters [C_out, C_in / group, k, k], of these types too.
        stride (int | tuple[int]): step of the window; of a pair, both must be the same.
        padding (int | tuple[int]): rows and columns of zeros on each side; they take part in the sum, adding -|w| or
            -w^2 / 2 each.
        eta (float): strength of the adaptive rate, see `AdderOp`; 0 switches it off.
        backend (str): "auto", "kernel" or "composed", see `src.kernels.operation`.
        norm (int): 1 or 2.
        group (int): how many groups channels and filters are in; a filter sees the channels of its group. It divides
            C_in and C_out.

    Returns:
        Tensor [N, C_out, H_out, W_out] of x's type, H_out = (H + 2 * padding - k) // stride + 1.

    Raises:
        TypeError: x or w is no tensor of these types.
        ValueError: unknown backend or norm; a stride, padding, eta or group out of range; shapes that do not fit.
        BuildError: backend "kernel" was asked for and cannot be had.
    """
    operation = _operation(Geometry(stride, padding, norm, group), eta, backend)
    check_inputs(x, w, operation)
    return operation(x.astype(ms.float32), w.astype(ms.float32)).astype(x.dtype)


class Adder2d(nn.Cell):
    """Adder layer with its filters, used like `nn.Conv2d`. Inputs x [N, C_in, H, W], output [N, C_out, H_out, W_out].

    It computes in float32 and gives x's type, in mixed precision too. A loss scale would divide the gradient of the
    filters, which the adaptive rate makes the same for any scale: use none (`loss_scale_manager=None`), or eta 0.

    Args:
        in_channels (int): C_in.
        out_channels (int): C_out.
        kernel_size (int | tuple[int]): k, of a square window.
        stride, padding, eta, backend, norm, group: as in `adder2d_function`.
        bias, has_bias (bool): add a learnable constant per filter, parameter `b` [C_out].
        mix (Parameter): for a mixed weight gradient, see `MixedAdderOp`; AdderNet's if None.
        pad_mode (str): "pad" takes `padding`, "valid" none, and "same" as much as keeps the size, for stride 1.
        dilation (int): 1, as there is nothing else.
        input_gradient (str): "clip" or "sign", see `AdderOp`.
        precision (str): "float32", or "int16" for fixed point, with the kernel for CPU and norm 1.

    Raises: as `adder2d_function`.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, bias=False, eta=ETA,
                 backend="auto", norm=1, mix=None, *, has_bias=False, pad_mode="pad", dilation=1, group=1,
                 input_gradient="clip", precision="float32"):
        super().__init__()
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, one_of_pair(
            "kernel_size", kernel_size)
        for name in ("in_channels", "out_channels", "kernel_size"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a positive integer, not {getattr(self, name)!r}")
        if one_of_pair("dilation", dilation) != 1:
            raise ValueError(f"dilation must be 1 in an adder layer, not {dilation!r}")
        padding = padding_of(pad_mode, padding, self.kernel_size, stride)
        self.operation = (AdderOp if mix is None else MixedAdderOp)(stride, padding, eta, backend, norm, group,
                                                                input_gradient, precision)
        group = self.operation.group
        if in_channels % group or out_channels % group:
            raise ValueError(f"group must divide in_channels {in_channels} and out_channels {out_channels}, not be "
                             f"{group}")
        shape = (out_channels, in_channels // group, self.kernel_size, self.kernel_size)
        self.adder = Parameter(initializer(Normal(1.0), shape))  # N(0, 1), as AdderNet's code
        self.b, self.add_bias, self.mix = None, None, mix
        if bias or has_bias:
            self.b, self.add_bias = Parameter(initializer("zeros", (out_channels,))), AddBias()

    def construct(self, x):
        check_inputs(x, self.adder, self.operation)
        inputs = (x.astype(ms.float32), self.adder.astype(ms.float32))
        y = self.operation(*inputs) if self.mix is None else self.operation(*inputs, self.mix)
        if self.b is not None:
            y = self.add_bias(y, self.b)
        return y.astype(x.dtype)

    def extend_repr(self):
        geometry = self.operation.geometry
        return (f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={geometry.stride}, "
                f"padding={geometry.padding}, bias={self.b is not None}, eta={self.operation.eta}, "
                f"norm={geometry.norm}, group={geometry.group}")


def padding_of(pad_mode, padding, kernel_size, stride):
    """The padding that `nn.Conv2d` means by its pad_mode. Raises ValueError where it is no number for all sides."""
    if pad_mode == "pad":
        return padding
    if pad_mode not in ("valid", "same"):
        raise ValueError(f"pad_mode must be pad, valid or same, not {pad_mode!r}")
    if one_of_pair("padding", padding) != 0:
        raise ValueError(f"padding must be 0 where pad_mode is {pad_mode}, not {padding!r}")
    if pad_mode == "same" and (one_of_pair("stride", stride) != 1 or kernel_size % 2 == 0):
        raise ValueError("pad_mode same needs stride 1 and an odd kernel_size: all sides of an adder layer have the "
                         "same padding")
    return kernel_size // 2 if pad_mode == "same" else 0


class AdderOp(Float32):
    """The operation on (x, w), of float32. The gradients of norm 1 are AdderNet's, not the derivatives of the forward
    pass:

    dw = sum dy * (x - w), the "full precision" gradient, then scaled by eta * sqrt(numel) / max(||dw||, 1e-12), so
    that layers learn at one pace whatever the size of their inputs; dx = sum dy * clip(w - x, -1, 1), or, with
    input_gradient "sign", its derivative, dx = sum dy * sign(w - x), which detection learns better by (AdderDet, arXiv
    2112.13608).

    Those of norm 2 are its derivatives, dw = sum dy * (x - w), scaled likewise unless eta is 0, and dx = sum dy *
    (w - x).

    In precision "int16" the forward pass and both gradients are in fixed point, but for the gradient "sign" and the
    mixed one of the filters.

    Args: see `adder2d_function` and `Adder2d`.
    """

    filters_grad = "weight_grad"

    def __init__(self, stride=1, padding=0, eta=ETA, backend="auto", norm=1, group=1, input_gradient="clip",
                 precision="float32"):
        super().__init__()
        if input_gradient not in ("clip", "sign") or norm == 2 and input_gradient == "sign":
            raise ValueError(f"input_gradient must be clip, or sign of norm 1, not {input_gradient!r}")
        if not 0 <= eta < math.inf:
            raise ValueError(f"eta must be a number from 0 on, not {eta}")
        self.geometry, self.eta = Geometry(stride, padding, norm, group), eta
        self.padding, self.group = self.geometry.padding, self.geometry.group
        self.sharpness = SHARP if input_gradient == "sign" else None
        self.any_batch = False  # whether a batch of unknown size is taken in GRAPH mode, as by exported forms
        fits = norm == 1 and kernels.has(kernels.in_precision("forward", precision), backend)
        if precision != "float32" and not fits:
            raise ValueError(f"precision {precision} needs norm 1 and the kernel for CPU")
        self.forward, self.input_grad, self.weight_grad = (
            kernels.operation(name, backend, self.geometry) for name in self.operations(precision))

    def operations(self, precision):
        """The names of the operations for the forward pass and for the gradients of x and w."""
        in_floats = ("mixed_weight_grad", "input_grad" if self.sharpness else None)
        return tuple(name if name in in_floats else kernels.in_precision(name, precision)
                     for name in ("forward", "input_grad", self.filters_grad))

    def construct(self, x, w):
        return self.forward(x, w)

    def bprop(self, x, w, out, dout):
        return self.inputs_grad(dout, x, w), self.adapt(self.weight_grad(dout, x, w))

    def inputs_grad(self, dy, x, w):
        """dx. A difference is clipped to its sign where both operands are so large that the least one is beyond 1."""
        if self.sharpness is None:
            return self.input_grad(dy, x, w)
        return self.input_grad(dy, self.sharpness * x, self.sharpness * w)

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
        return self.inputs_grad(dout, x, w), self.adapt(self.weight_grad(dout, x, w, mix)), ops.zeros_like(mix)


class AddBias(Float32):
    """A constant for each filter, [C], added to y [N, C, H, W]."""

    def construct(self, y, bias):
        return y + bias.reshape((1, -1, 1, 1))  # ops.bias_add becomes ONNX of another axis


def check_inputs(x, w, operation):
    """Refuse what an `AdderOp` cannot take, by its name: TypeError or ValueError."""
    check_float("adder layer", "x", x)
    check_float("adder layer", "w", w)
    if not (operation.any_batch and F.is_sequence_value_unknown(x.shape)):
        _check_shapes(x.shape, w.shape, operation.padding, operation.group)


@ops.constexpr
def _check_shapes(x, w, padding, group):
    if x is None or None in x:
        raise ValueError("adder layer: x must have a known shape in GRAPH mode, not a dynamic one")
    if len(x) != 4 or len(w) != 4:
        raise ValueError(f"adder layer: x and w must have four axes each, not the shapes {x} and {w}")
    if 0 in (*x, *w):
        raise ValueError(f"adder layer: x of shape {x} or w of shape {w} is empty")
    if x[1] != w[1] * group:
        raise ValueError(f"adder layer: x of shape {x} must have the {w[1]} channels of the filters, shape {w}"
                         + (f", in each of the {group} groups" if group > 1 else ""))
    if w[0] % group:
        raise ValueError(f"adder layer: filters of shape {w} do not come in {group} groups")
    if w[2] != w[3]:
        raise ValueError(f"adder layer: windows must be square, not w of shape {w}")
    if min(x[2:]) + 2 * padding < w[2]:
        raise ValueError(f"adder layer: filters of shape {w} do not fit an input of shape {x}, padding {padding}")


@functools.lru_cache(maxsize=None)
def _operation(geometry, eta, backend):
    return AdderOp(geometry.stride, geometry.padding, eta, backend, geometry.norm, geometry.group)
