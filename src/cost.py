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
"""Cost of an adder network for one image beside a CNN and a binary network of the same shape, in the papers' columns.

Usage: python -m src.cost [--network resnet20] [--class_num 10]
       python -m src.cost --network edsr [--scale 2] [--n_feats 64] [--n_resblocks 16]

Two counts. The papers' takes every layer for an adder layer (or a binary one), all at one precision. The honest one
has the layers that stay convolutions multiply in fp32, as they do, and lets integers be summed in 32 bits; its sizes
add the norm of each filter, a scale and a shift in fp32. Neither counts norms, activations or memory traffic.

Energy of an operation: 45 nm, as in AdderNet's papers (fp32, fp16, int8, int32). An addition of fewer than 8 bits is
priced in proportion to its bits; of an XNOR nothing is published there, and it is priced at 0.
"""
from . import errors

errors.guard(__name__)  # before what takes seconds to import

import dataclasses

import mindspore as ms
from mindspore import nn, ops

from . import networks
from .adder import Adder2d
from .config import Parser, add_options, check_range, check_values, refuse_unused
from .pairs import LAYERS, put, weight
from .xnor import XnorConv2d

# pJ of an operation.
MULTIPLICATION = {"fp32": 3.7, "fp16": 1.1, "int8": 0.2, "int32": 3.1}
ADDITION = {"fp32": 0.9, "fp16": 0.4, "int8": 0.03, "int32": 0.1, "int6": 0.03 * 6 / 8, "int5": 0.03 * 5 / 8,
            "int4": 0.03 * 4 / 8, "int3": 0.03 * 3 / 8}
BITS = {"fp32": 32, "fp16": 16, "int8": 8, "int6": 6, "int5": 5, "int4": 4, "int3": 3, "1 bit": 1}
HEADER = f"{'network':16}{'#Mul, M':>11}{'#Add, M':>11}{'#XNOR, M':>11}{'energy, uJ':>13}{'size, KiB':>11}"


@dataclasses.dataclass(frozen=True)
class Count:
    """What is counted.

    Attributes:
        inner: pairs (x, w) of an image in adder layers, or in binary ones.
        outer: those in convolutions.
        inner_weights, outer_weights: how many weights they have.
        filters: of all layers.
    """
    inner: int
    outer: int
    inner_weights: int
    outer_weights: int
    filters: int

    @property
    def pairs(self):
        return self.inner + self.outer


@dataclasses.dataclass(frozen=True)
class Cost:
    """Operations, energy in uJ and size in KiB."""
    multiplications: int
    additions: int
    xnors: int
    energy: float
    size: float

    def __str__(self):
        return (f"{self.multiplications / 1e6:11.2f}{self.additions / 1e6:11.2f}{self.xnors / 1e6:11.2f}"
                f"{self.energy:13.2f}{self.size:11.1f}")


def count(net, channels, size):
    """Count what a network does for one image.

    Args:
        net (Cell): a network of `src.networks`; it is changed.
        channels, size: of an image, C and (H, W).

    Returns:
        Count.
    """
    counters = [(name, Counter(cell)) for name, cell in net.cells_and_names() if isinstance(cell, LAYERS)]
    for name, counter in counters:
        put(net, name, counter)
    net.set_train(False)(ops.zeros((1, channels, *size), ms.float32))
    counters = [counter for _, counter in counters]
    inner, outer = ([counter for counter in counters if isinstance(counter.layer, (Adder2d, XnorConv2d)) is wanted]
                    for wanted in (True, False))
    return Count(*(sum(counter.weight.size * counter.positions for counter in part) for part in (inner, outer)),
                 *(sum(counter.weight.size for counter in part) for part in (inner, outer)),
                 sum(counter.weight.shape[0] for counter in counters))


class Counter(nn.Cell):
    """A layer, and at how many positions it was computed."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.weight, self.positions = layer, weight(layer), 0

    def construct(self, x):
        y = self.layer(x)
        self.positions += y.shape[2] * y.shape[3]
        return y


def papers_cost(kind, number, n):
    """The papers' count: every layer of one kind and precision.

    Args:
        kind (str): "cnn", "adder" or "bnn".
        number (str): a key of `BITS`; "1 bit" for a binary network, whose additions are of 8 bits.
        n (Count): of the network.

    Returns:
        Cost.
    """
    multiplications = n.pairs if kind == "cnn" else 0
    additions = 2 * n.pairs if kind == "adder" else n.pairs
    energy = additions * ADDITION.get(number, ADDITION["int8"])
    if multiplications:
        energy += multiplications * MULTIPLICATION[number]
    return Cost(multiplications, additions, n.pairs if kind == "bnn" else 0, energy / 1e6,
                (n.inner_weights + n.outer_weights) * BITS[number] / 8 / 1024)


def honest_cost(kind, number, n):
    """The honest count; arguments and result as those of `papers_cost`."""
    total = ADDITION[number] if number in ("fp32", "fp16") else ADDITION["int32"]  # to add to a sum
    first = {"cnn": MULTIPLICATION, "adder": ADDITION, "bnn": {number: 0.0}}[kind][number]
    energy = n.inner * (first + total) + n.outer * (MULTIPLICATION["fp32"] + ADDITION["fp32"])
    return Cost(n.outer + (n.inner if kind == "cnn" else 0), n.pairs + (n.inner if kind == "adder" else 0),
                n.inner if kind == "bnn" else 0, energy / 1e6,
                (n.inner_weights * BITS[number] / 8 + 4 * (n.outer_weights + 2 * n.filters)) / 1024)


def main():
    """The command line: both tables."""
    parser = Parser("python -m src.cost", __doc__)
    parser.add_argument("--network", choices=list(networks.NETWORKS), default="resnet20", help="network to count")
    parser.add_argument("--class_num", type=int, default=10, help="classes of the network's head")
    forms = {name for each in networks.NETWORKS.values() for name in each.options}
    add_options(parser, forms - {"class_num"})
    arguments = parser.parse_args()
    check_range("class_num", arguments.class_num, 1, networks.MOST_CLASSES)
    network = networks.NETWORKS[arguments.network]
    refuse_unused(arguments, forms - set(network.options) - {"class_num"}, arguments.network)
    form = {name: getattr(arguments, name) for name in network.options}
    check_values(form, arguments.network)
    n = count(networks.create(arguments.network, **form), network.channels, network.size)
    words = "{class_num} classes" if "class_num" in form else "enlarged {scale} times"
    print(f"{arguments.network}, {words.format(**form)}, an image of {' x '.join(map(str, network.size))}: "
          f"{n.inner / 1e6:.2f} M pairs (x, w) in adder layers, {n.outer / 1e6:.2f} M in convolutions")
    rows = [("cnn", number) for number in MULTIPLICATION if number in BITS] + [("bnn", "1 bit")]
    rows += [("adder", number) for number in BITS if number != "1 bit"]
    for title, cost in (("papers' count", papers_cost), ("honest count", honest_cost)):
        print(f"\n{title}\n{HEADER}")
        for kind, number in rows:
            print(f"{kind.upper() if kind != 'adder' else kind:6}{number:10}{cost(kind, number, n)}")


if __name__ == "__main__":
    errors.run(main)
