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
"""Has NVIDIA's driver compile all kernels of MindSpore ahead, on all processors, into the driver's own cache.

    python scripts/compile_ahead.py

MindSpore's library holds 407 modules of PTX, and an old CUDA runtime that loads all of them at the first call. The
results take 350 MB: CUDA_CACHE_MAXSIZE has to allow that here and wherever MindSpore runs, see scripts/set_up_gpu.sh.
With --try it runs an operator of MindSpore's and builds the kernels of this project instead.
"""
import ctypes
import importlib.util
import multiprocessing
import os
import struct
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import errors

errors.guard(__name__)

MOST_PROCESSES = 32  # each takes some hundred MB of the GPU's memory
MAGIC = struct.pack("<I", 0xBA55ED50)  # a fat binary begins with it, a version, the sizes of its header and its body


def main():
    if sys.argv[1:] == ["--try"]:
        return try_out()
    spec = importlib.util.find_spec("mindspore")
    library = Path(spec.submodule_search_locations[0]) / "lib" / "plugin" / "gpu" / "libcuda_ops.so.11"
    work = sorted(modules(library.read_bytes()), key=lambda one: -one[1])  # the longest first
    os.environ["CUDA_MODULE_LOADING"] = "EAGER"
    failed = 0
    processes = min(MOST_PROCESSES, os.cpu_count())
    try:
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), start, (library,)) as pool:
            results = as_completed([pool.submit(compile_one, at) for at, _ in work])
            for done, result in enumerate(results, 1):
                failed += result.result() != 0
                print(f"\rcompiling MindSpore's kernels for this GPU: {done} of {len(work)}", end="", flush=True)
    except BrokenProcessPool as error:
        raise errors.UserError(f"the NVIDIA driver refuses {processes} processes at once, or memory ran out") from error
    print()
    if failed:
        raise errors.UserError(f"the driver cannot compile {failed} of MindSpore's {len(work)} modules for this GPU")


def try_out():
    """Raises UserError where anything is missing."""
    import mindspore as ms
    from mindspore import ops

    from src import device
    from src.kernels import operations

    device.set_up("GPU")
    operations.library_path("GPU")
    total = ops.add(ms.Tensor([1.0]), ms.Tensor([2.0])).asnumpy()
    print(f"MindSpore and the adder kernel are ready on this GPU: 1 + 2 = {total[0]:.0f}")


def modules(data):
    """(where it begins, bytes of PTX) of each fat binary. Its body is a list of images, each with a kind, of which 1 is
    PTX, the sizes of its header and its body."""
    position = 0
    while (position := data.find(MAGIC, position)) >= 0:
        version, header, size = struct.unpack_from("<HHQ", data, position + 4)
        if (version, header) != (1, 16):
            position += 4
            continue
        image, end, text = position + header, position + header + size, 0
        while image < end:
            kind, _, length, body = struct.unpack_from("<HHIQ", data, image)
            text += body if kind == 1 else 0
            image += length + body
        yield position, text
        position = end


def start(library):
    """In each process: open the driver, and the library's content."""
    global driver, content  # pylint: disable=global-variable-undefined
    driver, device, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p()
    for code in (driver.cuInit(0), driver.cuDeviceGet(ctypes.byref(device), 0),
                 driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), driver.cuCtxSetCurrent(context)):
        if code:
            raise OSError(f"the NVIDIA driver refuses: error {code}")
    data = library.read_bytes()
    content = ctypes.create_string_buffer(data, len(data))


def compile_one(position):
    module = ctypes.c_void_p()
    return driver.cuModuleLoadFatBinary(ctypes.byref(module), ctypes.c_void_p(ctypes.addressof(content) + position))


if __name__ == "__main__":
    errors.run(main)
