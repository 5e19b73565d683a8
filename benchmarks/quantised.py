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

Usage: python -m benchmarks.quantised --checkpoint_file_path F [--dataset cifar100] [--data_path data] [--output FOLDER]
"""
import argparse
from pathlib import Path

from src import data as dataset, device, errors
from src.files import check_folder
from src.folding import fold
from src.quant.calibrate import calibration_options, inputs, quantise_network, save_quantised
from src.quant.cells import BITS, SCHEMES, QuantisedResNet
from src.tasks.classification import evaluate


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantised", description=__doc__.split("\n")[0],
                                     allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter,
                                     parents=[calibration_options()])
    parser.add_argument("--output", type=Path, help="folder for the quantised checkpoints; none are kept without it")
    options = parser.parse_args()
    if options.output:
        check_folder(options.output)
    device.set_up("CPU", mode="PYNATIVE")
    folder = dataset.prepare(options.dataset, options.data_path, ("test",), options.allow_small_dataset)
    path, net, images = inputs(options)
    data = dataset.create_dataset(options.dataset, folder, "test", 250)
    print(f"{path} on {options.dataset}, calibrated on {len(images)} training images")
    print(f"{'scheme':12}{'bits':>5}{'top-1, %':>10}{'top-5, %':>10}{'below float':>13}", flush=True)
    float_top1, float_top5 = evaluate(fold(net), data)
    print(f"{'float':12}{32:5}{100 * float_top1:10.2f}{100 * float_top5:10.2f}", flush=True)
    for scheme in SCHEMES:
        for bits in BITS:
            parameters = quantise_network(net, images, bits, scheme)
            top1, top5 = evaluate(QuantisedResNet(parameters), data)
            below = 100 * (float_top1 - top1)
            print(f"{scheme:12}{bits:5}{100 * top1:10.2f}{100 * top5:10.2f}{below:13.2f}", flush=True)
            if options.output:
                save_quantised(parameters, options.output / f"{path.stem}_{scheme}_{bits}bit.ckpt")


if __name__ == "__main__":
    errors.run(main)
