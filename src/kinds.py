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
"""The kinds of layers that a network can be made of: the only table of them.

A network is written once over two sockets: `layer(in_channels, out_channels, kernel_size, stride, padding=, group=1)`
makes a layer, `norm(channels, relu=True, shortcut=False)` what stands right behind it, in the order of definition too:
batch norm, a shortcut if it takes one, ReLU. A kind fills the first socket; the second is the same for all.
"""
import dataclasses
from functools import partial
from typing import Callable

from mindspore import nn

from .adder import ETA, Adder2d
from .norm import BatchNormAct2d
from .shift import ShiftAdd2d
from .xnor import XnorConv2d


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of layers.

    Attributes:
        title: in tables and pictures.
        prefix: of the names of its checkpoints, <prefix>_<network>_<dataset>_<accuracy>.ckpt.
        layer: makes the socket's layers from (eta, backend, mix), see `sockets`.
        student: the prefix of networks that learned from a teacher, if another.
    """
    title: str
    prefix: str
    layer: Callable
    student: str = ""


KINDS = {
    "l1": Kind("adder (l1)", "adder", lambda eta, backend, mix: partial(Adder2d, eta=eta, backend=backend, mix=mix),
               student="adderngd"),
    "l2": Kind("adder (l2)", "adderl2", lambda eta, backend, mix: partial(Adder2d, eta=eta, backend=backend, norm=2)),
    "shiftadd": Kind("ShiftAdd", "shiftadd", lambda eta, backend, mix: partial(ShiftAdd2d, eta=eta, backend=backend)),
    "conv": Kind("CNN", "cnn", lambda eta, backend, mix: partial(nn.Conv2d, pad_mode="pad")),
    "xnor": Kind("XNOR", "xnor", lambda eta, backend, mix: XnorConv2d),
}


def sockets(layer="l1", eta=ETA, backend="auto", mix=None, frozen_norm=False, **options):
    """What makes the layers and the norms of a network.

    Args:
        layer (str): a key of `KINDS`.
        eta, backend: of every adder layer, see `src.adder.adder2d_function`.
        mix (Parameter): of every l1 layer, see `src.adder.Adder2d`.
        frozen_norm (bool): whether norms stay as they are in training, see `src.norm.BatchNormAct2d`.
        options: input_gradient and precision of l1 layers, see `src.adder.Adder2d`.

    Returns:
        tuple (layer, norm).

    Raises:
        KeyError: unknown kind.
    """
    return (partial(KINDS[layer].layer(eta, backend, mix), **options),
            partial(BatchNormAct2d, backend=backend, frozen=frozen_norm))
