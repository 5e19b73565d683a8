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
"""Evaluate a checkpoint, float or quantised."""
from src import errors

errors.guard(__name__)  # before what takes seconds to import

from src import checkpoint, device, loading
from src.config import get_config, pick
from src.folding import fold
from src.networks import NETWORKS
from src.tasks import TASKS


def main():
    config = get_config("eval", __doc__)
    path = checkpoint.find_checkpoint(config.checkpoint_file_path)
    device.set_up(config.device_target, config.device_id, config.mode)
    net, identity = loading.load(path, config, config.backend)
    network = NETWORKS[identity.network]
    task = TASKS[network.task]
    vars(config).update(identity.settings, data_path=config.eval_dataset_path, validation_size=0)
    task = task(pick(task.Options, config), network, splits=("test",), classes=identity.classes)
    first, *others = zip(task.titles, task.evaluate(fold(net, config.backend, config.precision)).values())
    print(f"result: {round(first[1], 6)} ckpt= {path}")
    for title, value in others:
        print(f"{title}: {round(value, 6)}")


if __name__ == "__main__":
    errors.run(main)
