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
"""The kernel's build: its cache, several processes at once, kills, missing compilers, and other processors."""
import ctypes
import logging
import os
import platform
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mindspore as ms
import numpy as np
import oracle
import pytest
import test_adder_kernel
import test_int16_kernel
from test_adder_kernel import (check_adder, check_empty, check_empty_bytes, check_long_strides, check_nan,
                               check_one_odd_filter)
from test_batch_norm_kernel import check_batch_norm
from test_int16_kernel import check_int16
from test_int8_kernel import check_int8

from src import kernels
from src.adder import adder2d_function
from src.kernels import build, operations
from src.kernels.geometry import Geometry

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ROOT / "src" / "kernels"
SOURCES = tuple(sorted(KERNELS.glob("*_cpu.cc")))
SMALL_SOURCE = 'extern "C" int answer() { return 42; }\n'


@pytest.fixture(name="cache")
def _cache(tmp_path, monkeypatch):
    """An empty cache folder, and nothing remembered from other tests; afterwards everything is as it was."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    forget()
    yield tmp_path / "cache" / "adderngd"
    forget()


def forget():
    build.library.cache_clear()
    operations.library_path.cache_clear()
    kernels._kernel_builds.cache_clear()  # pylint: disable=protected-access


@pytest.fixture(name="source")
def _source(tmp_path):
    """A library that is quick to build."""
    path = tmp_path / "small.cc"
    path.write_text(SMALL_SOURCE, "utf-8")
    return path


def script(path, *lines):
    """An executable shell script, to stand in for a compiler."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]), "utf-8")
    path.chmod(0o755)
    return path


def stand_in(monkeypatch, folder, *lines):
    """Such a script, which CXX names."""
    path = script(folder / "broken", *lines)
    monkeypatch.setenv("CXX", str(path))
    return path


def real_compiler():
    return shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")


def in_a_process(source, **options):
    """Build and use the small library in a process of its own, which need not import MindSpore for that."""
    code = ("import ctypes, pathlib, sys, types\n"  # the room without MindSpore, which takes seconds to import
            "sys.modules['src.kernels'] = room = types.ModuleType('src.kernels')\n"
            f"room.__path__ = [{str(KERNELS)!r}]\n"
            "from src.kernels import build\n"
            "print(ctypes.CDLL(str(build.library((pathlib.Path(sys.argv[1]),)))).answer())")
    return subprocess.Popen([sys.executable, "-c", code, str(source)],
                            env={**os.environ, "PYTHONPATH": str(KERNELS.parents[1])}, **options)


def rebuilt(source):
    """The library as a new process would get it."""
    build.library.cache_clear()
    return build.library((source,))


def kept(cache):
    """The libraries in a cache, beside which only the lock may be."""
    assert {path.name for path in cache.iterdir() if path.suffix != ".so"} <= {".lock"}
    return sorted(cache.glob("*.so"))


def answer(library):
    return ctypes.CDLL(str(library)).answer()


