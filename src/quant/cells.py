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
"""A network in integers: what stands in the sockets of its adder layers, on unsigned values of a few bits.

An activation or weight is an unsigned integer times the step of its layer, the same for both, and a layer's response
is s = sum |x - w| of these integers. Batch norm and step are one scale and shift per filter, see `src.quant.calibrate`,
which makes the parameters; <layer> is the name of a layer in the float network:

    <layer>.weight, <layer>.bias          a convolution, in floats, with its norm; a 1x1 one on 1x1 maps is [F, C]
    <layer>.adder                         uint8, as the filters; float32 where the layer reads images: it stays in floats
    <layer>.group, <layer>.ratio          uint8 [F], float32 [G]: group of each filter, factor of each group
    <layer>.scale, <layer>.shift          float32 [F]; not of a layer in a shortcut, whose response is taken raw
    <layer>.residual_scale                float32 [F], where a shortcut is added
    <layer>.top                           uint8 [1], largest stored integer of its output, if another than said below
    bits, scheme                          numbers and strings of the checkpoint

A layer's filters may be in groups with a step each. Group g sees the integers round(ratio[g] * x) of 0 .. 2^bits - 1.
Those groups have nothing to do with groups of channels: a layer may have one or the other.

    y = store(scale * s + shift + residual_scale * residual)

Scheme "unsigned" stores every activation as an integer: of 8 bits behind a shortcut or a convolution, so that shortcuts
keep them, and else of `bits`. Schemes "adderquant" (arXiv 2212.10200) and "shared" store floats, max(0, v), as
published. What no ReLU ends, the logits of an adder layer, is stored as it is.

There are two forms. The simulated one holds the integers in floats, in which their sums are exact (below 2^24), and
consists of built-in operators. The other runs in integers, in the C++ kernel `adder_int8_cpu.cc`: "unsigned" from the
first to the last adder layer, the others layer by layer, each group a call. Both give the same integers.
"""
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .. import kernels
from ..adder import Adder2d
from ..checkpoint import check_shapes, exactly
from ..errors import UserError
from ..folding import conv_with
from ..pairs import Floats, pairs, put, vacate
from .schemes import SCHEMES, STORED_TOP

BITS = (8, 6, 5, 4, 3)
ROUNDING = 1.5 * 2 ** 23  # leaves no bits for fractions when it is added; MindSpore exports `Round` as invalid ONNX


def check(net, values, source):
    """Refuse parameters that are not those of a quantised network.

    Args:
        net (Cell): the float network, of layer "l1".
        values (dict): name to Tensor, array, number or string.
        source (Path): of the checkpoint, for messages.

    Returns:
        dict, name to array of the type that is said above, number or string: what `occupy` takes.

    Raises:
        UserError: one is missing, unexpected, of another shape, type or range; the quantisation is unknown.
    """
    values = {name: _typed(name, value, source) for name, value in values.items()}
    shapes = {"bits": (), "scheme": ()}
    for pair in pairs(net):
        shapes.update({f"{pair.name}.{key}": shape for key, shape in _shapes(pair, values).items()})
    check_shapes(shapes, values, source)
    values["bits"] = int(values["bits"])
    if values["bits"] not in BITS or values["scheme"] not in SCHEMES:
        raise UserError(f"{source}: {values['bits']} bits, scheme {values['scheme']}: no quantisation that is known here")
    for pair in pairs(net):
        _check_integers(pair.name, values, source)
    return values


def _typed(name, value, source):
    """A value in the type that its name wants; only the adder layers in floats have filters of floats."""
    key = name.rpartition(".")[2]
    if key == "scheme":
        return str(value)
    integers = key in ("bits", "group", "top") or key == "adder" and "int" in str(getattr(value, "dtype", "")).lower()
    return exactly(value, np.uint8 if integers else np.float32, name, source)


def _shapes(pair, values):
    """Shapes of a pair's parameters, by their names within it; some may be there or not, as `values` say."""
    def given(key):
        return f"{pair.name}.{key}" in values

    filters = pair.norm.gamma.shape
    if not isinstance(pair.layer, Adder2d):
        shape = pair.layer.weight.shape
        flat = shape[2:] == (1, 1) and np.ndim(values.get(f"{pair.name}.weight")) == 2
        return {"weight": shape[:2] if flat else shape, "bias": filters}
    shapes = {"adder": pair.layer.adder.shape}
    if given("group") or given("ratio") or not _in_floats(values.get(f"{pair.name}.adder")):
        shapes.update(group=filters, ratio=(max(1, np.size(values.get(f"{pair.name}.ratio"))),))
    if pair.norm.relu or given("scale") or given("shift"):
        shapes.update(scale=filters, shift=filters)
    if pair.norm.shortcut:
        shapes["residual_scale"] = filters
    if given("top"):
        shapes["top"] = (1,)
    return shapes


