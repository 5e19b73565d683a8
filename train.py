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
"""Train Adder ResNet-20."""
import mindspore as ms

from src import dataset, device, errors
from src.config import get_config
from src.progress import Progress
from src.res20_adder import resnet20
from src.run_folder import RunFolder
from src.train_step import TrainStep, evaluate, sgd

# What decides the weights at the end; a resumed run must have the same.
SETTINGS = ("dataset", "class_num", "allow_small_dataset", "num_parallel_workers", "batch_size", "epoch_size", "lr",
            "momentum", "weight_decay", "eta", "seed", "mode", "backend")


def main():
    config = get_config(__doc__)
    rank, ranks = device.set_up(config.device_target, config.device_id, config.mode, config.run_distribute)
    folder = dataset.prepare(config.dataset, config.data_path, ("train", "test"), config.allow_small_dataset)

    def training_data(epoch):
        return dataset.create_dataset(config.dataset, folder, "train", config.batch_size, config.seed * 10_000 + epoch,
                                      config.num_parallel_workers, ranks, rank)

    steps = training_data(1).get_dataset_size()
    test_data = dataset.create_dataset(config.dataset, folder, "test", config.batch_size)

    ms.set_seed(config.seed)
    net = resnet20(config.class_num or dataset.LAYOUTS[config.dataset].class_num, config.eta, config.backend)
    optimizer = sgd(net, config.epoch_size * steps, config.lr, config.momentum, config.weight_decay)
    train_step = TrainStep(net, optimizer, ranks)

    settings = {**{key: getattr(config, key) for key in SETTINGS}, "devices": ranks}
    run = RunFolder(config.output_path, f"adder_resnet20_{config.dataset}", settings, writes=rank == 0)
    done = run.resume(train_step) if config.resume else run.start()
    progress = Progress(config.epoch_size, steps, config.batch_size, ranks, show=rank == 0)
    for epoch in range(done + 1, config.epoch_size + 1):
        train_epoch(train_step, training_data(epoch), epoch, progress)
        if rank == 0:
            due = epoch % config.eval_interval == 0 or epoch == config.epoch_size
            top1, top5 = evaluate(net, test_data) if due else (None, None)
            run.save(train_step, net, {"epoch": epoch, **progress.result(), "test_accuracy": top1, "test_top5": top5})
            if due:
                print(f"epoch {epoch}/{config.epoch_size} test accuracy {top1:.4f}, top-5 {top5:.4f}", flush=True)
    if rank == 0:
        print(f"best: {run.best_accuracy:.4f} ckpt= {run.path / run.best}")


def train_epoch(train_step, data, epoch, progress):
    """One pass over the training data."""
    train_step.set_train()
    progress.begin(epoch)
    for images, labels in data.create_tuple_iterator(num_epochs=1):
        progress.step(*train_step(images, labels))


if __name__ == "__main__":
    errors.run(main)
