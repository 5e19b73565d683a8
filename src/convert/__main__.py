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

Usage: python -m src.convert FILE.pth OUT.ckpt [--key state_dict] [--network resnet20] [--layer l1] [--dataset cifar10]
"""
from .. import errors

errors.guard(__name__)  # before what takes seconds to import

import functools
import itertools
import os
import re
from pathlib import Path

import numpy as np

from ..config import Parser
from .torch_pickle import load_state_dict
from ..errors import UserError
from ..files import check_output

_BATCH_NORM = {
    "weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance",
}
_COUNTERS = ("num_batches_tracked", "n_averaged")
# What torch.compile and FSDP put around a module, wherever it stands.
_WRAPPERS = re.compile(r"(?<![^.])_(orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.")


def convert_names(state, source):
    """PyTorch's names and layout -> ours.

    Args:
        state (dict[str, ndarray]): what `load_state_dict` returned. The keys and wrappers that all names begin with,
            as `state_dict.module.`, are taken off.
        source (Path): where it comes from, for messages.

    Returns:
        dict[str, ndarray]: float32 arrays of their own; float64 is rounded. The batch norms' counters are left out.

    Raises:
        UserError: two tensors for one of our names, or one with values that no network has: integers, which need a
            scale that the file does not hold, negative variances, numbers that are not finite in float32.
    """
    prefix = len(common_prefix(state))
    batch_norms = {name.rpartition(".")[0] for name in state if name.endswith(".running_mean")}
    converted = {}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        if leaf in _COUNTERS:
            continue
        if module in batch_norms:
            _check_variance(leaf, value, f"{source}: {name}")
            leaf = _BATCH_NORM.get(leaf, leaf)
        our_name = _WRAPPERS.sub("", f"{module}.{leaf}"[prefix:] if module else leaf)
        if our_name in converted:
            raise UserError(f"{source}: two tensors for {our_name}, one of them {name}")
        converted[our_name] = _float32(value, f"{source}: {name}")
    return converted


def common_prefix(state):
    """What all names but the counters' begin with, up to a dot: `state_dict.module.`, or nothing."""
    names = [name for name in state if name.rpartition(".")[2] not in _COUNTERS]
    shared = os.path.commonprefix(names)
    return shared[:shared.rfind(".") + 1]


def main():
    """The command line: read, rename, check against the network, write."""
    parser = Parser("python -m src.convert", __doc__)
    parser.add_argument("file", type=Path, metavar="FILE.pth", help="file that torch.save wrote")
    parser.add_argument("out", type=Path, metavar="OUT.ckpt", help="MindSpore checkpoint to write")
    parser.add_argument("--key", help="what to take of a file with several state dicts, as state_dict or model.student")
    parser.add_argument("--network", help="that it is of; the first of the table with such names, if not given")
    parser.add_argument("--layer", help="kind of its layers; the first of the table with such names, if not given")
    parser.add_argument("--dataset", help="that it was trained on; the first with as many classes, if not given")
    arguments = parser.parse_args()
    check_output(arguments.out, ".ckpt")
    state = load_state_dict(arguments.file, arguments.key)
    parameters = convert_names(state, arguments.file)

    # MindSpore takes seconds to import: after the mistakes that can be seen without it.
    from ..checkpoint import save_parameters
    identity = fit(parameters, arguments)
    save_parameters(parameters, arguments.out, identity=identity.dumps())
    under = common_prefix(state)[:-1]
    print(f"converted {len(parameters)} parameters ({identity.network} of layer {identity.layer}, {identity.class_num} "
          f"classes, {identity.dataset}) from {arguments.file}{under and f' ({under})'} to {arguments.out}")


