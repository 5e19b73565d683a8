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
"""Train Adder ResNet-20 or a relative, alone or by norm-guided distillation; config/ holds the settings of each."""
from pathlib import Path

import mindspore as ms
import numpy as np

from src import checkpoint, data as dataset, device, errors
from src.config import get_config
from src.distill.ngd import CentreLoss, Distillation, gradient_mix, inherit
from src.errors import UserError
from src.folding import fold
from src.res20_adder import FEATURES, resnet20
from src.training.run_folder import RunFolder
from src.training.trainer import Trainer

# What decides the weights at the end; a resumed run must have the same.
SETTINGS = ("dataset", "class_num", "allow_small_dataset", "validation_size", "num_parallel_workers", "batch_size",
            "lr", "momentum", "weight_decay", "seed", "mode", "backend")
TEACHER_SETTINGS = ("teacher", "teacher_epoch_size", "teacher_eta", "intra_weight", "inter_weight")
STUDENT_SETTINGS = ("layer", "epoch_size", "eta", "progressive", "teacher", "teacher_checkpoint_path", "inherit",
                    "logits_weight", "features_weight", "temperature")
MODELS = {"l1": "adder_resnet20", "l2": "adderl2_resnet20", "conv": "cnn_resnet20"}


def main():
    config = get_config(__doc__)
    check(config)
    rank, ranks = device.set_up(config.device_target, config.device_id, config.mode, config.run_distribute)
    folder = dataset.prepare(config.dataset, config.data_path, ("train", "test"), config.allow_small_dataset,
                             config.class_num)
    trainer = Trainer(config.dataset, folder, config.batch_size, config.seed, config.num_parallel_workers,
                      config.validation_size, rank, ranks, lr=config.lr, momentum=config.momentum,
                      weight_decay=config.weight_decay)
    settings = {**{key: getattr(config, key) for key in SETTINGS}, "devices": ranks}
    config.teacher_epoch_size = config.teacher_epoch_size or config.epoch_size
    teacher = trained_teacher(config, trainer, settings) if config.teacher != "none" else None
    train_network(config, trainer, settings, teacher)


def check(config):
    """Refuse parts of distillation that would do nothing."""
    if config.progressive and config.layer != "l1":
        raise UserError(f"progressive: only gradients of layer l1 can go from l2 to l1, not those of {config.layer}")
    if config.teacher != "none" and not (config.logits_weight or config.features_weight or config.inherit):
        raise UserError("a teacher teaches nothing without logits_weight, features_weight or inherit")
    if config.inherit and config.teacher != "none" and (config.teacher == "conv") != (config.layer == "conv"):
        raise UserError(f"inherit: layers {config.layer} cannot begin with the weights of a teacher of {config.teacher}")


def trained_teacher(config, trainer, settings):
    """The teacher: from its checkpoint, or trained in the folder `teacher` of the run."""
    net = network(config, config.teacher, config.teacher_eta)
    if config.teacher_checkpoint_path:
        checkpoint.load_strictly(net, checkpoint.find_checkpoint(config.teacher_checkpoint_path, config.teacher))
    else:
        objective = None
        if config.intra_weight or config.inter_weight:
            objective = CentreLoss(net.fc.out_channels, FEATURES, config.intra_weight, config.inter_weight)
        settings = {**settings, **{key: getattr(config, key) for key in TEACHER_SETTINGS}}
        run = RunFolder(Path(config.output_path) / "teacher", f"{MODELS[config.teacher]}_{config.dataset}", settings,
                        writes=trainer.rank == 0)
        trainer.fit(net, run, config.teacher_epoch_size, config.eval_interval, config.resume, objective)
    return net


def train_network(config, trainer, settings, teacher):
    """The network itself, with the teacher if there is one."""
    mix, begin_epoch = gradient_schedule(config.epoch_size) if config.progressive else (None, None)
    net = network(config, config.layer, config.eta, mix)
    objective, model = None, MODELS[config.layer]
    if teacher is not None:
        model = "adderngd_resnet20" if config.layer == "l1" else model
        if config.inherit:
            inherit(net, teacher)
        objective = distillation(config, teacher)
    trained_here = TEACHER_SETTINGS if teacher is not None and not config.teacher_checkpoint_path else ()
    settings = {**settings, **{key: getattr(config, key) for key in (*STUDENT_SETTINGS, *trained_here)}}
    run = RunFolder(config.output_path, f"{model}_{config.dataset}", settings, writes=trainer.rank == 0)
    trainer.fit(net, run, config.epoch_size, config.eval_interval, config.resume, objective, begin_epoch)


def distillation(config, teacher):
    """What the student imitates, if anything."""
    if not (config.logits_weight or config.features_weight):
        return None
    return Distillation(fold(teacher, config.backend), config.logits_weight, config.features_weight, config.temperature)


def gradient_schedule(epochs):
    """`mix` of the network, and what sets it before each epoch."""
    mix = ms.Parameter(ms.Tensor(np.ones(1, np.float32)), name="mix", requires_grad=False)

    def begin_epoch(epoch):
        mix.set_data(ms.Tensor([gradient_mix(epoch, epochs)], ms.float32))

    return mix, begin_epoch


def network(config, layer, eta, mix=None):
    """A network with the first weights of the seed."""
    ms.set_seed(config.seed)
    return resnet20(dataset.class_count(config.dataset, config.class_num), eta, config.backend, layer, mix)


if __name__ == "__main__":
    errors.run(main)
