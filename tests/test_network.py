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
"""The network: its parameters' names, its numbers against NumPy, training, and the memory that a step takes."""
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import oracle
import pytest
from mindspore import nn

from src.adder import Adder2d
from src.res20_adder import resnet20
from src.tasks.classification import Loss
from src.training.step import TrainStep, sgd

ROOT = Path(__file__).resolve().parents[1]
ADDERS = {  # name: shape, in the zoo's order
    "layer1.0.conv1": (16, 16, 3, 3), "layer1.0.conv2": (16, 16, 3, 3), "layer1.1.conv1": (16, 16, 3, 3),
    "layer1.1.conv2": (16, 16, 3, 3), "layer1.2.conv1": (16, 16, 3, 3), "layer1.2.conv2": (16, 16, 3, 3),
    "layer2.0.conv1": (32, 16, 3, 3), "layer2.0.conv2": (32, 32, 3, 3), "layer2.0.downsample.0": (32, 16, 1, 1),
    "layer2.1.conv1": (32, 32, 3, 3), "layer2.1.conv2": (32, 32, 3, 3), "layer2.2.conv1": (32, 32, 3, 3),
    "layer2.2.conv2": (32, 32, 3, 3), "layer3.0.conv1": (64, 32, 3, 3), "layer3.0.conv2": (64, 64, 3, 3),
    "layer3.0.downsample.0": (64, 32, 1, 1), "layer3.1.conv1": (64, 64, 3, 3), "layer3.1.conv2": (64, 64, 3, 3),
    "layer3.2.conv1": (64, 64, 3, 3), "layer3.2.conv2": (64, 64, 3, 3),
}
NORMS = {  # name: channels
    "bn1": 16, "layer1.0.bn1": 16, "layer1.0.bn2": 16, "layer1.1.bn1": 16, "layer1.1.bn2": 16, "layer1.2.bn1": 16,
    "layer1.2.bn2": 16, "layer2.0.bn1": 32, "layer2.0.bn2": 32, "layer2.0.downsample.1": 32, "layer2.1.bn1": 32,
    "layer2.1.bn2": 32, "layer2.2.bn1": 32, "layer2.2.bn2": 32, "layer3.0.bn1": 64, "layer3.0.bn2": 64,
    "layer3.0.downsample.1": 64, "layer3.1.bn1": 64, "layer3.1.bn2": 64, "layer3.2.bn1": 64, "layer3.2.bn2": 64,
}


@pytest.mark.parametrize("class_num", [10, 100])
def test_parameters(class_num):
    """Exactly those of the model zoo: its checkpoints and the converted ones have no other names."""
    golden = {"conv1.weight": (16, 3, 3, 3), "fc.weight": (class_num, 64, 1, 1)}
    golden.update({f"{name}.adder": shape for name, shape in ADDERS.items()})
    for name, channels in {**NORMS, "bn2": class_num}.items():
        golden.update({f"{name}.{part}": (channels,) for part in ("gamma", "beta", "moving_mean", "moving_variance")})
    net = resnet20(class_num)
    assert {p.name: p.shape for p in net.get_parameters()} == golden and len(golden) == 110


def test_trainable_values():
    assert sum(p.size for p in resnet20(10).trainable_params()) == 272_484


def test_layers():
    """The first and the last layer are ordinary convolutions, all others adder layers; the norms are the paper's."""
    net = resnet20(10, eta=0.3)
    convolutions = {name for name, cell in net.cells_and_names() if isinstance(cell, nn.Conv2d)}
    adders = {name: cell for name, cell in net.cells_and_names() if isinstance(cell, Adder2d)}
    assert convolutions == {"conv1", "fc"} and set(adders) == set(ADDERS)
    assert {cell.operation.eta for cell in adders.values()} == {0.3}
    norms = [cell for _, cell in net.cells_and_names() if isinstance(cell, nn.BatchNorm2d)]
    assert len(norms) == 22 and {norm.eps for norm in norms} == {1e-5}
    assert {round(norm.momentum, 6) for norm in norms} == {0.1}  # MindSpore keeps 1 - momentum


def test_momentum_of_the_statistics():
    """A tenth of each batch, seen on the first norm, whose statistics start at zero and one."""
    net = resnet20(10).set_train()
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    net(ms.Tensor(x))
    batch = net.conv1(ms.Tensor(x)).asnumpy()
    np.testing.assert_allclose(net.bn1.moving_mean.asnumpy(), 0.1 * batch.mean((0, 2, 3)), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(net.bn1.moving_variance.asnumpy(), 0.9 + 0.1 * batch.var((0, 2, 3)), rtol=1e-3)


def test_first_weights():
    """Reproduced by a seed; adder weights from N(0, 1), as in AdderNet's code."""
    weights = []
    for seed in (1, 1, 2):
        ms.set_seed(seed)
        weights.append({p.name: p.asnumpy() for p in resnet20(10).get_parameters()})
    for name, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][name])
    assert np.any(weights[0]["layer1.0.conv1.adder"] != weights[2]["layer1.0.conv1.adder"])
    adder = weights[0]["layer3.0.conv1.adder"]
    assert abs(adder.mean()) < 0.02 and abs(adder.std() - 1) < 0.02


