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
"""PKKD: its loss against NumPy in float64, what it leaves alone, and what it refuses."""
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

import oracle
from src.checkpoint import save_parameters
from src.config import get_config, pick
from src.distill import pkkd
from src.distill.pkkd import Lesson, Staged
from src.errors import UserError
from src.identity import Identity
from src.networks import create
from src.tasks.classification import Loss
from src.training.step import TrainStep, sgd

MODES = pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
SHAPES = (11, 3, 5, 4), (11, 6, 1, 3), (11, 6, 1, 1)  # of what two stages give, and the features
CLASSES = 7


def parts(**options):
    return SimpleNamespace(**{"logits_weight": 0.0, "temperature": 2.5, "features_weight": 0.0, "response_kernel": True,
                              "label_smoothing": 0.0, **options})


def said(seed):
    """What a network says: its stages and features, and its logits; the first channel hardly ever varies."""
    random = np.random.default_rng(seed)
    stages = [random.gamma(0.5, 3.0, shape).astype(np.float32) for shape in SHAPES]
    stages[0][:, 0], stages[0][3, 0, 1, 2] = 2.0, 0.0
    return tuple(stages), random.normal(0, 3, (SHAPES[0][0], CLASSES)).astype(np.float32)


LABELS = np.random.default_rng(9).integers(0, CLASSES, SHAPES[0][0], np.int32)


class Teacher(nn.Cell):
    """Known values times one weight."""

    def __init__(self, stages, logits):
        super().__init__()
        self.known_stages, self.known_logits = tuple(map(ms.Tensor, stages)), ms.Tensor(logits)
        self.weight = ms.Parameter(ms.Tensor(np.ones(1, np.float32)), name="weight")

    def stages(self, images):
        return tuple([self.weight * each for each in self.known_stages])

    def head(self, features):
        return self.weight * self.known_logits


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def in_numpy(student, teacher, rho, options, learns):
    """The loss in float64."""
    (maps, logits), (wanted, target) = (([each.astype(np.float64) for each in stages], logits.astype(np.float64))
                                        for stages, logits in (student, teacher))
    loss = 0.0
    if learns:
        aim = (1 - options.label_smoothing) * np.eye(CLASSES)[LABELS] + options.label_smoothing / CLASSES
        loss -= (aim * np.log(softmax(target))).sum(1).mean()
    p, q = (softmax(each / options.temperature) for each in (target, logits))
    loss += options.logits_weight * options.temperature ** 2 * (p * np.log(p / q)).sum(1).mean()
    for matrix, y_s, y_t in zip(rho, maps, wanted):
        z = [(y - y.mean((0, 2, 3), keepdims=True)) / np.sqrt(y.var((0, 2, 3), keepdims=True) + 1e-5)
             for y in (y_s, y_t)]
        k = [np.exp(np.minimum(-each, 4.0)) for each in z] if options.response_kernel else z
        loss += options.features_weight * ((np.einsum("oc,ncij->noij", matrix, k[0]) - k[1]) ** 2).mean()
    return loss


@MODES
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("options", [
    {"logits_weight": 0.7}, {"features_weight": 0.4}, {"features_weight": 0.4, "response_kernel": False},
    {"logits_weight": 0.7, "features_weight": 0.4, "label_smoothing": 0.2}], ids=str)
def test_loss(options, learns, mode):
    """Each part alone, and all; the gradient along a random direction of all that the student says and of its maps."""
    ms.set_context(mode=mode)
    student, teacher, options = said(0), said(1), parts(**options)
    lesson = Lesson(Teacher(*teacher), (3, 6), learns, options)
    weights = [each.weight for each in lesson.rho]

    def loss(first, second, features, logits):
        return lesson(None, ms.Tensor(LABELS), (first, second, features), logits)

    inputs = *map(ms.Tensor, student[0]), ms.Tensor(student[1])
    got, (by_inputs, by_weights) = ops.value_and_grad(loss, (0, 1, 2, 3), weights or [lesson.teacher.weight])(*inputs)
    rho = [each.asnumpy()[:, :, 0, 0].astype(np.float64) for each in weights]
    assert float(got) == pytest.approx(in_numpy(student, teacher, rho, options, learns), rel=1e-5)
    random = np.random.default_rng(5)
    maps, logits, matrices = ([random.standard_normal(each.shape) for each in group]
                              for group in (student[0], student[1:], rho))
    maps[0][:, 0] = 0  # where the kernel has its bound there is a bend

    def along(step):
        moved = [each + step * direction for each, direction in zip(student[0], maps)], student[1] + step * logits[0]
        return in_numpy(moved, teacher, [m + step * d for m, d in zip(rho, matrices)], options, learns)

    wanted = (along(1e-5) - along(-1e-5)) / 2e-5
    pairs = [*zip(by_inputs, (*maps, *logits)), *zip(by_weights, matrices)]
    total = sum((gradient.asnumpy().reshape(direction.shape) * direction).sum() for gradient, direction in pairs)
    assert total == pytest.approx(wanted, rel=1e-3, abs=1e-5)


