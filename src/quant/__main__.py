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
"""The command line of quantisation: a float checkpoint and training images to a quantised checkpoint.

Usage: python -m src.quant --checkpoint_file_path FILE --data_path data --bits 8 --output OUT.ckpt
"""
from src import errors

errors.guard(__name__)  # before what takes seconds to import

import argparse
from pathlib import Path

import numpy as np

from src import checkpoint, data, device, loading
from src.config import Parser, check_range
from src.errors import UserError
from src.files import check_output
from src.pairs import pairs
from src.quant.calibrate import quantise_network
from src.quant.cells import BITS
from src.quant.schemes import SCHEMES


def main():
    """Read, calibrate, write."""
    parser = Parser("python -m src.quant", __doc__, parents=[calibration_options()])
    parser.add_argument("--output", type=Path, required=True, help="quantised checkpoint to write")
    parser.add_argument("--bits", type=int, default=8, choices=BITS, help="of activations and weights")
    parser.add_argument("--scheme", default="unsigned", choices=list(SCHEMES), help="how weights become integers")
    parser.add_argument("--device_target", default="CPU", choices=("Ascend", "GPU", "CPU"),
                        help="processor; CPU unless given")
    arguments = parser.parse_args()
    check_output(arguments.output, ".ckpt")
    device.set_up(arguments.device_target, mode="PYNATIVE")
    path, net, identity, images = inputs(arguments)
    if arguments.output.exists() and arguments.output.samefile(path):
        raise UserError(f"output {arguments.output} is the float checkpoint itself")
    save_quantised(quantise_network(net, images, arguments.bits, arguments.scheme), arguments.output, identity)
    print(f"quantised {path} to {arguments.bits} bits ({arguments.scheme}, {len(images)} training images) as "
          f"{arguments.output}: {arguments.output.stat().st_size / path.stat().st_size:.2f} of its size")


def calibration_options():
    """The options that say what is quantised, and on which images it is decided how."""
    options = argparse.ArgumentParser(add_help=False, parents=[loading.identity_options()])
    options.add_argument("--checkpoint_file_path", default="ckpt", help="float checkpoint of l1 layers, or its folder")
    options.add_argument("--data_path", default="data", help="training data, as of train.py")
    options.add_argument("--allow_small_dataset", action="store_true", help="accept fewer images than official")
    options.add_argument("--calibration_size", type=int, default=2048, help="training images to decide everything on")
    return options


def inputs(arguments):
    """What `calibration_options` name: the checkpoint's path, its network and identity, and images [N, C, H, W].

    Raises:
        UserError: no such checkpoint or data, a damaged one, values that are not finite, or fewer images.
    """
    check_range("calibration_size", arguments.calibration_size, 1, 2 ** 31 - 1)
    path = checkpoint.find_checkpoint(arguments.checkpoint_file_path)
    net, identity = loading.load(path, loading.stated(arguments))
    if identity.layer != "l1" or not pairs(net):
        raise UserError(f"{path}: only float networks of layer l1 can be quantised; this one is "
                        f"{'quantised already' if identity.layer == 'l1' else 'of layer ' + identity.layer}")
    folder = data.prepare(identity.dataset, arguments.data_path, ("train",), arguments.allow_small_dataset,
                          identity.class_num, identity.classes)
    images = calibration_images(identity, folder, arguments.calibration_size)
    if len(images) < arguments.calibration_size:
        raise UserError(f"calibration_size {arguments.calibration_size}: there are only {len(images)} training images")
    return path, net, identity, images


def save_quantised(values, path, identity):
    """Write what `quantise_network` returned. Raises UserError if it cannot be written."""
    numbers = {name: values[name] for name in ("bits", "scheme")}
    arrays = {name: value for name, value in values.items() if name not in numbers}
    checkpoint.save_parameters(arrays, path, identity=identity.dumps(), **numbers)


def calibration_images(identity, folder, count):
    """The first training images [count, C, H, W] of seed 0, cropped and mirrored as in training.

    Norms have the statistics of cropped images, with their black margins: what is estimated on others would not fit.
    """
    images = data.create_dataset(identity.dataset, folder, "train", 1, size=identity.size).take(count)
    return np.concatenate([image for image, _ in images.create_tuple_iterator(num_epochs=1, output_numpy=True)])


if __name__ == "__main__":
    errors.run(main)
