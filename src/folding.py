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
"""Evaluation of a trained network with its norms, shortcuts and activations folded into the layers before them.

In evaluation a norm is y = scale * x + shift. As operators of their own, norm, addition and ReLU each read and write
all activations once more, which takes as long as the adder layers themselves.
"""
import numpy as np
from mindspore import Tensor, nn

from . import kernels
from .adder import Adder2d
from .errors import UserError
from .norm import AddRelu
from .pairs import Stage, pairs, put, vacate


def fold(net, backend="auto", precision="float32"):
    """Fold a network for evaluation, where its adder layers have a kernel; elsewhere it stays as it is.

    Args:
        net (Cell): any network of `src.networks` with its final weights and statistics; it is changed.
        backend (str): that of its adder layers, see `src.kernels.operation`.
        precision (str): what adder layers compute in, "float32" or "int16", see `src.kernels.operations.int16`.

    Returns:
        Cell, the network: what it gave, by fewer passes over memory.

    Raises:
        UserError: there are no adder layers of norm 1, or no kernel, for another precision than float32.
    """
    places = pairs(net)
    norms = {pair.layer.operation.geometry.norm for pair in places if isinstance(pair.layer, Adder2d)}
    if precision != "float32" and norms != {1}:
        raise UserError(f"precision {precision} is for adder layers l1 in floats with a norm behind each, and this "
                        "network has none")
    check_precision(precision, backend)
    net.compile_cache.clear()  # or a network that ran in GRAPH mode before would go on as it was
    operation = kernels.in_precision("folded", precision)
    if norms and kernels.has(operation, backend):
        for pair in places:
            if isinstance(pair.layer, Adder2d):
                vacate(net, pair.name)
                put(net, pair.norm_name, FoldedAdder(pair.layer, pair.norm, operation, backend))
            elif type(pair.layer) is nn.Conv2d:
                put(net, pair.name, folded_conv(pair.layer, pair.norm))
                put(net, pair.norm_name, AddRelu(pair.norm.relu))
        _fold_stages(net, kernels.in_precision("stage", precision), backend)
    return net.set_train(False)


def _fold_stages(net, operation, backend):
    """What lies between the layers of a stage stays in the processor's cache, and MindSpore is asked once for all.

    A stage that still has parameters has layers that are not folded, as those of layer "shiftadd", and stays, as one does
    whose blocks do not say what they are made of.
    """
    if not kernels.has(operation, backend):
        return
    for name, cell in list(net.cells_and_names()):
        known = isinstance(cell, Stage) and all(hasattr(block, "norms") for block in cell)
        if known and not list(cell.get_parameters()):
            put(net, name, FoldedStage(cell, operation, backend))


def check_precision(precision, backend):
    """Refuse a precision, a key of `src.kernels.PRECISIONS`, that the backend has no kernel for: raises UserError."""
    if precision != "float32" and not kernels.has(kernels.in_precision("folded", precision), backend):
        raise UserError(f"precision {precision} needs the kernel for CPU, which is not used here")


class FoldedAdder(nn.Cell):
    """An adder layer and all that stands behind it, in the norm's place: x and, if any, a shortcut to add."""

    def __init__(self, layer, norm, operation, backend):
        super().__init__()
        scale, shift = scale_and_shift(norm, layer.b)
        self.adder, self.scale, self.shift = (Tensor(value) for value in (layer.adder.asnumpy(), scale, shift))
        self.geometry, self.relu = layer.operation.geometry, norm.relu
        self.operation = kernels.operation(operation, backend, self.geometry, relu=norm.relu)

    def construct(self, x, *shortcut):
        return self.operation(x, self.adder, self.scale, self.shift, *shortcut).astype(x.dtype)


class FoldedStage(nn.Cell):
    """A `Stage` of folded layers as one operation: x to what its last block gives."""

    def __init__(self, stage, operation, backend):
        super().__init__()
        steps, layers = _steps(stage)
        values = [value.asnumpy().ravel() for layer in layers for value in (layer.adder, layer.scale, layer.shift)]
        self.values = Tensor(np.concatenate(values))
        self.operation = kernels.operation(operation, backend, steps)

    def construct(self, x):
        return self.operation(x, self.values).astype(x.dtype)


def _steps(stage):
    """The steps of a stage, see `src.kernels.Step`, and the folded layer of each."""
    steps, layers, last = [], [], 0

    def add(layer, *inputs):
        steps.append(kernels.Step(layer.geometry, layer.adder.shape, layer.relu, *inputs))
        layers.append(layer)
        return len(steps)

    for block in stage:
        shortcut = last if block.downsample is None else add(block.downsample[1], last)
        *norms, end = block.norms()
        for norm in norms:
            last = add(norm, last)
        last = add(end, last, shortcut)
    return steps, layers


def folded_conv(conv, norm):
    """A convolution with the norm's scale in its weights and the shift as its bias."""
    scale, shift = scale_and_shift(norm, conv.bias if conv.has_bias else None)
    return conv_with(conv, conv.weight.asnumpy() * scale[:, None, None, None], shift)


def conv_with(conv, weight, bias):
    """A convolution like another one, with this weight and this bias."""
    return nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.pad_mode, conv.padding,
                     conv.dilation, conv.group, has_bias=True, weight_init=Tensor(weight), bias_init=Tensor(bias))


def scale_and_shift(norm, bias=None):
    """A norm in evaluation, behind a bias [C] if there is one, as scale * x + shift: vectors [C] float32."""
    gamma, beta, mean, variance = (parameter.asnumpy().astype(np.float64) for parameter in (
        norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance))
    if bias is not None:
        mean = mean - bias.asnumpy()
    scale = gamma / np.sqrt(variance + norm.eps)
    return scale.astype(np.float32), (beta - mean * scale).astype(np.float32)
