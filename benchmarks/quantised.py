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
"""Accuracy of a checkpoint quantised to every number of bits by every scheme: a table, and the smaller checkpoints.

Usage: python -m benchmarks.quantised --checkpoint_file_path F [--data_path data] [--output FOLDER]
"""
from src import errors

errors.guard(__name__)  # before what takes seconds to import

from pathlib import Path

from src import data, device, loading
from src.config import Parser
from src.files import check_folder
from src.folding import fold
from src.quant.__main__ import calibration_options, inputs, save_quantised
from src.quant.calibrate import quantise_network
from src.quant.cells import BITS, occupy
from src.quant.schemes import SCHEMES
from src.tasks.classification import evaluate


def main():
    parser = Parser("python -m benchmarks.quantised", __doc__, parents=[calibration_options()])
    parser.add_argument("--output", type=Path, help="folder for the quantised checkpoints; none are kept without it")
    options = parser.parse_args()
    if options.output:
        check_folder(options.output)
    device.set_up("CPU", mode="PYNATIVE")
    path, net, identity, images = inputs(options)
    folder = data.prepare(identity.dataset, options.data_path, ("test",), options.allow_small_dataset,
                          identity.class_num, identity.classes, identity.size)
    batches = data.create_dataset(identity.dataset, folder, "test", 250, size=identity.size)
    print(f"{path} on {identity.dataset}, calibrated on {len(images)} training images")
    print(f"{'scheme':12}{'bits':>5}{'top-1, %':>10}{'top-5, %':>10}{'below float':>13}", flush=True)
    float_top1, float_top5 = evaluate(fold(loading.load(path, loading.stated(options))[0]), batches)
    print(f"{'float':12}{32:5}{100 * float_top1:10.2f}{100 * float_top5:10.2f}", flush=True)
    for scheme in SCHEMES:
        for bits in BITS:
            values = quantise_network(net, images, bits, scheme)
            top1, top5 = evaluate(occupy(loading.create(identity), values), batches)
            print(f"{scheme:12}{bits:5}{100 * top1:10.2f}{100 * top5:10.2f}{100 * (float_top1 - top1):13.2f}", flush=True)
            if options.output:
                save_quantised(values, options.output / f"{path.stem}_{scheme}_{bits}bit.ckpt", identity)


if __name__ == "__main__":
    errors.run(main)
