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
"""The limits of a core of this processor, measured by `peak.cc`, or of this GPU, by `peak_gpu.cu`."""
import ctypes
import tempfile
import time
from pathlib import Path

from benchmarks.binding import Gpu
from src.kernels import build, device_code

PASSES = {"forward": "Maximum", "input_grad": "Clipped", "weight_grad": "MultiplyAdd"}
ON_GPU = {**PASSES, "forward": "Distance"}
BLOCKS, THREADS, ROUNDS, SUMS = 132 * 16 * 8, 128, 10_000, 32  # of peak_gpu.cu: tens of milliseconds


def peaks(device="CPU"):
    """Pairs (x, w) per second that one core, or the GPU, can do at most, by pass; "multiply_add" for a convolution."""
    if device == "GPU":
        return _peaks_on_gpu()
    source = Path(__file__).with_suffix(".cc")
    library = ctypes.CDLL(str(build.library((source,), Path(build.__file__).parent, "peak")))
    rates = {}
    for name, function in {"multiply_add": "MultiplyAdd", **PASSES}.items():
        function = getattr(library, function)
        function.restype = ctypes.c_double
        rates[name] = function() * 1e9
    return rates


def _peaks_on_gpu():
    gpu, rates = Gpu(), {}
    with tempfile.TemporaryDirectory() as folder:
        code = device_code.compiler().compile(Path(__file__).with_name("peak_gpu.cu").read_text("utf-8"), Path(folder))
        module = gpu.module(code.read_bytes())
    values = gpu.allocate(4 * (2 + SUMS))
    for name, function in {"multiply_add": "MultiplyAdd", **ON_GPU}.items():
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            gpu.launch(module, function, BLOCKS, THREADS, ctypes.c_uint64(values), ctypes.c_int(ROUNDS))
            gpu.synchronise()
            seconds.append(time.perf_counter() - start)
        rates[name] = BLOCKS * THREADS * ROUNDS * SUMS / min(seconds)
    return rates
