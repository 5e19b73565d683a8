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
"""Post-training quantisation of any network over sockets: layer by layer, on training images.

Calibration cells take the places of the norms, and the network runs once on three things in one batch:

    x      the calibration images, as the float network has them at every place
    v      the same, as the quantised network has them before they are stored
    probe  one image, in which every pair of layer and norm writes its own number: whatever pools, sums or passes
           values on passes the number on, and so a layer finds out who wrote what it reads

A value's step is decided by the first adder layer that reads it. What wrote the value then gets its scale and shift in
units of that step.
"""
import contextlib
import dataclasses

import mindspore as ms
import numpy as np
from mindspore import nn

from ..adder import Adder2d
from ..device import pynative
from ..errors import UserError
from ..folding import scale_and_shift
from ..pairs import pairs, put
from .cells import Distances, in_parts, usual_top
from .schemes import SCHEMES, store

SEARCH_SIZE = 128  # images on which limits are chosen; all of them give the scales and shifts
BATCH = 256


def quantise_network(net, images, bits, scheme="unsigned"):
    """Quantise a trained network.

    Args:
        net (Cell): a network of `src.networks` of layer "l1", with its final weights and statistics.
        images (ndarray): normalised training images [N, C, H, W]; some hundreds of them.
        bits (int): of the integers that adder layers see, one of `src.quant.cells.BITS`.
        scheme (str): a key of `src.quant.schemes.SCHEMES`.

    Returns:
        dict, name to array, number or string: what `src.quant.cells.occupy` takes.

    Raises:
        UserError: the network has something that cannot be quantised here.
    """
    return {**calibrated(net, images, bits, scheme).parameters(), "bits": bits, "scheme": scheme}


def calibrated(net, images, bits, scheme="unsigned"):
    """The `Walk` through a network that decides everything; arguments and errors as of `quantise_network`."""
    net.set_train(False)
    places, probe = pairs(net), np.zeros_like(images[:1])
    _check(net, places)
    readers = {number: [] for number in range(len(places) + 1)}  # who reads what each pair, or the image, writes
    with _sockets(net, places, lambda *place: Scout(*place, readers)):
        net(ms.Tensor(probe))
    walk = Walk(SCHEMES[scheme](bits), places, readers)
    with _sockets(net, places, lambda *place: Station(*place, walk)):
        net(ms.Tensor(np.concatenate([images, images, probe])))
    return walk


def _check(net, places):
    """Every parameter must be of a layer with a norm behind it, or it would be lost."""
    kept = {id(parameter) for pair in places for cell in (pair.layer, pair.norm) for parameter in cell.get_parameters()}
    lost = [parameter.name for parameter in net.get_parameters() if id(parameter) not in kept]
    if lost or not places:
        raise UserError(f"{lost[0] if lost else 'the network'} cannot be quantised: no norm stands behind its layer; "
                        "scheme layers takes adder layers in any network")


@contextlib.contextmanager
def _sockets(net, places, make):
    """Put make(pair, number) into the place of every norm; in the end all is as it was."""
    try:
        for number, pair in enumerate(places, start=1):
            put(net, pair.name, nn.Identity())
            put(net, pair.norm_name, make(pair, number))
        with pynative():  # the cells compute with NumPy
            yield
    finally:
        for pair in places:
            put(net, pair.name, pair.layer)
            put(net, pair.norm_name, pair.norm)


class Scout(nn.Cell):
    """Finds out who reads what, on the probe alone."""

    def __init__(self, pair, number, readers):
        super().__init__()
        self.pair, self.number, self.readers = pair, number, readers

    def construct(self, x, *shortcut):
        for value in (x, *shortcut):
            self.readers[writer(value, self.pair)].append(self.pair if value is x else None)
        return ms.ops.full_like(self.pair.layer(x), self.number)


def writer(x, pair):
    """Who wrote what a pair reads: the number in the probe, the last image of x [N, C, H, W]."""
    numbers = np.unique(np.rint(x[-1].asnumpy()))
    if len(numbers) != 1:
        raise UserError(f"{pair.name} reads outputs of several layers at once, which cannot be quantised here")
    return int(numbers[0])


@dataclasses.dataclass
class Value:
    """What a pair writes, once its step is decided: integers of 0 .. top times a step, or floats if top is None.

    Attributes:
        pair: that writes it.
        readers: adder layers or convolutions that read it, None for a shortcut.
        parameters: of the pair, in units of the step once that is decided.
        largest: of the float network's values.
        step, top: None before that.
        make: makes a layer that reads it of its weights, see `src.quant.schemes`.
    """
    pair: object
    readers: list
    parameters: dict
    largest: float
    step: float = None
    top: int = None
    make: object = None

    @property
    def raw(self):
        """Whether it is the response of a layer in a shortcut, taken as it is."""
        return not self.pair.norm.relu and self.readers == [None] and "ratio" in self.parameters

    @property
    def shared(self):
        """Whether it keeps 8 bits: several read it, or it has them anyway."""
        return (len(self.readers) != 1 or self.readers[0] is None or not isinstance(self.readers[0].layer, Adder2d)
                or self.pair.norm.shortcut or not isinstance(self.pair.layer, Adder2d) or "ratio" not in self.parameters)

    def decide(self, step, top, make=None):
        """Decide the step: what writes the value counts in it from now on."""
        self.step, self.top, self.make = step, top, make
        for name in ("weight", "bias", "scale", "shift", "residual_scale"):
            if name in self.parameters:
                self.parameters[name] = self.parameters[name] / step

    def stored(self, v):
        """As it is stored, held in floats."""
        return store(v, self.step, self.top)


