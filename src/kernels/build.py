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
"""Builds the kernels' shared library from its C++ sources at first use, and keeps it in a cache."""
import concurrent.futures
import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from src.errors import UserError

FLAGS = ("-std=c++17", "-O3", "-pthread", "-fPIC")


class BuildError(UserError):
    """The library cannot be built here; the message says why in one line."""


def cpu_library():
    """Return the library of all kernels for CPU, built as `library` does. Raises BuildError."""
    return library(tuple(sorted(Path(__file__).parent.glob("*_cpu.cc"))))


@functools.lru_cache(maxsize=None)
def library(sources, headers=None, name="adder_cpu"):
    """Return the shared library of some C++ source files, built for this processor.

    The name in the cache holds a digest of the sources and the headers, the flags and every macro that the compiler
    predefines, which covers its version and the processor's instruction sets. The library appears by a rename: several
    processes may build at once, and one that is killed leaves no half-written library.

    The compiler is `$CXX` (default `g++`, else `c++`, else `clang++`); the cache is `$XDG_CACHE_HOME/adderngd`
    (default `~/.cache/adderngd`).

    Args:
        sources (tuple[Path]): the C++ files.
        headers (Path): the folder of the headers that they include; the first file's own, if not given.
        name (str): what the library's own name starts with.

    Returns:
        Path, the shared library.

    Raises:
        BuildError: no compiler, a failing build, or a cache folder that cannot be written.
    """
    headers = headers or sources[0].parent
    command = [_compiler(), *_processor_flags(), *FLAGS]
    macros = _run([*command, "-dM", "-E", "-x", "c++", os.devnull])
    texts = [path.read_text("utf-8") for path in (*sources, *sorted(headers.glob("*.h")))]
    digest = hashlib.sha256("\0".join([*command, macros, *texts]).encode()).hexdigest()[:16]
    target = _cache_folder() / f"{name}-{digest}.so"
    if not target.exists():
        _build([*command, f"-I{headers}"], sources, target)
    return target


def _build(command, sources, target):
    """Compile and link in a folder beside `target`, then rename the library."""
    with _folder_beside(target) as folder:
        objects = [str(folder / f"{source.stem}.o") for source in sources]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            steps = [pool.submit(_run, [*command, "-c", str(source), "-o", made])
                     for source, made in zip(sources, objects)]
        for step in steps:
            step.result()
        _run([*command, "-shared", *objects, "-o", str(folder / target.name)])
        os.replace(folder / target.name, target)


@contextlib.contextmanager
def _folder_beside(target):
    """A folder of the same file system, which is removed at the end."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}-")
    except OSError as error:
        raise BuildError(f"cannot write to the cache folder {target.parent}: {error.strerror}") from error
    with folder as path:
        yield Path(path)


def _run(command):
    """Run the compiler; return what it prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise BuildError(f"cannot run {command[0]}: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise BuildError(f"{command[0]} failed: " + next((line for line in lines if "error" in line), lines[-1]))
    return done.stdout


def _compiler():
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "c++", "clang++"]
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise BuildError(f"no C++ compiler found ({', '.join(names)})")


def _processor_flags():
    # GCC before 12 on Arm knows the processor as -mcpu only.
    return ["-mcpu=native"] if os.uname().machine == "aarch64" else ["-march=native"]


def _cache_folder():
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adderngd"
