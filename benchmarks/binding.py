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
import math

import numpy as np


def bind(function, tensors, addresses=None, stream=None):
    """Prepare a call by MindSpore's convention for ahead-of-time operators.

    Args:
        function: of a library loaded by ctypes.
        tensors (list[ndarray]): inputs, then the outputs, all contiguous.
        addresses (list[int]): where they lie, if not in the host's memory.
        stream (ctypes.c_void_p): of a GPU, for the launches.

    Returns:
        function without arguments: makes the call, returns its exit code, 0 if it went well.
    """
    pointers = (ctypes.c_void_p * len(tensors))(*(addresses or [tensor.ctypes.data for tensor in tensors]))
    shapes = [(ctypes.c_int64 * tensor.ndim)(*tensor.shape) for tensor in tensors]
    shape_pointers = (ctypes.c_void_p * len(tensors))(*map(ctypes.addressof, shapes))
    ranks = (ctypes.c_int * len(tensors))(*[tensor.ndim for tensor in tensors])
    types = (ctypes.c_char_p * len(tensors))(*[tensor.dtype.name.encode() for tensor in tensors])
    kept = tensors, shapes  # which the pointers do not keep
    return lambda: function(len(kept[0]), pointers, ranks, shape_pointers, types, stream, None)


def extents(count, ranks, shapes, types):
    """Shape and bytes of each tensor of a call that `bind` prepared."""
    each = [tuple((ctypes.c_int64 * ranks[i]).from_address(shapes[i])) for i in range(count)]
    return [(shape, math.prod(shape) * np.dtype(types[i].decode()).itemsize) for i, shape in enumerate(each)]


class Gpu:
    """A GPU's memory, by NVIDIA's driver, in the context that MindSpore and PyTorch use too.

    Raises:
        OSError: there is no driver, or it refuses.
    """

    def __init__(self, number=0):
        from src.kernels import operations  # here: contestants without MindSpore import this file, too

        self._driver = ctypes.CDLL(operations.NVIDIA_DRIVER)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(device), number)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)

        name, version = ctypes.create_string_buffer(100), ctypes.c_int()
        self.call("cuDeviceGetName", name, 100, device)
        self.call("cuDriverGetVersion", ctypes.byref(version))
        self.name = f"{name.value.decode()}, driver for CUDA {version.value // 1000}.{version.value % 1000 // 10}"

    def call(self, name, *arguments):
        code = getattr(self._driver, name)(*arguments)
        if code:
            raise OSError(f"{name}: error {code}")

    def allocate(self, size):
        """A place for that many bytes."""
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(1, size)))
        return address.value

    def free(self, address):
        self.call("cuMemFree_v2", ctypes.c_uint64(address))

    def write(self, address, source, size):
        self.call("cuMemcpyHtoD_v2", ctypes.c_uint64(address), ctypes.c_void_p(source), ctypes.c_size_t(size))

    def read(self, address, target, size):
        """Waits for all that was started before."""
        self.call("cuMemcpyDtoH_v2", ctypes.c_void_p(target), ctypes.c_uint64(address), ctypes.c_size_t(size))

    def synchronise(self):
        self.call("cuCtxSynchronize")

    def module(self, ptx):
        """Kernels from PTX."""
        module = ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), ptx)
        return module

    def launch(self, module, kernel, blocks, threads, *arguments):
        """Start a kernel with arguments of ctypes."""
        function = ctypes.c_void_p()
        self.call("cuModuleGetFunction", ctypes.byref(function), module, kernel.encode())
        pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        self.call("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, None, pointers, None)


class OnGpu:
    """A library for GPU whose functions take and give arrays in the host's memory."""

    def __init__(self, library):
        self._library, self._gpu = library, Gpu()

    def __getattr__(self, name):
        function = getattr(self._library, name)

        def run(count, pointers, ranks, shapes, types, stream, extra):
            sizes = [size for _, size in extents(count, ranks, shapes, types)]
            places = [self._gpu.allocate(size) for size in sizes]
            for place, pointer, size in zip(places, pointers, sizes):
                self._gpu.write(place, pointer, size)
            code = function(count, (ctypes.c_void_p * count)(*places), ranks, shapes, types, stream, extra)
            for place, pointer, size in zip(places, pointers, sizes):
                self._gpu.read(place, pointer, size)
                self._gpu.free(place)
            return code

        return run