def test_builds_once(cache, source):
    library = build.library((source,))
    assert answer(library) == 42 and kept(cache) == [library] and library.stat().st_mode & 0o777 == 0o644
    before = library.stat()
    assert rebuilt(source) == library
    assert (library.stat().st_mtime_ns, library.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_several_sources(cache, source):
    """They become one library, and may call each other; an error in any of them is an error."""
    more = source.with_name("more.cc")
    more.write_text('extern "C" int answer();\nextern "C" int twice() { return 2 * answer(); }\n', "utf-8")
    library = build.library((source, more), name="both")
    assert ctypes.CDLL(str(library)).twice() == 84 and answer(library) == 42
    assert library.name.startswith("both-")
    more.write_text("int broken() { return }\n", "utf-8")
    build.library.cache_clear()
    with pytest.raises(build.BuildError, match="failed: .*more.cc:1:.*error: "):
        build.library((source, more))
    assert kept(cache) == [library]


def test_appears_by_a_rename(cache, source, monkeypatch, tmp_path):
    """The library is the very file that the compiler wrote under another name, no copy of it."""
    monkeypatch.setenv("CXX", str(script(
        tmp_path / "wrapper", f'{real_compiler()} "$@" || exit 1',
        f'case "$*" in *-shared*) for last; do :; done; ls -i "$last" > {tmp_path}/written;; esac')))
    library = build.library((source,))
    inode, name = (tmp_path / "written").read_text("utf-8").split()
    assert int(inode) == library.stat().st_ino and Path(name).parent.parent == cache and Path(name) != library


def test_default_cache_folder(cache, source, monkeypatch, tmp_path):
    del cache
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert build.library((source,)).parent == tmp_path / "home" / ".cache" / "adderngd"


def test_what_makes_another_library(cache, source, monkeypatch, tmp_path):
    """Source, headers, flags, the compiler, its version and processor, which show in the macros that it predefines."""
    libraries = [build.library((source,))]
    source.write_text(SMALL_SOURCE.replace("42", "43"), "utf-8")
    libraries.append(rebuilt(source))
    assert answer(libraries[-1]) == 43
    source.with_name("constants.h").write_text("// read by a source file beside it", "utf-8")
    libraries.append(rebuilt(source))
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-DNAME"))
    libraries.append(rebuilt(source))
    wrapper = tmp_path / "wrapper"
    for macro in ("-D__VERSION_OF_TEST__=1", "-D__VERSION_OF_TEST__=2"):
        monkeypatch.setenv("CXX", str(script(wrapper, f'exec {real_compiler()} {macro} "$@"')))
        libraries.append(rebuilt(source))
    assert len(set(libraries)) == 6 and set(kept(cache)) == set(libraries)


def test_several_processes_at_once(cache, source, monkeypatch, tmp_path):
    """One of them builds, and the others wait for its library."""
    monkeypatch.setenv("CXX", str(script(
        tmp_path / "counted", f'case "$*" in *-shared*) echo >> {tmp_path}/builds;; esac',
        f'exec {real_compiler()} "$@"')))
    processes = [in_a_process(source, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0] for process in processes] == ["42\n"] * 4
    assert len(kept(cache)) == 1 and (tmp_path / "builds").read_text("utf-8") == "\n"


def test_killed_build_leaves_no_library(cache, source, monkeypatch, tmp_path):
    """Killed with half of the output written; the next build removes that."""
    started, slow = tmp_path / "started", tmp_path / "slow"
    script(slow, f'case "$*" in *-dM*) exec {real_compiler()} "$@";; esac', "for last; do :; done",
           'echo half > "$last"', f"echo > {started}", "exec sleep 60")
    monkeypatch.setenv("CXX", str(slow))
    with in_a_process(source, start_new_session=True) as process:
        wait_for(started.exists, process)
        os.killpg(process.pid, signal.SIGKILL)
    assert [file.read_text("utf-8") for file in cache.glob("*/*")] == ["half\n"]
    assert not list(cache.glob("[!.]*"))  # a name that is never looked for
    script(slow, f'exec {real_compiler()} "$@"')
    assert answer(build.library((source,))) == 42 and len(kept(cache)) == 1


def cut(library):
    os.truncate(library, 5000)


def empty(library):
    os.truncate(library, 0)


def flip_a_bit(library):
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)


def folder_instead(library):
    library.unlink()
    (library / "folder").mkdir(parents=True)


def foreign(library):
    library.write_bytes(Path(sys.executable).read_bytes())


def link(library):
    library.rename(library.with_name("elsewhere"))
    library.symlink_to("elsewhere")


def writable(library):
    library.chmod(0o666)


@pytest.mark.parametrize("damage", [cut, empty, flip_a_bit, folder_instead, foreign, link, writable])
def test_damaged_library_is_built_anew(cache, source, damage):
    """Also what somebody else put in its place. The damaged file is not the one that this process has loaded."""
    library = build.library((source,))
    content = library.read_bytes()
    library.unlink()
    library.write_bytes(content)
    damage(library)
    assert rebuilt(source) == library and library.read_bytes() == content and answer(library) == 42
    assert library.stat().st_mode & 0o777 == 0o644 and not library.is_symlink()
    assert list(cache.glob("*.so")) == [library]


def no_home(monkeypatch, tmp_path):
    del tmp_path
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # a user id that nobody knows
    return "no absolute path"


def colon(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a:b"))
    return "MindSpore takes no path with a colon"


def relative(monkeypatch, tmp_path):
    del tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    return "no absolute path"


def too_long(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ("x" * 300)))
    return "File name too long"


