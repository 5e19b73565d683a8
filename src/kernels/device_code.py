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
"""Compiles the kernels for GPU to PTX, which NVIDIA's driver makes machine code of, for whatever GPU there is.

NVRTC does it, a library that MindSpore's GPU backend needs anyway; where it cannot be found, `nvcc`.
"""
import ctypes
import importlib.util
import os
import shutil
from pathlib import Path

from .build import FOLDER, BuildError, cached, run

FLAGS = ("-std=c++17", "-arch=compute_80")  # from Ampere on: copies to shared memory that nobody waits for
OLDEST = (11, 7)  # the first that knows __grid_constant__
NVRTC = ("libnvrtc.so.11.2", "libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so")  # MindSpore's own is the first


def ptx():
    """Return the file with the PTX of all kernels, `*_gpu.cu`, kept as by `build.cached`.

    Raises:
        BuildError: neither NVRTC nor nvcc, a failing build, or no folder that can be used.
    """
    sources = sorted(FOLDER.glob("*_gpu.cu"))
    texts = [path.read_text("utf-8") for path in (*sources, *sorted(FOLDER.glob("*_gpu.h")))]
    program = "".join(f'#include "{path.name}"\n' for path in sources)
    chosen = compiler()
    return cached("adder_gpu", [chosen.version, *FLAGS, program, *texts], ".ptx",
                  lambda folder: chosen.compile(program, folder))


def compiler():
    """NVRTC, else nvcc. Raises BuildError where neither is."""
    found = Nvrtc.found() or Nvcc.found()
    if found is None:
        raise BuildError("no CUDA compiler of 11.7 or later found: pip install nvidia-cuda-nvrtc-cu11, or bash "
                         "scripts/set_up_gpu.sh")
    return found


class Nvrtc:
    """The compiler as a library."""

    def __init__(self, library):
        self.library = library
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("Version", ctypes.byref(major), ctypes.byref(minor))
        self.number = major.value, minor.value
        self.version = f"NVRTC {major.value}.{minor.value}"

    @classmethod
    def found(cls):
        """That of the system, of $LD_LIBRARY_PATH or of pip, or None."""
        for name in (*NVRTC, *_of_pip()):
            try:
                found = cls(ctypes.CDLL(name))
            except OSError:
                continue
            if found.number >= OLDEST:
                return found
        return None

    def compile(self, program, folder):
        """Compile a source text; return the file, in a folder. Raises BuildError."""
        handle = ctypes.c_void_p()
        self._call("CreateProgram", ctypes.byref(handle), program.encode(), b"kernels.cu", 0, None, None)
        options = [option.encode() for option in (*FLAGS, f"-I{FOLDER}")]
        try:
            self._call("CompileProgram", handle, len(options), (ctypes.c_char_p * len(options))(*options))
        except BuildError as error:
            lines = self._text(handle, "ProgramLog").decode(errors="replace").splitlines()
            raise BuildError(f"{self.version} failed: " + next((line for line in lines if "error" in line), str(error))
                             ) from error
        made = folder / "kernels.ptx"
        made.write_bytes(self._text(handle, "PTX"))
        self._call("DestroyProgram", ctypes.byref(handle))
        return made

    def _text(self, handle, name):
        size = ctypes.c_size_t()
        self._call(f"Get{name}Size", handle, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(f"Get{name}", handle, text)
        return text.value

    def _call(self, name, *arguments):
        code = getattr(self.library, f"nvrtc{name}")(*arguments)
        if code:
            raise BuildError(f"NVRTC: {self.library.nvrtcGetErrorString(code).decode()}")


class Nvcc:
    """The compiler as a program."""

    def __init__(self, path):
        self.path = path
        self.version = run([path, "--version"])

    @classmethod
    def found(cls):
        """$CUDA_HOME's, else that of PATH, or None."""
        folder = os.environ.get("CUDA_HOME")
        path = (folder and shutil.which("nvcc", path=f"{folder}/bin")) or shutil.which("nvcc")
        return cls(path) if path else None

    def compile(self, program, folder):
        """As `Nvrtc.compile`."""
        source, made = folder / "kernels.cu", folder / "kernels.ptx"
        source.write_text(program, "utf-8")
        run([self.path, *FLAGS, f"-I{FOLDER}", "-ptx", str(source), "-o", str(made)])
        if not made.is_file() or not made.stat().st_size:
            raise BuildError(f"{self.path} wrote no code")
        return made


def _of_pip():
    """NVRTC in a wheel such as nvidia-cuda-nvrtc-cu11, which lies in no folder that is searched."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from map(str, sorted(Path(folder).glob("cuda_nvrtc/lib/libnvrtc.so.*")))
