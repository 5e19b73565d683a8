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
"""What a network sees in pictures: of a classifier, its five likeliest classes, with their probabilities.

    python -m src.predict IMAGE... --checkpoint_file_path ckpt

An image is a PNG or JPEG of any size, in colour, grey or with transparency. It is scaled to the network's size, and
normalised as the data set that the network was trained on.
"""
from src import errors

errors.guard(__name__)  # before what takes seconds to import

from pathlib import Path

from src import checkpoint, device, loading
from src.config import Parser
from src.folding import fold
from src.networks import NETWORKS
from src.tasks import TASKS


def main():
    parser = Parser("python -m src.predict", __doc__, parents=[loading.identity_options()])
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="PNG or JPEG")
    parser.add_argument("--checkpoint_file_path", default="ckpt", help="checkpoint, or the folder of one")
    parser.add_argument("--device_target", default="CPU", choices=("Ascend", "GPU", "CPU"),
                        help="processor; CPU unless given")
    arguments = parser.parse_args()
    device.set_up(arguments.device_target)
    net, identity = loading.load(checkpoint.find_checkpoint(arguments.checkpoint_file_path), loading.stated(arguments))
    net, task = fold(net), TASKS[NETWORKS[identity.network].task]
    for path in arguments.images:
        print(path)
        for line in task.predict(net, path, identity.size, identity):
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    errors.run(main)
