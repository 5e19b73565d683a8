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
"""What a network can learn: the only table of tasks. A new one is its file and a line here.

A task is a class, made of its `Options`, the network's entry in `src.networks.NETWORKS`, which splits of the data to
take and, for a trained network, the classes that it knows. Training, its methods and the entry points know no more:

    Options           dataclass of the options that it takes, see `src.config.pick`
    train_metrics     names of what `loss` gives beside the loss
    metrics           names of what `evaluate` gives; the first, of which more is better, says which network is best
    titles            the same as people write them
    fraction          by how much the first of them is multiplied in the names of checkpoints, which end in four digits
    output            what an exported network gives, in a word
    any_size          whether its networks take images of any size
    scheme, calibration_size    how they are quantised, on how many images, unless it is said
    name, summary     the data, in the name of a checkpoint and in a message
    held_out          what it evaluates on, in a word
    batch_size, steps (of an epoch)
    identity(network, layer)    what a network of it is, see `src.identity`
    batches(epoch)    an epoch of training, as a Dataset of MindSpore whose first column a network takes; always the
                      same for the same epoch
    loss(net, objective=None)    Cell: a batch to the loss and the training metrics, all of them means over the batch
    evaluate(net)     dict: metric to value
    predict(net, network, identity, path, output)    lines of text on the picture in a file, by a network of that entry
                      and identity; `output` is the file for what is no text, or None
"""
import dataclasses

from ..config import refuse_unused
from ..networks import NETWORKS
from .classification import Classification
from .detection import Detection
from .super_resolution import SuperResolution

TASKS = {"classification": Classification, "super_resolution": SuperResolution, "detection": Detection}


def check_options(config):
    """Refuse options of other tasks and networks than those that are trained, unless they are the defaults.

    Raises:
        UserError: names one of them.
    """
    network = NETWORKS[config.network]
    forms = {name for each in NETWORKS.values() for name in each.options}
    fields = {key: {field.name for field in dataclasses.fields(task.Options)} for key, task in TASKS.items()}
    unused = (forms | set().union(*fields.values())) - (fields[network.task] - forms) - set(network.options)
    refuse_unused(config, unused, config.network)
