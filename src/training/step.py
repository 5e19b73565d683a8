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
"""One training step, and the evaluation of a network."""
import mindspore as ms
from mindspore import nn, ops


class TrainStep(nn.Cell):
    """Forward, backward and update: images [N, 3, 32, 32] and labels [N] to the mean loss and the number of hits.

    Args:
        net (Cell): a `src.res20_adder.ResNet`.
        optimizer (Optimizer): of the network's parameters.
        ranks (int): processes whose gradients are averaged.
        objective (Cell): (images, labels, features, logits) to a number that is added to the cross-entropy; none if
            not given.
    """

    def __init__(self, net, optimizer, ranks=1, objective=None):
        super().__init__(auto_prefix=False)  # parameters keep the names they have in the network
        self.net = net
        self.optimizer = optimizer
        self.loss = nn.CrossEntropyLoss()
        self.objective = objective
        self.value_and_grad = ops.value_and_grad(self.forward, None, optimizer.parameters, has_aux=True)
        self.reducer = nn.DistributedGradReducer(optimizer.parameters, True, ranks) if ranks > 1 else nn.Identity()

    def forward(self, images, labels):
        features = self.net.features(images)
        logits = self.net.head(features)
        loss = self.loss(logits, labels)
        if self.objective is not None:
            loss = loss + self.objective(images, labels, features, logits)
        return loss, logits

    def construct(self, images, labels):
        (loss, logits), gradients = self.value_and_grad(images, labels)
        updated = self.optimizer(self.reducer(gradients))
        hits = (logits.argmax(1) == labels).sum()
        return ops.depend(loss, updated), hits


def evaluate(net, data):
    """Top-1 and top-5 accuracy (0..1) of `net` on every batch of `data`; top-5 is 1 where there are fewer classes."""
    net.set_train(False)
    top1, top5 = nn.Top1CategoricalAccuracy(), nn.TopKCategoricalAccuracy(min(5, net.fc.out_channels))
    top1.clear()
    top5.clear()
    for images, labels in data.create_tuple_iterator(num_epochs=1):
        logits = net(images)
        top1.update(logits, labels)
        top5.update(logits, labels)
    return float(top1.eval()), float(top5.eval())


def sgd(net, total_steps, lr, momentum, weight_decay):
    """AdderNet's optimizer: SGD on everything, with a cosine from `lr` to zero over `total_steps`."""
    schedule = nn.cosine_decay_lr(0.0, lr, total_steps, 1, total_steps)
    return nn.SGD(net.trainable_params(), ms.Tensor(schedule, ms.float32), momentum, weight_decay=weight_decay)
