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
"""The training loop: one network, epoch by epoch, into the folder of its run."""
import contextlib
import dataclasses

from ..config import refuse_unused
from .average import Average
from .progress import Progress
from .step import OPTIMIZERS, OWN_OPTION, TrainStep


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the loop, as in default_config.yaml."""
    optimizer: str
    lr: float
    momentum: float
    adder_rate: float
    weight_decay: float
    warm_up: float
    clip_norm: float
    ema: float
    eval_interval: int
    resume: bool

    def __post_init__(self):
        refuse_unused(self, {*OWN_OPTION.values()} - {OWN_OPTION[self.optimizer]}, f"optimizer {self.optimizer}")


class Trainer:
    """Trains networks for one task.

    Args:
        task: see `src.tasks`.
        options (Options): of the loop.
        rank, ranks (int): this process, and how many train together.

    Raises:
        UserError: there is no batch to train on.
    """

    def __init__(self, task, options, rank=0, ranks=1):
        self.task, self.options, self.rank, self.ranks = task, options, rank, ranks
        self.steps = task.steps

    def fit(self, net, run, objective=None, begin_epoch=None):
        """Train a network to the end, or what is left of it.

        Args:
            net (Cell): the network; it receives the weights of a run that is resumed, and ends with the mean of its
                weights, if that is wanted.
            run (RunFolder): where it goes, opened.
            objective (Cell): what the task's loss adds to itself; what it has to train is trained with the network.
            begin_epoch: called with the number of each epoch, from 1 on, before it.

        Raises:
            UserError: see `RunFolder` and `Progress`.
        """
        options, epochs = self.options, run.epochs
        loss = self.task.loss(net, objective)
        optimizer = OPTIMIZERS[options.optimizer](
            loss, epochs * self.steps, options.lr, getattr(options, OWN_OPTION[options.optimizer]),
            options.weight_decay, round(options.warm_up * self.steps))
        average = Average(net, optimizer, options.ema) if options.ema else None
        step = TrainStep(loss, optimizer, self.ranks, average, options.clip_norm)
        done = run.begin(step)
        if done and self.rank == 0:
            print(f"goes on after epoch {done} of {epochs}", flush=True)
        progress = Progress(epochs, self.steps, self.task, self.ranks, show=self.rank == 0)
        for epoch in range(done + 1, epochs + 1):
            if begin_epoch:
                begin_epoch(epoch)
            net.set_train()
            row = progress.run(epoch, step, self.task.batches(epoch))
            if self.rank == 0:
                run.check(step, epoch)
                values = self._evaluate(net, run, average, epoch) if self._evaluated(epoch, epochs) else {}
                run.save(step, net, {**row, **values})
        if average:
            average.apply(net, self.task.batches(epochs))
        if self.rank == 0:
            print(f"best: {run.best_value:.4f} ckpt= {run.path / run.best}", flush=True)

    def _evaluated(self, epoch, epochs):
        return epoch % self.options.eval_interval == 0 or epoch == epochs

    def _evaluate(self, net, run, average, epoch):
        """The columns `test_...` of an epoch; the network, or the mean of its weights, is kept if it is the best."""
        with average.applied(net, self.task.batches(epoch)) if average else contextlib.nullcontext():
            values = {f"test_{name}": value for name, value in self.task.evaluate(net).items()}
            run.save_best(net, values)
        shown = ", ".join(f"{title} {value:.4f}" for title, value in zip(self.task.titles, values.values()))
        print(f"epoch {epoch}/{run.epochs} {self.task.held_out} {shown}", flush=True)
        return values
