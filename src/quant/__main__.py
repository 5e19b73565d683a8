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
from .. import errors

errors.guard(__name__)  # before what takes seconds to import

import argparse
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

from .. import checkpoint, device, loading
from ..config import Parser, add_options, check_range, check_values, defaults_but, pick, refuse_unused
from ..distill.student import fixed
from ..errors import UserError
from ..files import check_output
from ..networks import NETWORKS
from . import calibrate, layers
from .cells import BITS
from .fine_tune import fine_tune, in_loop
from .schemes import SCHEMES
from ..tasks import TASKS

FINE_TUNE_LR = 0.02


def main():
    """Read, calibrate, write."""
    parser = Parser("python -m src.quant", __doc__, parents=[calibration_options()])
    parser.add_argument("--output", type=Path, required=True, help="quantised checkpoint to write")
    parser.add_argument("--bits", type=int, default=8, choices=BITS, help="of activations and weights")
    parser.add_argument("--scheme", choices=[*SCHEMES, layers.SCHEME], default=argparse.SUPPRESS,
                        help="how weights become integers; unsigned, or layers for super-resolution, unless given")
    parser.add_argument("--device_target", default="CPU", choices=("Ascend", "GPU", "CPU"),
                        help="processor; CPU unless given")
    parser.add_argument("--fine_tune_epochs", type=int, default=0,
                        help="epochs that the network trains with the quantiser in the loop, of scheme unsigned; none "
                             "unless given")
    parser.add_argument("--fine_tune_lr", type=float, default=argparse.SUPPRESS,
                        help=f"rate of the first of their steps; {FINE_TUNE_LR} unless given; their loss is the "
                             "divergence from the float network's probabilities")
    arguments = parser.parse_args()
    check_range("fine_tune_epochs", arguments.fine_tune_epochs, 0, 10_000)
    if hasattr(arguments, "fine_tune_lr"):
        check_range("fine_tune_lr", arguments.fine_tune_lr, 1e-8, 1000.0)
        if not arguments.fine_tune_epochs:
            raise UserError("fine_tune_lr is of no use without --fine_tune_epochs")
    check_output(arguments.output, ".ckpt")
    device.set_up(arguments.device_target, mode="PYNATIVE")
    path, net, identity, images = inputs(arguments)
    if arguments.output.exists() and arguments.output.samefile(path):
        raise UserError(f"output {arguments.output} is the float checkpoint itself")
    scheme = getattr(arguments, "scheme", TASKS[NETWORKS[identity.network].task].scheme)
    quantise = layers.quantise_network if scheme == layers.SCHEME else calibrate.quantise_network
    with fine_tuned(arguments, path, net, identity, images, scheme) if arguments.fine_tune_epochs else nullcontext():
        print(f"calibrates {arguments.bits} bits on {len(images)} training images", flush=True)
        values = quantise(net, images, arguments.bits, scheme)
    save_quantised(values, arguments.output, identity)
    epochs = f", {arguments.fine_tune_epochs} epochs of fine-tuning" if arguments.fine_tune_epochs else ""
    print(f"quantised {path} to {arguments.bits} bits ({scheme}, {len(images)} training images{epochs}) as "
          f"{arguments.output}: {arguments.output.stat().st_size / path.stat().st_size:.2f} of its size")


@contextmanager
def fine_tuned(arguments, path, net, identity, images, scheme):
    """The network, trained with the quantiser in the loop, which stays in it within.

    Raises:
        UserError: for another scheme than unsigned; see `src.quant.fine_tune.fine_tune`.
    """
    if scheme != "unsigned":
        raise UserError(f"fine_tune_epochs is for scheme unsigned, not {scheme}")
    task = training_task(identity, arguments.data_path, arguments.allow_small_dataset)
    limits = calibrate.calibrated(net, images, arguments.bits, scheme).limits
    teacher = fixed(loading.load(path, loading.stated(arguments))[0], "auto")
    with in_loop(net, limits, arguments.bits):
        fine_tune(net, teacher, task, arguments.fine_tune_epochs, getattr(arguments, "fine_tune_lr", FINE_TUNE_LR))
        yield


def calibration_options():
    """The options that say what is quantised, and on which images it is decided how."""
    options = argparse.ArgumentParser(add_help=False, parents=[loading.identity_options()])
    options.add_argument("--checkpoint_file_path", default="ckpt", help="float checkpoint of l1 layers, or its folder")
    options.add_argument("--data_path", default="data", help="training data, as of train.py")
    options.add_argument("--allow_small_dataset", action="store_true", help="accept fewer images than official")
    options.add_argument("--calibration_size", type=int, default=argparse.SUPPRESS,
                         help="training images to decide everything on; 2048, or 64 patches, unless given")
    add_options(options, ("patch_size",))
    return options


def inputs(arguments):
    """What `calibration_options` name: the checkpoint's path, its network and identity, and images [N, C, H, W].

    Raises:
        UserError: no such checkpoint or data, a damaged one, values that are not finite, or fewer images.
    """
    path = checkpoint.find_checkpoint(arguments.checkpoint_file_path)
    net, identity = loading.load(path, loading.stated(arguments))
    if identity.layer != "l1" or not layers.adder_layers(net):
        raise UserError(f"{path}: only float networks of layer l1 can be quantised; this one is "
                        f"{'quantised already' if identity.layer == 'l1' else 'of layer ' + identity.layer}")
    count = getattr(arguments, "calibration_size", TASKS[NETWORKS[identity.network].task].calibration_size)
    check_range("calibration_size", count, 1, 2 ** 31 - 1)
    check_values({"patch_size": arguments.patch_size}, "src.quant")
    if NETWORKS[identity.network].task != "super_resolution":
        refuse_unused(arguments, ["patch_size"], identity.network)
    images = calibration_images(identity, arguments.data_path, count, arguments.allow_small_dataset,
                                arguments.patch_size)
    if len(images) < count:
        raise UserError(f"calibration_size {count}: there are only {len(images)} training images")
    return path, net, identity, images


def save_quantised(values, path, identity):
    """Write what `quantise_network` returned. Raises UserError if it cannot be written, or is not finite."""
    numbers = {name: values[name] for name in ("bits", "scheme")}
    arrays = {name: value for name, value in values.items() if name not in numbers}
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise UserError(f"{name} is not finite: the network's weights are too large, or damaged")
    checkpoint.save_parameters(arrays, path, identity=identity.dumps(), **numbers)


def calibration_images(identity, data_path, count, allow_small=False, patch_size=0):
    """The first training images [count, C, H, W] of seed 0, cropped and mirrored as in training; fewer if there are.

    Norms have the statistics of cropped images, with their black margins: what is estimated on others would not fit.
    """
    batches = training_task(identity, data_path, allow_small, batch_size=1, patch_size=patch_size).batches(0).take(count)
    return np.concatenate([image for image, *_ in batches.create_tuple_iterator(num_epochs=1, output_numpy=True)])


def training_task(identity, data_path, allow_small, **options):
    """The task of a trained network, with its training images of seed 0; `options` as in default_config.yaml."""
    network = NETWORKS[identity.network]
    task = TASKS[network.task]
    options = defaults_but(data_path=data_path, allow_small_dataset=allow_small, seed=0, **options, **identity.settings)
    return task(pick(task.Options, options), network, ("train",), identity.classes)


if __name__ == "__main__":
    errors.run(main)
