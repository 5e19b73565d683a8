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
"""The adder layer in C++ for CPU (`adder_cpu.cc`), as MindSpore operators."""
import os
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from src.kernels.build import library


def implementation(stride, padding):
    """Return the Cells forward(x, w), input_grad(dy, x, w) and weight_grad(dy, x, w); float32 only.

    Raises:
        BuildError: the library cannot be built.
    """
    return (_Kernel("AdderForward", _OutputShape(stride, padding), stride, padding),
            _Kernel("AdderInputGrad", _shape_of_x, stride, padding),
            _Kernel("AdderWeightGrad", _shape_of_w, stride, padding))


def folded(stride, padding, relu):
    """Return the Cell y = relu(scale * forward(x, w) + shift + residual), called with (x, w, scale, shift[, residual]).

    One pass over memory for an adder layer, the norm of an evaluation (scale and shift [C_out]), a shortcut and,
    if `relu`, the activation. Raises BuildError as `implementation`.
    """
    return _Kernel("AdderForwardFolded", _OutputShape(stride, padding), stride, padding, int(relu))


def library_path():
    """Build the library if need be; return its path. Raises BuildError."""
    return library(Path(__file__).with_name("adder_cpu.cc"))


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


class _Kernel(nn.Cell):
    """One function of the library; what is no tensor travels as one more tensor, the ABI knows no attributes."""

    def __init__(self, function, out_shape, stride, padding, *options):
        super().__init__()
        self.kernel = ops.Custom(f"{library_path()}:{function}", out_shape, _float32, func_type="aot")
        self.geometry = ms.Tensor(np.array([stride, padding, thread_count(), *options], np.int32))

    def construct(self, *tensors):
        return self.kernel(*tensors, self.geometry)


def _shape_of_x(_, x, *__):
    return x


def _shape_of_w(_, __, w, *___):
    return w


def _float32(*dtypes):
    if not all("Tensor[Float32]" in str(dtype) for dtype in dtypes[:-1]):  # a parameter's is Ref[Tensor[Float32]]
        raise TypeError(f"the adder kernel takes float32 tensors, not {', '.join(map(str, dtypes[:-1]))}")
    return ms.float32
