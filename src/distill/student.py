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
"""A network that learns from a teacher, and teachers that are trained already."""
import argparse
import dataclasses
import hashlib

from .. import checkpoint, identity, loading
from .learner import OF_L1, Learner
from ..errors import UserError
from ..folding import fold
from ..networks import NETWORKS


@dataclasses.dataclass(frozen=True)
class Student(Learner):
    """Options of the student, those of its network first, and of its teacher, as in default_config.yaml."""
    method: str
    teacher: str
    teacher_checkpoint_path: str
    teacher_eta: float

    def __post_init__(self):
        super().__post_init__()
        if NETWORKS[self.network].task != "classification":
            raise UserError(f"method {self.method} is for classifiers, which {self.network} is none of; --method alone "
                            "trains it")
        if self.teacher == "none" and not self.teacher_checkpoint_path:
            raise UserError(f"method {self.method} needs a teacher: --teacher, or --teacher_checkpoint_path of a "
                            "trained one")

    def teacher_learner(self, epoch_size):
        """A teacher of the same shape, as a network that learns."""
        return Learner(network=self.network, layer=self.teacher, eta=self.teacher_eta, backend=self.backend,
                       seed=self.seed, epoch_size=epoch_size, **OF_L1, pre_trained="")

    @property
    def settings(self):
        """What decides a run beside the options: the content of the teacher's file, which another one may replace."""
        if not self.teacher_checkpoint_path:
            return {}
        content = checkpoint.find_checkpoint(self.teacher_checkpoint_path).read_bytes()
        return {"teacher_sha256": hashlib.sha256(content).hexdigest()}

    def trained_teacher(self, task):
        """The network of a checkpoint, which says of what it is, or leaves it to the options.

        Returns:
            tuple (Cell, str): the network, and which it is of `src.networks.NETWORKS`.

        Raises:
            UserError: there is no such checkpoint; it is damaged, of another layer than --teacher, or of other data.
        """
        path = checkpoint.find_checkpoint(self.teacher_checkpoint_path)
        parameters = checkpoint.load_parameters(path)
        known = identity.take(parameters, path)
        if known is None and self.teacher == "none":
            raise UserError(f"{path} does not say which layers it has: --teacher does")
        if known is not None and self.teacher not in ("none", known.layer):
            raise UserError(f"{path} is a network of layer {known.layer}, not {self.teacher}; give --teacher none")
        if known is not None and (known.dataset != task.dataset or
                                  known.classes and task.classes and known.classes != task.classes):
            raise UserError(f"{path} was trained on other data, {known.dataset} of {known.class_num} classes")
        known = identity.settle(known, argparse.Namespace(network=self.network, layer=self.teacher, given=(),
                                                          dataset=task.dataset, class_num=task.class_num,
                                                          image_size=task.options.image_size), path)
        if known.size != task.size:
            raise UserError(f"{path}: {known.network} takes images of another size than {self.network}")
        net = loading.create(task.identity(known.network, known.layer), self.backend)
        checkpoint.fill(net, parameters, path)
        return net, known.network


def fixed(teacher, backend):
    """A trained network, folded, in evaluation mode, and not trained any further."""
    teacher = fold(teacher, backend)
    for parameter in teacher.get_parameters():
        parameter.requires_grad = False
    return teacher