def no_folder(monkeypatch, tmp_path):
    """A file where the folder should be: root may write to any folder."""
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    return "Not a directory"


def others_may_write(monkeypatch, tmp_path):
    del monkeypatch
    (tmp_path / "cache" / "adderngd").mkdir(parents=True)
    (tmp_path / "cache" / "adderngd").chmod(0o777)
    return "others may write to it"


def of_another_user(monkeypatch, tmp_path):
    """Another, not root, owns all files: only the temporary folder's stand-in is ours."""
    folder = tmp_path / "cache" / "adderngd"
    folder.mkdir(parents=True)
    ours = build._is_ours  # pylint: disable=protected-access
    monkeypatch.setattr(build, "_is_ours", lambda path: path != folder and ours(path))
    return "others may write to it"


@pytest.mark.parametrize("place", [no_home, colon, relative, too_long, no_folder, others_may_write, of_another_user])
def test_cache_that_cannot_be_used(cache, source, monkeypatch, tmp_path, caplog, place):
    """The kernel is built among the temporary files, and found there again; one warning says why."""
    del cache
    reason = place(monkeypatch, tmp_path)
    library = build.library((source,))
    assert library.parent == tmp_path / f"adderngd-{os.getuid()}" and answer(library) == 42
    assert library.parent.stat().st_mode & 0o777 == 0o755
    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("src")]
    assert reason in warning and str(library) in warning
    assert rebuilt(source) == library and len(kept(library.parent)) == 1


def test_compiler_with_arguments(cache, source, monkeypatch):
    """As in CXX="ccache g++"."""
    monkeypatch.setenv("CXX", f"env LC_ALL=C '{real_compiler()}' -DUNUSED")
    assert answer(build.library((source,))) == 42 and len(kept(cache)) == 1


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None
        time.sleep(0.05)


def no_compiler(monkeypatch, tmp_path, cache):
    del tmp_path, cache
    monkeypatch.setenv("CXX", "/nonexistent")
    monkeypatch.setenv("PATH", "")
    return "no C++ compiler found (/nonexistent)"


def empty_path(monkeypatch, tmp_path, cache):
    del cache
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return "no C++ compiler found (g++, c++, clang++)"


def failing_compiler(monkeypatch, tmp_path, cache):
    del cache
    broken = stand_in(monkeypatch, tmp_path, "echo 'In file included from x:' >&2",
                      "echo 'x:1: error: no such luck' >&2", "echo 'compilation terminated.' >&2", "exit 1")
    return f"{broken} failed: x:1: error: no such luck"


def silent_compiler(monkeypatch, tmp_path, cache):
    del cache
    broken = stand_in(monkeypatch, tmp_path, "exit 3")
    return f"{broken} failed: exit code 3"


def not_a_program(monkeypatch, tmp_path, cache):
    del cache
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF, but no more than that")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    return f"cannot run {broken}: Exec format error"


def compiler_of_nothing(monkeypatch, tmp_path, cache):
    del cache
    idle = stand_in(monkeypatch, tmp_path, "exit 0")
    return f"{idle} wrote no library"


def compiler_of_garbage(monkeypatch, tmp_path, cache):
    stand_in(monkeypatch, tmp_path, 'for last; do :; done', '[ "$last" = /dev/null ] || echo garbage > "$last"')
    second = tmp_path / f"adderngd-{os.getuid()}"
    return "; ".join(f"cannot use the cache folder {folder}: {folder}/library.so: file too short"
                     for folder in (cache, second))


def killed_compiler(monkeypatch, tmp_path, cache):
    del cache
    broken = stand_in(monkeypatch, tmp_path, "kill -9 $$")
    return f"{broken} failed: exit code -9"


def unbalanced_quote(monkeypatch, tmp_path, cache):
    del tmp_path, cache
    monkeypatch.setenv("CXX", "ccache 'g++")
    return "CXX=ccache 'g++: No closing quotation"


def no_folder_at_all(monkeypatch, tmp_path, cache):
    """Files where the folders should be: root may write to any folder."""
    cache.parent.write_bytes(b"")
    monkeypatch.setattr(tempfile, "tempdir", str(cache.parent))
    second = cache.parent / f"adderngd-{os.getuid()}"
    return "; ".join(f"cannot use the cache folder {folder}: Not a directory" for folder in (cache, second))


