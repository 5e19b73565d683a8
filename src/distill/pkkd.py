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
"""Progressive kernel based knowledge distillation: a student, and a teacher of the same shape that is trained at the
same time, so that the student sees it at every stage of its training.

A reconstruction: of PKKD (Xu et al., NeurIPS 2020, arXiv 2009.13044) the idea was readable, and not its choice of
layers, kernel widths, weights and linear maps. The loss here, CE being the cross-entropy, s the student, t the teacher:

    CE(s) + CE(t) + logits_weight * T^2 KL(softmax(t / T) || softmax(s / T))
        + features_weight * sum over stages of mean (rho(k(y_s)) - k(y_t))^2

y_s and y_t are what a stage of each gives, [N, C, H, W]. Weights of adder layers are distributed otherwise than those
of convolutions, and so are their responses; for that reason PKKD compares them behind a kernel, here k(y) = exp(-z), z
being y with mean 0 and deviation 1 in each channel over the batch. rho is a learned 1x1 map. The teacher has none: two
learned maps would agree best on nothing but zeros. It learns by CE(t) alone, no other term has a gradient to it.
"""
import dataclasses

from mindspore import nn, ops

from . import losses
from .student import Student, fixed
from ..errors import UserError

PREFIX = "pkkd"  # of the names of its checkpoints
LARGEST = 4.0  # deviations below the mean, beyond which the kernel does not grow: one outlier would outweigh all else


@dataclasses.dataclass(frozen=True)
class Options(Student):
    """Options of the student and of its teacher, as in default_config.yaml."""
    logits_weight: float
    temperature: float
    features_weight: float
    response_kernel: bool
    label_smoothing: float
    mixup: float

    def __post_init__(self):
        super().__post_init__()
        if not (self.logits_weight or self.features_weight):
            raise UserError("a teacher teaches nothing without logits_weight or features_weight")
        if self.mixup and not self.teacher_checkpoint_path:
            raise UserError("mixup is not for a teacher that is trained by method pkkd; give it a trained one by "
                            "--teacher_checkpoint_path, or leave out --mixup")


def train(trainer, options, path, settings):
    """Train a student and, unless a trained one is given, its teacher; the arguments stand in `src.distill`. The folder
    of the run holds the student.

    Raises:
        UserError: the checkpoint of the teacher cannot be had, or is of another network; see
            `src.training.trainer.Trainer.fit`.
    """
    student, begin_epoch = options.build(trainer.task)
    learns = not options.teacher_checkpoint_path
    teacher = beginner(trainer.task, options) if learns else expert(trainer.task, options)
    run = options.run_folder(trainer, path, PREFIX, {**settings, **options.settings})
    with run.opened():
        options.announce(trainer, path, "student and its teacher" if learns else "student")
        trainer.fit(Staged(student), run, Lesson(teacher, student.stage_channels, learns, options), begin_epoch)


def beginner(task, options):
    """A teacher with its first weights, in training mode."""
    return options.teacher_learner(options.epoch_size).build(task)[0].set_train()


def expert(task, options):
    """A trained teacher. Raises UserError where it is another network: its stages are others."""
    teacher, network = options.trained_teacher(task)
    if network != options.network:
        raise UserError(f"method pkkd compares the stages of a network with its own: the teacher is {network}, and not "
                        f"{options.network}; --method ngd learns from any")
    return fixed(teacher, options.backend)


class Staged(nn.Cell):
    """A network to whose features belongs what all its stages give, see `src.networks.create`."""

    def __init__(self, net):
        super().__init__(auto_prefix=False)  # parameters keep the names they have in the network
        self.net = net

    def construct(self, x):
        return self.net(x)

    def features(self, x):
        return self.net.stages(x)

    def head(self, stages):
        return self.net.head(stages[-1])


class Lesson(nn.Cell):
    """All of the loss but CE(s), on the same images.

    Args:
        teacher (Cell): with `stages` and `head`.
        channels (tuple[int]): of what each stage gives.
        learns (bool): whether the teacher is trained too.
        options (Options): its weights, of which 0 leaves a part out.
    """

    def __init__(self, teacher, channels, learns, options):
        super().__init__()
        self.teacher = teacher
        self.cross_entropy = nn.CrossEntropyLoss(label_smoothing=options.label_smoothing) if learns else None
        self.logits_weight, self.temperature = options.logits_weight, options.temperature
        self.features_weight = options.features_weight
        self.compared = kernel if options.response_kernel else normalised
        self.rho = nn.CellList([nn.Conv2d(size, size, 1) for size in channels] if options.features_weight else [])

    def construct(self, images, labels, stages, logits):
        wanted = self.teacher.stages(images)
        target = self.teacher.head(wanted[-1])
        loss = 0.0 if self.cross_entropy is None else self.cross_entropy(target, labels)
        if self.logits_weight:
            target = ops.stop_gradient(target)
            loss = loss + self.logits_weight * losses.divergence(logits, target, labels, self.temperature, 0.0)
        for rho, y_s, y_t in zip(self.rho, stages, wanted):
            difference = rho(self.compared(y_s)) - ops.stop_gradient(self.compared(y_t))
            loss = loss + self.features_weight * (difference * difference).mean()
        return loss


def normalised(y):
    """Maps [N, C, H, W] with mean 0 and deviation 1 in each channel."""
    difference = y - y.mean((0, 2, 3), keep_dims=True)
    return difference / ops.sqrt((difference * difference).mean((0, 2, 3), keep_dims=True) + 1e-5)


def kernel(y):
    """exp(-z) of the normalised maps, at most exp(4)."""
    return ops.exp(ops.minimum(-normalised(y), LARGEST))
