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
"""Every layer of a network with the norm behind it, and how others take their places.

A network is written over two sockets, see `src.kinds`, and its norms stand right behind their layers in the order of
definition. That is all that folding, quantisation and the count of operations know of it.
"""
import dataclasses

from mindspore import nn

from .adder import Adder2d
from .norm import BatchNormAct2d

LAYERS = (Adder2d, nn.Conv2d)


class Closed(nn.Cell):
    """A layer that neither folding nor quantisation may change any more: it and the norm behind it are in no pair."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A layer and the norm behind it, with their names in the network."""
    name: str
    layer: nn.Cell
    norm_name: str
    norm: nn.Cell

    @property
    def weight(self):
        """The filters, a Parameter [F, C, k, k]."""
        return weight(self.layer)


def weight(layer):
    """The filters of one of the `LAYERS`, a Parameter [F, C, k, k]."""
    return layer.adder if isinstance(layer, Adder2d) else layer.weight


def pairs(net):
    """The pairs of a network, in the order of definition; a layer without a norm behind it is in none.

    Raises:
        ValueError: a norm stands behind no layer, or behind one of another number of filters.
    """
    kinds = (*LAYERS, Closed, BatchNormAct2d)
    cells = [(name, cell) for name, cell in net.cells_and_names() if isinstance(cell, kinds)]
    found = [Pair(*first, *second) for first, second in zip([("", None), *cells], cells)
             if isinstance(second[1], BatchNormAct2d) and not isinstance(first[1], Closed)]
    for pair in found:
        if not isinstance(pair.layer, LAYERS) or pair.weight.shape[0] != pair.norm.gamma.shape[0]:
            raise ValueError(f"the norm {pair.norm_name} must be defined right behind its layer")
    return found


def put(net, name, cell):
    """Put a Cell into the place of that name; its parameters are called after it."""
    path, _, last = name.rpartition(".")
    parent = _at(net, path)
    if isinstance(parent, nn.SequentialCell):
        parent[int(last)] = cell
    else:
        setattr(parent, last, cell)
    for own, parameter in cell.parameters_and_names():
        parameter.name = f"{name}.{own}"  # MindSpore would leave out what stands around the parent


def vacate(net, name):
    """Take away the Cell of that name for good: what it was given passes on.

    No `nn.Identity` takes its place where that can be helped: MindSpore looks through all Cells at every call, which for
    a single image is a quarter of the time.
    """
    path, _, last = name.rpartition(".")
    parent = _at(net, path)
    if isinstance(parent, nn.SequentialCell):
        parent[int(last)] = nn.Identity()
    else:
        delattr(parent, last)
        setattr(parent, last, _same)


def _same(x):
    return x


def _at(net, path):
    """The Cell of that name."""
    for part in filter(None, path.split(".")):
        net = net[int(part)] if isinstance(net, nn.SequentialCell) else getattr(net, part)
    return net


class Stage(nn.SequentialCell):
    """Residual blocks one behind the other, which folding makes one operation of.

    Such a block has `norms()`, what stands behind its layers, which follow each other; and `downsample`, a layer and its
    norm in a shortcut, or None. What it or the block is given is added behind the last layer.
    """


class Floats(nn.Cell):
    """Marks where activations leave the layers, for a pool or the last sum: the identity, but in a network of
    integers, which become floats here."""

    def construct(self, x):
        return x
