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
from src import data as dataset
from src.training.progress import Progress
from src.training.step import TrainStep, evaluate, sgd


class Trainer:
    """Trains networks on one data set.

    Args:
        name (str): of the data set.
        folder (Path): what `dataset.prepare` returned.
        batch_size (int): images in a step of this process.
        seed (int): of the order of the images and their augmentation.
        workers (int): threads that read images.
        validation_size (int): training images to hold out and evaluate on, instead of the test set; 0 for none.
        rank, ranks (int): this process, and how many train together.
        optimizer (dict): lr, momentum and weight_decay.

    Raises:
        UserError: see `dataset.create_dataset`.
    """

    def __init__(self, name, folder, batch_size, seed, workers, validation_size, rank, ranks, **optimizer):
        self.source = {"name": name, "folder": folder, "batch_size": batch_size, "workers": workers,
                       "validation_size": validation_size}
        self.seed, self.rank, self.ranks, self.optimizer = seed, rank, ranks, optimizer
        self.steps = self.training_data(1).get_dataset_size()
        self.held_out = "validation" if validation_size else "test"
        self.test_data = dataset.create_dataset(split=self.held_out, **self.source)

    def training_data(self, epoch):
        """The batches of an epoch; always the same for the same seed and epoch."""
        return dataset.create_dataset(split="train", seed=self.seed * 10_000 + epoch, shards=self.ranks,
                                      shard_id=self.rank, **self.source)

    def fit(self, net, run, epochs, eval_interval, resume, objective=None, begin_epoch=None):
        """Train a network to the end, or what is left of it.

        Args:
            net (Cell): a `src.res20_adder.ResNet`; it receives the weights of a run that is resumed.
            run (RunFolder): where it goes.
            epochs (int): of the whole run.
            eval_interval (int): epochs between evaluations; the last epoch is always evaluated.
            resume (bool): continue the run in the folder, if there is one.
            objective (Cell): see `TrainStep`.
            begin_epoch: called with the number of each epoch, from 1 on, before it.

        Raises:
            UserError: see `RunFolder` and `Progress`.
        """
        step = TrainStep(net, sgd(net, epochs * self.steps, **self.optimizer), self.ranks, objective)
        done = run.resume(step) if resume else run.start()
        progress = Progress(epochs, self.steps, self.source["batch_size"], self.ranks, show=self.rank == 0)
        for epoch in range(done + 1, epochs + 1):
            if begin_epoch:
                begin_epoch(epoch)
            self._train_epoch(step, epoch, progress)
            if self.rank == 0:
                due = epoch % eval_interval == 0 or epoch == epochs
                top1, top5 = evaluate(net, self.test_data) if due else (None, None)
                run.save(step, net, {"epoch": epoch, **progress.result(), "test_accuracy": top1, "test_top5": top5})
                if due:
                    print(f"epoch {epoch}/{epochs} {self.held_out} accuracy {top1:.4f}, top-5 {top5:.4f}", flush=True)
        if self.rank == 0:
            print(f"best: {run.best_accuracy:.4f} ckpt= {run.path / run.best}", flush=True)

    def _train_epoch(self, step, epoch, progress):
        step.net.set_train()
        progress.begin(epoch)
        for images, labels in self.training_data(epoch).create_tuple_iterator(num_epochs=1):
            progress.step(*step(images, labels))
