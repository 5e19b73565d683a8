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
"""Evaluate a checkpoint of Adder ResNet-20, float or quantised."""
from src import checkpoint, data as dataset, device, errors
from src.config import get_config
from src.folding import fold
from src.quant.cells import load_network
from src.training.step import evaluate


def main():
    config = get_config(__doc__)
    path = checkpoint.find_checkpoint(config.checkpoint_file_path, config.layer)
    device.set_up(config.device_target, config.device_id, config.mode)
    folder = dataset.prepare(config.dataset, config.eval_dataset_path, ("test",), config.allow_small_dataset,
                             config.class_num)
    net = load_network(path, dataset.class_count(config.dataset, config.class_num), config.backend, config.layer)
    data = dataset.create_dataset(config.dataset, folder, "test", config.batch_size)
    top1, top5 = evaluate(fold(net, config.backend), data)
    print(f"result: {round(top1, 6)} ckpt= {path}")
    print(f"top-5: {round(top5, 6)}")


if __name__ == "__main__":
    errors.run(main)
