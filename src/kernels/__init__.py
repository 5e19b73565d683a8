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
"""The implementations behind `src/adder.py`, and the choice between them."""
import functools
import logging

import mindspore as ms

from src.kernels import composed, cpu
from src.kernels.build import BuildError

BACKENDS = ("auto", "kernel", "composed", "unrolled", "onnx")


def select(backend, stride, padding, norm=1, mixed=False):
    """Choose an implementation of the adder layer.

    Norm 1 is y = -sum |x - w|, with dx = sum dy * clip(w - x, -1, 1) and dw = sum dy * (x - w); norm 2 is y =
    -1/2 sum (x - w)^2 with its exact gradients, dx = sum dy * (w - x) and dw as above, so that AdderNet's dw is that of
    norm 2. A mixed weight gradient goes from there to the derivative of norm 1; it takes one more argument `mix` [1]:

        dw = sum dy * (mix * (x - w) + (1 - mix) * sign(x - w)), where sign(0) is 0

    Args:
        backend (str): "composed" takes built-in MindSpore operators, which run everywhere and can be exported;
            "kernel" takes the C++ kernel for CPU; "auto" takes the kernel on CPU where it can be built and the
            composed form anywhere else, with one warning where a build failed; "unrolled" and "onnx" are
            composed forms for exported models, which may hold no loops.
        stride (int): step of the window.
        padding (int): rows and columns of zeros on each side.
        norm (int): 1 or 2.
        mixed (bool): whether the weight gradient takes `mix`.

    Returns:
        tuple of three Cells: forward(x, w), input_grad(dy, x, w) and weight_grad(dy, x, w[, mix]).

    Raises:
        ValueError: unknown backend.
        BuildError: "kernel" was asked for, and it cannot be built or the device is not a CPU.
    """
    if takes_kernel(backend):
        return cpu.implementation(stride, padding, norm, mixed)
    form = backend if backend in ("unrolled", "onnx") else "loop"
    return composed.implementation(stride, padding, norm, mixed, form)


def takes_kernel(backend):
    """Whether `backend` means the C++ kernel here. Raises as `select`."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    on_cpu = ms.get_context("device_target") == "CPU"
    if backend == "kernel" and not on_cpu:
        raise BuildError("the adder kernel runs on device_target CPU only; choose backend auto or composed")
    return backend == "kernel" or (backend == "auto" and on_cpu and _kernel_builds())


@functools.lru_cache(maxsize=None)
def _kernel_builds():
    """Whether the kernel is there, after one warning if it is not."""
    try:
        cpu.library_path()
    except BuildError as error:
        logging.getLogger(__name__).warning("adder kernel unavailable, using the slower composed form: %s", error)
        return False
    return True
