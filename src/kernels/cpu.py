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
"""The adder layer in floats (`adder_cpu.cc`) and bytes (`adder_int8_cpu.cc`), and batch norm (`batch_norm_cpu.cc`), in
C++ for CPU, as MindSpore operators."""
import os
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from src.kernels.build import library


def implementation(stride, padding, norm=1, mixed=False):
    """Return the Cells forward(x, w), input_grad(dy, x, w) and weight_grad(dy, x, w); float32 only.

    `norm` and `mixed` as in `src.kernels.select`.

    Raises:
        BuildError: the library cannot be built.
    """
    geometry = _integers(stride, padding, thread_count(), norm)
    mix = () if mixed else (ms.Tensor(np.ones(1, np.float32)),)
    return (_Kernel("AdderForward", _OutputShape(stride, padding), geometry),
            _Kernel("AdderInputGrad", _shape_of_x, geometry),
            _Kernel("AdderWeightGrad", _shape_of_w, *mix, geometry))


def folded(stride, padding, norm, relu):
    """Return the Cell y = relu(scale * forward(x, w) + shift + residual), called with (x, w, scale, shift[, residual]).

    One pass over memory for an adder layer, the batch norm of an evaluation (scale and shift [C_out]), a shortcut and,
    if `relu`, the activation. Raises BuildError as `implementation`.
    """
    return _Kernel("AdderForwardFolded", _OutputShape(stride, padding),
                   _integers(stride, padding, thread_count(), norm, relu))


def batch_norm():
    """Return the Cells of batch norm in training, float32 only:

    forward(x, gamma, beta, moving_mean, moving_variance, [momentum, epsilon]) gives y, the new moving_mean and
    moving_variance, the batch's mean and its inverse deviation; grad(dy, x, gamma, mean, inverse deviation) gives dx,
    dgamma and dbeta. Raises BuildError as `implementation`.
    """
    source, threads = "batch_norm_cpu.cc", _integers(thread_count())
    return (_Kernel("BatchNormForward", _forward_shapes, threads, source=source, outputs=5),
            _Kernel("BatchNormGrad", _grad_shapes, threads, source=source, outputs=3))


def int8_responses(stride, padding):
    """Return the Cell s = sum |x - w|: x [N, H, W, C_in] and w [C_out, C_in, k, k] uint8 -> [N, H_out, W_out, C_out]
    int32, exactly. Raises BuildError as `implementation`."""
    return _Kernel("AdderInt8", _ChannelsLastShape(stride, padding), _integers(stride, padding, thread_count(), 1),
                   source="adder_int8_cpu.cc", types=_Types(ms.int32, "UInt8", "UInt8"))


def int8_folded(stride, padding, top=255, residual=None):
    """Return the Cell y = round(scale * s + shift + residual_scale * residual) within 0 .. top, as uint8.

    Called with (x, w, scale, shift[, residual, residual_scale]): s, x and w as in `int8_responses`, y and the residual
    [N, H_out, W_out, C_out], scales and shift [C_out] float32. Products and sums are rounded one by one, from left to
    right, and of two nearest integers the even one is taken, as operators of their own would do.

    Args:
        stride, padding (int): of the window.
        top (int): largest value of y.
        residual (Type): of the residual, `ms.uint8` or `ms.int32`; None if there is none.

    Raises:
        BuildError: as `implementation`.
    """
    size, names = {None: (0, ()), ms.uint8: (1, ("UInt8", "Float32")), ms.int32: (4, ("Int32", "Float32"))}[residual]
    return _Kernel("AdderInt8Folded", _ChannelsLastShape(stride, padding),
                   _integers(stride, padding, thread_count(), 1, top, size), source="adder_int8_cpu.cc",
                   types=_Types(ms.uint8, "UInt8", "UInt8", "Float32", "Float32", *names))


def int8_quantised(top=255):
    """Return the Cell y = round(x) within 0 .. top: x [N, C, H, W] float32 -> [N, H, W, C] uint8. Raises BuildError as
    `implementation`."""
    return _Kernel("QuantiseInt8", _channels_last, _integers(thread_count(), top), source="adder_int8_cpu.cc",
                   types=_Types(ms.uint8, "Float32"))


def library_path(source="adder_cpu.cc"):
    """Build the library of a source file if need be; return its path. Raises BuildError."""
    return library(Path(__file__).with_name(source))


def thread_count():
    """How many threads the kernel uses: $OMP_NUM_THREADS, or as many as there are processors for this process."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(wanted)) if wanted.isdigit() else len(os.sched_getaffinity(0))


class _OutputShape:
    """Shape of the layer's output [N, C_out, H_out, W_out] from those of x and w."""

    def __init__(self, stride, padding):
        self.stride, self.padding = stride, padding

    def __call__(self, x, w, *_):
        rows, cols = ((size + 2 * self.padding - w[2]) // self.stride + 1 for size in x[2:])
        return [x[0], w[0], rows, cols]


class _ChannelsLastShape(_OutputShape):
    """The same [N, H_out, W_out, C_out], from x [N, H, W, C_in]."""

    def __call__(self, x, w, *_):
        batch, filters, rows, cols = super().__call__([x[0], x[3], x[1], x[2]], w)
        return [batch, rows, cols, filters]


class _Kernel(nn.Cell):
    """One function of a library. Its last arguments are constants: the ABI knows tensors only, no attributes."""

    def __init__(self, function, out_shape, *constants, source="adder_cpu.cc", outputs=1, types=None):
        super().__init__()
        self.kernel = ops.Custom(f"{library_path(source)}:{function}", out_shape, types or _Float32(outputs),
                                 func_type="aot")
        # MindSpore remembers shapes by inputs and attributes: without one, stride 2 can get an output of stride 1.
        self.kernel.add_prim_attr("constants", str([constant.asnumpy().tolist() for constant in constants]))
        self.constants = constants

    def construct(self, *tensors):
        return self.kernel(*tensors, *self.constants)


def _integers(*values):
    return ms.Tensor(np.array(values, np.int32))


class _Float32:
    """Type of the outputs, once those of the inputs have been checked."""

    def __init__(self, outputs):
        self.outputs = outputs

    def __call__(self, *dtypes):
        if not all("Tensor[Float32]" in str(dtype) for dtype in dtypes[:-1]):  # a parameter's is Ref[Tensor[Float32]]
            raise TypeError(f"the kernels take float32 tensors, not {', '.join(map(str, dtypes[:-1]))}")
        return ms.float32 if self.outputs == 1 else (ms.float32,) * self.outputs


class _Types:
    """Type of the output, once those of the inputs have been checked: their names, constants left out."""

    def __init__(self, output, *inputs):
        self.output, self.inputs = output, inputs

    def __call__(self, *dtypes):
        got = dtypes[:len(self.inputs)]
        if len(dtypes) != len(self.inputs) + 1 or not all(f"Tensor[{wanted}]" in str(dtype)
                                                          for wanted, dtype in zip(self.inputs, got)):
            raise TypeError(f"the kernel takes {', '.join(self.inputs)}, not {', '.join(map(str, got))}")
        return self.output


def _shape_of_x(_, x, *__):
    return x


def _shape_of_w(_, __, w, *___):
    return w


def _forward_shapes(x, gamma, *_):
    return (x,) + (gamma,) * 4


def _channels_last(x, _):
    return [x[0], x[2], x[3], x[1]]


def _grad_shapes(dy, _, gamma, *__):
    return dy, gamma, gamma
