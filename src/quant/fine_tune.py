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

import mindspore as ms
from mindspore import nn, ops

from ..config import defaults_but
from ..device import graph
from ..distill.losses import divergence
from ..kernels import Float32
from ..pairs import pairs
from ..training.average import STATISTICS, settle
from ..training.progress import Progress
from ..training.step import TrainStep, sgd
from .cells import ROUNDING


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
    usual, missing = defaults_but(), STATISTICS - epochs * task.steps
    with graph():
        loss = Divergence(net, teacher)
        step = TrainStep(loss, sgd(loss, epochs * task.steps, lr, usual.momentum, usual.weight_decay))
        progress = Progress(epochs, task.steps, task)
        net.set_train()
        for epoch in range(1, epochs + 1):
            progress.run(epoch, step, task.batches(epoch))
        if missing > 0:  # steps to learn the statistics in: clipped filters move a mean by far more than its deviation
            settle(net, task.batches(epochs).repeat(missing), missing)
        net.set_train(False)


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
    operations = {pair: pair.layer.operation for pair in pairs(net) if pair.name in limits}
    try:
        for pair, operation in operations.items():
            pair.layer.operation = RoundedOp(operation, limits[pair.name], 2 ** bits - 1)
        yield
    finally:
        for pair, operation in operations.items():
            pair.layer.operation = operation


class RoundedOp(Float32):
    """An `AdderOp` on values of 0 .. top times a step, held in floats."""

    def __init__(self, operation, limit, top):
        super().__init__()
        self.operation = operation
        for name in ("geometry", "eta", "padding", "group", "any_batch"):
            setattr(self, name, getattr(operation, name))
        self.activations, self.filters = Rounded(limit, top, clip=True), Rounded(limit, top, clip=False)

    def construct(self, x, w):
        return self.operation(self.activations(x), self.filters(w))


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
