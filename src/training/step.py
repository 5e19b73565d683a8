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
"""One training step, and the optimizers."""
import logging

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from ..errors import UserError, silence

MOST_STEPS = 10_000_000  # of a run, whose rates are a list


class TrainStep(nn.Cell):
    """Forward, backward and update: a batch to the loss and whatever else the loss cell gives.

    Args:
        loss (Cell): a batch to a tuple (loss, further values), such as `src.tasks.classification.Loss`.
        optimizer (Optimizer): of the parameters to train.
        ranks (int): processes whose gradients are averaged.
        average (Average): of the weights, which follows each update.
        clip_norm (float): the largest norm of all gradients together, which longer ones are shortened to; 0 is none.
    """

    def __init__(self, loss, optimizer, ranks=1, average=None, clip_norm=0.0):
        super().__init__(auto_prefix=False)  # parameters keep the names they have in the network
        self.loss = loss
        self.optimizer = optimizer
        self.average, self.clip_norm = average, clip_norm
        self.value_and_grad = ops.value_and_grad(loss, None, optimizer.parameters, has_aux=True)
        self.reducer = nn.DistributedGradReducer(optimizer.parameters, True, ranks) if ranks > 1 else nn.Identity()

    def construct(self, *batch):
        values, gradients = self.value_and_grad(*batch)
        gradients = self.reducer(gradients)
        if self.clip_norm:
            gradients = ops.clip_by_global_norm(gradients, self.clip_norm)
        updated = self.optimizer(gradients)
        if self.average is not None:
            updated = ops.depend(self.average(), updated)
        return (ops.depend(values[0], updated), *values[1:])


def sgd(net, total_steps, lr, momentum, weight_decay, warm_up=0):
    """AdderNet's optimizer: SGD on everything, with a cosine from `lr` to zero over `total_steps`, of which the first
    `warm_up` climb from zero to it by a line.

    Raises:
        UserError: there are more than 10,000,000 of them.
    """
    rates = _rates(total_steps, lr, warm_up)
    with silence(logging.WARNING):  # MindSpore warns of a list of a single rate
        return nn.SGD(net.trainable_params(), rates, momentum, weight_decay=weight_decay)


def adam(net, total_steps, lr, adder_rate, weight_decay, warm_up=0):
    """EDSR's, Adam, with the same rates, but for `adder_rate` times as much for the filters of adder layers.

    A step of Adam has the same size for all weights, and filters of adder layers are some ten times as large as those of
    convolutions. Raises UserError likewise.
    """
    rates, parameters = _rates(total_steps, lr, warm_up), net.trainable_params()
    if adder_rate != 1.0:
        filters = [one for one in parameters if one.name.split(".")[-1] == "adder"]
        others = [one for one in parameters if one.name.split(".")[-1] != "adder"]
        groups = [(filters, ms.Tensor(rates.asnumpy() * np.float32(adder_rate))), (others, rates)]
        parameters = [{"params": group, "lr": lr} for group, lr in groups if group] + [{"order_params": parameters}]
    with silence(logging.WARNING):  # MindSpore warns of a part of its own
        return nn.Adam(parameters, rates, weight_decay=weight_decay)


OPTIMIZERS = {"sgd": sgd, "adam": adam}
OWN_OPTION = {"sgd": "momentum", "adam": "adder_rate"}  # which no other optimizer takes, the fourth argument


def _rates(total_steps, lr, warm_up):
    if total_steps > MOST_STEPS:
        raise UserError(f"{total_steps} training steps are more than {MOST_STEPS}: take a smaller --epoch_size, or a "
                        "larger --batch_size")
    rates = np.array(nn.cosine_decay_lr(0.0, lr, total_steps, 1, total_steps), np.float32)
    return ms.Tensor(rates * np.minimum(1.0, np.arange(1, total_steps + 1) / max(1, warm_up)).astype(np.float32))
