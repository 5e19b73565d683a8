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
"""Train an adder network or a relative, alone or with a teacher; config/ holds the settings of each."""
from src import errors

errors.guard(__name__)  # before what takes seconds to import

from pathlib import Path

from src import device, distill, tasks
from src.config import decides, get_config, pick
from src.identity import check_data
from src.networks import NETWORKS
from src.training.trainer import Options, Trainer


def main():
    config = get_config("train", __doc__)
    method, network = distill.METHODS[config.method], NETWORKS[config.network]
    task = tasks.TASKS[network.task]
    options, loop = pick(method.Options, config), pick(Options, config)  # refuse what makes no sense
    check_data(config.network, config.dataset)
    distill.check_options(config)
    tasks.check_options(config)
    rank, ranks = device.set_up(config.device_target, config.device_id, config.mode, config.run_distribute)
    task = task(pick(task.Options, config), network, rank=rank, ranks=ranks)
    trainer = Trainer(task, loop, rank, ranks)
    method.train(trainer, options, Path(config.output_path), {**decides(config), "devices": ranks})


if __name__ == "__main__":
    errors.run(main)
