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
"""Adder ResNet-20 in integers: adder layers on unsigned values of a few bits, the first and the last layer in floats.

An activation or weight is an unsigned integer times the step of its layer, the same for both, and a layer's response
is s = sum |x - w| of these integers. Batch norm and step are one scale and shift per filter, see `src.quant`, which
makes the parameters:

    conv1.weight, conv1.bias              the first layer, with its norm
    <layer>.adder                         uint8 [F, C, k, k]
    <layer>.group, <layer>.ratio          uint8 [F], float32 [G]: group of each filter, factor of each group
    <layer>.scale, <layer>.shift          float32 [F]; not of `downsample.0`, whose response conv2 takes as its residual
    <layer>.residual_scale                float32 [F], of conv2 only
    fc.weight, fc.bias                    the last layer, with its norm, [C, 64] and [C]
    bits, scheme                          numbers and strings of the checkpoint

A layer's filters may be in groups with a step each. Group g sees the integers round(ratio[g] * x) of 0 .. 2^bits - 1.

    y = store(scale * s + shift + residual_scale * residual)

Scheme "unsigned" stores every activation as an integer: of 8 bits between blocks, so that shortcuts keep them, and of
`bits` within a block. Schemes "adderquant" (arXiv 2212.10200) and "shared" store floats, max(0, v), as published.

There are two forms. The simulated one holds the integers in floats, in which their sums are exact (below 2^24), and
consists of built-in operators. The other runs in integers, in the C++ kernel `adder_int8_cpu.cc`: "unsigned" from the
first to the last adder layer, the others layer by layer, each group a call. Both give the same integers.
"""
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from src import kernels
from src.adder import Adder2d
from src.checkpoint import check_shapes, fill, load_parameters
from src.errors import UserError
from src.kernels import cpu
from src.res20_adder import FEATURES, resnet20

SCHEMES = ("unsigned", "adderquant", "shared")
BITS = (8, 6, 5, 4, 3)
STORED_TOP = 255  # largest stored integer between blocks
ROUNDING = 1.5 * 2 ** 23  # leaves no bits for fractions when it is added; MindSpore exports `Round` as invalid ONNX


def load_network(path, class_num, backend="auto", layer="l1"):
    """The network of a checkpoint, float or quantised.

    Args:
        path (Path): the file.
        class_num (int): classes that its head must have.
        backend (str): see `src.kernels.select`; where that takes the kernel, a quantised network runs in integers.
        layer (str): of a float network, see `src.res20_adder.resnet20`.

    Returns:
        Cell, images [N, 3, 32, 32] to logits [N, class_num].

    Raises:
        UserError: the file cannot be read; parameters are missing, unexpected, or of another shape.
        BuildError: see `src.kernels.select`.
    """
    parameters = load_parameters(path)
    if "bits" not in parameters:
        net = resnet20(class_num, backend=backend, layer=layer)
        fill(net, parameters, path)
        return net
    values = {name: value.asnumpy() if isinstance(value, Tensor) else value for name, value in parameters.items()}
    check_shapes(_shapes(values, class_num), values, path)
    values["bits"] = int(values["bits"])
    if values["bits"] not in BITS or values["scheme"] not in SCHEMES:
        raise UserError(f"{path}: {values['bits']} bits, scheme {values['scheme']}: no quantisation that is known here")
    return QuantisedResNet(values, backend).set_train(False)


