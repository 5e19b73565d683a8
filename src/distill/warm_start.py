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
"""Training that goes on from the weights of a checkpoint: fine-tuning, or more epochs."""
from .. import checkpoint, identity as identities
from ..errors import UserError
from ..networks import NETWORKS

BACKBONE = "backbone."  # begins the names of its parameters, see `src.networks.Network`


def begin_with(net, path, identity):
    """Give a network the weights and statistics of a checkpoint; where classes or scale are others, its head stays as
    it is.

    The head is what has another shape because its first axis is the number of classes; of another scale it is what the
    checkpoint has not, or in another shape. A network with a backbone can also begin with a classifier's weights there.

    Args:
        net (Cell): the network.
        path (str): the checkpoint, or a folder that holds one best checkpoint.
        identity (Identity): what `net` is.

    Raises:
        UserError: there is no such checkpoint; it is damaged, quantised, or of another network or layer.
    """
    network, layer = identity.network, identity.layer
    path = checkpoint.find_checkpoint(path)
    parameters = checkpoint.load_parameters(path)
    known = identities.take(parameters, path)
    if "bits" in parameters:
        raise UserError(f"pre_trained: {path} is quantised; take the float checkpoint that it was made from")
    if known is None:
        identities.check_name(path, layer)
    elif (known.network, known.layer) == (NETWORKS[network].backbone, layer):
        _begin_backbone_with(net, parameters, path)
        return
    elif (known.network, known.layer) != (network, layer):
        raise UserError(f"pre_trained: {path} is {known.network} of layer {known.layer}, not {network} of layer {layer}; "
                        f"say --network {known.network} --layer {known.layer}")
    weights = checkpoint.weights(net)
    other = [name for name, value in identity.options.items() if known.options[name] != value] if known else []
    for name in other:
        if name != "scale":
            raise UserError(f"pre_trained: {path} has another {name}; say --{name} {known.options[name]}")
    if other:
        head = [name for name, value in weights.items() if _shape(parameters, name) != value.shape]
        parameters = {name: value for name, value in parameters.items() if name in weights}
    else:
        head = _head(weights, parameters, identity.class_num)
    kept = {name: value for name, value in net.parameters_dict().items() if name in head or name not in weights}
    checkpoint.fill(net, {**parameters, **kept}, path)
    if head:
        print(f"pre_trained: {path} has {'another scale' if other else 'other classes'}; the head ({', '.join(head)}) "
              "begins at random", flush=True)


def _begin_backbone_with(net, parameters, path):
    own = {name: value for name, value in net.parameters_dict().items() if name.startswith(BACKBONE)}
    parameters = {BACKBONE + name: value for name, value in parameters.items() if BACKBONE + name in own}
    others = {name: value for name, value in net.parameters_dict().items() if name not in own}
    checkpoint.fill(net, {**parameters, **others}, path)
    print(f"pre_trained: {path} is the backbone; everything else begins at random", flush=True)


def _head(weights, parameters, class_num):
    """Names of the parameters that differ in the number of classes, if they agree on that of the checkpoint."""
    shapes = {name: _shape(parameters, name) for name in weights}
    head = [name for name, value in weights.items() if value.shape[:1] == (class_num,) and shapes[name]
            and shapes[name][0] != class_num and shapes[name][1:] == value.shape[1:]]
    return head if len({shapes[name][0] for name in head}) == 1 else []


def _shape(parameters, name):
    """Of a checkpoint's parameter; () where there is none of that name."""
    return tuple(getattr(parameters.get(name), "shape", ()))
