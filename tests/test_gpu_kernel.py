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
"""The kernels for GPU: on a CPU through a stand-in for NVIDIA's driver, compiled to PTX, and, with `python -m pytest -m
gpu`, on a GPU. They are compared with float64 by what the kernels for CPU are compared by."""
import ctypes
import functools
import importlib.util
import logging
import re
from pathlib import Path

import mindspore as ms
import numpy as np
import oracle
import pytest
import test_adder_kernel
import test_batch_norm_kernel
from test_adder_kernel import geometry_of, numbers

from benchmarks import contestants
from benchmarks.binding import Gpu, OnGpu, bind
from src import kernels
from src.adder import AdderOp
from src.kernels import Geometry, build, device_code, operations

KERNELS = Path(build.__file__).parent
TESTS = Path(__file__).parent
# Enough blocks for threads that have many positions; windows that leave room for one position, for one channel, and for
# fewer filters than usual; more filters and channels than a block has.
SHAPES = [*test_adder_kernel.SHAPES, ((1, 528 * 2, 4, 3), (528 * 3, 2, 2, 2), 1, 0),
          ((1, 2, 30, 31), (3, 2, 29, 29), 1, 1), ((1, 3, 17, 16), (64, 3, 16, 16), 16, 0), ((2, 130, 3, 3), (5, 130, 1, 1), 1, 0),
          ((3, 70, 4, 4), (71, 70, 3, 3), 2, 1)]
CHECKS = {f"adder {shapes}": functools.partial(test_adder_kernel.check_adder, cases=[shapes]) for shapes in SHAPES}
CHECKS |= {f"NaN {shapes}": functools.partial(test_adder_kernel.check_nan, cases=[shapes])
           for shapes in (SHAPES[1], SHAPES[3], SHAPES[8], SHAPES[11], SHAPES[13])}
CHECKS |= {f"norm {shape}": functools.partial(test_batch_norm_kernel.check_batch_norm, shapes=[shape])
           for shape in (*test_batch_norm_kernel.SHAPES, (18, 3, 15, 17))}
CHECKS |= {f"norm {shape}": functools.partial(test_batch_norm_kernel.check_empty, shape=shape)
           for shape in test_batch_norm_kernel.EMPTY}
CHECKS |= {"norm, NaN": test_batch_norm_kernel.check_nan, "empty": test_adder_kernel.check_empty,
           "long strides": test_adder_kernel.check_long_strides}
checks = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
# The layers of Adder ResNet-20: x, w, stride, padding.
RESNET = [((256, 16, 32, 32), (16, 16, 3, 3), 1, 1), ((256, 16, 32, 32), (32, 16, 3, 3), 2, 1),
          ((256, 16, 32, 32), (32, 16, 1, 1), 2, 0), ((256, 32, 16, 16), (32, 32, 3, 3), 1, 1),
          ((256, 32, 16, 16), (64, 32, 3, 3), 2, 1), ((256, 64, 8, 8), (64, 64, 3, 3), 1, 1)]


@pytest.fixture(name="driver", scope="module")
def _driver(tmp_path_factory):
    """The stand-in for NVIDIA's driver, with the kernels in it."""
    sources = [TESTS / "cuda_on_cpu.cc", *sorted(KERNELS.glob("*_gpu.cu"))]
    library = tmp_path_factory.mktemp("cuda") / "driver.so"
    build.run(["g++", "-std=c++17", "-O2", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-Wno-sign-compare", "-fPIC", "-shared", "-include",
               str(TESTS / "cuda_on_cpu.h"), f"-I{KERNELS}", "-x", "c++", *map(str, sources), "-o", str(library)])
    return library


def opened(driver):
    library = ctypes.CDLL(str(build.gpu_library()))
    library.OpenDriver.restype = ctypes.c_char_p
    assert library.OpenDriver(str(driver).encode(), b"PTX", 0) is None
    return library


@pytest.fixture(name="library")
def _library(driver):
    return opened(driver)


@checks
def test_on_a_cpu(library, check):
    check(library)


def test_tools_on_a_cpu(on_gpu, driver, library, monkeypatch):
    """What brings arrays to a GPU and back, and the layers of the benchmarks, which need it."""
    del on_gpu
    monkeypatch.setattr(operations, "NVIDIA_DRIVER", str(driver))
    assert Gpu().name == "a CPU, driver for CUDA 12.4"
    test_adder_kernel.check_adder(OnGpu(library), SHAPES[1:2])
    for function in ("AdderForward", "AdderInputGrad", "AdderWeightGrad"):
        run = contestants.adder_layer(*SHAPES[1], function, "GPU")
        run()
        assert run.times == contestants.STEPS


def test_large_windows(library, capfd):
    """What fits no multiprocessor is refused by one line."""
    x, y = np.zeros((1, 1, 200, 200), np.float32), np.zeros((1, 1, 1, 1), np.float32)
    assert bind(library.AdderForward, [x, x, geometry_of(1, 0, 1), y])() == 1
    assert capfd.readouterr().err == ("adder kernel: windows of this size are too large for the GPU kernel; backend "
                                      "composed takes them\n")


