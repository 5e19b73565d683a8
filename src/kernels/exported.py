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
"""The forward pass of norm 1 in exported models: operators that every runtime has, no loops, a batch of any size; in a
MINDIR images of any size too.

x [N, C_in, H, W], w [C_out, C_in / group, k, k] -> y = -sum |x - w|, [N, C_out, H_out, W_out], by blocks of window
taps, so that the largest tensor has some 2 MB for each image. There are two forms, since MindSpore's CPU operators
index slowly where others broadcast, and the runtimes that read ONNX do not.
"""
import mindspore as ms
import numpy as np
from mindspore import nn, ops

from .passes import Pass, equal_blocks

BLOCK = 1 << 19  # values for each image in the largest tensor
MOST = 16  # blocks of a layer: each takes time to compile, and space in the file


class Maxima(Pass):
    """For ONNX: sum |x - w| = 2 sum max(x, w) - sum x - sum w, of which sum x is a convolution.

    A pair costs a maximum and an addition over one large tensor, which ONNX Runtime does in vectors on all cores.
    """

    def construct(self, x, w):
        filters, channels, kernel, _ = w.shape
        group, each = self.group, filters // self.group  # filters of a group
        patches = self.convolution(x, one_tap(group * channels, kernel), group * channels)  # [N, taps, H_out, W_out]
        taps, (rows, cols) = channels * kernel * kernel, patches.shape[2:]
        blocks = block_count(taps, filters * rows * cols)
        patches = ops.Transpose()(patches.reshape((-1, group, taps, rows, cols)), (2, 1, 0, 3, 4))
        patches = patches.reshape((blocks, taps // blocks, group, 1, -1))
        weights = ops.Transpose()(w.reshape((group, each, taps)), (2, 0, 1))
        weights = weights.reshape((blocks, taps // blocks, group, each, 1))
        maxima, ones = 0.0, ops.Ones()((1, taps // blocks), ms.float32)
        for block, w_block in zip(ops.Split(0, blocks)(patches), ops.Split(0, blocks)(weights)):
            maxima = maxima + ops.MatMul()(ones, ops.Maximum()(block, w_block).reshape((taps // blocks, -1)))
        maxima = ops.Transpose()(maxima.reshape((group, each, -1, rows, cols)), (2, 0, 1, 3, 4))
        ones = ops.Ones()((group, channels, kernel, kernel), ms.float32)
        sums = self.convolution(x, ones, group).reshape((-1, group, 1, rows, cols))
        sums = sums + ops.ReduceSum()(w, (1, 2, 3)).reshape((1, group, each, 1, 1))
        return (sums - 2.0 * maxima).reshape((-1, filters, rows, cols))


class Unrolled(Pass):
    """For MINDIR and AIR: |x - w| by tiles and biases, which MindSpore's CPU operators are faster at."""

    def __init__(self, geometry):
        super().__init__(geometry)
        self.pad = nn.Pad(((0, 0), (0, 0), (self.padding,) * 2, (self.padding,) * 2))

    def construct(self, x, w):
        filters, channels, kernel, _ = w.shape
        patches, rows, cols = self.patches(x, kernel)
        taps = channels * kernel * kernel
        blocks = block_count(taps, filters * rows * cols)
        patches = patches.reshape((blocks, taps // blocks, self.group, -1))
        w = ops.Transpose()(w, (2, 3, 1, 0)).reshape((blocks, taps // blocks, self.group, filters // self.group))
        y = -self.distance(patches[0], w[0])
        for i in range(1, blocks):
            y = y - self.distance(ops.depend(patches, y)[i], w[i])  # one after another: each has its memory to itself
        return ops.Stack(1)(ops.Unstack(0)(y.reshape((filters, -1, rows, cols))))  # [N, C_out, H_out, W_out]

    def patches(self, x, kernel):
        """im2col: x [N, C, H, W] -> [k * k * C, N * rows * cols], with rows and cols; the tap is the slowest index, and
        the group the fastest but for the position."""
        x = ops.Stack(0)(ops.Unstack(1)(x))  # [C, N, H, W]
        if self.group > 1:
            x = ops.Gather()(x, by_place(x.shape[0], self.group), 0)
        if self.padding:
            x = self.pad(x)
        channels, _, height, width = x.shape
        rows, cols = (height - kernel) // self.stride + 1, (width - kernel) // self.stride + 1
        taps = []
        for i in range(kernel):
            for j in range(kernel):
                end = (0, 0, i + (rows - 1) * self.stride + 1, j + (cols - 1) * self.stride + 1)
                tap = ops.StridedSlice(end_mask=0b0011)(x, (0, 0, i, j), end, (1, 1, self.stride, self.stride))
                taps.append(tap.reshape((channels, -1)))
        return ops.Concat(0)(taps), rows, cols

    @staticmethod
    def distance(x, w):
        """sum |x - w| over the taps of a block: x [taps, group, positions], w [taps, group, filters of each] ->
        [C_out, positions]."""
        taps, group, each = w.shape
        x = ops.Tile()(x.reshape((taps * group, 1, -1)), (1, each, 1)).reshape((1, taps * group * each, -1))
        difference = ops.BiasAdd()(x, -w.reshape((-1,))).reshape((taps, group * each, -1))
        return ops.ReduceSum()(ops.Abs()(difference), 0)


FORMS = {"unrolled": Unrolled, "onnx": Maxima}  # by the name of their backend, see `src.kernels.operation`


@ops.constexpr
def one_tap(channels, kernel):
    """Filters of a depthwise convolution that gives every tap of a window: [C * k * k, 1, k, k]."""
    taps = np.eye(kernel * kernel, dtype=np.float32).reshape((-1, 1, kernel, kernel))
    return ms.Tensor(np.tile(taps, (channels, 1, 1, 1)))


@ops.constexpr
def by_place(channels, group):
    """The order of channels in which the first ones of all groups come first, then the second ones, and so on."""
    return ms.Tensor(np.arange(channels, dtype=np.int32).reshape((group, -1)).T.reshape(-1))


@ops.constexpr(check=False)
def block_count(taps, outputs):
    """How many equal blocks of taps to make: within the limit, but hardly more than MOST, and about that many where the
    size of the images is not known, None."""
    return equal_blocks(taps, max(1, BLOCK // (outputs or BLOCK), taps // MOST))
