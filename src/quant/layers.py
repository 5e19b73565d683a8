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
"""Quantisation of the adder layers alone, in any network: scheme "layers". All that stands between them stays as it is.

The other schemes want a norm and a ReLU right behind every layer. Where there is something else, as in the networks of
super-resolution, the inputs of adder layers are negative too. A layer counts them from `low` on: |x - w| = |(x - low) -
(w - low)|, which is scheme "unsigned" with both operands 0 .. 2^bits - 1. Padding is x = 0, one of the integers. Scale
and shift of each filter give its responses the mean and the deviation of those in the float network:

    y = scale * sum |round(ratio * (x - low)) - adder| + shift

    <layer>.adder                     uint8, as the filters
    <layer>.ratio, <layer>.low        float32 [1]
    <layer>.scale, <layer>.shift      float32 [F]
    bits, scheme                      number and string of the checkpoint
    every other parameter of the network, as it was
"""
import dataclasses

import mindspore as ms
import numpy as np
from mindspore import nn

from .. import checkpoint
from ..adder import Adder2d
from ..device import pynative
from ..errors import UserError
from ..pairs import Closed, put
from .cells import BITS, Distances, in_parts
from .schemes import LEAST_LIMIT, QUANTILES, limits, moments, norm_fit, unsigned_layer

SCHEME = "layers"
SEARCH_SIZE = 32  # images on which limits are chosen; all of them give the scales and shifts
BATCH = 16


def quantise_network(net, images, bits, scheme=SCHEME):
    """Quantise a trained network of layer "l1"; arguments and result as of `src.quant.calibrate.quantise_network`.

    Raises:
        UserError: there are no adder layers.
    """
    layers = adder_layers(net.set_train(False))
    stations = {name: Station(layer, bits) for name, layer in layers.items()}
    if not stations:
        raise UserError("the network has no adder layers to quantise")
    try:
        for name, station in stations.items():
            put(net, name, station)
        with pynative():  # stations compute with NumPy
            net(ms.Tensor(np.concatenate([images, images])))
    finally:
        for name, layer in layers.items():
            put(net, name, layer)
    values = {f"{name}.{key}": value for name, station in stations.items() for key, value in station.values.items()}
    return {**others(net, layers), **values, "bits": bits, "scheme": scheme}


def adder_layers(net):
    """Name of every adder layer to the Cell."""
    return {name: cell for name, cell in net.cells_and_names() if isinstance(cell, Adder2d)}


def others(net, layers):
    """The parameters of a network that are not those of some layers."""
    own = {id(parameter) for layer in layers.values() for parameter in layer.get_parameters()}
    return {name: value for name, value in checkpoint.weights(net).items() if id(value) not in own}


class Station(nn.Cell):
    """Calibrates a layer in its own place: [x; v] to the same, x being the inputs in the float network, v those in the
    quantised one. Its parameters are then `values`."""

    def __init__(self, layer, bits):
        super().__init__(auto_prefix=False)
        self.layer, self.bits, self.values = layer, bits, None

    def construct(self, batch):
        x, v = np.split(batch.asnumpy(), 2)
        target = in_parts(self.layer, x, BATCH)
        some, wanted = v[:SEARCH_SIZE], target[:SEARCH_SIZE]
        low, high = min(zip(limits(-x, QUANTILES), limits(x, QUANTILES)),
                        key=lambda ends: np.square(self.apply(some, wanted, *ends)[1] - wanted).mean(dtype=np.float64))
        self.values, y = self.apply(v, target, low, high)
        return ms.Tensor(np.concatenate([target, y]))

    def apply(self, v, target, below, above):
        """The parameters for inputs of -below .. above, and what the layer makes of v by them."""
        top, w = 2 ** self.bits - 1, self.layer.adder.asnumpy()
        below = 0.0 if below == LEAST_LIMIT else below  # of inputs that are never negative
        step = (below + above) / top
        low = -np.rint(below / step) * step
        values = unsigned_layer(w - low, top * step, 1.0, self.bits)
        values = {"adder": values["adder"], "ratio": values["ratio"], "low": np.array([low], np.float32)}
        s = in_parts(Responses(values, self.layer, self.bits), v, BATCH)
        mean, deviation = moments(target)
        scale, shift = (value.astype(np.float32) for value in norm_fit(s, mean, -deviation))
        return {**values, "scale": scale, "shift": shift}, s * scale[:, None, None] + shift[:, None, None]


class Responses(nn.Cell):
    """sum |x - w| of a layer's integers: x [N, C, H, W] in floats to [N, F, H', W']; `layer` says the geometry."""

    def __init__(self, values, layer, bits, backend="auto"):
        super().__init__()
        geometry = layer.operation.geometry
        self.pad = nn.Pad(((0, 0), (0, 0), (geometry.padding,) * 2, (geometry.padding,) * 2))
        self.low = ms.Tensor(values["low"])
        self.distances = Distances({**values, "group": np.zeros(len(values["adder"]), np.uint8)},
                                   dataclasses.replace(geometry, padding=0), 2 ** bits - 1, backend)

    def construct(self, x):
        return self.distances(self.pad(x) - self.low)


class QuantisedAdder(Closed):
    """The layer in integers; arguments as those of `Responses`."""

    def __init__(self, values, layer, bits, backend):
        super().__init__()
        self.responses = Responses(values, layer, bits, backend)
        self.scale, self.shift = (ms.Tensor(values[name].reshape(-1, 1, 1)) for name in ("scale", "shift"))

    def construct(self, x):
        return self.responses(x) * self.scale + self.shift


def check(net, values, source):
    """Refuse parameters that are not those of a quantised network; as `src.quant.cells.check`."""
    layers = adder_layers(net)
    shapes = {name: value.shape for name, value in others(net, layers).items()}
    for name, layer in layers.items():
        filters = layer.adder.shape[:1]
        own = {"adder": layer.adder.shape, "ratio": (1,), "low": (1,), "scale": filters, "shift": filters}
        shapes.update({f"{name}.{key}": shape for key, shape in own.items()})
    checkpoint.check_shapes({**shapes, "bits": (), "scheme": ()}, values, source)
    integers = {"bits", *(f"{name}.adder" for name in layers)}
    values = {name: value if name == "scheme" else
              checkpoint.exactly(value, np.uint8 if name in integers else np.float32, name, source)
              for name, value in values.items()}
    values["bits"] = int(values["bits"])
    if values["bits"] not in BITS:
        raise UserError(f"{source}: {values['bits']} bits: no quantisation that is known here")
    for name in layers:
        if values[f"{name}.adder"].max() >= 2 ** values["bits"] or values[f"{name}.ratio"] <= 0:
            raise UserError(f"{source}: the integers of {name} make no sense")
    return values


def occupy(net, values, backend="auto"):
    """Put the quantised form of every adder layer into its place; as `src.quant.cells.occupy`."""
    layers = adder_layers(net)
    for name, layer in layers.items():
        own = {key: values[f"{name}.{key}"] for key in ("adder", "ratio", "low", "scale", "shift")}
        put(net, name, QuantisedAdder(own, layer, values["bits"], backend))
    checkpoint.fill(net, {name: ms.Parameter(values[name]) for name in net.parameters_dict()}, SCHEME)
    return net.set_train(False)
