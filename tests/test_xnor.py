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
"""Binary layers: numbers and gradients against NumPy; networks of them, of which test_networks.py has all."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import ops
from numpy.lib.stride_tricks import sliding_window_view

import oracle
from src import cost
from src.folding import fold
from src.networks import create
from src.norm import BatchNormAct2d
from src.tasks.classification import Loss
from src.training.step import TrainStep, sgd
from src.xnor import Sign, XnorConv2d
from test_networks import images

# Of x, and filters, window, stride, padding, group.
SHAPES = [((3, 5, 7, 6), 4, 3, 1, 1, 1), ((2, 6, 9, 8), 9, 3, 2, 1, 3), ((4, 4, 5, 11), 8, 5, 2, 2, 4),
          ((2, 7, 3, 3), 2, 1, 1, 0, 1)]


class Oracle:
    """The layer in float64, written out from its formulas, with a norm in training."""

    def __init__(self, x, w, norm, stride, padding, group):
        self.x, self.w, self.norm, self.stride, self.group = x, w.astype(np.float64), norm, stride, group
        self.padding = padding
        self.z = self.normalised(np.zeros_like(x))[0]
        self.signs = np.where(self.w >= 0, 1.0, -1.0)
        self.alpha = np.abs(self.w).mean((1, 2, 3))
        self.padded = np.pad(np.where(self.z >= 0, 1.0, -1.0), ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))

    def normalised(self, dy):
        """The norm, of parameters (gamma, beta): its output and the gradient of its input."""
        channels = self.x.shape[1]
        return oracle.batch_norm(self.x, dy, *self.norm, np.zeros(channels), np.ones(channels))[:2]

    def windows(self, x, number):
        """What a filter sees, [N, C, H_out, W_out, k, k], a view of x."""
        first = number // (len(self.w) // self.group) * self.w.shape[1]
        seen = sliding_window_view(x, self.w.shape[2:], (2, 3), writeable=True)
        return seen[:, first:first + self.w.shape[1], ::self.stride, ::self.stride]

    def forward(self):
        return np.stack([self.alpha[f] * np.einsum("nchwij,cij->nhw", self.windows(self.padded, f), self.signs[f])
                         for f in range(len(self.w))], 1)

    def gradients(self, dy):
        """dx and dw: straight through signs of what is at most 1, exact through alpha and the norm."""
        dpadded, dw = np.zeros_like(self.padded), np.zeros_like(self.w)
        for f, w in enumerate(self.w):
            products = np.einsum("nhw,nchwij->cij", dy[:, f], self.windows(self.padded, f))
            dw[f] = self.alpha[f] * products * (np.abs(w) <= 1) + (products * self.signs[f]).mean() * np.sign(w)
            dx = self.windows(dpadded, f)
            for i, j in np.ndindex(w.shape[1:]):  # windows overlap: one place in them at a time
                dx[..., i, j] += self.alpha[f] * dy[:, f, None] * self.signs[f][:, i, j, None, None]
        inside = slice(self.padding, -self.padding or None)
        return self.normalised(dpadded[:, :, inside, inside] * (np.abs(self.z) <= 1))[1], dw


@pytest.mark.parametrize("x_shape, filters, kernel, stride, padding, group", SHAPES)
@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_layer(mode, x_shape, filters, kernel, stride, padding, group):
    ms.set_context(mode=mode)
    random = np.random.default_rng(0)
    layer = XnorConv2d(x_shape[1], filters, kernel, stride, padding, group=group).set_train()
    x, w = (random.standard_normal(shape).astype(np.float32) for shape in (x_shape, layer.weight.shape))
    w.flat[0], w.flat[1] = 0, 1
    norm = random.uniform(0.5, 2, x_shape[1]), random.standard_normal(x_shape[1])
    for parameter, value in zip((layer.weight, layer.norm.gamma, layer.norm.beta), (w, *norm)):
        parameter.set_data(ms.Tensor(value, ms.float32))
    expected = Oracle(x, w, norm, stride, padding, group)
    wanted = expected.forward()
    assert oracle.relative_error(layer(ms.Tensor(x)).asnumpy(), wanted) < 1e-5
    dy = random.standard_normal(wanted.shape).astype(np.float32)
    gradient = ops.GradOperation(get_all=True, get_by_list=True, sens_param=True)(layer, [layer.weight])
    (dx,), (dw,) = gradient(ms.Tensor(x), ms.Tensor(dy))
    for got, value in zip((dx, dw), expected.gradients(dy)):
        assert oracle.relative_error(got.asnumpy(), value) < 1e-4


def test_sign():
    x = ms.Tensor([-2, -1, -0.5, -0.0, 0, 0.5, 1, 1.5], ms.float32)
    assert Sign()(x).asnumpy().tolist() == [-1, -1, -1, 1, 1, 1, 1, 1]
    assert ops.grad(Sign())(x).asnumpy().tolist() == [0, 1, 1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("dtype", [ms.float16, ms.float32])
def test_types(dtype):
    x = ops.ones((2, 3, 4, 4), dtype)
    assert XnorConv2d(3, 2, 3).to_float(ms.float16)(x).dtype == dtype
    with pytest.raises(TypeError, match="binary layer: x must be of float32"):
        XnorConv2d(3, 2, 3)(ops.ones((2, 3, 4, 4), ms.int32))


def test_training_moves_every_parameter():
    net = create("lenet5_bn", 10, "xnor").set_train()
    before = {key: value.asnumpy().copy() for key, value in net.parameters_dict().items()}
    step = TrainStep(Loss(net), sgd(net, 2, lr=0.1, momentum=0.9, weight_decay=0.0))
    for _ in range(2):
        loss, _ = step(ms.Tensor(images("lenet5_bn", 4)), ms.Tensor(np.arange(4), ms.int32))
        assert np.isfinite(float(loss))
    for key, value in net.parameters_dict().items():
        assert np.any(value.asnumpy() != before[key]), key


def test_network_stays_as_it_is():
    net = create("resnet20", 10, "xnor")
    assert fold(net) is net and isinstance(net.bn1, BatchNormAct2d)


def test_counted_as_adder_layers_are():
    counts = [cost.count(create("resnet20", 10, layer), 3, (32, 32)) for layer in ("l1", "xnor")]
    assert counts[0] == counts[1] and cost.papers_cost("bnn", "1 bit", counts[1]).xnors == counts[1].pairs