class QuantisedResNet(nn.Cell):
    """The network: images [N, 3, H, W] to logits [N, class_num].

    Args:
        parameters (dict): name to array or number, complete.
        backend (str): see `src.kernels.select`.
    """

    def __init__(self, parameters, backend="auto"):
        super().__init__()
        template = resnet20(len(parameters["fc.bias"]), backend="composed")
        integers = parameters["scheme"] == "unsigned" and kernels.takes_kernel(backend)
        stored_top = STORED_TOP if parameters["scheme"] == "unsigned" else None
        self.conv1 = nn.Conv2d(3, template.conv1.out_channels, 3, pad_mode="pad", padding=1, has_bias=True,
                               weight_init=Tensor(parameters["conv1.weight"]),
                               bias_init=Tensor(parameters["conv1.bias"]))
        self.store = cpu.int8_quantised(STORED_TOP) if integers else Store(stored_top)
        self.blocks = nn.SequentialCell(*[
            (IntegerBlock(block, _within(parameters, f"layer{i + 1}.{j}."), parameters["bits"]) if integers else
             SimulatedBlock(block, _within(parameters, f"layer{i + 1}.{j}."), parameters["bits"], stored_top, backend))
            for i, stage in enumerate((template.layer1, template.layer2, template.layer3))
            for j, block in enumerate(stage)])
        self.positions = (1, 2) if integers else (2, 3)
        self.fc = nn.Dense(FEATURES, len(parameters["fc.bias"]), weight_init=Tensor(parameters["fc.weight"]),
                           bias_init=Tensor(parameters["fc.bias"]))

    def construct(self, x):
        x = self.blocks(self.store(self.conv1(x)))
        return self.fc(ops.mean(ops.cast(x, ms.float32), self.positions))


