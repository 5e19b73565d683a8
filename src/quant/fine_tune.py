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
"""Fine-tuning with the quantiser in the loop: a network trains while its adder layers see what they will see as integers.

Of scheme "unsigned". Activations and filters of a layer are clipped to 0 .. limit and rounded to the steps between, in
floats; gradients pass as if they were not (straight-through, arXiv 1308.3432), but for activations beyond the ends.
"""
import contextlib
import itertools

import mindspore as ms
from mindspore import nn, ops

from ..adder import Adder2d, check_inputs
from ..device import graph
from ..distill.losses import divergence
from ..kernels import Float32
from ..pairs import pairs, put
from ..training.average import STATISTICS
from ..training.progress import Progress
from ..training.step import TrainStep, sgd
from .cells import ROUNDING

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # as in training


def fine_tune(net, teacher, task, epochs, lr):
    """Train all of a network, whose layers are `in_loop`, to give what it gave in floats.

    Args:
        net (Cell): the network; it is changed.
        teacher (Cell): the float network, see `src.distill.student.fixed`.
        task: see `src.tasks`; of its training images.
        epochs (int): how many.
        lr (float): rate of the first step, which falls to zero by a cosine.

    Raises:
        UserError: the loss is not finite.
    """
    with graph():
        loss = Divergence(net, teacher)
        step = TrainStep(loss, sgd(loss, epochs * task.steps, lr, MOMENTUM, WEIGHT_DECAY))
        progress = Progress(epochs, task.steps, task)
        net.set_train()
        for epoch in range(1, epochs + 1):
            progress.begin(epoch)
            for batch in task.batches(epoch).create_tuple_iterator(num_epochs=1):
                progress.step(*step(*batch))
        _settle(net, task.batches(epochs), STATISTICS - epochs * task.steps)
        net.set_train(False)


def _settle(net, batches, passes):
    """Give norms the statistics of the rounded values where training was too short for it: clipping filters moves the
    mean of a response by far more than its deviation."""
    images = (images for images, *_ in batches.create_tuple_iterator(num_epochs=1))
    for batch in itertools.islice(itertools.cycle(images), max(0, passes)):
        net(batch)


class Divergence(nn.Cell):
    """Images [N, C, H, W] and labels [N] to the mean divergence of a network's probabilities from a teacher's, and the
    network's accuracy (0..1)."""

    def __init__(self, net, teacher):
        super().__init__(auto_prefix=False)  # parameters keep the names they have in the network
        self.net, self.teacher = net, teacher

    def construct(self, images, labels):
        wanted = ops.stop_gradient(self.teacher(images))
        logits = self.net(images)
        loss = divergence(logits, wanted, labels, temperature=1.0, beta=0.0)
        return loss, ops.mean((ops.stop_gradient(logits).argmax(1) == labels).astype(ms.float32))


@contextlib.contextmanager
def in_loop(net, limits, bits):
    """Adder layers see rounded values within; in the end all but the parameters is as it was.

    Args:
        net (Cell): a network of layer "l1".
        limits (dict): name of a layer to the largest value that it sees, see `src.quant.calibrate.Walk`.
        bits (int): of the integers.
    """
    places = [pair for pair in pairs(net) if pair.name in limits]
    try:
        for pair in places:
            put(net, pair.name, InLoop(pair.layer, limits[pair.name], 2 ** bits - 1))
        yield
    finally:
        for pair in places:
            put(net, pair.name, pair.layer)


class InLoop(Adder2d):
    """An adder layer on values of 0 .. top times a step, held in floats; its parameters are another layer's."""

    def __init__(self, layer, limit, top):
        nn.Cell.__init__(self)  # pylint: disable=super-init-not-called
        for name in ("in_channels", "out_channels", "kernel_size", "adder", "operation", "b", "add_bias", "mix"):
            setattr(self, name, getattr(layer, name))
        self.activations, self.filters = Rounded(limit, top, clip=True), Rounded(limit, top, clip=False)

    def construct(self, x):
        check_inputs(x, self.adder, self.operation)
        y = self.operation(self.activations(x.astype(ms.float32)), self.filters(self.adder))
        return y if self.b is None else self.add_bias(y, self.b)


class Rounded(Float32):
    """v within 0 .. limit, rounded to one of `top` steps between; `clip` says whether what is outside has no gradient."""

    def __init__(self, limit, top, clip):
        super().__init__()
        self.limit, self.step, self.clip = float(limit), float(limit) / top, clip

    def construct(self, v):
        v = ops.clamp(v, 0.0, self.limit)
        return ((v / self.step + ROUNDING) - ROUNDING) * self.step

    def bprop(self, v, out, dout):
        if not self.clip:
            return (dout,)
        return (dout * ((v >= 0.0) & (v <= self.limit)).astype(ms.float32),)
