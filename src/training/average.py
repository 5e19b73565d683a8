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
"""A running mean of the weights (EMA), which is ahead of the weights themselves while the learning rate is high."""
import contextlib
import itertools

import mindspore as ms
from mindspore import ParameterTuple, nn, ops

STATISTICS = 100  # batches from which the statistics of norms are estimated anew


class Average(nn.Cell):
    """The mean, moved by each call: mean = d * mean + (1 - d) * weight, d = min(decay, (1 + t) / (10 + t)) in step t.

    Args:
        net (Cell): whose trainable parameters are averaged.
        optimizer (Optimizer): which counts the steps.
        decay (float): d in the end.
    """

    def __init__(self, net, optimizer, decay):
        super().__init__(auto_prefix=False)
        self.weights, self.step, self.decay = ParameterTuple(net.trainable_params()), optimizer.global_step, decay
        self.means = self.weights.clone("average", "same")
        for mean in self.means:
            mean.requires_grad = False

    def construct(self):
        step = self.step.astype(ms.float32)[0]
        rate = 1.0 - ops.minimum(self.decay, (1.0 + step) / (10.0 + step))
        moved = ()
        for mean, weight in zip(self.means, self.weights):
            moved += (ops.assign_add(mean, rate * (weight - mean)),)
        return moved

    def apply(self, net, batches):
        """Give a network the mean as its weights, and its norms the statistics that fit them.

        Args:
            net (Cell): whose parameters are averaged.
            batches (Dataset): of training data, images first.
        """
        for mean, weight in zip(self.means, self.weights):
            ops.assign(weight, mean)
        settle(net, batches)

    @contextlib.contextmanager
    def applied(self, net, batches):
        """The same for a while; afterwards the network is what it was."""
        before = [(parameter, ms.Tensor(parameter.asnumpy().copy())) for parameter in net.get_parameters()]
        self.apply(net, batches)
        yield
        for parameter, value in before:
            ops.assign(parameter, value)  # after `set_data` an optimizer in PYNATIVE would go on with the old value


def settle(net, batches, count=STATISTICS):
    """Give the norms of a network the statistics that fit its weights, from the first `count` batches of training data,
    images first."""
    net.set_train()
    for images, *_ in itertools.islice(batches.create_tuple_iterator(num_epochs=1), count):
        net(images)
