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
"""A network that learns: what it is made of, and the folder of its run."""
import dataclasses

import mindspore as ms

from .. import loading
from . import warm_start
from .weight_gradient import schedule
from ..errors import UserError
from ..folding import check_precision
from ..training.run_folder import RunFolder

OF_L1 = {"weight_gradient": "full", "input_gradient": "clip", "precision": "float32"}  # what it is of other layers


@dataclasses.dataclass(frozen=True)
class Learner:
    """Options of a network that learns, as in default_config.yaml. Raises UserError where they contradict."""
    network: str
    layer: str
    eta: float
    backend: str
    seed: int
    epoch_size: int
    weight_gradient: str
    input_gradient: str
    precision: str
    pre_trained: str

    def __post_init__(self):
        for name, usual in OF_L1.items():
            if getattr(self, name) != usual and self.layer != "l1":
                raise UserError(f"{name} {getattr(self, name)} is one of layer l1 only, not of {self.layer}")

    def build(self, task):
        """The network with its first weights, and what `Trainer.fit` calls before each epoch.

        Raises:
            UserError: see `src.distill.warm_start.begin_with`; no kernel for the precision.
        """
        check_precision(self.precision, self.backend)
        mix, begin_epoch = schedule(self.weight_gradient, self.epoch_size)
        ms.set_seed(self.seed)
        identity = task.identity(self.network, self.layer)
        net = loading.create(identity, self.backend, eta=self.eta, mix=mix,
                             **{name: getattr(self, name) for name in ("input_gradient", "precision")
                                if getattr(self, name) != OF_L1[name]})
        if self.pre_trained:
            warm_start.begin_with(net, self.pre_trained, identity)
        return net, begin_epoch

    def announce(self, trainer, path, role):
        """Print what is about to be trained, and where to: before it compiles, which takes a while."""
        task = trainer.task
        if trainer.rank == 0:
            print(f"training the {role}: {self.network} of layer {self.layer} on {task.summary}, "
                  f"{trainer.steps} steps of {task.batch_size * trainer.ranks} images, {self.epoch_size} "
                  f"epochs, on {ms.get_context('device_target')}, backend {self.backend}, into {path}", flush=True)

    def run_folder(self, trainer, path, prefix, settings):
        """The folder of its run, not opened yet; `prefix` begins the name of its best checkpoint, see `src.kinds`."""
        task = trainer.task
        return RunFolder(path, f"{prefix}_{self.network}_{task.name}", settings, task,
                         task.identity(self.network, self.layer).dumps(), self.epoch_size, trainer.options.resume,
                         writes=trainer.rank == 0)