def test_failing_launch(library, driver, capfd):
    """One line says what failed; memory is freed behind it, though that fails as well."""
    x, w, dy = numbers(*SHAPES[1])
    fail = ctypes.CDLL(str(driver)).FailWith
    fail(700)
    try:
        inputs = dy, x, w, np.ones(1, np.float32), geometry_of(*SHAPES[1][2:], 1), w.copy()
        assert bind(library.AdderWeightGrad, inputs)() == 1
    finally:
        fail(0)
    assert capfd.readouterr().err == "adder kernel: cuLaunchKernel: error 700\n"


def launches(driver, function, *inputs):
    """(kernel, blocks, threads, shared) of a call that runs nothing, all on the stream that it names."""
    log = ctypes.CDLL(str(driver)).Launches
    log.restype = ctypes.c_char_p
    log(False)
    assert bind(function, list(inputs), stream=ctypes.c_void_p(77))() == 0
    made = [(name, *map(int, sizes)) for name, *sizes in map(str.split, log(True).decode().splitlines())]
    assert {stream for *_, stream in made} == {77}
    return [launch for *launch, _ in made]


@pytest.mark.parametrize("shapes", RESNET)
def test_launches(library, driver, shapes):
    """The layers of the network keep every multiprocessor of a Hopper GPU busy: blocks and memory that let several run
    at once, whole warps."""
    x, w, dy = (np.broadcast_to(np.float32(0), value) for value in shapes_of(*shapes))
    mix, geometry = np.ones(1, np.float32), geometry_of(*shapes[2:], 1)
    calls = [*launches(driver, library.AdderForward, x, w, geometry, dy),
             *launches(driver, library.AdderInputGrad, dy, x, w, geometry, x),
             *launches(driver, library.AdderWeightGrad, dy, x, w, mix, geometry, w)]
    for name, blocks, threads, shared in calls:
        assert threads % 32 == 0 and 96 <= threads <= 128 and shared <= 48 << 10, name
        assert blocks >= 250 or name.startswith("Combine"), name


def shapes_of(x, w, stride, padding):
    geometry = Geometry(stride, padding)
    return x, w, (x[0], w[0], *(geometry.output_size(size, w[2]) for size in x[2:]))


def test_large_networks_fit(library, driver):
    """Shapes alone decide: nothing overflows."""
    shapes = (64, 64, 1024, 1024), (128, 64, 3, 3), 1, 1
    x, w, dy = (np.broadcast_to(np.float32(0), value) for value in shapes_of(*shapes))
    assert launches(driver, library.AdderForward, x, w, geometry_of(1, 1, 1), dy)[0][1] > 1 << 16


def names():
    """Of all kernels, in the sources."""
    return set(re.findall(r"^KERNEL\((\w+),", "".join(path.read_text("utf-8") for path in KERNELS.glob("*_gpu.cu")),
                          re.MULTILINE))


@pytest.mark.parametrize("compiler", [device_code.Nvrtc, device_code.Nvcc])
def test_compiles_to_ptx(tmp_path, monkeypatch, compiler):
    """All kernels are there, with the copies that nobody waits for, the clipping that is free, and nothing in float64
    but where sums are combined."""
    found = compiler.found()
    if found is None:
        pytest.skip(f"no {compiler.__name__.lower()} here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for other in (device_code.Nvrtc, device_code.Nvcc):
        monkeypatch.setattr(other, "found", lambda: None)
    monkeypatch.setattr(compiler, "found", lambda: found)
    path = device_code.ptx()
    text = path.read_text("utf-8")
    assert set(re.findall(r"\.entry (\w+)", text)) == names() and path == device_code.ptx()
    for name, body in re.findall(r"\.entry (\w+)(.*?)\n}", text, re.DOTALL):
        if name.startswith(("Forward", "InputGrad", "Products", "Signs")):
            assert "cp.async" in body and ".f64" not in body, name
        if name.startswith(("InputGrad1", "Signs")):
            assert ".sat" in body, name
    monkeypatch.setattr(device_code, "FLAGS", (*device_code.FLAGS, "-DKERNEL=broken"))
    with pytest.raises(build.BuildError, match="failed: .*error"):
        device_code.ptx()


def test_no_cuda_compiler(tmp_path, monkeypatch):
    monkeypatch.setattr(device_code, "NVRTC", ())
    monkeypatch.setattr(device_code, "_of_pip", lambda: ())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    with pytest.raises(build.BuildError, match="no CUDA compiler of 11.7 or later found: pip install nvidia-cuda-nvrtc-cu11"):
        device_code.ptx()
    idle = tmp_path / "bin" / "nvcc"  # as scripts/set_up_gpu.sh writes one, which only tells a version
    idle.parent.mkdir()
    idle.write_text("#!/bin/sh\necho release 11.6\n", "utf-8")
    idle.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(build.BuildError, match=f"{idle} wrote no code"):
        device_code.ptx()


def test_nvrtc_of_pip(tmp_path, monkeypatch):
    wheel = tmp_path / "nvidia" / "cuda_nvrtc" / "lib" / "libnvrtc.so.11.2"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: type(
        "Spec", (), {"submodule_search_locations": [str(tmp_path / name)]}))
    assert list(device_code._of_pip()) == [str(wheel)]  # pylint: disable=protected-access


