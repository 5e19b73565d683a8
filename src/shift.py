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
"""The shift layer, a convolution whose weights are powers of two, and the layer of ShiftAddNet: shift, then adder.

Sources: ShiftAddNet, NeurIPS 2020, arXiv 2010.12785, and its code; its shift layer is DeepShift-PS, arXiv 1905.13298.
The published code also rounds the gradients of the shift layer to 16 bits; it has exact ones here.

MindSpore's convolution multiplies by the powers of two in floats. On hardware made for it that is a shift of bits; here
it is as fast as any convolution, and the numbers are the same.

The published code has no weight decay on `shift` and `sign`. `src.training.step.sgd` decays every parameter: a shift
towards 0, which is a weight of 1, and a sign towards 0, which is no weight. A recipe for this kind has to look at that.
"""
import math

import mindspore as ms
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import Uniform, initializer

from .adder import Adder2d
from .kernels import Float32, check_float, one_of_pair

FRACTION_BITS = 16  # of the inputs, in fixed point


class ShiftAdd2d(nn.Cell):
    """Shift layer and adder layer with nothing between: x [N, C_in, H, W] to y [N, C_out, H_out, W_out].

    The shift layer has the stride, the padding and the change of channels. The adder layer behind it has a window of
    the same size and keeps what it gets: C_out channels, H_out x W_out positions.

    `src.cost` counts its pairs (x, w) of the adder layer, and no shifts.

    Args:
        in_channels, out_channels (int): C_in and C_out.
        kernel_size (int): k, of the square windows; odd.
        stride, padding (int): of the shift layer.
        group (int): how many groups channels and filters are in, of both layers, see `src.adder.Adder2d`.
        options: eta and backend, of the adder layer, see `src.adder.Adder2d`.

    Raises:
        ValueError: kernel_size is even; an argument that one of the layers refuses.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, group=1, **options):
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd for the adder layer to keep the positions, not {kernel_size}")
        super().__init__()
        self.shift = Shift2d(in_channels, out_channels, kernel_size, stride, padding, group)
        self.adder = Adder2d(out_channels, out_channels, kernel_size, padding=kernel_size // 2, group=group, **options)

    def construct(self, x):
        check_float("shift layer", "x", x)
        return self.adder(self.shift(x)).astype(x.dtype)


class Shift2d(Float32):
    """Shift layer, used like `nn.Conv2d`: x [N, C_in, H, W] to y [N, C_out, H_out, W_out].

    Its weights are sign(round(sign)) * 2^round(shift), from two parameters [C_out, C_in / group, k, k]. At first half
    of them are 0: signs come from U(-1, 1), shifts from all that is allowed.

    Args:
        in_channels, out_channels (int): C_in and C_out.
        kernel_size (int): k, of a square window.
        stride, padding (int): of the window, and rows and columns of zeros on each side.
        group (int): how many groups channels and filters are in.
        bits (int): of a weight: its sign, -1, 0 or 1, and a shift from -(2^(bits - 1) - 2) to 0.

    Raises:
        ValueError: bits are not from 2 to 8, or an argument that MindSpore's convolution refuses.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, group=1, bits=5):
        super().__init__()
        if bits not in range(2, 9):
            raise ValueError(f"bits must be an integer from 2 to 8, not {bits!r}")
        shape = (out_channels, in_channels // group, kernel_size, kernel_size)
        self.lowest = 2.0 - 2 ** (bits - 1)
        middle = self.lowest / 2
        self.shift = Parameter(initializer(Uniform(-middle), shape).init_data() + middle)  # U(lowest, 0)
        self.sign = Parameter(initializer(Uniform(1.0), shape))
        self.fixed_point, self.powers = FixedPoint(), Powers(self.lowest)
        self.convolution = ops.Conv2D(out_channels, kernel_size, pad_mode="pad", pad=padding, stride=stride,
                                      group=group)

    def construct(self, x):
        if self.training:  # as published: the gradient does not end at the limits, so the parameter must
            ops.assign(self.shift, ops.clamp(self.shift, self.lowest, 0.0))
        return self.convolution(self.fixed_point(x.astype(ms.float32)), self.powers(self.shift, self.sign))


class FixedPoint(Float32):
    """x rounded down to a multiple of 2^-16; the gradient passes straight through.

    The published code also clips x to 16 bits before the point, which nothing behind a norm needs.
    """

    def __init__(self):
        super().__init__()
        self.scale = 2.0 ** FRACTION_BITS

    def construct(self, x):
        return ops.floor(x * self.scale) / self.scale

    def bprop(self, x, out, dout):
        return (dout,)


class Powers(Float32):
    """The weights w = sign(round(sign)) * 2^round(shift), shift clamped to [lowest, 0]; straight through all of these,

    dshift = dw * w * ln 2, and dsign = dw, not dw * 2^round(shift): however small a weight is, its sign can change.
    """

    def __init__(self, lowest):
        super().__init__()
        self.lowest = lowest

    def construct(self, shift, sign):
        return ops.sign(ops.round(sign)) * ops.pow(2.0, ops.round(ops.clamp(shift, self.lowest, 0.0)))

    def bprop(self, shift, sign, out, dout):
        return dout * out * math.log(2), dout