@pytest.mark.parametrize("broken", [no_compiler, empty_path, failing_compiler, silent_compiler, not_a_program,
                                    compiler_of_nothing, compiler_of_garbage, killed_compiler, unbalanced_quote,
                                    no_folder_at_all])
def test_no_kernel(cache, monkeypatch, tmp_path, caplog, broken):
    """auto goes on with right numbers after one warning that says why; kernel is an error that says why."""
    reason = broken(monkeypatch, tmp_path, cache)
    random = np.random.default_rng(0)
    x, w = (random.standard_normal(shape).astype(np.float32) for shape in ((2, 3, 6, 5), (4, 3, 3, 3)))
    with caplog.at_level(logging.WARNING):
        for stride in (1, 2):  # a network has many layers
            y = kernels.operation("forward", "auto", Geometry(stride, 1))(ms.Tensor(x), ms.Tensor(w)).asnumpy()
            assert oracle.relative_error(y, oracle.forward(x, w, stride, 1)) < 1e-5
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("src")]
    assert list(map(without_build, warnings)) == [
        f"adder kernel unavailable, using the slower composed form: {reason}"]
    with pytest.raises(build.BuildError) as caught:
        adder2d_function(ms.Tensor(x), ms.Tensor(w), 1, 1, backend="kernel")
    assert without_build(str(caught.value)) == reason
    assert not cache.is_dir() or not kept(cache)


def without_build(message):
    """A message without the build's own folder, of a random name."""
    return re.sub(r"/\.build-\w+", "", message)


def compiled(tmp_path, compiler, *flags, sources=SOURCES):
    """The kernels in one library, built without a single warning."""
    library = tmp_path / "kernel.so"
    # GCC 12 would warn of _mm512_undefined_ps in its own immintrin.h; Clang does not know all of these options.
    ours = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-warning-option", "-Wno-maybe-uninitialized",
            "-Wno-uninitialized"]
    done = subprocess.run([compiler, *flags, *build.FLAGS, *ours, *map(str, sources), "-o", str(library)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 machine")
@pytest.mark.parametrize("processor, instructions", [("x86-64", "sse2"), ("x86-64-v3", "avx2"),
                                                     ("x86-64-v4", "avx512vl")])
def test_variants_for_x86(tmp_path, processor, instructions):
    """Each vector width compiles cleanly, and gives right numbers where this machine has its instructions."""
    library = compiled(tmp_path, real_compiler(), f"-march={processor}", "-shared")
    if instructions in Path("/proc/cpuinfo").read_text("utf-8").split():
        check(ctypes.CDLL(str(library)))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_variant_for_arm(tmp_path, monkeypatch, source):
    """Each source becomes an object for Arm; to link one would take a minute more, for Clang's own library."""
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "zig"))
    clang = [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-gnu", "-c"]
    assert compiled(tmp_path, *clang, sources=[source]).read_bytes()[18:20] == b"\xb7\0"  # EM_AARCH64


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 machine")
def test_tiles_change_no_bit(tmp_path):
    """A processor with a second-level cache of 4 KiB gives the same numbers, from many tiles instead of one."""
    cache_size = tmp_path / "cache_size.cc"
    cache_size.write_text('extern "C" long sysconf(int) { return 4 << 10; }\n', "utf-8")
    library = compiled(tmp_path, real_compiler(), "-march=native", "-shared", "-Wl,-Bsymbolic",
                       sources=(*SOURCES, cache_size))
    libraries = [ctypes.CDLL(str(path)) for path in (library, build.cpu_library())]
    for shapes in test_adder_kernel.SHAPES:
        for bits in (test_adder_kernel.bits, test_int16_kernel.bits):
            assert len({bits(library, shapes) for library in libraries}) == 1


def test_installed_library():
    """What the layers use, by the convention that MindSpore calls it with."""
    check(ctypes.CDLL(str(build.cpu_library())))


def check(library):
    """Compare all its functions with NumPy."""
    for count in (1, 3):
        library.SetThreads(ctypes.c_int64(count))
        for one in (check_adder, check_batch_norm, check_int16, check_int8, check_empty, check_empty_bytes, check_nan,
                    check_long_strides, check_one_odd_filter):
            one(library)
