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
import dataclasses

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import initializer

from .. import checkpoint
from . import losses
from .student import Student, fixed
from ..errors import UserError
from ..kinds import KINDS

# Do not decide what a teacher becomes:
STUDENT_ONLY = ("layer", "eta", "epoch_size", "weight_gradient", "input_gradient", "precision", "pre_trained",
                "teacher_checkpoint_path", "inherit", "logits_weight", "logits_loss", "dkd_beta", "standardise_logits",
                "temperature", "features_weight", "direction_weight", "response_kernel")


@dataclasses.dataclass(frozen=True)
class Options(Student):
    """Options of the student and of its teacher, as in default_config.yaml."""
    teacher_epoch_size: int
    intra_weight: float
    inter_weight: float
    inherit: bool
    logits_weight: float
    logits_loss: str
    dkd_beta: float
    standardise_logits: bool
    temperature: float
    features_weight: float
    direction_weight: float

    def __post_init__(self):
        super().__post_init__()
        if not (self.imitates or self.inherit):
            raise UserError("a teacher teaches nothing without logits_weight, features_weight, direction_weight or inherit")
        if self.inherit and self.pre_trained:
            raise UserError("inherit and pre_trained: the network begins with the weights of one of them")

    @property
    def imitates(self):
        """Whether the student is drawn to what the teacher says of the same images."""
        return bool(self.logits_weight or self.features_weight or self.direction_weight)


def train(trainer, options, path, settings):
    """Train a teacher in the folder `teacher` of the run, or take a trained one; then a student; the arguments stand in
    `src.distill`.

    Raises:
        UserError: the checkpoint of the teacher cannot be had, or student and teacher do not fit together; see
            `src.training.trainer.Trainer.fit`.
    """
    settings = {**settings, **options.settings, "teacher_epoch_size": options.teacher_epoch_size or options.epoch_size}
    if options.direction_weight and trainer.task.options.mixup:
        raise UserError("direction_weight needs images of one class each: leave out mixup")
    student, begin_epoch = options.build(trainer.task)
    learner = options.teacher_learner(settings["teacher_epoch_size"])
    ready = bool(options.teacher_checkpoint_path)
    teacher, _ = options.trained_teacher(trainer.task) if ready else learner.build(trainer.task)
    check_pair(student, teacher, options)
    kind = KINDS[options.layer]
    run = options.run_folder(trainer, path, kind.student or kind.prefix, settings)
    with run.opened():
        if not ready:
            train_teacher(trainer, teacher, learner, options, path / "teacher", settings)
        if options.inherit:
            inherit(student, teacher)
        options.announce(trainer, path, "student")
        trainer.fit(student, run, distillation(student, teacher, options, trainer.task), begin_epoch)


def train_teacher(trainer, teacher, learner, options, path, settings):
    """Train a teacher, whose features are drawn to the centres of their classes."""
    objective = None
    if options.intra_weight or options.inter_weight:
        objective = CentreLoss(trainer.task.class_num, teacher.feature_size, options.intra_weight, options.inter_weight)
    settings = {key: value for key, value in settings.items() if key not in STUDENT_ONLY}
    learner.announce(trainer, path, "teacher")
    run = learner.run_folder(trainer, path, KINDS[learner.layer].prefix, settings)
    with run.opened():
        trainer.fit(teacher, run, objective)


def check_pair(student, teacher, options):
    """Refuse weights to begin with that are of another shape: raises UserError."""
    shapes = [{name: value.shape for name, value in checkpoint.weights(net).items()} for net in (student, teacher)]
    if options.inherit and shapes[0] != shapes[1]:
        raise UserError(f"inherit: {options.network} of layer {options.layer} cannot begin with the weights of another "
                        "network or kind of layers")


def distillation(student, teacher, options, task):
    """What the student imitates, if anything."""
    if not options.imitates:
        return None
    teacher = fixed(teacher, options.backend)
    means = class_means(teacher, task.batches(1), task.class_num) if options.direction_weight else None
    sizes = student.feature_size, teacher.feature_size
    compared = options.features_weight or options.direction_weight
    project = Projection(*sizes) if compared and sizes[0] != sizes[1] else None
    return Distillation(teacher, means, options, project)


class Projection(nn.Cell):
    """A linear map of features [N, size, 1, 1] to [N, wanted, 1, 1], which is learned with the student and is no part
    of it (after FitNets, arXiv 1412.6550).

    Features are divided by sqrt(size): their squared length, by which a step moves what comes out, is that of one
    feature then, and a rate that fits a network does not make the map diverge.
    """

    def __init__(self, size, wanted):
        super().__init__()
        self.factor, self.linear = size ** -0.5, nn.Conv2d(size, wanted, 1)

    def construct(self, features):
        return self.linear(self.factor * features)


def class_means(net, batches, class_num):
    """The mean of a network's features in each class, [class_num, D] float32, over all batches."""
    sums, counts = np.zeros((class_num, net.feature_size)), np.zeros(class_num)
    for images, labels in batches.create_tuple_iterator(num_epochs=1):
        features, labels = net.features(images).asnumpy()[:, :, 0, 0], labels.asnumpy()
        np.add.at(sums, labels, features)
        counts += np.bincount(labels, minlength=class_num)
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)


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
    """The student's imitation of a trained teacher, on the same images: the parts of `src.distill.losses`, weighted.

    Args:
        teacher (Cell): in evaluation mode, with `features` and `head`, see `src.networks.create`.
        means (ndarray): of the teacher's features in each class, [class_num, D]; for options.direction_weight only.
        options (Options): its weights, of which 0 leaves a part out, and what `logits_loss` takes.
        project (Cell): of the student's features to the size of the teacher's, if they are of another.
    """

    def __init__(self, teacher, means, options, project=None):
        super().__init__()
        self.project = project
        self.teacher, self.means = teacher, None if means is None else ms.Tensor(means)
        self.logits_weight, self.logits_loss = options.logits_weight, losses.LOGITS_LOSSES[options.logits_loss]
        self.standardise, self.temperature, self.beta = options.standardise_logits, options.temperature, options.dkd_beta
        self.features_weight, self.direction_weight = options.features_weight, options.direction_weight

    def construct(self, images, labels, features, logits):
        wanted = ops.stop_gradient(self.teacher.features(images))
        loss = 0.0
        if self.logits_weight:
            target = ops.stop_gradient(self.teacher.head(wanted))
            if self.standardise:
                target, logits = losses.standardised(target), losses.standardised(logits)
            loss = loss + self.logits_weight * self.logits_loss(logits, target, labels, self.temperature, self.beta)
        if self.project is not None:
            features = self.project(features)
        if self.features_weight:
            loss = loss + self.features_weight * losses.distance(features, wanted)
        if self.direction_weight:
            loss = loss + self.direction_weight * losses.direction(features, wanted, labels, self.means)
        return loss


def inherit(student, teacher):
    """Give a student copies of the weights and statistics of a teacher of its shape."""
    own = student.parameters_dict()
    for name, value in teacher.parameters_dict().items():
        own[name].set_data(ms.Tensor(value.asnumpy().copy()))
