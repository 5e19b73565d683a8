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
"""The limits of this processor's core, measured by `peak.cc`."""
import ctypes
from pathlib import Path

from src.kernels import build

PASSES = {"forward": "Maximum", "input_grad": "Clipped", "weight_grad": "MultiplyAdd"}


def peaks():
    """Pairs (x, w) per second that one core can do at most, by pass; "multiply_add" for a convolution."""
    source = Path(__file__).with_suffix(".cc")
    library = ctypes.CDLL(str(build.library((source,), Path(build.__file__).parent, "peak")))
    rates = {}
    for name, function in {"multiply_add": "MultiplyAdd", **PASSES}.items():
        function = getattr(library, function)
        function.restype = ctypes.c_double
        rates[name] = function() * 1e9
    return rates
