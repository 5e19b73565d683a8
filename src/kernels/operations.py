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
"""The functions of the C++ libraries as MindSpore operators: the only table of them.

Layers in floats (`adder_*`), in fixed point (`adder_int16_*`) and in bytes (`adder_int8_*`), batch norm
(`batch_norm_*`). Each entry of `OPERATIONS` makes the Cell of one operation; `F32`, `U8` and `I32` are the types of its
inputs. The library is that of the device.
"""
import ctypes
import dataclasses
import functools
import math
import os

import mindspore as ms
import numpy as np
from mindspore import ops

from . import device_code
from .build import BuildError, cpu_library, gpu_library
from .geometry import Geometry, shape_of
from .precision import Float32

F32, U8, I32 = "Float32", "UInt8", "Int32"


def forward(geometry, numbers=""):
    """y = -sum |x - w|, or -1/2 sum (x - w)^2: (x [N, C, H, W], w [F, C, k, k]) -> [N, F, H', W']."""
    return Kernel(f"AdderForward{numbers}", (F32, F32), ms.float32, lambda x, w, sizes: _output(geometry, x, w),
                  geometry.sizes)


def input_grad(geometry, numbers=""):
    """dx from (dy, x, w), see `src.kernels.operation`."""
    def shape(dy, x, w, sizes):
        _check_gradient(geometry, dy, x, w)
        return x

    return Kernel(f"AdderInputGrad{numbers}", (F32,) * 3, ms.float32, shape, geometry.sizes)


def weight_grad(geometry, numbers=""):
    """dw from (dy, x, w)."""
    return _weight_grad(geometry, numbers, ms.Tensor(np.ones(1, np.float32)))


def mixed_weight_grad(geometry):
    """dw from (dy, x, w, mix [1])."""
    return _weight_grad(geometry, "")


def folded(geometry, relu, numbers=""):
    """y = relu(scale * forward(x, w) + shift + shortcut), called with (x, w, scale, shift[, shortcut]).

    One pass over memory for an adder layer, the batch norm of an evaluation (scale and shift [F]), a shortcut and, if
    `relu`, the activation.
    """
    def shape(x, w, scale, shift, *more):
        *shortcut, _ = more
        y = _output(geometry, x, w)
        _check("the folded adder layer", ("scale", scale, y[1:2]), ("shift", shift, y[1:2]),
               *(("shortcut", value, y) for value in shortcut))
        return y

    return Kernel(f"AdderFolded{numbers}", (F32,) * 5, ms.float32, shape, (*geometry.sizes, relu + 1), optional=1)


@dataclasses.dataclass(frozen=True)
class Step:
    """A folded layer of a stage. Input 0 is what the stage is given, input i + 1 what its layer i gives."""
    geometry: Geometry  # of one group
    shape: tuple        # of the filters, [F, C, k, k]
    relu: bool
    source: int         # the input that it reads
    shortcut: int = -1  # the one that it adds, if any


def stage(steps, numbers=""):
    """Folded layers in one call, called with (x, values): values [n] are w, scale and shift of each layer, one behind
    the other. Gives what the last layer gives.

    A thread takes an image through all layers while it is in the cache; of fewer images than threads, all share a layer.
    """
    program = [(step.shape[0], step.shape[2], step.geometry.stride, step.geometry.padding, step.geometry.norm, step.relu,
                step.source, step.shortcut) for step in steps]

    def shape(x, values, *_):
        maps = [x]
        for step in steps:
            maps.append(_output(step.geometry, maps[step.source], step.shape))
            if step.shortcut >= 0:
                _check("a layer of the stage", ("the shortcut", maps[step.shortcut], maps[-1]))
        _check("the stage", ("values", values, [sum(math.prod(step.shape) + 2 * step.shape[0] for step in steps)]))
        return maps[-1]

    for i, step in enumerate(steps):
        if not (0 <= step.source <= i and -1 <= step.shortcut <= i and step.geometry.group == 1):
            raise ValueError(f"a layer of a stage reads what is there before it, and has no groups, unlike {step}")
        if numbers:
            _check_norm(step.geometry)
    if not steps:
        raise ValueError("a stage has at least one layer")
    return Kernel(f"AdderStage{numbers}", (F32, F32), ms.float32, shape, (1,), ms.Tensor(np.array(program, np.int32)))


def int16(operation):
    """An operation in fixed point, of norm 1: what is multiplied or compared is rounded to integers of 16 bits, all else
    is in floats.

    A depthwise layer, which memory limits, is computed in floats. An image, and of the filters' gradient a filter or a
    channel, is NaN where a value of it is not finite.
    """
    def make(geometry, *arguments, **options):
        _check_norm(geometry)
        return operation(geometry, *arguments, numbers="Int16", **options)

    return make