def fit(parameters, arguments):
    """Find out what the parameters are of, and check them against that network.

    Args:
        parameters (dict[str, ndarray]): what `convert_names` returned. A linear layer [C, D] becomes the 1 x 1
            convolution [C, D, 1, 1] that it equals.
        arguments (Namespace): file, network, layer and dataset; those that are None are found out. Layers l1 and l2
            have the same names, so they cannot be told apart, and l1 is the first.

    Returns:
        Identity of the network.

    Raises:
        UserError: an unknown network, layer or data set, or parameters of another network.
    """
    from .. import data, networks
    from ..checkpoint import check_parameters
    from ..identity import Identity
    from ..kinds import KINDS
    from ..pairs import pairs

    for name, table in (("network", networks.NETWORKS), ("layer", KINDS), ("dataset", data.SETS)):
        if getattr(arguments, name) not in (None, *table):
            raise UserError(f"--{name} is one of {', '.join(table)}, not {getattr(arguments, name)}")
    for name, table in (("network", networks.NETWORKS), ("dataset", data.SETS)):
        given = getattr(arguments, name)
        if given is not None and table[given].task != "classification":
            raise UserError(f"--{name} {given}: only classifiers are converted")
    network, layer = _closest(parameters, itertools.product(
        [arguments.network] if arguments.network else
        [name for name, each in networks.NETWORKS.items() if each.task == "classification"],
        [arguments.layer] if arguments.layer else _kinds(parameters)))
    template = networks.create(network, 10, layer, backend="composed")
    for parameter in template.get_parameters():
        if parameter.shape[2:] == (1, 1) and np.ndim(parameters.get(parameter.name)) == 2:
            parameters[parameter.name] = parameters[parameter.name][:, :, None, None]
    class_num = _length(parameters, pairs(template)[-1].weight, 0)
    channels = _length(parameters, next(template.get_parameters()), 1)
    net = networks.create(network, class_num, layer, channels, backend="composed")
    check_parameters(net, parameters, f"{arguments.file}, taken for {network} of layer {layer} (--network, --layer and "
                                      "--key may say otherwise),")
    fitting = (name for name, each in data.SETS.items() if (each.class_num, each.channels) == (class_num, channels))
    dataset = arguments.dataset or next(fitting, "folder")
    if data.channels(dataset) != channels:
        raise UserError(f"{arguments.file}: the network takes images of {channels} channels, those of {dataset} have "
                        f"{data.channels(dataset)}; --dataset names another data set")
    return Identity(network, layer, class_num, dataset)


def _kinds(parameters):
    """The kinds of layers that can be in a file, as it has parameters of such names; of equal ones the first."""
    from ..kinds import KINDS, sockets
    found = {}
    for kind in KINDS:
        names = tuple(name for name, _ in sockets(kind, backend="composed")[0](1, 1, 1).parameters_and_names())
        if all(any(name.endswith(f".{own}") for name in parameters) for own in names):
            found.setdefault(names, kind)
    return list(found.values()) or KINDS


def _closest(parameters, choices):
    """The first of the pairs of network and layer that have most parameters of these names, and of these most in shape."""
    shapes = {name: np.shape(value) for name, value in parameters.items()}

    def likeness(choice):
        own = _shapes(*choice)
        common = own.keys() & shapes.keys()
        return own.keys() == shapes.keys(), len(common), sum(own[name] == shapes[name] for name in common)

    return max(choices, key=likeness)


@functools.lru_cache(maxsize=None)
def _shapes(network, layer):
    from .. import networks
    net = networks.create(network, 10, layer, backend="composed")
    return {name: value.shape for name, value in net.parameters_dict().items()}


def _length(parameters, expected, axis):
    """Of an axis of a parameter; where that makes no sense, of the one that is expected."""
    shape = np.shape(parameters.get(expected.name))
    return shape[axis] if len(shape) == len(expected.shape) and shape[axis] else expected.shape[axis]


def _check_variance(leaf, value, name):
    if leaf == "running_var" and (value < 0).any():
        raise UserError(f"{name} has negative variances, so the file is damaged")


def _float32(value, name):
    if value.dtype.kind != "f":
        raise UserError(f"{name} has values of type {value.dtype}, which without their scale mean nothing: convert the "
                        "checkpoint in floats")
    with np.errstate(over="ignore"):
        value = np.array(value, dtype=np.float32, order="C")
    if not np.isfinite(value).all():
        raise UserError(f"{name} has values that are not finite")
    return value


if __name__ == "__main__":
    errors.run(main)