def _check_integers(name, values, source):
    """Integers must be of so many bits, every filter's group have a ratio, and the largest integer be one."""
    adder, group, ratio, top = (values.get(f"{name}.{key}") for key in ("adder", "group", "ratio", "top"))
    sense = top is None or top[0] > 0
    if group is not None:
        sense &= (not _in_floats(adder) and adder.max() < 2 ** values["bits"] and ratio.min() > 0
                  and group.max() < len(ratio) and (len(ratio) == 1 or values["scheme"] != "unsigned"))
    if not sense:
        raise UserError(f"{source}: the integers of {name} make no sense")


def _in_floats(adder):
    return adder is not None and adder.dtype == np.float32


def occupy(net, values, backend="auto"):
    """Put the quantised form of every layer into a network's sockets.

    Args:
        net (Cell): the float network, of layer "l1", whose weights do not matter; it is changed.
        values (dict): name to array, number or string, complete.
        backend (str): see `src.kernels.operation`; where that has a kernel of bytes, the network runs in integers.

    Returns:
        Cell, the network: images [N, C, H, W] to logits [N, class_num].
    """
    stores = values["scheme"] == "unsigned"
    integers = stores and kernels.has("int8_quantised", backend)
    for pair in pairs(net):
        own = {name[len(pair.name) + 1:]: value for name, value in values.items() if name.startswith(f"{pair.name}.")}
        top = _stored_top(own, values["bits"]) if stores else None
        store = _store(pair.norm.relu, top, backend if integers else None)
        if "weight" in own:
            put(net, pair.name, Conv(pair.layer, own["weight"], own["bias"]))
            put(net, pair.norm_name, store)
        elif _in_floats(own["adder"]):
            vacate(net, pair.name)
            put(net, pair.norm_name, FloatAdder(own, pair.layer.operation.geometry, backend, store))
        else:
            form = (IntegerAdder(own, pair, 2 ** values["bits"] - 1, top, backend) if integers else
                    SimulatedAdder(own, pair, 2 ** values["bits"] - 1, store, backend))
            vacate(net, pair.name)
            put(net, pair.norm_name, form)
    for name, cell in net.cells_and_names() if integers else ():
        if isinstance(cell, Floats):
            put(net, name, AsFloats())
    return net.set_train(False)


def _stored_top(own, bits):
    return int(own["top"][0]) if "top" in own else usual_top(own, bits)


def usual_top(own, bits):
    """The largest stored integer of a layer's output, where its parameters do not say another."""
    return STORED_TOP if "residual_scale" in own or "weight" in own else 2 ** bits - 1


def _store(relu, top, backend):
    """What stores an activation; `backend` has the kernel of bytes, or is None."""
    if not relu:
        return nn.Identity()
    return Store(top) if backend is None else kernels.operation("int8_quantised", backend, top)


# ---- floats ----

class Conv(nn.Cell):
    """A convolution with its norm: [N, C, H, W], or bytes [N, H, W, C], to float32 [N, F, H', W']."""

    def __init__(self, conv, weight, bias):
        super().__init__()
        self.as_floats, self.flat = AsFloats(), weight.ndim == 2
        self.layer = (nn.Dense(*weight.shape[::-1], weight_init=Tensor(weight), bias_init=Tensor(bias)) if self.flat else
                      conv_with(conv, weight, bias))

    def construct(self, x):
        x = self.as_floats(x)
        if self.flat:
            return self.layer(ops.flatten(x)).reshape((-1, self.layer.out_channels, 1, 1))
        return self.layer(x)


class FloatAdder(nn.Cell):
    """An adder layer that reads images: x [N, C, H, W] in floats, to stored activations."""

    def __init__(self, values, geometry, backend, store):
        super().__init__()
        self.forward, self.store = kernels.operation("forward", backend, geometry), store
        self.adder = Tensor(values["adder"])
        self.scale, self.shift = (Tensor(values[name].reshape(-1, 1, 1)) for name in ("scale", "shift"))

    def construct(self, x):
        return self.store(self.forward(x, self.adder) * self.scale + self.shift)


class AsFloats(nn.Cell):
    """Stored bytes [N, H, W, C] as floats [N, C, H, W]; what is in floats stays as it is."""

    def construct(self, x):
        return ops.transpose(ops.cast(x, ms.float32), (0, 3, 1, 2)) if x.dtype == ms.uint8 else x


# ---- integers, held in floats ----

