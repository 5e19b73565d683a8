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
"""Training alone: a network and its data."""
import dataclasses

from .learner import Learner
from ..errors import UserError
from ..kinds import KINDS


@dataclasses.dataclass(frozen=True)
class Options(Learner):
    """Options of the method, as in default_config.yaml."""
    teacher: str
    teacher_checkpoint_path: str

    def __post_init__(self):
        super().__post_init__()
        if self.teacher != "none" or self.teacher_checkpoint_path:
            raise UserError("method alone has no teacher; --method ngd learns from one")


def train(trainer, options, path, settings):
    """Train a network; the arguments stand in `src.distill`.

    Raises:
        UserError: see `src.training.trainer.Trainer.fit`.
    """
    net, begin_epoch = options.build(trainer.task)
    options.announce(trainer, path, "network")
    run = options.run_folder(trainer, path, KINDS[options.layer].prefix, settings)
    with run.opened():
        trainer.fit(net, run, begin_epoch=begin_epoch)
