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
"""What draws a student to its teacher, part by part: losses of logits [N, class_num] and of features [N, D, 1, 1].

Labels are int32 [N]; every loss is a mean over the batch.
"""
import mindspore as ms
from mindspore import ops

LEAST = 1e-12  # of a probability or a length


def divergence(student, teacher, labels, temperature, beta):
    """KD: T^2 KL(softmax(teacher / T) || softmax(student / T)) (arXiv 1503.02531); labels and beta are not used."""
    return temperature ** 2 * _divergence(student / temperature, teacher / temperature)


def decoupled(student, teacher, labels, temperature, beta):
    """DKD: T^2 (KL of target or not + beta KL among the classes that are not the target) (arXiv 2203.08679, eq. 7)."""
    student, teacher = student / temperature, teacher / temperature
    target = ops.one_hot(labels, student.shape[1], ms.Tensor(1.0), ms.Tensor(0.0))
    p, q = ((ops.softmax(logits, 1) * target).sum(1) for logits in (teacher, student))
    of_target = (p * _log_ratio(p, q) + (1.0 - p) * _log_ratio(1.0 - p, 1.0 - q)).mean()
    among_others = _divergence(student - 1000.0 * target, teacher - 1000.0 * target)
    return temperature ** 2 * (of_target + beta * among_others)


def standardised(logits):
    """Logits of mean 0 and deviation 1 in each image, so that a student need not match the teacher's scale
    (arXiv 2403.01427)."""
    deviation = ops.sqrt(((logits - logits.mean(1, keep_dims=True)) ** 2).mean(1, keep_dims=True))
    return (logits - logits.mean(1, keep_dims=True)) / (deviation + 1e-7)


def distance(student, teacher):
    """|f_student - f_teacher|^2 / 2."""
    return 0.5 * ((student - teacher) ** 2).sum(1).mean()


def direction(student, teacher, labels, means):
    """KD++: 1 - f_student . e / max(|f_student|, |f_teacher|), e being the direction of the class mean of the teacher's
    features, means [class_num, D] (arXiv 2305.17007, eq. 12): student features point there and are as long."""
    student, teacher = (features.reshape((features.shape[0], -1)) for features in (student, teacher))
    unit = means / _length(means)
    longer = ops.maximum(_length(student), _length(teacher))
    return (1.0 - (student * unit.gather(labels, 0)).sum(1, keepdims=True) / longer).mean()


LOGITS_LOSSES = {"kd": divergence, "dkd": decoupled}


def _divergence(student, teacher):
    """KL(softmax(teacher) || softmax(student))."""
    target = ops.softmax(teacher, 1)
    return (target * (ops.log(target + LEAST) - ops.log_softmax(student, 1))).sum(1).mean()


def _log_ratio(p, q):
    return ops.log(p + LEAST) - ops.log(q + LEAST)


def _length(x):
    """At least LEAST: the root has no slope at zero, which features behind a ReLU can be."""
    return ops.sqrt((x * x).sum(1, keepdims=True) + LEAST ** 2)
