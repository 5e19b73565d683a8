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
"""Convert a PyTorch checkpoint of a network of the table to a MindSpore checkpoint. PyTorch is not needed.

Usage: python -m src.convert FILE.pth OUT.ckpt [--network resnet20] [--layer l1] [--dataset cifar10]
"""
from src import errors

errors.guard(__name__)  # before what takes seconds to import

from pathlib import Path

import numpy as np

from src.config import Parser
from src.convert.torch_pickle import load_state_dict
from src.errors import UserError
from src.files import check_output

_BATCH_NORM = {
    "weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance",
}


def convert_names(state):
    """PyTorch's names and layout -> ours.

    Args:
        state (dict[str, ndarray]): PyTorch's state dict, of the network or of `DataParallel` around it.

    Returns:
        dict[str, ndarray]: float32 arrays of their own. The batch norms' counters are left out.

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
    return converted


def main():
    """The command line: read, rename, check against the network, write."""
    parser = Parser("python -m src.convert", __doc__)
    parser.add_argument("file", type=Path, metavar="FILE.pth", help="state dict that torch.save wrote")
    parser.add_argument("out", type=Path, metavar="OUT.ckpt", help="MindSpore checkpoint to write")
    parser.add_argument("--network", default="resnet20", help="that it is of")
    parser.add_argument("--layer", default="l1", help="kind of its layers")
    parser.add_argument("--dataset", help="that it was trained on; the first with as many classes, if not given")
    arguments = parser.parse_args()
    check_output(arguments.out, ".ckpt")
    parameters = convert_names(load_state_dict(arguments.file))

    # MindSpore takes seconds to import: after the mistakes that can be seen without it.
    from src.checkpoint import save_parameters
    identity = fit(parameters, arguments)
    save_parameters(parameters, arguments.out, identity=identity.dumps())
    print(f"converted {len(parameters)} parameters ({identity.network}, {identity.class_num} classes, "
          f"{identity.dataset}) from {arguments.file} to {arguments.out}")


def fit(parameters, arguments):
    """Find out what the parameters are of, and check them against that network.

    Args:
        parameters (dict[str, ndarray]): what `convert_names` returned. A linear layer [C, D] becomes the 1 x 1
            convolution [C, D, 1, 1] that it equals.
        arguments (Namespace): file, network, layer and dataset.

    Returns:
        Identity of the network.

    Raises:
        UserError: an unknown network, layer or data set, or parameters of another network.
    """
    from src import data, networks
    from src.checkpoint import check_parameters
    from src.identity import Identity
    from src.kinds import KINDS
    from src.pairs import pairs

    for name, table in (("network", networks.NETWORKS), ("layer", KINDS), ("dataset", {None: None, **data.SETS})):
        if getattr(arguments, name) not in table:
            raise UserError(f"--{name} is one of {', '.join(filter(None, table))}, not {getattr(arguments, name)}")
    template = networks.create(arguments.network, 10, arguments.layer, backend="composed")
    first, last = (pairs(template)[i].weight.name for i in (0, -1))
    for name, parameter in template.parameters_dict().items():
        if name in parameters and parameters[name].ndim == 2 and parameter.shape[2:] == (1, 1):
            parameters[name] = parameters[name][:, :, None, None]
    if any(getattr(parameters.get(name), "ndim", 0) != 4 for name in (first, last)):
        raise UserError(f"{arguments.file}: not a {arguments.network} of layer {arguments.layer}: {first} and {last} "
                        "must be there, filters of four axes")
    class_num, channels = parameters[last].shape[0], parameters[first].shape[1]
    net = networks.create(arguments.network, class_num, arguments.layer, channels, backend="composed")
    check_parameters(net, parameters, arguments.file)
    fitting = (name for name, each in data.SETS.items() if (each.class_num, each.channels) == (class_num, channels))
    dataset = arguments.dataset or next(fitting, "folder")
    if data.channels(dataset) != channels:
        raise UserError(f"{arguments.file}: the network takes images of {channels} channels, those of {dataset} have "
                        f"{data.channels(dataset)}; --dataset names another data set")
    return Identity(arguments.network, arguments.layer, class_num, dataset)


def _plain(name):
    """The name without the prefix that `DataParallel` adds."""
    return name.removeprefix("module.")


def _float32(name, value):
    with np.errstate(over="ignore"):
        value = np.array(value, dtype=np.float32, order="C")
    if not np.isfinite(value).all():
        raise UserError(f"{name} has values that are not finite")
    return value


if __name__ == "__main__":
    errors.run(main)
