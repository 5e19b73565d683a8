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
"""The adder layer from built-in MindSpore operators: for Ascend, GPU, export, and wherever no compiler is.

A loop runs over blocks of window taps, so that filters x patches x positions never exist at once. Tensors are
channel-first inside: a patch is a column of [k * k * C, N * positions]. Three peculiarities of MindSpore 2.8 shape the
code. Operators that index on CPU keep 8 to 16 bytes for each element, per instance, for as long as the graph lives:
a broadcasting Sub or Mul (hence Tile and BiasAdd) and Transpose (hence Unstack and Stack). ReduceSum on CPU is ten
times faster over the first axis than over any other. A loop that is unrolled costs 50 ms and 1.5 MB an iteration to
compile, and runs all its iterations at once (hence `while`, which becomes one subgraph).
"""
from mindspore import dtype, nn, ops
from mindspore.ops.operations import _grad_ops

BLOCK_BYTES = 64 << 20  # of one temporary tensor: taps of a block x filters (or channels) x N x positions


def implementation(stride, padding, form="loop"):
    """Return the Cells forward(x, w), input_grad(dy, x, w) and weight_grad(dy, x, w).

    `form` concerns the forward pass only: "loop", or for exported models "unrolled" (no control flow) or "onnx" (that,
    from operators that MindSpore converts to ONNX).
    """
    return Forward(stride, padding, form), InputGrad(stride, padding), WeightGrad(stride, padding)


class Forward(nn.Cell):
    """y = -sum |x - w|: x [N, C_in, H, W], w [C_out, C_in, k, k] -> [N, C_out, H_out, W_out]."""

    def __init__(self, stride, padding, form="loop"):
        super().__init__()
        self.form = form
        self.patches = Patches(stride, padding, form)

    def construct(self, x, w):
        filters, _, kernel, _ = w.shape
        patches, batch, rows, cols = self.patches(x, kernel)  # [k * k * C_in, positions]
        blocks = block_count(patches.shape[0], filters * patches.shape[1])
        patches = patches.reshape((blocks, -1, patches.shape[1]))
        w = ops.Transpose()(w, (2, 3, 1, 0)).reshape((blocks, -1, filters))
        y = ops.Zeros()((filters, patches.shape[2]), x.dtype)
        if self.form != "loop":
            for i in range(blocks):
                y = y - self.distance(ops.depend(patches, y)[i], w[i])
        else:
            i = ops.Zeros()((1,), dtype.int32)
            while i < blocks:
                y = y - self.distance(ops.Gather()(patches, i, 0)[0], ops.Gather()(w, i, 0)[0])
                i = i + 1
        y = y.reshape((filters, batch, rows, cols))
        return ops.Transpose()(y, (1, 0, 2, 3)) if self.form == "onnx" else batch_first(y)

    def distance(self, x, w):
        """sum |x - w| over the taps of a block: x [taps, positions], w [taps, C_out] -> [C_out, positions]."""
        taps, filters = w.shape
        if self.form == "onnx":  # its converter adds a bias along the wrong axis
            difference = x.reshape((taps, 1, -1)) - w.reshape((taps, filters, 1))
        else:
            x = ops.Tile()(x.reshape((taps, 1, -1)), (1, filters, 1)).reshape((1, taps * filters, -1))
            difference = ops.BiasAdd()(x, -w.reshape((-1,))).reshape((taps, filters, -1))
        return ops.ReduceSum()(ops.Abs()(difference), 0)


