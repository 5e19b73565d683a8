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
"""The implementations behind the layers, and the choice between them. No other room knows which there is."""
import functools
import logging

import mindspore as ms

from . import composed, exported, operations
from .build import BuildError
from .geometry import Geometry, one_of_pair
from .precision import Float32, check_float

PRECISIONS = operations.PRECISIONS
Step = operations.Step
BACKENDS = ("auto", "kernel", "composed", *exported.FORMS)


def operation(name, backend="auto", *arguments, **options):
    """An operation by its name, or None where the backend has none of its own.

    Every backend has the three of an adder layer, made from its geometry: "forward" (x, w), "input_grad" (dy, x, w) and
    "weight_grad" (dy, x, w). Norm 1 is y = -sum |x - w|, with dx = sum dy * clip(w - x, -1, 1) and dw = sum dy * (x -
    w); norm 2 is y = -1/2 sum (x - w)^2 with its exact gradients, dx = sum dy * (w - x) and dw as above, so that
    AdderNet's dw is that of norm 2. "mixed_weight_grad" goes from there to the derivative of norm 1; it takes one more
    argument `mix` [1]:

        dw = sum dy * (mix * (x - w) + (1 - mix) * sign(x - w)), where sign(0) is 0

    The kernels have more, see `src.kernels.operations`.

    Args:
        name (str): of the operation.
        backend (str): "composed" takes built-in MindSpore operators, which run everywhere and can be exported;
            "kernel" takes the C++ kernel for CPU or the CUDA kernel for GPU; "auto" takes the kernel where it can be
            built and the composed form anywhere else, with one warning where a build failed; "unrolled" and "onnx"
            are composed, with a forward pass for exported models, see `src.kernels.exported`.
        arguments, options: of the operation, for a layer its `Geometry`.

    Returns:
        Cell, or None.

    Raises:
        ValueError: unknown backend.
        BuildError: "kernel" was asked for, and it cannot be built, or there is none for the device.
    """
    if not has(name, backend):
        return None
    if _takes_kernel(backend):
        return operations.OPERATIONS[name](*arguments, **options)
    return composed.OPERATIONS[name](*arguments, form=backend, **options)


def has(name, backend="auto"):
    """Whether a backend has an operation of its own of that name. Arguments and errors as those of `operation`."""
    if _takes_kernel(backend):
        return operations.has(name, ms.get_context("device_target"))
    return name in composed.OPERATIONS


def in_precision(name, precision):
    """The name of an operation in a precision, a key of `PRECISIONS`. Raises ValueError where it is none."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    return name + PRECISIONS[precision]


def _takes_kernel(backend):
    """Whether `backend` means the kernel here. Raises as `operation`."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    device = ms.get_context("device_target")
    if backend == "kernel" and device not in operations.DEVICES:
        raise BuildError("the adder kernel runs on device_target CPU or GPU only; choose backend auto or composed")
    return backend == "kernel" or (backend == "auto" and device in operations.DEVICES and _kernel_builds(device))


@functools.lru_cache(maxsize=None)
def _kernel_builds(device):
    """Whether the kernel is there, after one warning if it is not."""
    try:
        operations.library_path(device)
    except BuildError as error:
        logging.getLogger(__name__).warning("adder kernel unavailable, using the slower composed form: %s", error)
        return False
    return True