@MODES
@pytest.mark.parametrize("learns", [True, False])
def test_teacher_has_no_gradient_of_what_the_student_learns(learns, mode):
    """That of its own cross-entropy, or none."""
    ms.set_context(mode=mode)
    (stages, logits), teacher = said(0), said(1)
    lesson = Lesson(Teacher(*teacher), (3, 6), learns, parts(logits_weight=3.0, features_weight=2.0))
    gradient, = ops.grad(lesson, None, [lesson.teacher.weight])(
        None, ms.Tensor(LABELS), tuple(map(ms.Tensor, stages)), ms.Tensor(logits))
    target = teacher[1].astype(np.float64)
    own = ((softmax(target) - np.eye(CLASSES)[LABELS]) * target).sum() / len(target)
    assert float(gradient[0]) == pytest.approx(own if learns else 0.0, rel=1e-5)


def test_kernel_is_bounded():
    """One value far below all others would be the whole loss."""
    y = np.ones((64, 1, 8, 8), np.float32)
    y[5, 0, 3, 3] = -1e6
    assert pkkd.kernel(ms.Tensor(y)).asnumpy().max() == pytest.approx(np.exp(4), rel=1e-5)
    assert np.isfinite(pkkd.kernel(ms.Tensor(np.full((2, 1, 1, 1), 3.0, np.float32))).asnumpy()).all()


def test_teacher_learns_as_if_it_were_alone():
    """Its weights and statistics after some steps; the student's are others than without it."""
    images = ms.Tensor(np.random.default_rng(1).standard_normal((16, 1, 32, 32)).astype(np.float32))
    labels = ms.Tensor(np.arange(16, dtype=np.int32) % CLASSES)

    def network(layer):
        ms.set_seed(3)
        return create("lenet5_bn", CLASSES, layer).set_train()

    def trained(net, objective=None):
        loss = Loss(net, objective)
        step = TrainStep(loss, sgd(loss, 30, 0.1, 0.9, 5e-4))
        for _ in range(4):
            step(images, labels)
        return {name: value.asnumpy() for name, value in net.parameters_dict().items()}

    alone, teacher, student = trained(network("conv")), network("conv"), network("l1")
    together = trained(Staged(student), Lesson(teacher, student.stage_channels, True,
                                               parts(logits_weight=1.0, features_weight=1.0)))
    for name, value in alone.items():
        np.testing.assert_allclose(teacher.parameters_dict()[f"teacher.{name}"].asnumpy(), value, rtol=1e-5, atol=1e-6)
    assert together.keys() == network("l1").parameters_dict().keys()  # the names of its checkpoint
    without = trained(network("l1"))
    assert all(np.any(together[name] != without[name]) for name in without if name.endswith(".adder"))


# What goes together.

def options(*arguments):
    return pick(pkkd.Options, get_config("train", "x", ["--method", "pkkd", *arguments]))


@pytest.mark.parametrize("arguments, words", [
    (("--logits_weight", "1"), "method pkkd needs a teacher"),
    (("--teacher", "conv"), "teaches nothing without logits_weight or features_weight"),
    (("--teacher", "conv", "--logits_weight", "1", "--mixup", "0.2"), "mixup is not for a teacher that is trained by"),
    (("--teacher", "conv", "--logits_weight", "1", "--network", "edsr"), "is for classifiers, which edsr is none of")])
def test_options_that_make_no_sense_together(arguments, words):
    with pytest.raises(UserError, match=words):
        options(*arguments)


def test_trained_teacher_is_the_same_network(tmp_path):
    """Of whichever layers, and it is not trained any further."""
    task = SimpleNamespace(dataset="mnist", class_num=10, classes=(), size=(32, 32),
                           options=SimpleNamespace(image_size=0),
                           identity=lambda network, layer: Identity(network, layer, 10, "mnist"))
    net = create("lenet5_bn", 10, "l2")
    known = Identity("lenet5_bn", "l2", 10, "mnist").dumps()
    save_parameters(net.parameters_dict(), tmp_path / "a.ckpt", identity=known)
    given = "--logits_weight", "1", "--teacher_checkpoint_path", str(tmp_path / "a.ckpt"), "--dataset", "mnist"
    teacher = pkkd.expert(task, options(*given, "--network", "lenet5_bn"))
    assert not teacher.trainable_params() and not teacher.training
    with pytest.raises(UserError, match="the teacher is lenet5_bn, and not resnet20; --method ngd learns from any"):
        pkkd.expert(task, options(*given, "--network", "resnet20"))
