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
"""The kernels as Arm's processors run them: compiled for NEON, executed by qemu-user, against the same oracles."""
import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_adder_kernel import check_adder, check_empty, check_empty_bytes, check_nan, check_one_odd_filter
from test_batch_norm_kernel import check_batch_norm
from test_int16_kernel import check_int16
from test_int8_kernel import check_int8

from benchmarks.binding import extents
from src.kernels import build

QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
pytestmark = pytest.mark.skipif(QEMU is None, reason="needs qemu-aarch64, as of Debian's package qemu-user")


class Emulated:
    """A library whose functions run on another processor: each call travels to a process that an emulator executes."""

    def __init__(self, process):
        self._process = process

    def __getattr__(self, name):
        def run(count, pointers, ranks, shapes, types, *_):
            pipe = self._process.stdin
            pipe.write(f"{name} {count}\n".encode())
            tensors = extents(count, ranks, shapes, types)
            for i, (shape, size) in enumerate(tensors):
                pipe.write(" ".join(map(str, [types[i].decode(), ranks[i], *shape, size])).encode() + b"\n")
                pipe.write(ctypes.string_at(pointers[i], size))
            pipe.flush()
            code = int(self._process.stdout.readline())
            for pointer, (_, size) in zip(pointers, tensors):
                ctypes.memmove(pointer, self._process.stdout.read(size), size)
            return code
        return run


@pytest.fixture(name="arm", scope="module")
def _arm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arm")
    sources = sorted(Path(build.__file__).parent.glob("*_cpu.cc"))
    names = [name for source in sources for name in re.findall(r"^(?:extern \"C\" )?int (\w+)\(int count, void",
                                                               source.read_text("utf-8"), re.MULTILINE)]
    flags = [flag for flag in build.FLAGS if flag not in ("-shared", "-fPIC")]
    kernels = " ".join(f"KERNEL({name})" for name in names)
    subprocess.run([sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-musl", "-static", *flags,
                    f"-DKERNELS={kernels}", *map(str, sources), str(Path(__file__).with_name("emulated.cc")),
                    "-o", str(folder / "kernels")], check=True)
    with subprocess.Popen([QEMU, str(folder / "kernels")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Emulated(process)
        process.stdin.close()


def test_floats(arm):
    check_adder(arm)
    check_empty(arm)
    check_nan(arm)
    check_one_odd_filter(arm)


def test_fixed_point(arm):
    check_int16(arm)


def test_bytes(arm):
    check_int8(arm)
    check_empty_bytes(arm)


def test_batch_norm(arm):
    check_batch_norm(arm)
