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

from src.errors import UserError


class Progress:
    """Epoch, step, mean loss, accuracy, images/s and time left.

    Args:
        epochs (int): of the whole run.
        steps (int): of an epoch.
        batch_size (int): images in a step of this process.
        ranks (int): processes that train together.
        show (bool): whether this process prints.
    """

    INTERVAL = 10  # seconds between lines; a terminal has one line, drawn anew every half second

    def __init__(self, epochs, steps, batch_size, ranks=1, show=True):
        self.epochs, self.steps, self.batch_size, self.ranks, self.show = epochs, steps, batch_size, ranks, show
        self.interval = 0.5 if sys.stdout.isatty() else self.INTERVAL
        self.seconds = None  # of a step, a running mean

    def begin(self, epoch):
        """Begin an epoch, counted from 1."""
        self.epoch, self.loss, self.hits, self.done = epoch, 0.0, 0, 0
        self.began = self.last = self.shown = time.monotonic()

    def step(self, loss, hits):
        """Count one step: its loss and number of hits, Tensors or numbers. Raises UserError if the loss is not finite."""
        loss = float(loss)
        if not math.isfinite(loss):
            raise UserError(f"the loss became {loss} in epoch {self.epoch}, step {self.done + 1}; the last good "
                            "checkpoint is kept (a smaller --lr may help)")
        now = time.monotonic()
        self.loss, self.hits, self.done = self.loss + loss, self.hits + int(hits), self.done + 1
        if self.done > 1:  # the first step of an epoch opens the data, that of a run compiles
            self.seconds = 0.9 * (self.seconds or now - self.last) + 0.1 * (now - self.last)
        self.last = now
        if self.show and (self.done == self.steps or now - self.shown > self.interval):
            self._print()
            self.shown = now

    def result(self):
        """Loss, accuracy (0..1) and images/s over the epoch: the first two of this process, the last of all."""
        images = self.done * self.batch_size
        return {"loss": round(self.loss / self.done, 6), "train_accuracy": round(self.hits / images, 6),
                "images_per_second": round(images * self.ranks / (self.last - self.began), 1)}

    def _print(self):
        seconds = self.seconds or self.last - self.began
        left = ((self.epochs - self.epoch + 1) * self.steps - self.done) * seconds
        end = "\r" if sys.stdout.isatty() and self.done < self.steps else "\n"
        print(f"epoch {self.epoch}/{self.epochs} step {self.done}/{self.steps} loss {self.loss / self.done:.4f} "
              f"accuracy {self.hits / (self.done * self.batch_size):.4f} "
              f"{self.batch_size * self.ranks / seconds:.0f} images/s, {timedelta(seconds=round(left))} left",
              end=end, flush=True)
