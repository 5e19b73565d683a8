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
"""What a network makes of pictures: a classifier its five likeliest classes, super-resolution the picture enlarged.

    python -m src.predict IMAGE... --checkpoint_file_path ckpt
    python -m src.predict IMAGE --checkpoint_file_path SR.ckpt --output_path big.png

An image is a PNG or JPEG of any size, in colour, grey or with transparency, which is left away. For a classifier it is
scaled to the network's size, and normalised as the data set that the network was trained on. Super-resolution takes it
tile by tile, so that memory does not grow with its size but for the picture itself.
"""
from . import errors

errors.guard(__name__)  # before what takes seconds to import

from pathlib import Path

from . import checkpoint, device, loading
from .config import Parser
from .errors import UserError
from .folding import fold
from .networks import NETWORKS
from .tasks import TASKS


def main():
    parser = Parser("python -m src.predict", __doc__, parents=[loading.identity_options()])
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="PNG or JPEG")
    parser.add_argument("--checkpoint_file_path", default="ckpt", help="checkpoint, or the folder of one")
    parser.add_argument("--output_path", type=Path, help="picture to write; of several, the folder for them")
    parser.add_argument("--device_target", default="CPU", choices=("Ascend", "GPU", "CPU"),
                        help="processor; CPU unless given")
    arguments = parser.parse_args()
    device.set_up(arguments.device_target)
    net, identity = loading.load(checkpoint.find_checkpoint(arguments.checkpoint_file_path), loading.stated(arguments))
    net, network = fold(net), NETWORKS[identity.network]
    outputs = [output(arguments, path) for path in arguments.images]
    if arguments.output_path and len(set(outputs)) < len(outputs):
        raise UserError("several pictures have one name, and would overwrite each other")
    for where in (each for each in outputs if each is not None and each.exists()):
        if any(path.exists() and where.samefile(path) for path in arguments.images):
            raise UserError(f"{where} is the picture itself")
    for path, where in zip(arguments.images, outputs):
        print(path)
        for line in TASKS[network.task].predict(net, network, identity, path, where):
            print(f"  {line}", flush=True)


def output(arguments, path):
    """Where the picture goes that is made of one, or None. Raises UserError where several would go to one file."""
    where = arguments.output_path
    if where is not None and where.is_dir():
        if path.parent.exists() and where.samefile(path.parent):
            raise UserError(f"{where} holds pictures that are read, and might be overwritten: give another --output_path")
        return where / f"{path.stem}.png"
    if where is not None and len(arguments.images) > 1:
        raise UserError(f"{where} is no folder, which --output_path must be for several pictures")
    return where


if __name__ == "__main__":
    errors.run(main)