class SimulatedBlock(nn.Cell):
    """A `src.res20_adder.BasicBlock` on stored activations in float32: [N, C_in, H, W] -> [N, C_out, H', W'].

    Args:
        block (BasicBlock): one of the same shape.
        parameters (dict): name within the block to array.
        bits (int): of the integers that the adder layers see.
        stored_top (int): of activations between blocks, see `Store`; None holds for those within as well.
        backend (str): see `src.kernels.select`.
    """

    def __init__(self, block, parameters, bits, stored_top, backend):
        super().__init__()
        stride, top = block.conv1.operation.stride, 2 ** bits - 1
        inner_top = None if stored_top is None else top
        self.conv1 = SimulatedAdder(_within(parameters, "conv1."), stride, 1, top, backend, inner_top)
        self.conv2 = SimulatedAdder(_within(parameters, "conv2."), 1, 1, top, backend, stored_top)
        self.downsample = None
        if block.downsample is not None:
            self.downsample = Distances(_within(parameters, "downsample.0."), stride, 0, top, backend)

    def construct(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        return self.conv2(self.conv1(x), residual)


class SimulatedAdder(nn.Cell):
    """y = store(scale * s + shift + residual_scale * residual): x and, if any, the residual, to y.

    Args:
        parameters (dict): name within the layer to array.
        stride, padding, top, backend: see `Distances`.
        stored_top (int | None): see `Store`.
    """

    def __init__(self, parameters, stride, padding, top, backend, stored_top):
        super().__init__()
        self.distances = Distances(parameters, stride, padding, top, backend)
        self.store = Store(stored_top)
        self.scale, self.shift = (Tensor(parameters[name].reshape(-1, 1, 1)) for name in ("scale", "shift"))
        self.residual_scale = None
        if "residual_scale" in parameters:
            self.residual_scale = Tensor(parameters["residual_scale"].reshape(-1, 1, 1))

    def construct(self, x, *residual):
        y = self.distances(x) * self.scale + self.shift
        for value in residual:
            y = y + value * self.residual_scale
        return self.store(y)


class Distances(nn.Cell):
    """s = sum |x - w| of integers held in floats: x as stored, [N, C, H, W], to s [N, F, H', W'].

    Args:
        parameters (dict): `adder`, `group` and `ratio` of the layer.
        stride, padding (int): of the window.
        top (int): largest integer that the layer sees.
        backend (str): see `src.kernels.select`.
    """

    def __init__(self, parameters, stride, padding, top, backend="auto"):
        super().__init__()
        group, ratio = parameters["group"], parameters["ratio"]
        exact = kernels.takes_kernel(backend)
        self.forward = ExactForward(stride, padding) if exact else kernels.select(backend, stride, padding)[0]
        weights = [parameters["adder"][group == g] for g in range(len(ratio))]
        self.weights = tuple(Tensor(w if exact else w.astype(np.float32)) for w in weights)
        self.operands = nn.CellList([_operand(factor, top) for factor in ratio])
        self.places = Tensor(np.argsort(np.argsort(group, kind="stable")).astype(np.int32))

    def construct(self, x):
        sums = ()
        for operand, w in zip(self.operands, self.weights):
            sums += (-self.forward(operand(x), w),)
        return sums[0] if len(sums) == 1 else ops.gather(ops.concat(sums, 1), self.places, 1)


class ExactForward(nn.Cell):
    """-sum |x - w| in the integer kernel: x [N, C, H, W] of integers 0 .. 255 in float32, w uint8 -> float32."""

    def __init__(self, stride, padding):
        super().__init__()
        self.bytes, self.sums = cpu.int8_quantised(), cpu.int8_responses(stride, padding)

    def construct(self, x, w):
        return -ops.transpose(ops.cast(self.sums(self.bytes(x), w), ms.float32), (0, 3, 1, 2))


class IntegerBlock(nn.Cell):
    """The same block of the unsigned scheme in the kernel: uint8 [N, H, W, C_in] -> [N, H', W', C_out]."""

    def __init__(self, block, parameters, bits):
        super().__init__()
        stride, top = block.conv1.operation.stride, 2 ** bits - 1
        residual = ms.uint8 if block.downsample is None else ms.int32
        self.conv1 = IntegerAdder(_within(parameters, "conv1."), top, cpu.int8_folded(stride, 1, top))
        self.conv2 = IntegerAdder(_within(parameters, "conv2."), top, cpu.int8_folded(1, 1, STORED_TOP, residual))
        self.residual_scale = Tensor(parameters["conv2.residual_scale"])
        self.downsample = None
        if block.downsample is not None:
            self.downsample = IntegerAdder(_within(parameters, "downsample.0."), top, cpu.int8_responses(stride, 0))

    def construct(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        return self.conv2(self.conv1(x), residual, self.residual_scale)


class IntegerAdder(nn.Cell):
    """An operation of the kernel with a layer's weights and, where there are any, its scale and shift."""

    def __init__(self, parameters, top, operation):
        super().__init__()
        self.operand = _operand(parameters["ratio"][0], top)
        self.constants = tuple(Tensor(parameters[name]) for name in ("adder", "scale", "shift") if name in parameters)
        self.operation = operation

    def construct(self, x, *residual):
        return self.operation(self.operand(x), *self.constants, *residual)


class Store(nn.Cell):
    """round(v) within 0 .. top, or max(0, v) where top is None."""

    def __init__(self, top):
        super().__init__()
        self.top = top

    def construct(self, x):
        x = ops.maximum(x, 0.0)
        return x if self.top is None else (ops.minimum(x, self.top) + ROUNDING) - ROUNDING


class Operand(nn.Cell):
    """What a layer sees of a stored activation: round(ratio * x) within 0 .. top, of x's type."""

    def __init__(self, ratio, top):
        super().__init__()
        self.ratio, self.store = Tensor(np.float32(ratio)), Store(top)

    def construct(self, x):
        return ops.cast(self.store(ops.cast(x, ms.float32) * self.ratio), x.dtype)


def _shapes(values, class_num):
    """Names and shapes of a quantised network's parameters; how many groups a layer has, its `ratio` says."""
    template = resnet20(class_num, backend="composed")
    stem, features = template.conv1.weight.shape, template.fc.weight.shape[1]
    shapes = {"conv1.weight": stem, "conv1.bias": stem[:1], "fc.weight": (class_num, features),
              "fc.bias": (class_num,), "bits": (), "scheme": ()}
    for name, cell in template.cells_and_names():
        if isinstance(cell, Adder2d):
            filters, groups = cell.adder.shape[:1], np.shape(values.get(f"{name}.ratio"))
            shapes.update({f"{name}.adder": cell.adder.shape, f"{name}.group": filters, f"{name}.ratio": groups})
            if "downsample" not in name:
                shapes.update({f"{name}.scale": filters, f"{name}.shift": filters})
            if name.endswith("conv2"):
                shapes[f"{name}.residual_scale"] = filters
    return shapes


def _operand(ratio, top):
    return nn.Identity() if ratio == 1 else Operand(ratio, top)


def _within(parameters, prefix):
    """Those whose names begin with `prefix`, without it."""
    return {name[len(prefix):]: value for name, value in parameters.items() if name.startswith(prefix)}
