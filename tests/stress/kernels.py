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
"""The kernels on random shapes against float64, in each instruction set, under sanitizers and between guard pages.

Usage: python -m tests.stress.kernels [--count N] [--seconds S] [--seed N]

Each library runs in a process of its own: a sanitizer, or a page that may not be touched, ends it where it is. What the
tests of the kernels check for a few shapes is checked here for N, in floats and in bytes, with one thread and three.
"""
import argparse
import ctypes
import mmap
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.binding import extents
from tests.stress.options import parser

ROOT = Path(__file__).resolve().parents[2]
PROCESSORS = {"x86-64": "sse2", "x86-64-v3": "avx2", "x86-64-v4": "avx512vl", "native": "sse2"}  # and what this machine must have
# Name: flags, the runtime that has to be loaded first, what it is told.
BUILDS = {
    "ASan, UBSan": (("-fsanitize=address,undefined", "-fno-sanitize-recover=all"), "libasan.so",
                    {"ASAN_OPTIONS": "detect_leaks=0"}),
    "TSan": (("-fsanitize=thread",), "libtsan.so",
             {"TSAN_OPTIONS": "halt_on_error=1 ignore_noninstrumented_modules=1"}),
    "guard pages": ((), None, {}),
}
LARGEST = 3_000_000  # pairs (x, w) of a layer, for NumPy's sake


def main():
    options = parser(__doc__, 200, "shapes for each library, for each at most --seconds", 600)
    options.add_argument("--library", help=argparse.SUPPRESS)  # in a process of its own
    arguments = options.parse_args()
    if arguments.library:
        print(run(arguments))
        return
    known = Path("/proc/cpuinfo").read_text("utf-8").split()
    failed = 0
    for processor in (name for name, needed in PROCESSORS.items() if needed in known):
        for name in BUILDS:
            done = one_library(processor, name, arguments)
            failed += done.returncode != 0
            print(f"{processor:10} {name:12}", f"{done.stdout.strip()} shapes, none wrong" if done.returncode == 0 else
                  f"FAILED\n{done.stdout}{done.stderr}", flush=True)
    sys.exit(1 if failed else 0)


def one_library(processor, name, arguments):
    """Compile it and run it in a process of its own; returns that."""
    from src.kernels import build  # pylint: disable=import-outside-toplevel
    flags, runtime, environment = BUILDS[name]
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / ("guarded.so" if runtime is None else "library.so")
        sources = sorted(map(str, Path(build.__file__).parent.glob("*_cpu.cc")))
        subprocess.run(["g++", f"-march={processor}", *build.FLAGS, "-g", *flags, "-shared", *sources, "-o", library],
                       check=True)
        if runtime:
            path = subprocess.run(["g++", f"-print-file-name={runtime}"], capture_output=True, text=True, check=True)
            environment = {**environment, "LD_PRELOAD": path.stdout.strip()}
        # Without random addresses, which TSan's own memory does not always get along with.
        options = [f"--{option}={getattr(arguments, option)}" for option in ("count", "seconds", "seed")]
        return subprocess.run(["setarch", "-R", sys.executable, "-m", "tests.stress.kernels", "--library", library,
                               *options],
                              cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "tests"), "GLOG_v": "4",
                                             **environment}, capture_output=True, text=True, check=False)


def run(arguments):
    """Check the library on shapes until there were enough; returns how many there were."""
    for absent in ("mindspore", "src.adder", "src.kernels", "src.kernels.build", "src.kernels.geometry"):
        sys.modules[absent] = mock.MagicMock()  # MindSpore takes minutes to load beside a sanitizer
    from test_adder_kernel import check_adder  # pylint: disable=import-outside-toplevel
    from test_batch_norm_kernel import check_batch_norm  # pylint: disable=import-outside-toplevel
    from test_int16_kernel import check_int16  # pylint: disable=import-outside-toplevel
    from test_int8_kernel import check_int8  # pylint: disable=import-outside-toplevel
    library = ctypes.CDLL(arguments.library)
    functions = Guarded(library) if "guarded" in arguments.library else library
    random, end = np.random.default_rng(arguments.seed), time.monotonic() + arguments.seconds
    for done in range(arguments.count):
        if time.monotonic() > end:
            return done
        library.SetThreads(ctypes.c_int64((1, 3)[done % 2]))
        x, w, stride, padding = shapes(random)
        try:
            check_adder(functions, [(x, w, stride, padding)])
            check_int16(functions, [(x, w, stride, padding)])
            check_int8(functions, [((x[0], *x[2:], x[1]), w, stride, padding)])
            check_batch_norm(functions, [(x[0] + 15, *x[1:])])  # of few values the gradient is zero
        except AssertionError as error:
            raise AssertionError(f"x {x}, w {w}, stride {stride}, padding {padding}") from error
    return arguments.count


def shapes(random):
    """x, w, stride and padding of a layer: most sizes small, some large, all awkward."""
    while True:
        batch, channels, filters = (int(random.choice([1, 2, random.integers(1, most)])) for most in (20, 80, 80))
        height, width = (int(random.choice([1, random.integers(1, 12), random.integers(1, 50)])) for _ in range(2))
        kernel, stride = int(random.integers(1, 8)), int(random.choice([1, 2, 3, random.integers(1, 256)]))
        padding = int(random.choice([0, kernel // 2, random.integers(0, 5)]))
        rows, columns = ((size + 2 * padding - kernel) // stride + 1 for size in (height, width))
        if min(rows, columns) > 0 and batch * channels * filters * kernel ** 2 * rows * columns <= LARGEST:
            group = int(random.choice([1, channels, random.integers(1, channels + 1)]))
            channels, filters = (size + -size % group for size in (channels, filters))  # what it divides
            return (batch, channels, height, width), (filters, channels // group, kernel, kernel), stride, padding


class Guarded:
    """A library whose functions get each tensor between two pages that may not be touched."""

    def __init__(self, library):
        self.library = library

    def __getattr__(self, name):
        function = getattr(self.library, name)

        def call(count, data, ranks, sizes, types, *more):
            lengths = [length for _, length in extents(count, ranks, sizes, types)]
            for at_the_end in (False, True):
                pages = [Pages(length, at_the_end) for length in lengths]
                for page, address, length in zip(pages, data, lengths):
                    ctypes.memmove(page.address, address, length)
                result = function(count, (ctypes.c_void_p * count)(*[page.address for page in pages]), ranks, sizes,
                                  types, *more)
            for page, address, length in zip(pages, data, lengths):
                ctypes.memmove(address, page.address, length)
            return result

        return call


class Pages:
    """Memory of some bytes behind, or before, a page that may not be touched."""

    def __init__(self, length, at_the_end):
        size = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        self.memory = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for page in (start, start + mmap.PAGESIZE + size):
            assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        self.address = start + mmap.PAGESIZE + (size - length if at_the_end else 0)


if __name__ == "__main__":
    main()