class InputGrad(nn.Cell):
    """dx = sum dy * clip(w - x, -1, 1), as x [N, C_in, H, W]: every input gathers dy from the windows that saw it."""

    def __init__(self, stride, padding):
        super().__init__()
        self.stride, self.padding = stride, padding
        self.patches = Patches(1, 0)

    def construct(self, dy, x, w):
        batch, channels, height, width = x.shape
        kernel = w.shape[2]
        dy, _, _, _ = self.patches(self.spread(dy, x.shape, kernel), kernel)  # [k * k * C_out, N * H * W]
        x = channel_first(ops.depend(x, dy)).reshape((channels, -1))
        blocks = block_count(dy.shape[0], x.size)
        dy = dy.reshape((blocks, -1, x.shape[1]))
        w = ops.ReverseV2((0, 1))(ops.Transpose()(w, (2, 3, 0, 1))).reshape((blocks, -1, channels))
        dx = ops.Zeros()(x.shape, x.dtype)
        i = ops.Zeros()((1,), dtype.int32)
        while i < blocks:
            dx = dx - self.gradient(ops.Gather()(dy, i, 0)[0], x, ops.Gather()(w, i, 0)[0])
            i = i + 1
        return batch_first(dx.reshape((channels, batch, height, width)))

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

    def gradient(self, dy, x, w):
        """sum dy * clip(x - w, -1, 1) over a block: dy [taps, positions], x [C_in, positions], w [taps, C_in]."""
        taps, channels = w.shape
        x = ops.Tile()(x, (taps, 1)).reshape((1, taps * channels, -1))
        difference = ops.BiasAdd()(x, -w.reshape((-1,)))
        slope = ops.clip_by_value(difference, -1.0, 1.0)
        slope = ops.Select()(ops.IsNan()(difference), difference, slope).reshape((taps, channels, -1))
        return ops.ReduceSum()(ops.Tile()(dy.reshape((taps, 1, -1)), (1, channels, 1)) * slope, 0)


class WeightGrad(nn.Cell):
    """dw = sum dy * (x - w) = (sum dy * x) - w * (sum dy), a matrix product, as w [C_out, C_in, k, k]."""

    def __init__(self, stride, padding):
        super().__init__()
        self.patches = Patches(stride, padding)

    def construct(self, dy, x, w):
        filters, channels, kernel, _ = w.shape
        patches, _, _, _ = self.patches(ops.depend(x, dy), kernel)  # not as soon as x is there, in the forward pass
        dy = channel_first(dy).reshape((filters, -1))  # [C_out, positions]
        product = ops.MatMul(transpose_b=True)(dy, patches).reshape((filters, kernel, kernel, channels))
        return ops.Transpose()(product, (0, 3, 1, 2)) - w * dy.sum(1).reshape((filters, 1, 1, 1))


class Patches(nn.Cell):
    """im2col: x [N, C, H, W] -> [k * k * C, N * rows * cols], with N, rows and cols; the tap is the slower index."""

    def __init__(self, stride, padding, form="loop"):
        super().__init__()
        self.stride, self.padding, self.form = stride, padding, form
        self.pad = nn.Pad(((0, 0), (0, 0), (padding, padding), (padding, padding)))

    def construct(self, x, kernel):
        x = ops.Transpose()(x, (1, 0, 2, 3)) if self.form == "onnx" else channel_first(x)
        if self.padding:
            x = self.pad(x)
        channels, batch, height, width = x.shape
        rows, cols = (height - kernel) // self.stride + 1, (width - kernel) // self.stride + 1
        taps = []
        for i in range(kernel):
            for j in range(kernel):
                end = (channels, batch, i + (rows - 1) * self.stride + 1, j + (cols - 1) * self.stride + 1)
                tap = ops.StridedSlice()(x, (0, 0, i, j), end, (1, 1, self.stride, self.stride))
                taps.append(tap.reshape((channels, -1)))
        return ops.Concat(0)(taps), batch, rows, cols


def channel_first(x):
    """[N, C, H, W] -> [C, N, H, W]."""
    return ops.Stack(0)(ops.Unstack(1)(x))


def batch_first(x):
    """[C, N, H, W] -> [N, C, H, W]."""
    return ops.Stack(1)(ops.Unstack(0)(x))


@ops.constexpr
def block_count(taps, outputs):
    """How many equal blocks of taps to make, each with at most BLOCK_BYTES for a value per tap and output."""
    largest = max(1, BLOCK_BYTES // (4 * outputs))
    return next(taps // size for size in range(min(largest, taps), 0, -1) if taps % size == 0)
