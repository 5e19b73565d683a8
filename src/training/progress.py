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
"""Shows how training goes, and stops it if it goes nowhere."""
import math
import sys
import time
from datetime import timedelta

from ..errors import UserError


class Progress:
    """Epoch, step, mean loss and metrics, images/s and time left.

    The device computes on while the host hands it further steps. Asking for a loss waits for the device, and so the
    values of steps are asked for where a line is shown and at the end of an epoch, and not before.

    Args:
        epochs (int): of the whole run.
        steps (int): of an epoch.
        task: its `train_metrics` name what a step gives beside the loss, its `batch_size` are the images of a step.
        ranks (int): processes that train together.
        show (bool): whether this process prints.
    """

    INTERVAL = 10  # seconds between lines; a terminal has one line, drawn anew every half second

    def __init__(self, epochs, steps, task, ranks=1, show=True):
        self.epochs, self.steps, self.show = epochs, steps, show
        self.columns = ("loss", *(f"train_{name}" for name in task.train_metrics))
        self.names, self.images = ("loss", *task.train_metrics), task.batch_size * ranks
        self.interval = 0.5 if sys.stdout.isatty() else self.INTERVAL
        self.compiled = False

    def run(self, epoch, step, batches):
        """Take all steps of an epoch, counted from 1; returns its row, see `result`."""
        self.begin(epoch)
        for batch in batches.create_tuple_iterator(num_epochs=1):
            self.step(*step(*batch))
        return self.result()

    def begin(self, epoch):
        """Begin an epoch, counted from 1."""
        self.epoch, self.sums, self.done, self.waiting = epoch, [0.0] * len(self.names), 0, []
        self.untimed, self.began = 0, time.monotonic()
        self.fetched = self.began

    def step(self, *values):
        """Count one step: its loss and metrics, means over its images, as Tensors or numbers.

        Raises:
            UserError: the loss of this step, or of one before it, is not finite.
        """
        self.waiting.append(values)
        if not self.compiled:
            self._begin_timing()
        last = self.done + len(self.waiting) == self.steps
        if last or time.monotonic() - self.fetched > self.interval:
            self._fetch()
            if self.show:
                self._print(last)

    def result(self):
        """The row of an epoch: its number, means over its steps in this process, and images/s of all processes."""
        means = (round(value, 6) for value in self._means())
        return {"epoch": self.epoch, **dict(zip(self.columns, means)),
                "images_per_second": round(self.images / self._seconds(), 1)}

    def _begin_timing(self):
        """Leave the first step of the run, which compiles, out of all times, but where an epoch has no other."""
        self.compiled = True
        if self.steps > 1:
            self._fetch()
            self.untimed, self.began = 1, self.fetched

    def _fetch(self):
        """Add up what has been waiting."""
        for values in self.waiting:
            loss, *metrics = map(float, values)
            if not math.isfinite(loss):
                raise UserError(f"training diverged: the loss became {loss} in epoch {self.epoch}, step {self.done + 1}; "
                                "try a smaller --lr")
            self.sums = [total + value for total, value in zip(self.sums, (loss, *metrics))]
            self.done += 1
        self.waiting, self.fetched = [], time.monotonic()

    def _means(self):
        return [total / self.done for total in self.sums]

    def _seconds(self):
        """Of a step of this epoch, as far as values have been fetched."""
        return (self.fetched - self.began) / (self.done - self.untimed)

    def _print(self, last):
        seconds = self._seconds()
        left = timedelta(seconds=round(((self.epochs - self.epoch + 1) * self.steps - self.done) * seconds))
        means = " ".join(f"{name} {value:.4f}" for name, value in zip(self.names, self._means()))
        print(f"epoch {self.epoch}/{self.epochs} step {self.done}/{self.steps} {means} {self.images / seconds:.0f} "
              f"images/s, {left} left", end="\r" if sys.stdout.isatty() and not last else "\n", flush=True)