@pytest.fixture(name="on_gpu")
def _on_gpu(monkeypatch):
    """MindSpore says that its device is a GPU."""
    contexts = {"device_target": "GPU", "device_id": 0, "mode": ms.PYNATIVE_MODE}
    monkeypatch.setattr(ms, "get_context", contexts.__getitem__)
    monkeypatch.setattr(device_code, "ptx", lambda: KERNELS / "call_gpu.h")  # any text
    yield contexts
    operations.library_path.cache_clear()
    kernels._kernel_builds.cache_clear()  # pylint: disable=protected-access


def test_auto_takes_the_kernel(on_gpu, driver, monkeypatch):
    """Where the driver takes it; it has no operations of bytes."""
    del on_gpu
    monkeypatch.setattr(operations, "NVIDIA_DRIVER", str(driver))
    for name in operations.OPERATIONS:
        assert kernels.has(name) == kernels.has(name, "kernel") == (name not in operations.ON_CPU_ONLY)
    assert kernels.operation("int8_quantised") is None
    forward = kernels.operation("forward", "auto", Geometry())
    assert isinstance(forward, operations.Kernel)
    assert operations.library_path("GPU") == build.gpu_library()


def test_no_driver(on_gpu, monkeypatch, caplog):
    """auto goes on after one warning that says why; kernel is an error that says why."""
    del on_gpu
    monkeypatch.setattr(operations, "NVIDIA_DRIVER", "libnothing.so.1")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert not isinstance(kernels.operation("forward", "auto", Geometry()), operations.Kernel)
    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("src")]
    assert re.search("composed form: no NVIDIA driver: libnothing.so.1: cannot open", warning) and "\n" not in warning
    with pytest.raises(build.BuildError, match="no NVIDIA driver"):
        kernels.operation("forward", "kernel", Geometry())


def test_device_that_is_not_there(on_gpu, driver, monkeypatch):
    on_gpu["device_id"] = 3
    monkeypatch.setattr(operations, "NVIDIA_DRIVER", str(driver))
    with pytest.raises(build.BuildError, match="^cuDeviceGet: invalid device ordinal$"):
        kernels.operation("forward", "kernel", Geometry())


def test_driver_that_is_too_old(on_gpu, monkeypatch):
    del on_gpu
    monkeypatch.setattr(operations, "NVIDIA_DRIVER", "libm.so.6")
    with pytest.raises(build.BuildError, match="^the NVIDIA driver is too old: it has no cuInit$"):
        kernels.operation("forward", "kernel", Geometry())


@pytest.fixture(name="gpu", scope="module")
def _gpu(request):
    """The library on a GPU, or a reason for none."""
    if "gpu" not in request.config.getoption("markexpr"):
        pytest.skip("needs a GPU, and a process of its own: python -m pytest -m gpu")
    try:
        Gpu()
    except OSError as error:
        pytest.skip(f"no GPU: {error}")
    ms.set_device("GPU")
    return OnGpu(ctypes.CDLL(str(operations.library_path("GPU"))))


@pytest.mark.gpu
@checks
def test_on_a_gpu(gpu, check):
    check(gpu)


@pytest.mark.gpu
@pytest.mark.parametrize("shapes", [*SHAPES, *RESNET])
def test_same_bits_each_time(gpu, shapes):
    assert len({test_adder_kernel.bits(gpu, shapes) for _ in range(3)}) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE])
@pytest.mark.parametrize("shapes", [SHAPES[1], SHAPES[2], SHAPES[11]])
def test_layer_in_mindspore(gpu, mode, shapes):
    """Forward and backward, as a network calls them."""
    del gpu
    ms.set_context(mode=mode)
    (x, w, dy), (stride, padding) = numbers(*shapes), shapes[2:]
    group = x.shape[1] // w.shape[1]
    op = AdderOp(stride, padding, 0, "kernel", group=group)
    y, (dx, dw) = ms.value_and_grad(lambda x, w: (op(x, w) * ms.Tensor(dy)).sum(), (0, 1))(ms.Tensor(x), ms.Tensor(w))
    assert np.isfinite(y.asnumpy())
    assert oracle.relative_error(op(ms.Tensor(x), ms.Tensor(w)).asnumpy(), oracle.forward(x, w, stride, padding)) < 1e-5
    assert oracle.relative_error(dx.asnumpy(), oracle.input_grad(dy, x, w, stride, padding)) < 1e-5
    assert oracle.relative_error(dw.asnumpy(), oracle.weight_grad(dy, x, w, stride, padding)) < 1e-5
