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
"""Mixed precision as MindSpore's users ask for it: amp, to_float and Model, in both forms and both modes."""
import functools

import mindspore as ms
import numpy as np
import pytest
from mindspore import amp, nn, ops

import oracle
from src.adder import Adder2d, adder2d_function
from src.norm import BatchNormAct2d
from src.shift import ShiftAdd2d

MODES = {"GRAPH": ms.GRAPH_MODE, "PYNATIVE": ms.PYNATIVE_MODE}
WAYS = {"O1": lambda net: amp.auto_mixed_precision(net, "O1"), "O2": lambda net: amp.auto_mixed_precision(net, "O2"),
        "float16": lambda net: net.to_float(ms.float16),  # which O3 is
        "bfloat16": lambda net: net.to_float(ms.bfloat16)}
STEPS = 6
backends = pytest.mark.parametrize("backend", ["kernel", "composed"])
modes = pytest.mark.parametrize("mode", list(MODES))


class Net(nn.Cell):
    """Each of our layers, and MindSpore's convolution before them where it has the type."""

    def __init__(self, backend, stem=True):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, pad_mode="pad", padding=1) if stem else Adder2d(1, 4, 3, 1, 1, backend=backend)
        self.bn1 = BatchNormAct2d(4, backend=backend)
        self.shift_add = ShiftAdd2d(4, 4, 3, padding=1, backend=backend)
        self.bn2 = BatchNormAct2d(4, shortcut=True, backend=backend)
        self.adder = Adder2d(4, 2, 3, 2, 1, bias=True, backend=backend)
        self.bn3 = BatchNormAct2d(2, relu=False, backend=backend)

    def construct(self, x):
        x = self.bn1(self.stem(x))
        x = self.bn2(self.shift_add(x), x)
        return self.bn3(self.adder(x))


def make(backend, stem):
    ms.set_seed(1)
    return Net(backend, stem)


def images():
    """Two classes of noise that differ in the first row."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 16).astype(np.int32)
    x = random.standard_normal((16, 1, 7, 5)).astype(np.float32)
    x[:, :, 0] += 2 * labels[:, None, None]
    return ms.Tensor(x), ms.Tensor(labels)


class Loss(nn.Cell):
    """Of a network that may give half precision."""

    def __init__(self, net):
        super().__init__(auto_prefix=False)
        self.net, self.loss = net, nn.CrossEntropyLoss()

    def construct(self, x, labels):
        return self.loss(self.net(x).astype(ms.float32).mean((2, 3)), labels)


def train(net, steps=STEPS):
    """The losses of the steps; one gradient that is not finite would spoil all that follow."""
    sgd = nn.SGD(net.trainable_params(), 0.02, momentum=0.9)
    step = nn.TrainOneStepCell(Loss(net), sgd).set_train()
    losses = np.array([step(*images()).asnumpy().item() for _ in range(steps)])
    assert all(np.isfinite(parameter.asnumpy()).all() for parameter in net.get_parameters())
    return losses


@functools.lru_cache(maxsize=None)
def plain_losses(stem):
    return train(make("kernel", stem))


@pytest.fixture(name="folder", autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # O1 writes the classes that it makes


@pytest.mark.parametrize("way", WAYS)
@backends
@modes
def test_trains_as_in_float32(mode, backend, way):
    stem = way != "bfloat16"  # which MindSpore's convolution for CPU lacks
    plain = plain_losses(stem)
    ms.set_context(mode=MODES[mode])
    losses = train(WAYS[way](make(backend, stem)))
    np.testing.assert_allclose(losses, plain, rtol=0.02)
    assert losses[-1] < 0.95 * losses[0]


@modes
def test_model(mode):
    """As `ms.Model` does it; its loss scale is not for adder layers, see `Adder2d`, and not for CPU."""
    ms.set_context(mode=MODES[mode])
    net = make("kernel", True)
    before = net.adder.adder.asnumpy().copy()
    data = ms.dataset.NumpySlicesDataset(tuple(value.asnumpy() for value in images()), shuffle=False).batch(16)
    model = ms.Model(nn.SequentialCell(net, nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.CrossEntropyLoss(),
                     nn.SGD(net.trainable_params(), 0.02), amp_level="O2", loss_scale_manager=None)
    model.train(2, data, dataset_sink_mode=False)
    step = np.linalg.norm(net.adder.adder.asnumpy() - before) / before.size ** 0.5
    assert 0.25 < step / (0.02 * 0.2) < 2.1  # two steps of lr * eta for each weight


TYPES = [(ms.float32, ms.float16), (ms.float16, ms.float16), (ms.float16, ms.float32), (ms.bfloat16, ms.bfloat16)]


@pytest.mark.parametrize("x_type, w_type", TYPES)
@backends
@modes
def test_types_of_the_function(mode, backend, x_type, w_type):
    """y and dx are of x's type and dw is of w's; all of them are float32's numbers, rounded at the end."""
    ms.set_context(mode=MODES[mode])
    random = np.random.default_rng(0)
    x, w = (ms.Tensor(random.standard_normal(shape), kind) for shape, kind in
            (((2, 3, 9, 7), x_type), ((5, 3, 3, 3), w_type)))

    def function(x, w):
        return adder2d_function(x, w, 2, 1, 0, backend)

    y, dx, dw = function(x, w), *ops.GradOperation(get_all=True)(function)(x, w)
    assert (y.dtype, dx.dtype, dw.dtype) == (x_type, x_type, w_type)
    x, w = (value.astype(ms.float32).asnumpy() for value in (x, w))
    ones = np.ones(y.shape, np.float32)
    wanted = oracle.forward(x, w, 2, 1), oracle.input_grad(ones, x, w, 2, 1), oracle.weight_grad(ones, x, w, 2, 1)
    for got, exact in zip((y, dx, dw), wanted):
        rounding = {ms.float32: 1e-5, ms.float16: 1e-3, ms.bfloat16: 1e-2}[got.dtype]
        assert oracle.relative_error(got.astype(ms.float32).asnumpy(), exact) < rounding


@pytest.mark.parametrize("kind", [ms.float64, ms.int32, ms.bool_])
@modes
def test_other_types_are_refused(mode, kind):
    """float64 too, whose digits would be lost without a word; but a compiled norm's is cast before it can tell."""
    ms.set_context(mode=MODES[mode])
    x = ms.Tensor(np.ones((1, 2, 4, 4)), kind)
    norms = [] if (mode, kind) == ("GRAPH", ms.float64) else [BatchNormAct2d(2).set_train()]
    for layer in (Adder2d(2, 3, 3), ShiftAdd2d(2, 3, 3, padding=1), *norms):
        with pytest.raises(TypeError, match=f"layer|norm: x must be of float32, float16 or bfloat16, not {kind}"):
            layer(x)
