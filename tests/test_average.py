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
"""The running mean of the weights: its numbers, the network that has it for a while, and runs that are resumed."""
import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest

from src.networks import create
from src.tasks.classification import Loss
from src.training.average import Average
from src.training.step import TrainStep, sgd

MODES = pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
IMAGES = np.random.default_rng(0).standard_normal((8, 1, 32, 32)).astype(np.float32)
LABELS = np.arange(8, dtype=np.int32)


def training(decay):
    """A network, its step, and the average of it."""
    ms.set_seed(1)
    net = create("lenet5_bn", 10).set_train()
    optimizer = sgd(net, 10, 0.1, 0.9, 5e-4)
    average = Average(net, optimizer, decay)
    return net, TrainStep(Loss(net), optimizer, average=average), average


def values(parameters):
    return [parameter.asnumpy().copy() for parameter in parameters]


@MODES
def test_mean(mode):
    """After every step, with a decay that is reached at once in the second; training is as without."""
    ms.set_context(mode=mode)
    net, step, average = training(0.3)
    other, plain, _ = training(0.3)
    plain.average = None
    means = values(average.means)
    for number in range(1, 6):
        step(ms.Tensor(IMAGES), ms.Tensor(LABELS))
        plain(ms.Tensor(IMAGES), ms.Tensor(LABELS))
        rate = 1 - min(0.3, (1 + number) / (10 + number))
        means = [mean + rate * (weight - mean) for mean, weight in zip(means, values(net.trainable_params()))]
    for got, mean, weight in zip(values(average.means), means, values(net.trainable_params())):
        np.testing.assert_allclose(got, mean, rtol=1e-5, atol=1e-6)
        assert np.any(got != weight)
    for weight, same in zip(values(net.trainable_params()), values(other.trainable_params())):
        np.testing.assert_array_equal(weight, same)
    assert sum(name.startswith("average.") for name in step.parameters_dict()) == len(means)


def test_mean_is_of_the_network_alone():
    """What else is trained with it is averaged neither in training nor for an evaluation."""
    net, other = create("lenet5_bn", 10), create("lenet5_bn", 10)
    average = Average(net, sgd(ms.nn.CellList([net, other]), 10, 0.1, 0.9, 5e-4), 0.9)
    assert list(average.weights) == net.trainable_params()


@MODES
def test_network_has_it_for_a_while(mode):
    """And statistics of the images that it sees with these weights."""
    ms.set_context(mode=mode)
    net, step, average = training(0.9)
    for _ in range(3):
        step(ms.Tensor(IMAGES), ms.Tensor(LABELS))
    before = values(net.get_parameters())
    batches = ds.NumpySlicesDataset((np.tile(IMAGES, (60, 1, 1, 1)), np.tile(LABELS, 60)), shuffle=False).batch(8)
    with average.applied(net, batches):
        for mean, weight in zip(values(average.means), values(net.trainable_params())):
            np.testing.assert_array_equal(mean, weight)
        first = net.conv1(ms.Tensor(IMAGES)).asnumpy()
        np.testing.assert_allclose(net.bn1.moving_mean.asnumpy(), first.mean((0, 2, 3)), rtol=2e-2)
    for old, value in zip(before, values(net.get_parameters())):
        np.testing.assert_array_equal(old, value)
    step(ms.Tensor(IMAGES), ms.Tensor(LABELS))
    assert all(np.any(old != value) for old, value in zip(before, values(net.get_parameters())))  # it trains on
    average.apply(net, batches)
    np.testing.assert_array_equal(net.fc3.adder.asnumpy(), average.means[-3].asnumpy())
