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

A task is a class, made of its `Options`, the size of the network's images, which splits of the data to take and, for a
trained network, the classes that it knows. Training, its methods and the entry points know no more of it than this:

    Options           dataclass of the options that it takes, see `src.config.pick`
    train_metrics     names of what `loss` gives beside the loss
    metrics           names of what `evaluate` gives; the first, of which more is better, says which network is best
    titles            the same as people write them
    held_out          what it evaluates on, in a word
    dataset, class_num, in_channels, classes, batch_size, steps (of an epoch)
    batches(epoch)    an epoch of training, as a Dataset of MindSpore; always the same for the same epoch
    loss(net, objective=None)    Cell: a batch to the loss and the training metrics, all of them means over the batch
    evaluate(net)     dict: metric to value
    predict(net, path, size, identity)    lines of text on the picture in a file, for a network of that identity
"""
from src.tasks.classification import Classification

TASKS = {"classification": Classification}
