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
"""Shift layers and those of ShiftAddNet: numbers and gradients against NumPy; every network of them in all its uses."""
import argparse
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import ops
from numpy.lib.stride_tricks import sliding_window_view

import oracle
from src import cost, loading
from src.adder import Adder2d
from src.checkpoint import save_parameters
from src.errors import UserError
from src.exporter import export
from src.folding import fold
from src.identity import Identity
from src.networks import NETWORKS, create
from src.norm import BatchNormAct2d
from src.quant.__main__ import inputs
from src.shift import Powers, Shift2d, ShiftAdd2d
from src.tasks.classification import Loss
from src.training.step import TrainStep, sgd
from test_networks import SMALL, fixture_miniatures, images, network, trained_on_noise  # pylint: disable=unused-import

MODES = pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])


class Oracle:
    """The shift layer in float64, from the formulas of the published code."""

    def __init__(self, x, shift, sign, stride, padding, lowest=-14):
        self.x = np.floor(x.astype(np.float64) * 2 ** 16) / 2 ** 16
        self.w = np.sign(np.rint(sign)) * 2.0 ** np.rint(np.clip(shift.astype(np.float64), lowest, 0))
        self.stride, self.padding = stride, padding

    def padded(self):
        return np.pad(self.x, ((0, 0), (0, 0), (self.padding,) * 2, (self.padding,) * 2))

    def windows(self, x):
        """[N, C, H_out, W_out, k, k], a view of the padded input."""
        return sliding_window_view(x, self.w.shape[2:], (2, 3), writeable=True)[:, :, ::self.stride, ::self.stride]

    def forward(self):
        return np.einsum("nchwij,fcij->nfhw", self.windows(self.padded()), self.w)

    def gradients(self, dy):
        """dx, dshift and dsign."""
        dw = np.einsum("nfhw,nchwij->fcij", dy, self.windows(self.padded()))
        dx = np.zeros_like(self.padded())
        for i, j in np.ndindex(*self.w.shape[2:]):
            self.windows(dx)[..., i, j] += np.einsum("nfhw,fc->nchw", dy, self.w[:, :, i, j])
        inner = slice(self.padding, -self.padding or None)
        return dx[:, :, inner, inner], dw * self.w * math.log(2), dw


@MODES
@pytest.mark.parametrize("x_shape, filters, kernel, stride, padding", [
    ((2, 3, 7, 6), 5, 3, 1, 1), ((3, 5, 9, 8), 4, 3, 2, 1), ((2, 4, 8, 8), 7, 1, 2, 0), ((2, 2, 9, 9), 3, 5, 1, 0)])
def test_layer(x_shape, filters, kernel, stride, padding, mode):
    """Output and gradients, with shifts beyond the limits, which come back to them, and numbers halfway."""
    ms.set_context(mode=mode)
    random = np.random.default_rng(0)
    layer = Shift2d(x_shape[1], filters, kernel, stride, padding).set_train()
    x = random.standard_normal(x_shape).astype(np.float32)
    shift = random.uniform(-16, 2, layer.shift.shape).astype(np.float32)
    sign = random.uniform(-2, 2, layer.sign.shape).astype(np.float32)
    shift.flat[:4], sign.flat[:8] = (-20.0, 3.0, -2.5, -3.5), (1, 1, 1, 1, 0.5, -0.5, 1.5, 0)
    layer.shift.set_data(ms.Tensor(shift))
    layer.sign.set_data(ms.Tensor(sign))
    wanted = Oracle(x, shift, sign, stride, padding)
    dy = random.standard_normal(wanted.forward().shape).astype(np.float32)

    def loss(x):
        y = layer(x)
        return (y * ms.Tensor(dy)).sum(), y

    (_, y), (dx, dw) = ops.value_and_grad(loss, 0, layer.trainable_params(), has_aux=True)(ms.Tensor(x))
    for got, value in zip((y, dx, *dw), (wanted.forward(), *wanted.gradients(dy))):
        assert oracle.relative_error(got.asnumpy(), value) < 1e-6
    np.testing.assert_array_equal(layer.shift.asnumpy(), np.clip(shift, -14, 0))
    np.testing.assert_array_equal(layer.set_train(False)(ms.Tensor(x)).asnumpy(), y.asnumpy())


@MODES
def test_inputs_are_in_fixed_point(mode):
    """Rounded down, to 16 bits behind the point: a layer of one weight, 1."""
    ms.set_context(mode=mode)
    layer = Shift2d(1, 1, 1)
    layer.shift.set_data(ops.zeros_like(layer.shift))
    layer.sign.set_data(ops.ones_like(layer.sign))
    x = np.array([1, 1 + 2 ** -16, 2 ** -17, -2 ** -17, 0, 1000.123], np.float32)
    got = layer(ms.Tensor(x.reshape((1, 1, 2, 3)))).asnumpy().ravel()
    np.testing.assert_array_equal(got, [1, 1 + 2 ** -16, 0, -2 ** -16, 0, np.float32(1000.123)])


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_are_powers_of_two(bits):
    layer = Shift2d(16, 16, 3, bits=bits)
    weights = Powers(layer.lowest)(layer.shift, layer.sign).asnumpy()
    assert {*np.abs(weights).ravel()} <= {0.0, *(2.0 ** -shift for shift in range(2 ** (bits - 1) - 1))}
    assert 0.45 < (weights == 0).mean() < 0.55


def test_first_values():
    """Uniform over all that is allowed, and reproduced by a seed."""
    ms.set_seed(1)
    layer = Shift2d(32, 32, 3)
    shift, sign = layer.shift.asnumpy(), layer.sign.asnumpy()
    for value, low, high in ((shift, -14, 0), (sign, -1, 1)):
        counts, _ = np.histogram(value, 8, (low, high))
        assert counts.sum() == value.size and np.ptp(counts) < 0.15 * value.size / 8
    ms.set_seed(1)
    np.testing.assert_array_equal(Shift2d(32, 32, 3).shift.asnumpy(), shift)


