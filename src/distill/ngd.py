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
"""Norm-guided distillation: an l2 teacher with clustered features, and an l1 student that goes on from it.

A reconstruction: of AdderNGD (IEEE TIP 2023, DOI 10.1109/TIP.2023.3318940) only the idea is public, no formula. The
terms are those of its nearest published relatives.
"""
import math

import mindspore as ms
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import initializer


class CentreLoss(nn.Cell):
    """Draws features to the centre of their class, and away from those of the others.

    intra * mean |f - c_y|^2 / 2 + inter * mean -log softmax_j(-|f - c_j|^2 / 2)[y]: the likelihood of a feature under
    its class, a Gaussian around the class centre, and the posterior of its class (after SLAC-ANN, its two clustering
    losses). A centre is a running mean of the class's features.

    Args:
        class_num (int): classes.
        size (int): of a feature.
        intra, inter (float): weights of the two terms.
        momentum (float): how much of a centre stays when a batch has images of its class.
    """

    def __init__(self, class_num, size, intra, inter, momentum=0.9):
        super().__init__()
        self.class_num, self.intra, self.inter, self.momentum = class_num, intra, inter, momentum
        self.centres = Parameter(initializer("zeros", (class_num, size)), name="centres", requires_grad=False)

    def construct(self, images, labels, features, logits):
        features = features.reshape((features.shape[0], -1))
        distances = self.squared_distances(features)
        intra = distances.gather_elements(1, labels.reshape((-1, 1))).mean()
        inter = ops.cross_entropy(-distances, labels)
        loss = self.intra * intra + self.inter * inter
        measured = ops.depend(ops.stop_gradient(features), loss)  # centres move after the loss has been taken from them
        return ops.depend(loss, self.update(measured, labels))

    def squared_distances(self, features):
        """|f - c|^2 / 2 of every feature [N, D] and centre: [N, class_num]."""
        centres = ops.stop_gradient(self.centres.value())
        return 0.5 * ((features * features).sum(1, keepdims=True) + (centres * centres).sum(1)) - ops.matmul(
            features, centres.T)

    def update(self, features, labels):
        """Move the centres of the classes that are there."""
        members = ops.one_hot(labels, self.class_num, ms.Tensor(1.0), ms.Tensor(0.0))  # [N, class_num]
        counts = members.sum(0).reshape((-1, 1))
        means = ops.matmul(members.T, features) / ops.maximum(counts, 1.0)
        step = (1.0 - self.momentum) * (counts > 0).astype(ms.float32)
        return ops.assign_add(self.centres, step * (means - self.centres))


class Distillation(nn.Cell):
    """The student's imitation of a trained teacher, on the same images.

    logits_weight * T^2 * KL(softmax(teacher / T) || softmax(student / T)) (arXiv 1503.02531) + features_weight * mean
    |f_student - f_teacher|^2 / 2, the teacher's features being what it was trained to cluster.

    Args:
        teacher (Cell): a `src.res20_adder.ResNet` in evaluation mode.
        logits_weight, features_weight (float): weights of the two terms.
        temperature (float): T.
    """

    def __init__(self, teacher, logits_weight, features_weight, temperature):
        super().__init__()
        self.teacher, self.temperature = teacher, temperature
        self.logits_weight, self.features_weight = logits_weight, features_weight

    def construct(self, images, labels, features, logits):
        wanted = ops.stop_gradient(self.teacher.features(images))
        target = ops.softmax(ops.stop_gradient(self.teacher.head(wanted)) / self.temperature, 1)
        log_ratio = ops.log(target + 1e-12) - ops.log_softmax(logits / self.temperature, 1)
        divergence = (target * log_ratio).sum(1).mean() * self.temperature ** 2
        distance = 0.5 * ((features - wanted) * (features - wanted)).sum(1).mean()
        return self.logits_weight * divergence + self.features_weight * distance


def inherit(student, teacher):
    """Give a student, a `src.res20_adder.ResNet`, copies of the weights and statistics of a teacher of its shape."""
    own = student.parameters_dict()
    for name, value in teacher.parameters_dict().items():
        own[name].set_data(ms.Tensor(value.asnumpy().copy()))


def gradient_mix(epoch, epochs):
    """How much of the l2 gradient the weight gradients of an epoch have, counted from 1: half a cosine from 1 to 0."""
    return 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / max(1, epochs - 1)))
