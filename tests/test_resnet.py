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
"""ResNet-18 and ResNet-50 against PyTorch, with the names and the form of AdderNet's code."""
import argparse

import mindspore as ms
import numpy as np
import pytest

import oracle
from src.convert.__main__ import convert_names, fit
from src.networks import create

torch = pytest.importorskip("torch")


class Block(torch.nn.Module):
    """Layers of (channels, window, stride), a norm behind each, and a shortcut; convolutions for adder layers."""

    def __init__(self, channels, layers):
        super().__init__()
        self.depth, stride, before = len(layers), max(step for *_, step in layers), channels
        for number, (filters, window, step) in enumerate(layers, start=1):
            layer = torch.nn.Conv2d(before, filters, window, step, window // 2, bias=False)
            self.add_module(f"conv{number}", layer)
            self.add_module(f"bn{number}", torch.nn.BatchNorm2d(filters))
            before = filters
        if stride > 1 or before != channels:
            self.downsample = torch.nn.Sequential(torch.nn.Conv2d(channels, before, 1, stride, bias=False),
                                                  torch.nn.BatchNorm2d(before))

    def forward(self, x):
        y = x
        for number in range(1, self.depth + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = torch.relu(y) if number < self.depth else y
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class TorchResNet(torch.nn.Module):
    """The whole network."""

    def __init__(self, class_num, counts, bottleneck):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1, self.maxpool = torch.nn.BatchNorm2d(64), torch.nn.MaxPool2d(3, 2, 1)
        channels = 64
        for stage, count in enumerate(counts):
            inner, blocks = 64 * 2 ** stage, []
            for number in range(count):
                step = 2 if stage and not number else 1
                layers = [(inner, 1, 1), (inner, 3, step), (4 * inner, 1, 1)] if bottleneck else [
                    (inner, 3, step), (inner, 3, 1)]
                blocks.append(Block(channels, layers))
                channels = layers[-1][0]
            self.add_module(f"layer{stage + 1}", torch.nn.Sequential(*blocks))
        self.fc, self.bn2 = torch.nn.Conv2d(channels, class_num, 1), torch.nn.BatchNorm2d(class_num)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.bn2(self.fc(x.mean((2, 3), keepdim=True))).flatten(1)


@pytest.mark.parametrize("name, counts, bottleneck", [("resnet18", (2, 2, 2, 2), False),
                                                      ("resnet50", (3, 4, 6, 3), True)])
def test_against_torch(name, counts, bottleneck):
    """Logits of images of odd sizes, after a conversion that finds out what the file is of."""
    torch.manual_seed(0)
    theirs = TorchResNet(10, counts, bottleneck)
    x = np.random.default_rng(0).standard_normal((3, 3, 75, 58)).astype(np.float32)
    with torch.no_grad():
        for _ in range(5):  # statistics
            theirs(torch.from_numpy(x))
        wanted = theirs.eval()(torch.from_numpy(x)).numpy()
    state = {f"module.{key}": value.numpy() for key, value in theirs.state_dict().items()}
    parameters = convert_names(state, "a.pth")
    options = dict.fromkeys(("network", "layer", "dataset"))
    identity = fit(parameters, argparse.Namespace(file="a.pth", **options))
    assert (identity.network, identity.layer, identity.class_num) == (name, "conv", 10)
    net = create(name, 10, "conv").set_train(False)
    for key, value in net.parameters_dict().items():
        value.set_data(ms.Tensor(parameters[key]))
    assert np.abs(wanted).max() > 0.1 and oracle.relative_error(net(ms.Tensor(x)).asnumpy(), wanted) < 1e-4
