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
"""The network of a checkpoint, float or quantised, whatever network it is."""
import argparse

from . import checkpoint, data, identity as identities, networks
from .config import check_range
from .errors import UserError
from .kinds import KINDS
from .pairs import pairs
from .quant import cells, layers


def load(path, options, backend="auto"):
    """Read a checkpoint and make its network.

    Args:
        path (Path): the file.
        options (Namespace): what was said of the network, see `src.identity.settle`.
        backend (str): see `src.kernels.operation`; where that takes the kernel, a quantised network runs in integers.

    Returns:
        tuple (Cell, Identity): images [N, C, H, W] to logits [N, class_num], and what it is.

    Raises:
        UserError: the file cannot be read; parameters are missing, unexpected, or of another shape; the options
            contradict the file.
        BuildError: see `src.kernels.operation`.
    """
    parameters = checkpoint.load_parameters(path)
    stored = identities.take(parameters, path)
    identity = identities.settle(stored, options, path)
    net = create(identity, backend)
    if stored is None:
        _check_classes(net, identity, parameters, path)
    if "bits" not in parameters:
        checkpoint.fill(net, parameters, path)
        return net, identity
    if identity.layer != "l1":
        raise UserError(f"{path} is quantised, which layers l1 can be, and not {identity.layer}")
    form = layers if parameters.get("scheme") == layers.SCHEME else cells
    return form.occupy(net, form.check(net, parameters, path), backend), identity


def _check_classes(net, identity, parameters, path):
    """Another number of classes is what options get wrong most often: the message names those that are right."""
    shape = getattr(parameters.get(pairs(net)[-1].weight.name), "shape", ())
    if shape and shape[0] != identity.class_num:
        fitting = [name for name, each in data.SETS.items() if each.class_num == shape[0]]
        cure = f"--class_num {shape[0]}" + (f", or --dataset {fitting[0]}" if fitting else "")
        raise UserError(f"{path} is a network of {shape[0]} classes, not {identity.class_num}; give {cure}")


def create(identity, backend="auto", **options):
    """The network of an identity, with random weights; options as those of `src.kinds.sockets`."""
    return networks.create(identity.network, layer=identity.layer, in_channels=data.channels(identity.dataset),
                           **identity.form, backend=backend, **options)


def identity_options():
    """Options of the programs that read a checkpoint, for those that do not say themselves what they are of."""
    options = argparse.ArgumentParser(add_help=False)
    for name, choices in (("network", networks.NETWORKS), ("layer", KINDS), ("dataset", data.SETS)):
        options.add_argument(f"--{name}", choices=list(choices), default=argparse.SUPPRESS,
                             help=f"{name} of a checkpoint that does not say it")
    options.add_argument("--class_num", type=int, default=argparse.SUPPRESS,
                         help="classes of a checkpoint that does not say it; 0 takes the data set's")
    options.add_argument("--image_size", type=int, default=argparse.SUPPRESS,
                         help="pixels of a side of the images, if others than the checkpoint's; 0: the network's own")
    return options


def stated(arguments):
    """What `identity_options` gave, completed by the defaults: options for `load`. Raises UserError out of range."""
    defaults = {"network": "resnet20", "layer": "l1", "dataset": "cifar100", "class_num": 0, "image_size": 0}
    given = {name: getattr(arguments, name) for name in defaults if hasattr(arguments, name)}
    for name, most in (("class_num", networks.MOST_CLASSES), ("image_size", networks.LARGEST_IMAGE)):
        check_range(name, given.get(name, 0), 0, most)
    return argparse.Namespace(**{**defaults, **given}, given=set(given))