def batch_norm(relu):
    """Batch norm in training, a shortcut and, if `relu`, the activation: relu(batch_norm(x) + shortcut).

    Called with (x, gamma, beta, moving_mean, moving_variance, [momentum, epsilon][, shortcut]); gives y, the new
    moving_mean and moving_variance, the batch's mean and its inverse deviation.
    """
    def shapes(x, *more):
        *vectors, _ = more[:5]
        _check("batch norm", *((name, value, x[1:2]) for name, value in zip(("gamma", "beta", "mean", "variance"),
                                                                            vectors)),
               *(("shortcut", value, x) for value in more[5:-1]))
        return (x, *(x[1:2],) * 4)

    return Kernel("BatchNormForward", (F32,) * 7, (ms.float32,) * 5, shapes, (relu + 1,), optional=1)


def batch_norm_grad(relu, shortcut):
    """dx, dgamma and dbeta from (dy, x, gamma, mean, inverse deviation[, y, if `relu`]).

    With both a ReLU and a shortcut the fourth output is the shortcut's gradient, dy where y > 0; without a ReLU it is
    dy itself, and there is none.
    """
    outputs = 4 if relu and shortcut else 3
    return Kernel("BatchNormGrad", (F32,) * (6 if relu else 5), (ms.float32,) * outputs,
                  lambda dy, x, gamma, *_: (x, gamma, gamma, x)[:outputs], (relu + 1, shortcut + 1))


def int8_responses(geometry):
    """s = sum |x - w|: x [N, H, W, C] and w [F, C, k, k] uint8 -> [N, H', W', F] int32, exactly."""
    _check_norm(geometry)
    return Kernel("AdderInt8", (U8, U8), ms.int32, lambda x, w, sizes: _output_last(geometry, x, w), geometry.sizes[:2])


def int8_folded(geometry, top=255):
    """y = round(scale * s + shift + residual_scale * residual) within 0 .. top, as uint8.

    Called with (x, w, scale, shift[, residual, residual_scale]): s, x and w as in `int8_responses`, y and the residual
    [N, H', W', F], which is uint8 or int32, scales and shift [F] float32. Products and sums are rounded one by one,
    from left to right, and of two nearest integers the even one is taken, as operators of their own would do.
    """
    def shape(x, w, scale, shift, *more):
        *residual, _, _ = more
        y = _output_last(geometry, x, w)
        _check("the folded layer of bytes", ("scale", scale, y[3:]), ("shift", shift, y[3:]),
               *zip(("residual", "residual_scale"), residual, (y, y[3:])))
        return y

    _check_norm(geometry)
    return Kernel("AdderInt8Folded", (U8, U8, F32, F32, (U8, I32), F32), ms.uint8, shape, geometry.sizes[:2], _top(top),
                  optional=2)


def int8_quantised(top=255):
    """y = round(x) within 0 .. top: x [N, C, H, W] float32 -> [N, H, W, C] uint8."""
    return Kernel("QuantiseInt8", (F32,), ms.uint8, lambda x, *_: [x[0], x[2], x[3], x[1]], (1,), _top(top))


PRECISIONS = {"float32": "", "int16": "_int16"}  # to the end of the operations' names
OPERATIONS = {"forward": forward, "input_grad": input_grad, "weight_grad": weight_grad,
              "mixed_weight_grad": mixed_weight_grad, "folded": folded, "forward_int16": int16(forward),
              "input_grad_int16": int16(input_grad), "weight_grad_int16": int16(weight_grad),
              "folded_int16": int16(folded), "stage": stage, "stage_int16": functools.partial(stage, numbers="Int16"),
              "batch_norm": batch_norm, "batch_norm_grad": batch_norm_grad,
              "int8_responses": int8_responses, "int8_folded": int8_folded, "int8_quantised": int8_quantised}
DEVICES = ("CPU", "GPU")
ON_CPU_ONLY = ("forward_int16", "input_grad_int16", "weight_grad_int16", "folded_int16", "stage", "stage_int16",
               "int8_responses", "int8_folded", "int8_quantised")
NVIDIA_DRIVER = "libcuda.so.1"


def has(name, device):
    """Whether a device's library has an operation."""
    return name in OPERATIONS and (device == "CPU" or name not in ON_CPU_ONLY)


class Kernel(Float32):
    """One function of the library, called with its inputs.

    Args:
        function (str): its name.
        inputs (tuple): type of each input, a name or a tuple of names.
        outputs (Type | tuple[Type]): of what it gives.
        shapes: from the shapes of all inputs, constants included, the last being `sizes`, to those of the outputs.
        sizes (tuple[int]): what the function reads off the shape of its last input.
        constants (Tensor): further inputs, before that.
        optional (int): how many of the last inputs may be left out together.

    Raises:
        BuildError: the library cannot be had.
    """

    def __init__(self, function, inputs, outputs, shapes, sizes, *constants, optional=0):
        super().__init__()
        self.constants = (*constants, shape_of(*sizes))
        types = _Types(inputs, optional, outputs, len(self.constants))
        library = library_path(ms.get_context("device_target"))
        self.kernel = ops.Custom(f"{library}:{function}", shapes, types, func_type="aot")

    def construct(self, *tensors):
        return self.kernel(*tensors, *self.constants)