class Reference:
    """The network in evaluation mode, float64, with random weights.

    Each norm's statistics are drawn near those that the images have there; otherwise ReLU would see numbers of one
    sign, and the comparison would prove nothing.
    """

    def __init__(self, class_num):
        self.random = np.random.default_rng(0)
        self.values = {p.name: self.random.standard_normal(p.shape).astype(np.float32)
                       for p in resnet20(class_num).get_parameters()}

    def __call__(self, x):
        x = self.relu(self.norm(self.convolution(x, "conv1", 1), "bn1"))
        for stage in (1, 2, 3):
            for block in (0, 1, 2):
                x = self.block(x, f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1)
        x = x.mean((2, 3), keepdims=True)
        return self.norm(self.convolution(x, "fc", 0), "bn2")[:, :, 0, 0]

    def block(self, x, name, stride):
        y = self.relu(self.norm(self.adder(x, f"{name}.conv1", stride, 1), f"{name}.bn1"))
        y = self.norm(self.adder(y, f"{name}.conv2", 1, 1), f"{name}.bn2")
        if stride == 2:
            x = self.norm(self.adder(x, f"{name}.downsample.0", 2, 0), f"{name}.downsample.1")
        return self.relu(x + y)

    def adder(self, x, name, stride, padding):
        return oracle.forward(x, self.values[f"{name}.adder"], stride, padding)

    def convolution(self, x, name, padding):
        w = self.values[f"{name}.weight"].astype(np.float64)
        x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))
        return np.einsum("nchwij,fcij->nfhw", windows, w)

    def norm(self, x, name):
        shape = x.shape[1]
        mean, spread = x.mean((0, 2, 3)), x.std((0, 2, 3)) + 0.1
        drawn = {"gamma": self.random.uniform(0.5, 1.5, shape), "beta": self.random.normal(0, 0.3, shape),
                 "moving_mean": mean + spread * self.random.normal(0, 0.3, shape),
                 "moving_variance": spread ** 2 * self.random.uniform(0.5, 2, shape)}
        gamma, beta, mean, variance = (value.astype(np.float32)[:, None, None] for value in drawn.values())
        self.values.update({f"{name}.{part}": value.astype(np.float32) for part, value in drawn.items()})
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    @staticmethod
    def relu(x):
        return np.maximum(x, 0)


def images(count):
    return np.random.default_rng(1).standard_normal((count, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module", name="reference")
def _reference():
    """Weights by name, and the logits that they give for two images."""
    reference = Reference(10)
    logits = reference(images(2))
    return reference.values, logits


@pytest.mark.parametrize("backend, mode", [("kernel", ms.GRAPH_MODE), ("kernel", ms.PYNATIVE_MODE),
                                           ("composed", ms.PYNATIVE_MODE)], ids=str)
def test_logits_match_numpy(reference, backend, mode):
    """float32 sums near -500 differ by tens, and norms spread that over their range: 7e-5 was the worst of 4 seeds."""
    ms.set_context(mode=mode)
    values, logits = reference
    got = evaluated(values, backend)
    assert got.shape == (2, 10) and oracle.relative_error(got, logits) < 2e-4
    assert np.abs(logits[0] - logits[1]).max() > 0.1 * np.abs(logits).max()  # the images do make a difference


def evaluated(values, backend):
    net = resnet20(10, backend=backend).set_train(False)
    for parameter in net.get_parameters():
        parameter.set_data(ms.Tensor(values[parameter.name]))
    return net(ms.Tensor(images(2))).asnumpy()


def test_modes_agree(reference):
    pynative = evaluated(reference[0], "kernel")
    ms.set_context(mode=ms.GRAPH_MODE)
    assert oracle.relative_error(evaluated(reference[0], "kernel"), pynative) < 1e-6


def test_training_lowers_the_loss():
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(1)
    net = resnet20(10, backend="kernel").set_train()
    step = TrainStep(Loss(net), sgd(net, 30, 0.1, 0.9, 5e-4))
    before = {p.name: p.asnumpy().copy() for p in net.trainable_params()}
    labels = np.arange(32, dtype=np.int32) % 10
    batch = ms.Tensor(images(10)[labels] + 0.3 * images(32)), ms.Tensor(labels)
    losses = [float(step(*batch)[0]) for _ in range(12)]
    assert losses[-1] < 0.85 * losses[0]
    for parameter in net.trainable_params():
        assert np.any(parameter.asnumpy() != before[parameter.name]), parameter.name


TRAINING = """
net = resnet20(10, backend=BACKEND).set_train()
step = TrainStep(Loss(net), sgd(net, 100, 0.1, 0.9, 5e-4))
x, labels = ms.Tensor(np.ones((BATCH, 3, 32, 32), np.float32)), ms.Tensor(np.zeros(BATCH, np.int32))
for _ in range(STEPS):
    step(x, labels)[0].asnumpy()
"""


def peak_memory(batch, backend, steps):
    """GiB at most that training in a process of its own takes."""
    code = f"""
import mindspore as ms, numpy as np
from src.res20_adder import resnet20
from src.tasks.classification import Loss
from src.training.step import TrainStep, sgd
ms.set_context(mode=ms.GRAPH_MODE)
BATCH, BACKEND, STEPS = {batch}, {backend!r}, {steps}
{TRAINING}
status = dict(line.split(":", 1) for line in open("/proc/self/status", encoding="utf-8"))
print("peak", int(status["VmHWM"].split()[0]) / 2 ** 20)  # ru_maxrss would start at the peak of the process that forked
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("peak"))


def test_memory_of_training():
    """Below 2 GiB at the batch size of the recipe."""
    assert peak_memory(256, "kernel", 2) < 2


def test_memory_of_the_composed_form():
    """In one layer alone, filters x patches x positions would be 0.6 GB more. A second step takes as much as the first."""
    assert peak_memory(64, "composed", 1) < 1.3