class SimulatedAdder(nn.Cell):
    """y = store(scale * s + shift + residual_scale * residual): x and, if any, the residual, to y.

    Args:
        values (dict): name within the layer to array; without a scale y = s.
        pair (Pair): the layer in the float network, of the same shape.
        top (int): largest integer that the layer sees.
        store (Cell): what stores y.
        backend (str): see `src.kernels.operation`.
    """

    def __init__(self, values, pair, top, store, backend):
        super().__init__()
        self.distances = Distances(values, pair.layer.operation.geometry, top, backend)
        self.raw, self.store = "scale" not in values, store
        self.scale, self.shift, self.residual_scale = (
            Tensor(values[name].reshape(-1, 1, 1)) if name in values else None
            for name in ("scale", "shift", "residual_scale"))

    def construct(self, x, *residual):
        y = self.distances(x)
        if self.raw:
            return y
        y = y * self.scale + self.shift
        for value in residual:
            y = y + value * self.residual_scale
        return self.store(y)


class Distances(nn.Cell):
    """s = sum |x - w| of integers held in floats: x as stored, [N, C, H, W], to s [N, F, H', W'].

    Args:
        values (dict): `adder`, `group` and `ratio` of the layer.
        geometry (Geometry): of the layer.
        top (int): largest integer that the layer sees.
        backend (str): see `src.kernels.operation`.
    """

    def __init__(self, values, geometry, top, backend="auto"):
        super().__init__()
        group, ratio = values["group"], values["ratio"]
        if len(ratio) > 1 and geometry.group > 1:
            raise UserError("the filters of a layer whose channels are in groups must have one step; use scheme "
                            "unsigned or shared")
        exact = kernels.has("int8_responses", backend)
        self.forward = Exact(geometry, backend) if exact else kernels.operation("forward", backend, geometry)
        weights = [values["adder"][group == g] for g in range(len(ratio))]
        self.weights = tuple(Tensor(w if exact else w.astype(np.float32)) for w in weights)
        self.operands = nn.CellList([_operand(factor, top) for factor in ratio])
        self.order = Tensor(_inverse(np.argsort(group, kind="stable")))  # of the filters, out of that of the groups

    def construct(self, x):
        sums = ()
        for operand, w in zip(self.operands, self.weights):
            sums += (-self.forward(operand(x), w),)
        return sums[0] if len(sums) == 1 else ops.gather(ops.concat(sums, 1), self.order, 1)


class Exact(nn.Cell):
    """-sum |x - w| in the kernel of bytes: x [N, C, H, W] of integers 0 .. 255 in float32, w uint8 -> float32."""

    def __init__(self, geometry, backend):
        super().__init__()
        self.bytes = kernels.operation("int8_quantised", backend)
        self.responses = kernels.operation("int8_responses", backend, geometry)

    def construct(self, x, w):
        return -ops.transpose(ops.cast(self.responses(self.bytes(x), w), ms.float32), (0, 3, 1, 2))


# ---- integers ----

class IntegerAdder(nn.Cell):
    """The same layer of scheme "unsigned" in the kernel: bytes [N, H, W, C] and, if any, the residual, to bytes.

    The response is int32 [N, H', W', F] where there is no scale, and what no ReLU ends float32 [N, F, H', W'].
    """

    def __init__(self, values, pair, top, stored_top, backend):
        super().__init__()
        geometry = pair.layer.operation.geometry
        self.raw, self.stored = "scale" not in values, pair.norm.relu
        self.bytes, self.operand = AsBytes(backend), _operand(values["ratio"][0], top)
        self.operation = (kernels.operation("int8_responses", backend, geometry) if self.raw or not self.stored else
                          kernels.operation("int8_folded", backend, geometry, stored_top))
        self.adder = Tensor(values["adder"])
        self.scale, self.shift, self.residual_scale = (
            Tensor(values[name]) if name in values else None for name in ("scale", "shift", "residual_scale"))

    def construct(self, x, *residual):
        x = self.operand(self.bytes(x))
        if self.raw:
            return self.operation(x, self.adder)
        if not self.stored:
            y = ops.cast(self.operation(x, self.adder), ms.float32) * self.scale + self.shift
            return ops.transpose(y, (0, 3, 1, 2))
        if residual:
            return self.operation(x, self.adder, self.scale, self.shift, self.bytes(residual[0]), self.residual_scale)
        return self.operation(x, self.adder, self.scale, self.shift)


class AsBytes(nn.Cell):
    """Integers in floats [N, C, H, W], as they come from a pool, as bytes [N, H, W, C]; others stay as they are."""

    def __init__(self, backend):
        super().__init__()
        self.quantised = kernels.operation("int8_quantised", backend)

    def construct(self, x):
        return self.quantised(x) if x.dtype == ms.float32 else x


# ---- what both forms share ----

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


def _operand(ratio, top):
    return nn.Identity() if ratio == 1 else Operand(ratio, top)


def _inverse(permutation):
    inverse = np.empty_like(permutation, np.int32)
    inverse[permutation] = np.arange(len(permutation))
    return inverse


def in_parts(function, x, batch):
    """A function of tensors for all of an array [N, ...], `batch` images at a time; returns an array."""
    return np.concatenate([function(ms.Tensor(x[i:i + batch])).asnumpy() for i in range(0, len(x), batch)])
