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
"""The kernel's functions without MindSpore around them."""
import ctypes


def bind(function, tensors):
    """Prepare a call by MindSpore's convention for ahead-of-time operators.

    Args:
        function: of a library loaded by ctypes.
        tensors (list[ndarray]): inputs, then the outputs, all contiguous.

    Returns:
        function without arguments: makes the call, returns its exit code, 0 if it went well.
    """
    pointers = (ctypes.c_void_p * len(tensors))(*[tensor.ctypes.data for tensor in tensors])
    shapes = [(ctypes.c_int64 * tensor.ndim)(*tensor.shape) for tensor in tensors]
    shape_pointers = (ctypes.c_void_p * len(tensors))(*map(ctypes.addressof, shapes))
    ranks = (ctypes.c_int * len(tensors))(*[tensor.ndim for tensor in tensors])
    types = (ctypes.c_char_p * len(tensors))(*[tensor.dtype.name.encode() for tensor in tensors])
    kept = tensors, shapes  # which the pointers do not keep
    return lambda: function(len(kept[0]), pointers, ranks, shape_pointers, types, None, None)
