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
"""The losses of distillation, and their gradients by the student, against NumPy in float64."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import ops

import oracle
from src.distill import losses

CLASSES, BATCH, T = 7, 12, 3.0
MODES = pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
RANDOM = np.random.default_rng(0)
STUDENT, TEACHER = RANDOM.normal(0, 3, (2, BATCH, CLASSES))
LABELS = RANDOM.integers(0, CLASSES, BATCH)
TARGET = np.eye(CLASSES)[LABELS] == 1


def softmax(values):
    values = np.exp(values - values.max(1, keepdims=True))
    return values / values.sum(1, keepdims=True)


def kl(p, q):
    return (p * np.log(p / q)).sum(1).mean()


def kd(student):
    return T ** 2 * kl(softmax(TEACHER / T), softmax(student / T))


def dkd(student, beta=5.0):
    """By the definitions: two classes, and those that are left, normalised anew."""
    p, q = softmax(TEACHER / T), softmax(student / T)
    two = [np.stack([x[TARGET], 1 - x[TARGET]], 1) for x in (p, q)]
    others = [x[~TARGET].reshape(BATCH, -1) / (1 - x[TARGET])[:, None] for x in (p, q)]
    return T ** 2 * (kl(*two) + beta * kl(*others))


def standardised_kd(student):
    teacher, student = ((x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) for x in (TEACHER, student))
    return T ** 2 * kl(softmax(teacher / T), softmax(student / T))


def slope(function, x):
    """The gradient, by central differences."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = 1e-5
        gradient[index] = (function(x + step) - function(x - step)) / 2e-5
    return gradient


def check(loss, wanted, student):
    value, gradient = ops.value_and_grad(loss)(ms.Tensor(student, ms.float32))
    assert float(value) == pytest.approx(wanted(student), rel=1e-5)
    assert oracle.relative_error(gradient.asnumpy(), slope(wanted, student)) < 1e-5


@MODES
@pytest.mark.parametrize("name, wanted", [("kd", kd), ("dkd", dkd)])
def test_logits(name, wanted, mode):
    ms.set_context(mode=mode)
    teacher, labels = ms.Tensor(TEACHER, ms.float32), ms.Tensor(LABELS, ms.int32)
    function = losses.LOGITS_LOSSES[name]

    def loss(student):
        return function(student, teacher, labels, T, 5.0)

    check(loss, wanted, STUDENT)


@MODES
def test_standardised(mode):
    ms.set_context(mode=mode)
    teacher, labels = losses.standardised(ms.Tensor(TEACHER, ms.float32)), ms.Tensor(LABELS, ms.int32)

    def loss(student):
        return losses.divergence(losses.standardised(student), teacher, labels, T, 1.0)

    check(loss, standardised_kd, STUDENT)


def test_beta_of_the_usual_divergence():
    """KD is DKD whose beta is the probability of the other classes (arXiv 2203.08679, eq. 6): here the same for all."""
    teacher = np.tile(TEACHER[:1], (BATCH, 1))
    p = softmax(teacher / T)[0, LABELS[0]]
    inputs = (ms.Tensor(STUDENT, ms.float32), ms.Tensor(teacher, ms.float32), ms.Tensor(np.full(BATCH, LABELS[0]), ms.int32))
    assert float(losses.decoupled(*inputs, T, 1 - p)) == pytest.approx(float(losses.divergence(*inputs, T, 0.0)), rel=1e-5)


@pytest.mark.parametrize("name", losses.LOGITS_LOSSES)
def test_sure_teachers_leave_it_finite(name):
    """Logits so far apart that float32 has no probability for a class."""
    logits = ms.Tensor(1000 * np.eye(CLASSES)[:BATCH], ms.float32)
    labels = ms.Tensor(np.arange(CLASSES), ms.int32)
    value, gradient = ops.value_and_grad(lambda student: losses.LOGITS_LOSSES[name](student, logits, labels, 1.0, 1.0))(
        logits[::-1])
    assert np.isfinite(float(value)) and np.isfinite(gradient.asnumpy()).all()


@MODES
def test_direction(mode):
    """Students that are longer than their teacher, and shorter ones."""
    ms.set_context(mode=mode)
    student, teacher = np.random.default_rng(1).uniform(0, 2, (2, BATCH, 5)) * np.linspace(0.2, 2, BATCH)[:, None]
    means = np.random.default_rng(2).uniform(0, 2, (CLASSES, 5))
    unit = (means / np.linalg.norm(means, axis=1, keepdims=True))[LABELS]

    def wanted(x):
        longer = np.maximum(np.linalg.norm(x, axis=1), np.linalg.norm(teacher, axis=1))
        return (1 - (x * unit).sum(1) / longer).mean()

    lengths = np.linalg.norm(student, axis=1) > np.linalg.norm(teacher, axis=1)
    assert 0 < lengths.sum() < BATCH
    shaped, given = (ms.Tensor(x[:, :, None, None], ms.float32) for x in (teacher, means))
    labels, means = ms.Tensor(LABELS, ms.int32), given[:, :, 0, 0]

    def loss(x):
        return losses.direction(x, shaped, labels, means)

    check(loss, wanted, student)


@MODES
def test_direction_of_features_that_are_all_zero(mode):
    """As those of an image are behind a ReLU that lets nothing pass, of the student and of both."""
    ms.set_context(mode=mode)
    random = np.random.default_rng(1)
    student, teacher = (random.uniform(0, 2, (BATCH, 5, 1, 1)).astype(np.float32) for _ in range(2))
    student[:4], teacher[:2] = 0.0, 0.0
    labels, means = ms.Tensor(LABELS, ms.int32), ms.Tensor(random.uniform(0, 2, (CLASSES, 5)), ms.float32)
    value, gradient = ops.value_and_grad(losses.direction)(ms.Tensor(student), ms.Tensor(teacher), labels, means)
    assert np.isfinite(float(value)) and np.isfinite(gradient.asnumpy()).all()


def test_distance():
    student, teacher = np.random.default_rng(1).uniform(0, 2, (2, BATCH, 5))
    check(lambda x: losses.distance(x, ms.Tensor(teacher, ms.float32)),
          lambda x: 0.5 * ((x - teacher) ** 2).sum(1).mean(), student)