class Walk:
    """The way through a network: the values that its pairs have written so far.

    Args:
        scheme: one of `src.quant.schemes`, made for a number of bits.
        places (list[Pair]): of the network.
        readers (dict): number of a pair to those that read what it writes.

    Attributes:
        values (dict): number of a pair to the `Value` that it writes.
        limits (dict): name of an adder layer to the largest value that its integers stand for.
    """

    def __init__(self, scheme, places, readers):
        self.scheme, self.places, self.readers = scheme, places, readers
        self.values, self.limits = {}, {}

    def parameters(self):
        """Of all pairs, in their order."""
        found = {}
        for number, pair in enumerate(self.places, start=1):
            value = self.values[number]
            own = dict(value.parameters)
            if value.top not in (None, usual_top(own, self.scheme.bits)):
                own["top"] = np.array([value.top], np.uint8)
            found.update({f"{pair.name}.{key}": item if item.dtype == np.uint8 else item.astype(np.float32)
                          for key, item in own.items()})
        return found

    def write(self, number, parameters, x):
        """Keep what a pair writes."""
        self.values[number] = Value(self.places[number - 1], self.readers[number], parameters, float(x.max()))

    def read(self, number):
        """A value that is read by other than an adder layer; its step is decided now if it was not."""
        value = self.values[number]
        if not value.pair.norm.relu:
            raise UserError(f"what {value.pair.name} gives ends in no ReLU but is read on, which cannot be quantised here")
        if value.step is None:
            value.decide(*self.scheme.stored(value.largest))
        return value


class Station(nn.Cell):
    """Calibrates a layer and its norm, in the norm's place: [x; v; probe] and, if any, such a shortcut, to the same."""

    def __init__(self, pair, number, walk):
        super().__init__()
        self.pair, self.number, self.walk = pair, number, walk

    def construct(self, batch, *shortcut):
        x, v = _halves(batch)
        source = writer(batch, self.pair)
        if not isinstance(self.pair.layer, Adder2d) or source == 0:
            parameters, target, y = self.floats(x, v, source)
        else:
            parameters, target, y = self.integers(x, v, source)
        for value in shortcut:
            parameters, target, y = self.add(parameters, target, y, *_halves(value), writer(value, self.pair))
        if self.pair.norm.relu:
            target = np.maximum(target, 0)
        self.walk.write(self.number, parameters, target)
        return ms.Tensor(np.concatenate([target, y, np.full_like(y[:1], self.number)]))

    def floats(self, x, v, source):
        """A layer that stays in floats: its parameters, and its outputs in the two networks before ReLU."""
        layer, norm = self.pair.layer, self.pair.norm
        unit = 1.0
        if source:
            value = self.walk.read(source)
            v, unit = value.stored(v) * np.float32(value.step), value.step
        target = y = self.run(x)
        if source:
            y = self.run(v)
        if isinstance(layer, Adder2d):
            scale, shift = scale_and_shift(norm, layer.b)
            return {"adder": layer.adder.asnumpy(), "scale": scale, "shift": shift}, target, y
        scale, shift = scale_and_shift(norm, layer.bias if layer.has_bias else None)
        weight = layer.weight.asnumpy() * scale[:, None, None, None]
        if weight.shape[2:] == x.shape[2:] == (1, 1):
            weight = weight[:, :, 0, 0]
        return {"weight": weight * unit, "bias": shift}, target, y

    def integers(self, x, v, source):
        """An adder layer on integers: likewise."""
        target, value = self.run(x), self.walk.values[source]
        if value.step is None and value.pair.norm.relu:
            value.decide(*min(self.walk.scheme.trials(x, value.shared), key=lambda trial: self.error(v, target, trial)))
        value = self.walk.read(source)
        make = value.make or self.walk.scheme.reader(x, value.step)
        self.walk.limits[self.pair.name] = make.keywords["limit"]
        parameters, y = self.apply(value.stored(v), target, make)
        return parameters, target, y

    def error(self, v, target, trial):
        """Of the outputs of a trial on some images."""
        step, top, make = trial
        some, wanted = v[:SEARCH_SIZE], target[:SEARCH_SIZE]
        y = self.apply(store(some, step, top), wanted, make)[1]
        if self.pair.norm.relu:
            y, wanted = np.maximum(y, 0), np.maximum(wanted, 0)
        return np.square(y - wanted).mean(dtype=np.float64)

    def apply(self, stored, target, make):
        """The layer with its scale and shift, and what it makes of stored activations."""
        layer = make(self.pair.layer.adder.asnumpy())
        scheme = self.walk.scheme
        s = in_parts(Distances(layer, self.pair.layer.operation.geometry, 2 ** scheme.bits - 1), stored, BATCH)
        scale, shift = scheme.fit(s, target, self.pair.norm)
        y = s * scale.astype(np.float32)[:, None, None] + shift.astype(np.float32)[:, None, None]
        return {**layer, "scale": scale, "shift": shift}, y

    def add(self, parameters, target, y, x, v, source):
        """Add a shortcut: a stored value as it is, or the raw response of a layer."""
        value = self.walk.values[source]
        if value.raw:
            parameters["residual_scale"] = value.parameters.pop("scale")
            parameters["shift"] = parameters["shift"] + value.parameters.pop("shift")
            return parameters, target + x, y + v
        value = self.walk.read(source)
        parameters["residual_scale"] = np.full(len(parameters["scale"]), value.step)
        return parameters, target + x, y + value.stored(v) * np.float32(value.step)

    def run(self, x):
        """Layer and norm of the float network, without what follows."""
        return in_parts(lambda batch: self.pair.norm.normalise(self.pair.layer(batch)), x, BATCH)


def _halves(batch):
    values = batch.asnumpy()[:-1]
    return np.split(values, 2)
