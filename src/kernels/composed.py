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
"""The adder layer from built-in MindSpore operators: for Ascend, and wherever no kernel can be built.

Loops run over blocks of images and of window taps, so that filters x patches x positions never exist at once and what
does exist stays in the processor's cache. Three peculiarities of MindSpore 2.8 shape the code. Operators that index on
CPU keep 8 to 16 bytes for each element, per instance, for as long as the graph lives: a broadcasting Sub or Mul (hence
Tile) and Transpose (hence only of blocks). ReduceSum on CPU is ten times faster over the first axis than over any
other. A loop that is unrolled costs 50 ms and 1.5 MB an iteration to compile, and runs all its iterations at once
(hence `while`, which becomes one subgraph).

The groups of channels of an image are like images of their own, but that each has filters of its own.
"""
import functools

import mindspore as ms
from mindspore import dtype, ops
from mindspore.ops.auto_generate.gen_ops_prim import CdistGrad
from mindspore.ops.operations import _grad_ops

from . import exported
from .passes import Pass, equal_blocks
from .precision import Float32

BLOCK_BYTES = 2 << 20  # of one temporary tensor
LARGE_BLOCK_BYTES = 64 << 20  # the same where each iteration is dear: in PYNATIVE mode
DEVICE_BLOCK_BYTES = 512 << 20  # and dearer: on accelerators the host waits for the loop's condition


def forward(geometry, form):
    if geometry.norm == 2:
        return _shared(SquaredForward, geometry)
    return _shared(exported.FORMS.get(form, Forward), geometry)


def input_grad(geometry, form):
    return _shared(InputGrad if geometry.norm == 1 else LinearInputGrad, geometry)


def weight_grad(geometry, form):
    return _shared(WeightGrad, geometry)


def mixed_weight_grad(geometry, form):
    return _shared(MixedWeightGrad, geometry)


OPERATIONS = {"forward": forward, "input_grad": input_grad, "weight_grad": weight_grad,
              "mixed_weight_grad": mixed_weight_grad}


@functools.lru_cache(maxsize=None)
def _shared(kind, geometry):
    """Layers that share their Cells compile faster, to a smaller graph."""
    return kind(geometry)


