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
"""Norms, shortcuts and ReLU folded into the layers before them: the same numbers as with operators of their own."""
import concurrent.futures
import ctypes
import dataclasses

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import oracle
from benchmarks.binding import bind
from src import kernels
from src.adder import Adder2d
from src.errors import UserError
from src.folding import FoldedStage, fold
from src.kernels import Geometry
from src.kernels.build import cpu_library
from src.kernels.operations import thread_count
from src.networks.resnet import resnet18, resnet50
from src.norm import BatchNormAct2d
from src.res20_adder import resnet20

SHAPES = [((2, 3, 7, 7), (5, 3, 3, 3), 1, 1), ((3, 5, 9, 8), (17, 5, 3, 3), 2, 1),
          ((1, 16, 8, 8), (32, 16, 1, 1), 2, 0), ((2, 6, 7, 9), (9, 2, 3, 3), 1, 1),
          ((2, 5, 6, 19), (10, 1, 3, 3), 2, 1)]  # in three groups, and depthwise


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("x_shape, w_shape, stride, padding", SHAPES)
def test_folded_layer(x_shape, w_shape, stride, padding, shortcut, relu, norm):
    random = np.random.default_rng(0)
    x, w = (random.standard_normal(shape).astype(np.float32) for shape in (x_shape, w_shape))
    y = oracle.forward(x, w, stride, padding, norm)
    scale = random.normal(0, 0.1, w_shape[0]).astype(np.float32)  # a norm's gamma may be negative
    shift = random.standard_normal(w_shape[0]).astype(np.float32)
    residual = random.standard_normal(y.shape).astype(np.float32)
    wanted = scale[:, None, None] * y + shift[:, None, None] + (residual if shortcut else 0)
    wanted = np.maximum(wanted, 0) if relu else wanted
    inputs = [ms.Tensor(value) for value in ([x, w, scale, shift] + [residual] * shortcut)]
    geometry = Geometry(stride, padding, norm, x_shape[1] // w_shape[1])
    got = kernels.operation("folded", "kernel", geometry, relu=relu)(*inputs).asnumpy()
    assert oracle.relative_error(got, wanted) < 1e-5
    assert not relu or 0.1 < (got == 0).mean() < 0.9


@pytest.mark.parametrize("layer, mode", [("l1", ms.GRAPH_MODE), ("l1", ms.PYNATIVE_MODE), ("l2", ms.GRAPH_MODE)])
def test_folded_network(mode, layer):
    """Statistics and logits after some training batches."""
    ms.set_context(mode=mode)
    random = np.random.default_rng(0)
    net = resnet20(10, backend="kernel", layer=layer).set_train()
    for _ in range(3):
        net(ms.Tensor(random.standard_normal((16, 3, 32, 32)).astype(np.float32)))
    images = ms.Tensor(random.standard_normal((9, 3, 32, 32)).astype(np.float32))
    logits = net.set_train(False)(images).asnumpy()
    folded = fold(net, "kernel")
    assert not any(isinstance(cell, (Adder2d, BatchNormAct2d)) for _, cell in folded.cells_and_names())
    assert np.abs(logits).max() > 0.1 and oracle.relative_error(folded(images).asnumpy(), logits) < 1e-5


class Awkward(nn.Cell):
    """Layers with bias, groups and dilation, a depthwise one, a norm without ReLU, a layer without a norm."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(4, 8, 3, pad_mode="pad", padding=2, dilation=2, group=2, has_bias=True,
                               bias_init="normal")
        self.bn1 = BatchNormAct2d(8)
        self.conv2 = Adder2d(8, 8, 3, padding=1, bias=True, group=8)
        self.bn2 = BatchNormAct2d(8, relu=False, shortcut=True)
        self.fc = nn.Conv2d(8, 5, 1, has_bias=True, bias_init="normal")

    def construct(self, x):
        x = self.bn1(self.conv1(x))
        return self.fc(self.bn2(self.conv2(x), x))


def test_biases_groups_and_dilation_are_kept():
    random = np.random.default_rng(0)
    net = Awkward()
    net.conv2.b.set_data(ms.Tensor(random.normal(0, 20, 8), ms.float32))
    for norm in (net.bn1, net.bn2):
        norm.moving_mean.set_data(ms.Tensor(random.normal(-30 if norm is net.bn2 else 0, 1, 8), ms.float32))
        norm.moving_variance.set_data(ms.Tensor(random.uniform(1, 3, 8), ms.float32))
    x = ms.Tensor(random.standard_normal((2, 4, 9, 8)), ms.float32)
    wanted = net.set_train(False)(x).asnumpy()
    assert oracle.relative_error(fold(net, "kernel")(x).asnumpy(), wanted) < 1e-5


def test_composed_networks_stay_as_they_are():
    net = resnet20(10, backend="composed").set_train()
    assert fold(net, "composed") is net and not net.training and isinstance(net.bn1, BatchNormAct2d)


def test_networks_without_adder_layers_stay_as_they_are():
    net = resnet20(10, layer="conv").set_train()
    assert fold(net, "auto") is net and not net.training and isinstance(net.bn1, BatchNormAct2d)


def trained(layer="l1", backend="kernel"):
    """A network with statistics of some batches."""
    random = np.random.default_rng(0)
    net = resnet20(10, backend=backend, layer=layer).set_train()
    for _ in range(30):  # until the moving statistics are those of images
        net(ms.Tensor(random.standard_normal((8, 3, 32, 32)).astype(np.float32)))
    return net.set_train(False)


def test_network_in_fixed_point():
    images = ms.Tensor(np.random.default_rng(1).standard_normal((9, 3, 32, 32)).astype(np.float32))
    net = trained()
    logits = net(images).asnumpy()
    got = fold(net, "kernel", "int16")(images).asnumpy()
    assert 1e-7 < oracle.relative_error(got, logits) < 5e-3 and (got.argmax(1) == logits.argmax(1)).all()


def test_networks_that_ran_before_are_folded_too():
    """In GRAPH mode a network is compiled at its first call; fixed point tells whether it is again."""
    ms.set_context(mode=ms.GRAPH_MODE)
    images = ms.Tensor(np.random.default_rng(1).standard_normal((9, 3, 32, 32)).astype(np.float32))
    net = trained()
    logits = net(images).asnumpy()
    assert fold(net, "kernel", "int16")(images).asnumpy().tobytes() != logits.tobytes()


@pytest.mark.parametrize("layer, backend, words", [("l2", "kernel", "l1"), ("conv", "auto", "l1"),
                                                   ("l1", "composed", "needs the kernel for CPU")])
def test_networks_without_fixed_point_are_refused(layer, backend, words):
    with pytest.raises(UserError, match=words):
        fold(resnet20(10, layer=layer, backend=backend), backend, "int16")


# Filters of each layer, C of x, whether the shortcut has a layer, stride.
BLOCKS = [((5, 19), 5, True, 2), ((6, 7, 33), 3, True, 1), ((9, 4), 4, False, 1), ((3, 2, 20), 20, False, 1)]


def layers_of(blocks, norm, random):
    """Steps of a stage of blocks, and w, scale and shift of each."""
    steps, values, last = [], [], 0

    def add(channels, filters, kernel_size, stride, relu, *inputs):
        w = random.laplace(0, 1, (filters, channels, kernel_size, kernel_size))
        values.append([w, random.normal(0, 1 / w[0].size, filters), random.standard_normal(filters)])
        steps.append(kernels.Step(Geometry(stride, kernel_size // 2, norm), w.shape, relu, *inputs))
        return len(steps)

    for filters, channels, downsample, stride in blocks:
        shortcut = add(channels, filters[-1], 1, stride, False, last) if downsample else last
        for i, number in enumerate(filters):
            ends = (shortcut,) if i == len(filters) - 1 else ()
            kernel_size = 1 if len(filters) == 3 and i != 1 else 3
            last = add(channels, number, kernel_size, stride if i == 0 else 1, True, last, *ends)
            channels = number
    return steps, [[value.astype(np.float32) for value in each] for each in values]


def stage_of(name, steps, values, x):
    """What the stage gives, by one operation; and layer by layer."""
    end = name.removeprefix("stage")
    operation = kernels.operation(name, "kernel", steps)
    got = operation(ms.Tensor(x), ms.Tensor(np.concatenate([value.ravel() for each in values for value in each])))
    maps = [ms.Tensor(x)]
    for step, each in zip(steps, values):
        folded = kernels.operation(f"folded{end}", "kernel", step.geometry, relu=step.relu)
        shortcut = (maps[step.shortcut],) if step.shortcut >= 0 else ()
        maps.append(folded(maps[step.source], *map(ms.Tensor, each), *shortcut))
    return got.asnumpy(), maps[-1].asnumpy()


@pytest.mark.parametrize("name, norm", [("stage", 1), ("stage", 2), ("stage_int16", 1)])
@pytest.mark.parametrize("batch, size", [(1, (9, 12)), (3, (40, 33)), (40, (11, 10))])
@pytest.mark.parametrize("blocks", [BLOCKS[:1], BLOCKS[1:2], BLOCKS[2:3] * 3, BLOCKS[3:], [
    ((16, 32), 16, True, 2), ((32, 32), 32, False, 1), ((64, 32), 32, False, 1)]])
def test_stage(name, norm, batch, size, blocks):
    """One operation gives the bits that its layers give one by one."""
    random = np.random.default_rng(0)
    steps, values = layers_of(blocks, norm, random)
    x = np.maximum(random.standard_normal((batch, blocks[0][1], *size)), 0).astype(np.float32)
    got, wanted = stage_of(name, steps, values, x)
    assert got.tobytes() == wanted.tobytes() and np.isfinite(got).all() and got.any()


@pytest.mark.parametrize("name", ["stage", "stage_int16"])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 2, 7, 50])
def test_stage_on_threads(batch, threads, name):
    """No bit depends on how many threads there are, nor on how they share the work."""
    random = np.random.default_rng(0)
    steps, values = layers_of([((16, 32), 16, True, 2), ((32, 32), 32, False, 1)], 1, random)
    x = random.standard_normal((batch, 16, 32, 32)).astype(np.float32)
    library = ctypes.CDLL(str(cpu_library()))
    try:
        library.SetThreads(ctypes.c_int64(threads))
        got, _ = stage_of(name, steps, values, x)
        library.SetThreads(ctypes.c_int64(1))
        assert got.tobytes() == stage_of(name, steps, values, x)[1].tobytes()
    finally:
        library.SetThreads(ctypes.c_int64(thread_count()))


@pytest.mark.parametrize("bad, words", [
    (lambda steps, values: values.pop(), "values must be of shape"),
    (lambda steps, values: steps.append(dataclasses.replace(steps[-1], source=1, shortcut=-1)), "takes x"),
    (lambda steps, values: steps.append(dataclasses.replace(steps[-1], source=4, shape=(8, 33, 3, 3), shortcut=2)),
     "the shortcut must be of shape")])
def test_stages_that_do_not_fit_are_refused(bad, words):
    steps, values = layers_of(BLOCKS[1:2], 1, np.random.default_rng(0))
    bad(steps, values)
    with pytest.raises(ValueError, match=words):
        stage_of("stage", steps, values, np.ones((2, 3, 9, 9), np.float32))


@pytest.mark.parametrize("group, inputs", [(2, (0,)), (1, (1,)), (1, (-1,)), (1, (0, 1)), (1, (0, -2))])
def test_impossible_stages_are_refused(group, inputs):
    with pytest.raises(ValueError, match="what is there before it, and has no groups"):
        kernels.operation("stage", "kernel", [kernels.Step(Geometry(1, 1, 1, group), (4, 2, 3, 3), True, *inputs)])


def test_empty_stages_and_those_of_norm_2_in_integers_are_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        kernels.operation("stage", "kernel", [])
    with pytest.raises(ValueError, match="norm 1"):
        kernels.operation("stage_int16", "kernel", [kernels.Step(Geometry(1, 1, 2), (4, 2, 3, 3), True, 0)])


def test_stages_with_other_layers_stay_as_they_are():
    random = np.random.default_rng(0)
    net = resnet20(7, layer="shiftadd", backend="kernel").set_train()
    for _ in range(3):
        net(ms.Tensor(random.standard_normal((4, 3, 32, 32)).astype(np.float32)))
    images = ms.Tensor(random.standard_normal((3, 3, 32, 32)).astype(np.float32))
    logits = net.set_train(False)(images).asnumpy()
    folded = fold(net, "kernel")
    assert not any(isinstance(cell, FoldedStage) for _, cell in folded.cells_and_names())
    assert oracle.relative_error(folded(images).asnumpy(), logits) < 1e-4


def test_two_networks_at_once():
    """Calls from several threads wait for each other, and have memory of their own."""
    random = np.random.default_rng(0)
    steps, values = layers_of([((16, 32), 16, True, 2), ((32, 32), 32, False, 1)], 1, random)
    operation = kernels.operation("stage", "kernel", steps)
    x = random.standard_normal((9, 16, 32, 32)).astype(np.float32)
    flat = np.concatenate([value.ravel() for each in values for value in each])
    library = ctypes.CDLL(str(cpu_library()))
    wanted = operation(ms.Tensor(x), ms.Tensor(flat)).asnumpy()
    program = operation.constants[0].asnumpy()

    def run(part):
        y = np.empty_like(wanted[part])
        return bind(library.AdderStage, [x[part], flat, program, np.zeros(1, np.uint8), y])(), y

    parts = [slice(i, i + size) for size in (1, 4, 9) for i in range(0, 9, size)] * 5
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for part, (code, y) in zip(parts, pool.map(run, parts)):
            assert code == 0 and y.tobytes() == wanted[part].tobytes()


@pytest.mark.parametrize("network", [resnet18, resnet50])
def test_stages_of_photographs(network):
    random = np.random.default_rng(0)
    net = network(7, backend="kernel").set_train()
    for _ in range(3):
        net(ms.Tensor(random.standard_normal((4, 3, 64, 64)).astype(np.float32)))
    images = ms.Tensor(random.standard_normal((3, 3, 64, 64)).astype(np.float32))
    logits = net.set_train(False)(images).asnumpy()
    folded = fold(net, "kernel")
    assert isinstance(folded.layer4, FoldedStage)
    assert oracle.relative_error(folded(images).asnumpy(), logits) < 1e-4