class _Types:
    """Types of the outputs, once those of the inputs have been checked."""

    def __init__(self, inputs, optional, outputs, constants):
        self.inputs = [(wanted,) if isinstance(wanted, str) else wanted for wanted in inputs]
        self.counts = (len(inputs), len(inputs) - optional)
        self.outputs, self.constants = outputs, constants

    def __call__(self, *types):
        got = [str(value) for value in types[:-self.constants]]  # a parameter's is Ref[Tensor[Float32]]
        if len(got) not in self.counts or not all(any(f"Tensor[{name}]" in one for name in wanted)
                                                  for one, wanted in zip(got, self.inputs)):
            names = ", ".join(" or ".join(wanted) for wanted in self.inputs[:len(got)])
            raise TypeError(f"the adder kernel takes tensors of {names}, not {', '.join(got)}")
        return self.outputs


@functools.lru_cache(maxsize=None)
def library_path(device):
    """The library for "CPU" or "GPU", built if need be, and ready. Raises BuildError."""
    path = cpu_library() if device == "CPU" else gpu_library()
    library = ctypes.CDLL(str(path))  # MindSpore's is the same, loaded once
    try:
        if device == "CPU":
            library.SetThreads(ctypes.c_int64(thread_count()))
        else:
            _open_driver(library.OpenDriver)
    except AttributeError as error:  # of a compiler that compiles nothing
        raise BuildError(f"the compiled kernel lacks its functions: {error}") from error
    return path


def _open_driver(function):
    """Give the driver the kernels for the device that MindSpore has been told. Raises BuildError."""
    function.restype = ctypes.c_char_p
    message = function(NVIDIA_DRIVER.encode(), device_code.ptx().read_bytes(), ms.get_context("device_id"))
    if message:
        raise BuildError(message.decode(errors="replace"))


def thread_count():
    """How many threads the kernels use: $OMP_NUM_THREADS, or as many as there are processors for this process.

    Python's copy of the environment is asked: MindSpore sets the process's own to 1 where it is imported.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(wanted)) if wanted.isdecimal() and len(wanted) < 10 else len(os.sched_getaffinity(0))


def _weight_grad(geometry, numbers, *mix):
    """The filters' gradient, for a mix that is known or is the last input."""
    def shape(dy, x, w, mix, sizes):
        _check_gradient(geometry, dy, x, w)
        _check("the adder layer's gradient", ("mix", mix, [1]))
        return w

    return Kernel(f"AdderWeightGrad{numbers}", (F32,) * (4 - len(mix)), ms.float32, shape, geometry.sizes, *mix)


def _output(geometry, x, w):
    """Shape of a layer's output [N, F, H', W'], from those of x and w. Raises ValueError if they do not fit."""
    group = geometry.group
    if len(x) != 4 or len(w) != 4 or w[2] != w[3] or x[1] != w[1] * group or w[0] % group:
        raise ValueError(f"an adder layer of {group} groups takes x [N, C, H, W] and filters [F, C / groups, k, k], not "
                         f"{list(x)} and {list(w)}")
    rows, columns = (geometry.output_size(size, w[2]) for size in x[2:])
    if min(rows, columns) < 1:
        raise ValueError(f"windows of {w[2]} x {w[3]} do not fit into x {list(x)} with a padding of {geometry.padding}")
    return [x[0], w[0], rows, columns]


def _output_last(geometry, x, w):
    """The same [N, H', W', F], from x [N, H, W, C]."""
    batch, filters, rows, columns = _output(geometry, [x[0], *x[3:], *x[1:3]], w)
    return [batch, rows, columns, filters]


def _check_gradient(geometry, dy, x, w):
    _check("the adder layer's gradient", ("dy", dy, _output(geometry, x, w)))


def _check(what, *inputs):
    """Refuse inputs of other shapes than wanted, (name, shape, wanted): the kernels would read past their ends."""
    for name, shape, wanted in inputs:
        if list(shape) != list(wanted):
            raise ValueError(f"{what}: {name} must be of shape {list(wanted)}, not {list(shape)}")


def _check_norm(geometry):
    if geometry.norm != 1:
        raise ValueError(f"integers have distances of norm 1 only, not {geometry.norm}")


def _top(top):
    return ms.Tensor(np.array([top], np.float32))