class Forward(Pass):
    """y = -sum |x - w|: x [N, C_in, H, W], w [C_out, C_in / group, k, k] -> [N, C_out, H_out, W_out], by blocks of
    images."""

    def construct(self, x, w):
        batch, _, height, width = x.shape
        filters, channels, kernel, _ = w.shape
        rows, cols = ((size + 2 * self.padding - kernel) // self.stride + 1 for size in (height, width))
        taps, positions = channels * kernel * kernel, rows * cols
        blocks = block_count(batch, self.group * taps * positions)
        images = batch // blocks  # of a block
        x = ops.Reshape()(x, (blocks, images * self.group, channels, height, width))
        w = ops.Tile()(ops.Reshape()(w, (self.group, filters // self.group, taps)), (images, 1, 1))
        y = ops.Zeros()((blocks, images, filters, positions), dtype.float32)
        i = ops.Zeros()((1, 1), dtype.int32)
        while i < blocks:
            patches = windows(block_of(x, i), kernel, self.stride, self.padding)
            distance = ops.Cdist(1.0)(w, patches)
            y = ops.TensorScatterUpdate()(y, i, ops.Reshape()(-distance, (1, images, filters, positions)))
            i = i + 1
        return ops.Reshape()(y, (batch, filters, rows, cols))


class InputGrad(Pass):
    """dx = sum dy * clip(w - x, -1, 1), as x [N, C_in, H, W]: every input gathers dy from the windows that saw it.

    A loop over blocks of images, and in each a loop over blocks of window taps.
    """

    def construct(self, dy, x, w):
        shape, (filters, channels, kernel, _) = x.shape, w.shape
        blocks = block_count(shape[0], filters * kernel * kernel * shape[2] * shape[3])
        filters = filters // self.group
        dy = ops.Reshape()(dy, (blocks, -1, filters, *dy.shape[2:]))
        x = ops.Reshape()(x, (blocks, -1, channels, *shape[2:]))
        w = ops.Reshape()(ops.ReverseV2((2, 3))(w), (self.group, filters, channels, kernel * kernel))
        w = ops.Reshape()(ops.Transpose()(w, (1, 3, 0, 2)), (-1, self.group, channels))
        dx = x  # of that shape; every block of it is replaced
        i = ops.Zeros()((1, 1), dtype.int32)
        while i < blocks:
            block = self.block(block_of(dy, i), block_of(x, i), w, kernel)
            dx = ops.TensorScatterUpdate()(dx, i, ops.Reshape()(block, (1, *dx.shape[1:])))
            i = i + 1
        return ops.Reshape()(dx, shape)

    def block(self, dy, x, w, kernel):
        """dx of a block of images, of which each has the groups one after the other: dy [N, C_out, H_out, W_out], x
        [N, C_in, H, W], w [C_out * k * k, group, C_in], the last tap of a window first -> [N, C_in, H * W]."""
        images, channels, height, width = x.shape
        positions = height * width
        blocks = block_count(w.shape[0], images * channels * positions)
        taps = w.shape[0] // blocks  # of a block
        dy = ops.Reshape()(ops.Im2Col(kernel)(self.spread(dy, x.shape, kernel)), (images, blocks, taps, positions))
        x = ops.Tile()(ops.Reshape()(x, (1, images, channels, positions)), (taps, 1, 1, 1))
        w = ops.Reshape()(w, (blocks, taps, self.group, channels))
        dx = ops.Zeros()((images, channels, positions), dtype.float32)
        i = ops.Zeros()((1,), dtype.int32)
        while i < blocks:
            gradient = ops.Transpose()(ops.Gather()(dy, i, 1), (2, 0, 1, 3))  # [taps, N, 1, H * W]
            gradient = ops.Tile()(gradient, (1, 1, channels, 1))
            weight = ops.Reshape()(ops.Gather()(w, i, 0), (taps, self.group, channels, 1))
            weight = ops.Tile()(weight, (1, 1, 1, positions))
            weight = ops.Tile()(weight, (1, images // self.group, 1, 1))  # faster than one Tile
            # The derivative of "smooth L1" is the clipped difference.
            dx = dx + ops.ReduceSum()(_grad_ops.SmoothL1LossGrad(1.0, "none")(weight, x, gradient), 0)
            i = i + 1
        return dx

    def spread(self, dy, shape, kernel):
        """Lay dy `stride` apart on zeros, [N, C_out, H + k - 1, W + k - 1], so that a window at (u, v) of size k holds
        the gradients of all outputs that read x[u, v], those of the last tap first."""
        start = kernel - 1
        rows, cols = dy.shape[2:]
        full = (shape[0], dy.shape[1], start + shape[2] + 2 * self.padding, start + shape[3] + 2 * self.padding)
        end = (*full[:2], start + (rows - 1) * self.stride + 1, start + (cols - 1) * self.stride + 1)
        dy = _grad_ops.StridedSliceGrad()(dy, full, (0, 0, start, start), end, (1, 1, self.stride, self.stride))
        end = (*full[:2], self.padding + start + shape[2], self.padding + start + shape[3])
        return ops.StridedSlice()(dy, (0, 0, self.padding, self.padding), end, (1, 1, 1, 1))


class WeightGrad(Pass):
    """dw = sum dy * (x - w) = (sum dy * x) - w * (sum dy), as w; sum dy * x is a convolution's."""

    def construct(self, dy, x, w):
        filters, _, kernel, _ = w.shape
        pad = (self.padding,) * 4
        product = _grad_ops.Conv2DBackpropFilter(filters, kernel, "pad", pad, pad, stride=(self.stride, self.stride),
                                                 group=self.group)
        return product(dy, x, w.shape) - w * ops.Reshape()(_grad_ops.BiasAddGrad()(dy), (filters, 1, 1, 1))


class SquaredForward(Pass):
    """y = -1/2 sum (x - w)^2 = sum x * w - 1/2 sum x^2 - 1/2 sum w^2: the first two are convolutions."""

    def construct(self, x, w):
        filters, channels, kernel, _ = w.shape
        ones = ops.Ones()((1, channels, kernel, kernel), dtype.float32)
        y = self.convolution(x, w, self.group)
        squares = self.convolution(ops.Reshape()(x * x, (-1, channels, *x.shape[2:])), ones, 1)  # of each group
        y = ops.Reshape()(y, (-1, filters // self.group, *y.shape[2:])) - 0.5 * squares
        y = ops.Reshape()(y, (-1, filters, *y.shape[2:]))
        return y - 0.5 * ops.Reshape()(ops.ReduceSum()(w * w, (1, 2, 3)), (1, filters, 1, 1))


class LinearInputGrad(Pass):
    """dx = sum dy * (w - x) = (sum dy * w) - x * (sum dy): both are convolutions' input gradients."""

    def construct(self, dy, x, w):
        batch, _, height, width = x.shape
        filters, channels, kernel, _ = w.shape
        ones = ops.Ones()((1, 1, kernel, kernel), dtype.float32)
        by_group = ops.Reshape()(dy, (-1, filters // self.group, *dy.shape[2:]))
        seen = self.convolution(ops.ReduceSum(True)(by_group, 1), ones, (batch * self.group, 1, height, width), 1)
        sums = ops.Reshape()(x, (-1, channels, height, width)) * seen
        return self.convolution(dy, w, x.shape, self.group) - ops.Reshape()(sums, x.shape)

    def convolution(self, dy, w, shape, group):
        pad = (self.padding,) * 4
        transpose = ops.Conv2DTranspose(w.shape[0], w.shape[2], "pad", self.padding, pad, stride=self.stride,
                                        group=group)
        return transpose(dy, w, shape)


class SignWeightGrad(Pass):
    """dw = sum dy * sign(x - w), as w: the derivative of the forward pass, by blocks of images."""

    def construct(self, dy, x, w):
        batch, _, height, width = x.shape
        filters, channels, kernel, _ = w.shape
        taps, positions = channels * kernel * kernel, dy.shape[2] * dy.shape[3]
        blocks = block_count(batch, self.group * taps * positions)
        images = batch // blocks  # of a block
        x = ops.Reshape()(x, (blocks, images * self.group, channels, height, width))
        dy = ops.Reshape()(dy, (blocks, images * self.group, filters // self.group, positions))
        weights = ops.Tile()(ops.Reshape()(w, (self.group, filters // self.group, taps)), (images, 1, 1))
        dw = ops.Zeros()((filters, taps), dtype.float32)
        i = ops.Zeros()((1, 1), dtype.int32)
        while i < blocks:
            patches = windows(block_of(x, i), kernel, self.stride, self.padding)
            distance = ops.Cdist(1.0)(weights, patches)
            gradient = CdistGrad(1.0)(block_of(dy, i), weights, patches, distance)
            dw = dw - ops.ReduceSum()(ops.Reshape()(gradient, (images, filters, taps)), 0)
            i = i + 1
        return ops.Reshape()(dw, w.shape)


class MixedWeightGrad(Float32):
    """dw = sum dy * (mix * (x - w) + (1 - mix) * sign(x - w)), `mix` being a tensor [1]."""

    def __init__(self, geometry):
        super().__init__()
        self.linear, self.sign = WeightGrad(geometry), SignWeightGrad(geometry)

    def construct(self, dy, x, w, mix):
        return mix * self.linear(dy, x, w) + (1.0 - mix) * self.sign(dy, x, w)


def block_of(x, i):
    """x[i]: x [blocks, N, ...], i [1, 1] -> [N, ...]. Indexing would take several times the memory to compile."""
    return ops.Reshape()(ops.GatherNd()(x, i), x.shape[1:])


def windows(x, kernel, stride, padding):
    """What each output sees: x [N, C, H, W] -> [N, positions, C * kernel * kernel]."""
    patches = ops.Im2Col(kernel, stride, 1, padding)(x)
    return ops.Transpose()(ops.Reshape()(patches, (x.shape[0], x.shape[1] * kernel * kernel, -1)), (0, 2, 1))


@ops.constexpr
def block_count(items, outputs):
    """How many equal blocks of items to make, each within the limit for a value per item and output."""
    if ms.get_context("device_target") != "CPU":
        limit = DEVICE_BLOCK_BYTES
    else:
        limit = BLOCK_BYTES if ms.get_context("mode") == ms.GRAPH_MODE else LARGE_BLOCK_BYTES
    return equal_blocks(items, max(1, limit // (4 * outputs)))