@pytest.mark.parametrize("bits", [1, 9, 5.5])
def test_bits_that_cannot_be(bits):
    with pytest.raises(ValueError, match="bits must be an integer from 2 to 8"):
        Shift2d(1, 1, 1, bits=bits)


@MODES
@pytest.mark.parametrize("kernel, stride, padding", [(3, 2, 1), (1, 2, 0), (5, 1, 0)])
def test_shift_then_adder(kernel, stride, padding, mode):
    ms.set_context(mode=mode)
    layer = ShiftAdd2d(3, 6, kernel, stride, padding=padding).set_train(False)
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 8)).astype(np.float32)
    shift, sign, adder = (parameter.asnumpy() for parameter in layer.get_parameters())
    y = Oracle(x, shift, sign, stride, padding).forward()
    wanted = oracle.forward(y, adder, padding=kernel // 2)
    assert wanted.shape == y.shape
    assert oracle.relative_error(layer(ms.Tensor(x)).asnumpy(), wanted) < 1e-6


def test_even_windows_are_refused():
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        ShiftAdd2d(1, 1, 2)


@pytest.mark.parametrize("name, mode", [(name, ms.PYNATIVE_MODE) for name in SMALL]
                         + [("lenet5_bn", ms.GRAPH_MODE), ("resnet20", ms.GRAPH_MODE)])
def test_training_moves_every_parameter(name, mode):
    ms.set_context(mode=mode)
    ms.set_seed(1)
    net = create(name, 10, "shiftadd").set_train()
    before = {key: value.asnumpy().copy() for key, value in net.parameters_dict().items()}
    step = TrainStep(Loss(net), sgd(net, 2, lr=0.1, momentum=0.9, weight_decay=0.0))
    for _ in range(2):
        loss, _ = step(ms.Tensor(images(name, 4)), ms.Tensor(np.arange(4), ms.int32))
        assert np.isfinite(float(loss))
    for key, value in net.parameters_dict().items():
        assert np.isfinite(value.asnumpy()).all() and np.any(value.asnumpy() != before[key]), key


@pytest.fixture(name="trained", scope="module", params=["resnet20", "lenet5_bn"])
def fixture_trained(request):
    """A network whose statistics fit noise: its name, a checkpoint's parameters, and logits of some images.

    test_networks.py has all networks of all kinds.
    """
    return trained_on_noise(request.param, "shiftadd", 4)


def test_folded(trained):
    """The adder layers and their norms; shift layers stay."""
    net = network(trained, "shiftadd")
    count = sum(isinstance(cell, ShiftAdd2d) for _, cell in net.cells_and_names())
    kinds = [type(cell) for _, cell in fold(net, "kernel").cells_and_names()]
    assert kinds.count(Shift2d) == count > 0 and Adder2d not in kinds and BatchNormAct2d not in kinds
    assert oracle.relative_error(net(ms.Tensor(images(trained[0], 4))).asnumpy(), trained[2]) < 1e-4


def test_saved_loaded_and_not_quantised(trained, tmp_path):
    name, parameters, logits = trained
    identity = Identity(name, "shiftadd", 10, "mnist" if NETWORKS[name].channels == 1 else "cifar10")
    path = tmp_path / "a.ckpt"
    save_parameters(parameters, path, identity=identity.dumps())
    net, found = loading.load(path, loading.stated(argparse.Namespace()))
    assert found == identity
    np.testing.assert_array_equal(net.set_train(False)(ms.Tensor(images(name, 4))).asnumpy(), logits)
    with pytest.raises(UserError, match="^.*: only float networks of layer l1 can be quantised; this one is of layer shiftadd$"):
        inputs(argparse.Namespace(checkpoint_file_path=path, calibration_size=8))


@pytest.mark.parametrize("trained", ["lenet5_bn"], indirect=True, scope="module")
def test_exported(trained, tmp_path):
    """The MINDIR is compared with the network there."""
    export(network(trained, "shiftadd", backend="unrolled"), images(trained[0], 1).shape, tmp_path / "net.mindir", "MINDIR")


def test_adder_layers_are_counted():
    """As many pairs as behind convolutions of these outputs: 43.0 M, of ShiftAddNet's ResNet-20."""
    count = cost.count(create("resnet20", 10, "shiftadd", backend="composed"), 3, (32, 32))
    stages = [6 * 16 ** 2 * 9 * 32 ** 2, (6 * 9 + 1) * 32 ** 2 * 16 ** 2, (6 * 9 + 1) * 64 ** 2 * 8 ** 2]
    assert (count.inner, count.outer) == (sum(stages), 3 * 16 * 9 * 32 ** 2 + 64 * 10)


def test_groups():
    """A layer with groups of channels is as many layers side by side, depthwise ones too."""
    random = np.random.default_rng(0)
    for channels, filters, group in ((4, 6, 2), (3, 3, 3)):
        whole = ShiftAdd2d(channels, filters, 3, 2, 1, group=group)
        x = random.standard_normal((2, channels, 7, 6)).astype(np.float32)
        parts = []
        for number, seen in enumerate(np.split(x, group, 1)):
            part = ShiftAdd2d(channels // group, filters // group, 3, 2, 1)
            for own, parameter in zip(part.get_parameters(), whole.get_parameters()):
                own.set_data(ms.Tensor(np.split(parameter.asnumpy(), group)[number]))
            parts.append(part(ms.Tensor(seen)).asnumpy())
        assert oracle.relative_error(whole(ms.Tensor(x)).asnumpy(), np.concatenate(parts, 1)) < 1e-6
