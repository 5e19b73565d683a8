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
"""Builds the kernels' shared libraries from their C++ sources at first use, and keeps what is built in a cache."""
import concurrent.futures
import contextlib
import ctypes
import fcntl
import functools
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..errors import UserError

FOLDER = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-pthread", "-fPIC")


class BuildError(UserError):
    """The library cannot be built here; the message says why in one line."""


def cpu_library():
    """Return the library of all kernels for CPU, built as `library` does. Raises BuildError."""
    return library(tuple(sorted(FOLDER.glob("*_cpu.cc"))))


def gpu_library():
    """Return the library that launches the kernels for GPU, which `device_code.ptx` gives. Raises BuildError."""
    return library((*sorted(FOLDER.glob("*_gpu.cc")), FOLDER / "threads_cpu.cc"), name="adder_gpu")


@functools.lru_cache(maxsize=None)
def library(sources, headers=None, name="adder_cpu"):
    """Return the shared library of some C++ source files, built for this processor.

    It is kept as by `cached`, for these sources and headers, these flags, and every macro that the compiler predefines,
    which covers its version and the processor's instruction sets. The compiler is `$CXX` (default `g++`, else `c++`,
    else `clang++`), with arguments if need be.

    Args:
        sources (tuple[Path]): the C++ files.
        headers (Path): the folder of the headers that they include; the first file's own, if not given.
        name (str): what the library's own name starts with.

    Returns:
        Path, the shared library, which can be loaded.

    Raises:
        BuildError: no compiler, a failing build, or no folder that can be used.
    """
    headers = headers or sources[0].parent
    command = [*_compiler(), *_processor_flags(), *FLAGS]
    macros = run([*command, "-dM", "-E", "-x", "c++", os.devnull])
    texts = [path.read_text("utf-8") for path in (*sources, *sorted(headers.glob("*.h")))]
    return cached(name, [*command, macros, *texts], ".so",
                  lambda folder: _compiled([*command, f"-I{headers}"], sources, folder))


def cached(name, causes, suffix, make):
    """Return a file from the cache, built there at first use.

    Its name holds two digests. One is that of all that it is made from. The other is that of its own content: what is
    damaged is built anew. Nothing is taken from a folder or a file that others may write. The cache is
    `$XDG_CACHE_HOME/adderngd` (default `~/.cache/adderngd`) or, after a warning, a folder of the user's among the
    temporary ones.

    Args:
        name (str): what the file's own name starts with.
        causes (list[str]): all that it is made from.
        suffix (str): of the file; ".so" is loaded before it is believed.
        make: from a folder to a new file in it.

    Raises:
        BuildError: as `make` does, or no folder can be used.
    """
    stem, reasons = f"{name}-{_digest(chr(0).join(causes).encode())}", []
    for folder in _cache_folders():
        try:
            found = _kept(folder, stem, suffix) or _built(folder, stem, suffix, make)
        except OSError as error:
            reasons.append(f"cannot use the cache folder {folder}: {error.strerror or error}")
            continue
        if reasons:
            logging.getLogger(__name__).warning("%s; the kernel is in %s", reasons[0], found)
        return found
    raise BuildError("; ".join(reasons))


def _cache_folders():
    """Where the cache may be, the best place first. Without a home, `~` stays as it is, and is refused."""
    yield Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "adderngd"
    with contextlib.suppress(FileNotFoundError):  # no temporary folder can be written
        yield Path(tempfile.gettempdir()) / f"adderngd-{os.getuid()}"


def _kept(folder, stem, suffix):
    """The file in a folder, or None. Raises OSError if the folder cannot be used."""
    if not folder.is_absolute():
        raise OSError("no absolute path")
    if ":" in str(folder):
        raise OSError("MindSpore takes no path with a colon")
    if folder.exists() and not _is_ours(folder):
        raise OSError("others may write to it")
    for path in sorted(folder.glob(f"{stem}-*{suffix}")):
        if _is_sound(path):
            if suffix == ".so":
                ctypes.CDLL(str(path))  # where nothing may be executed, OSError
            return path
    return None


def _is_ours(path):
    """Whether nobody writes to it but this user, or root."""
    status = path.stat()
    return status.st_uid in (0, os.getuid()) and not status.st_mode & 0o022


def _is_sound(path):
    """Whether a file is what was built."""
    return (path.is_file() and not path.is_symlink() and _is_ours(path)
            and path.stem.endswith(f"-{_digest(path.read_bytes())}"))


def _built(folder, stem, suffix, make):
    """Build the file, in one process at a time; killed ones leave no lock, and what they left is removed here."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with open(folder / ".lock", "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _kept(folder, stem, suffix)
        if found:
            return found
        for left in (*folder.glob(".build-*"), *folder.glob(f"{stem}-*")):
            _remove(left)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as temporary:
            made = make(Path(temporary))
            target = folder / f"{stem}-{_digest(made.read_bytes())}{suffix}"
            with open(made, "rb") as file:
                os.fsync(file.fileno())
            made.chmod(0o644)  # whatever the umask: others may share the cache
            os.replace(made, target)
        return target


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _compiled(command, sources, folder):
    """Compile and link in a folder; return the library, which has been loaded."""
    objects, made = [str(folder / f"{source.stem}.o") for source in sources], folder / "library.so"
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        steps = [pool.submit(run, [*command, "-c", str(source), "-o", output])
                 for source, output in zip(sources, objects)]
    for step in steps:
        step.result()
    run([*command, "-shared", *objects, "-o", str(made)])
    if not made.is_file() or not made.stat().st_size:
        raise BuildError(f"{command[0]} wrote no library")
    ctypes.CDLL(str(made))
    return made


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def run(command):
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
    """The compiler and its own arguments."""
    wanted = os.environ.get("CXX", "").strip()
    try:
        commands = [[wanted], shlex.split(wanted)] if wanted else [["g++"], ["c++"], ["clang++"]]
    except ValueError as error:
        raise BuildError(f"CXX={wanted}: {error}") from error
    for name, *arguments in commands:
        path = shutil.which(name)
        if path:
            return [path, *arguments]
    raise BuildError(f"no C++ compiler found ({wanted or ', '.join(name for name, in commands)})")


def _processor_flags():
    # GCC before 12 on Arm knows the processor as -mcpu only.
    return ["-mcpu=native"] if os.uname().machine == "aarch64" else ["-march=native"]
