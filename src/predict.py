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
"""What a network sees in pictures: its five likeliest classes, with their probabilities.

    python -m src.predict IMAGE... --checkpoint_file_path ckpt

An image is a PNG or JPEG of any size, in colour, grey or with transparency. It is scaled to the network's size, and
normalised as the data set that the network was trained on.
"""
import argparse
from pathlib import Path

import mindspore as ms
import numpy as np

from src import checkpoint, data, device, errors, loading
from src.folding import fold
from src.networks import NETWORKS

SHOWN = 5  # classes


def main():
    parser = argparse.ArgumentParser(prog="python -m src.predict", description=__doc__.split("\n")[0],
                                     allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter,
                                     parents=[loading.identity_options()])
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="PNG or JPEG")
    parser.add_argument("--checkpoint_file_path", default="ckpt", help="checkpoint, or the folder of one")
    parser.add_argument("--device_target", default="CPU", choices=("Ascend", "GPU", "CPU"), help="processor")
    arguments = parser.parse_args()
    device.set_up(arguments.device_target)
    net, identity = loading.load(checkpoint.find_checkpoint(arguments.checkpoint_file_path), loading.stated(arguments))
    net = fold(net)
    for path in arguments.images:
        print(path)
        for name, probability in likeliest(net, identity, path):
            print(f"  {100 * probability:5.1f} %  {name}", flush=True)


def likeliest(net, identity, path):
    """The likeliest classes of a picture.

    Args:
        net (Cell): in evaluation mode, images [N, C, H, W] to logits.
        identity (Identity): of the network.
        path (Path): of a PNG or JPEG.

    Returns:
        list of (name, probability), the likeliest first; the name is a number where the names are not known.

    Raises:
        UserError: the picture cannot be read.
    """
    image = data.from_picture(identity.dataset, path, NETWORKS[identity.network].size)
    logits = net(ms.Tensor(image[None])).asnumpy()[0].astype(np.float64)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    names = identity.classes or [f"class {number}" for number in range(identity.class_num)]
    return [(names[number], probabilities[number]) for number in np.argsort(-probabilities, kind="stable")[:SHOWN]]


if __name__ == "__main__":
    errors.run(main)
