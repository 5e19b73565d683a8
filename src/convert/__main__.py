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
"""Convert AdderNet's PyTorch checkpoint of Adder ResNet-20 to a MindSpore checkpoint. PyTorch is not needed.

Usage: python -m src.convert FILE.pth OUT.ckpt
"""
import argparse
from pathlib import Path

import numpy as np

from src import errors
from src.errors import UserError
from src.files import check_output
from src.convert.torch_pickle import load_state_dict

_BATCH_NORM = {
    "weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance",
}


def convert_names(state):
    """PyTorch's names and layout -> ours.

    Args:
        state (dict[str, ndarray]): PyTorch's state dict, of the network or of `DataParallel` around it.

    Returns:
        dict[str, ndarray]: float32 arrays of their own. The batch norms' counters are left out, and a linear
        `fc.weight` [C, 64] has become the 1 x 1 convolution [C, 64, 1, 1] that it equals.

    Raises:
        UserError: a tensor with values that are not finite, or two tensors for one of our names.
    """
    batch_norms = {_plain(name).rpartition(".")[0] for name in state if name.endswith(".running_mean")}
    converted = {}
    for name, value in state.items():
        module, dot, leaf = _plain(name).rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        if module in batch_norms:
            leaf = _BATCH_NORM.get(leaf, leaf)
        our_name = module + dot + leaf
        if our_name in converted:
            raise UserError(f"two tensors for {our_name}, one of them {name}")
        converted[our_name] = _float32(name, value)
    if "fc.weight" in converted and converted["fc.weight"].ndim == 2:
        converted["fc.weight"] = converted["fc.weight"][:, :, None, None]
    return converted


def main():
    """The command line: read, rename, check against the network, write."""
    parser = argparse.ArgumentParser(prog="python -m src.convert", description=__doc__.split("\n")[0],
                                     allow_abbrev=False)
    parser.add_argument("file", type=Path, metavar="FILE.pth", help="state dict that torch.save wrote")
    parser.add_argument("out", type=Path, metavar="OUT.ckpt", help="MindSpore checkpoint to write")
    arguments = parser.parse_args()
    check_output(arguments.out, ".ckpt")
    parameters = convert_names(load_state_dict(arguments.file))
    class_num = _class_num(parameters, arguments.file)

    # MindSpore takes seconds to import: after the mistakes that can be seen without it.
    from src.checkpoint import check_parameters, save_parameters
    from src.res20_adder import resnet20
    check_parameters(resnet20(class_num, backend="composed"), parameters, arguments.file)
    save_parameters(parameters, arguments.out)
    print(f"converted {len(parameters)} parameters ({class_num} classes) from {arguments.file} to {arguments.out}")


def _plain(name):
    """The name without the prefix that `DataParallel` adds."""
    return name.removeprefix("module.")


def _float32(name, value):
    with np.errstate(over="ignore"):
        value = np.array(value, dtype=np.float32, order="C")
    if not np.isfinite(value).all():
        raise UserError(f"{name} has values that are not finite")
    return value


def _class_num(parameters, source):
    shape = parameters["fc.weight"].shape if "fc.weight" in parameters else "missing"
    if shape[1:] != (64, 1, 1) or shape[0] == 0:
        raise UserError(f"{source}: not an Adder ResNet-20: fc.weight must be [classes, 64, 1, 1], and is {shape}")
    return shape[0]


if __name__ == "__main__":
    errors.run(main)
