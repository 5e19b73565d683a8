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
"""Networks for detection: what they are made of; folded, exported and counted like any other."""
import mindspore as ms
import numpy as np
import onnxruntime
import pytest
from mindspore import nn, ops

import oracle
from src import cost
from src.adder import Adder2d
from src.exporter import export
from src.folding import fold
from src.kinds import sockets
from src.networks import adder_fcos, create, resnet
from src.networks.adder_fcos import NECKS, GroupNorm, enlarged, fcos, points
from src.norm import BatchNormAct2d
from src.pairs import pairs

SIZE = (32, 64)


def block(in_channels, out_channels, stride, layer, norm):
    """As short as can be."""
    return nn.SequentialCell(layer(in_channels, out_channels, 3, stride, padding=1), norm(out_channels))


def tiny(class_num, layer="l1", in_channels=3, **options):
    """A backbone like ResNet-18, of few layers."""
    return resnet.ResNet(class_num, block, (1, 1, 1, 1), (8, 8, 16, 32), in_channels, *sockets(layer, **options))


def network(layer="l1", neck="r_pafpn", **options):
    ms.set_seed(1)
    return fcos(tiny, 3, layer, neck=neck, fpn_channels=8, head_convs=1, **options)


def images(count=2):
    return ms.Tensor(np.random.default_rng(0).standard_normal((count, 3, *SIZE)), ms.float32)


def layers(net):
    return {name: cell for name, cell in net.cells_and_names() if isinstance(cell, adder_fcos.Unit)}


@pytest.mark.parametrize("neck", NECKS)
def test_necks(neck):
    """A row for every point; the shortcuts are around every 3x3 layer of the neck, or around none."""
    net = network(neck=neck)
    y = net.set_train(False)(images()).asnumpy()
    assert y.shape == (2, len(points(SIZE)[0]), 3 + 5) and np.isfinite(y).all()
    wanted = neck in ("pafpn_shortcuts", "r_pafpn")
    units = layers(net)
    assert len(units) == {"fpn": 8}.get(neck, 12)
    assert all(unit.shortcut == (wanted and unit.conv.kernel_size == 3) for unit in units.values())
    order = [type(part).__name__ for part in net.neck.parts]
    assert order == {"fpn": ["TopDown"], "r_pafpn": ["BottomUp", "TopDown"]}.get(neck, ["TopDown", "BottomUp"])


class Same:
    """A unit that changes nothing, and of stride 2 takes every second pixel."""

    def __init__(self, stride):
        self.stride = stride

    def __call__(self, x):
        return x[:, :, ::self.stride, ::self.stride]


def test_what_joins_the_resolutions():
    """Top-down adds what is above, four times as large; bottom-up what is below, thinned out."""
    random = np.random.default_rng(0)
    maps = [random.standard_normal((1, 2, 8 // size, 12 // size)).astype(np.float32) for size in (1, 2, 4)]
    make = sockets("conv")
    down, up = adder_fcos.TopDown(2, False, *make), adder_fcos.BottomUp(2, False, *make)
    for part, name, stride in ((down, "out", 1), (up, "out", 1), (up, "down", 2)):
        setattr(part, f"_{name}", None)
        delattr(part, name)
        setattr(part, name, [Same(stride)] * 3)
    large = [maps[0], maps[1], maps[2]]
    large[1] = maps[1] + maps[2].repeat(2, 2).repeat(2, 3)
    large[0] = maps[0] + large[1].repeat(2, 2).repeat(2, 3)
    small = [maps[0], maps[1] + maps[0][:, :, ::2, ::2], None]
    small[2] = maps[2] + small[1][:, :, ::2, ::2]
    for part, wanted in ((down, large), (up, small)):
        got = part.construct(tuple(ms.Tensor(each) for each in maps))
        for each, other in zip(got, wanted):
            np.testing.assert_allclose(each.asnumpy(), other, atol=1e-6)


@pytest.mark.parametrize("stride, shortcut", [(1, True), (2, True), (2, False)])
def test_unit(stride, shortcut):
    """norm(adder(x)), and every (second) pixel of x."""
    ms.set_seed(1)
    unit = adder_fcos.Unit(4, 4, 3, stride, shortcut, *sockets("l1")).set_train()
    x = np.random.default_rng(0).standard_normal((2, 4, 7, 10)).astype(np.float32)
    y = oracle.forward(x, unit.conv.adder.asnumpy(), stride, 1)
    wanted = oracle.batch_norm(y, y, np.ones(4), np.zeros(4), np.zeros(4), np.ones(4))[0]
    wanted = wanted + x[:, :, ::stride, ::stride] if shortcut else wanted
    np.testing.assert_allclose(unit(ms.Tensor(x)).asnumpy(), wanted, rtol=1e-4, atol=1e-4)


def test_parts_of_the_head():
    """The norm is MindSpore's; what is enlarged has every pixel four times; the distances are exponentials."""
    random = np.random.default_rng(0)
    x = ms.Tensor(random.standard_normal((2, 6, 5, 7)) * 3 + 1, ms.float32)
    norm, own = nn.GroupNorm(3, 6), GroupNorm(3, 6)
    for each in (norm, own):
        each.gamma.set_data(ms.Tensor(np.arange(6), ms.float32))
        each.beta.set_data(ms.Tensor(np.arange(6) / 7, ms.float32))
    np.testing.assert_allclose(own(x).asnumpy(), norm(x).asnumpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(enlarged(x).asnumpy(), x.asnumpy().repeat(2, 2).repeat(2, 3))
    head = adder_fcos.Head(2, 6, 0)
    head.scales.set_data(ms.Tensor([1, 2, 3, 4, 1000], ms.float32))
    head.distances.bias.set_data(ms.Tensor([0.1, 0.2, 0.3, 0.4], ms.float32))
    head.distances.weight.set_data(ms.Tensor(np.zeros(head.distances.weight.shape), ms.float32))
    rows = head(tuple(ms.Tensor(random.standard_normal((1, 6, *size)), ms.float32) for size in (
        (4, 8), (2, 4), (1, 2), (1, 1), (1, 1)))).asnumpy()[0]
    levels = points(SIZE)[1]
    exponents = np.minimum(np.array([1, 2, 3, 4, 1000])[levels][:, None] * [0.1, 0.2, 0.3, 0.4], adder_fcos.LONGEST)
    np.testing.assert_allclose(rows[:, 2:6], np.exp(exponents) * 8 * 2 ** levels[:, None], rtol=1e-5)
    assert np.abs(1 / (1 + np.exp(-rows[:, :2])) - 0.01).max() < 0.005


def test_every_parameter_learns():
    net = network().set_train()
    gradients = ops.GradOperation(get_by_list=True)(lambda x: ops.log(1.0 + ops.abs(net(x))).mean(),
                                                    net.trainable_params())(images())
    values = {parameter.name: value.asnumpy() for parameter, value in zip(net.trainable_params(), gradients)}
    assert all(np.isfinite(value).all() for value in values.values())
    assert not [name for name, value in values.items() if not np.abs(value).max() > 0]


def test_frozen_norms():
    """In training nothing of the backbone's norms changes, and nothing of them is trained; the neck's are."""
    net = network(frozen_norm=True).set_train()
    before = {name: value.asnumpy().copy() for name, value in net.parameters_dict().items()}
    net(images())
    changed = {name for name, value in net.parameters_dict().items()
               if not np.array_equal(value.asnumpy(), before[name])}
    norms = {name for name in before if name.rsplit(".", 1)[1] in ("gamma", "beta", "moving_mean", "moving_variance")
             and "branch" not in name}
    frozen = {name for name in norms if name.startswith("backbone.")}
    assert changed == {name for name in norms - frozen if "moving" in name} and len(frozen) == 20
    trainable = {parameter.name for parameter in net.trainable_params()}
    assert not trainable & frozen and {name for name in norms - frozen if "moving" not in name} <= trainable


def test_folded():
    net = network().set_train()
    for _ in range(3):
        net(images(4))
    wanted, count = net.set_train(False)(images()).asnumpy(), len(pairs(net))
    assert count == 5 + 12
    got = fold(net)(images()).asnumpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_exported(tmp_path, file_format, monkeypatch):
    """A MINDIR is compared with the network by `export`; it compiles slowly where there are adder layers."""
    monkeypatch.setattr("src.kernels.exported.MOST", 2)
    net = network("conv" if file_format == "MINDIR" else "l1", neck="fpn").set_train(False)
    file = tmp_path / f"net.{file_format.lower()}"
    export(net, (None, 3, *SIZE), file, file_format, "detections")
    if file_format == "ONNX":
        got = onnxruntime.InferenceSession(str(file)).run(["detections"], {"images": images(3).asnumpy()})[0]
        assert oracle.relative_error(got, net(images(3)).asnumpy()) < 1e-4


def shape_alone(self, x):
    """What a Counter gives and counts, without computing: every layer of these networks keeps the size or halves it."""
    geometry = self.layer.operation.geometry if isinstance(self.layer, Adder2d) else None
    stride = geometry.stride if geometry else self.layer.stride[0]
    rows, columns = (-(-side // stride) for side in x.shape[2:])
    self.positions += rows * columns
    return ops.zeros((1, self.weight.shape[0], rows, columns), ms.float32)


def test_energy_of_the_paper(monkeypatch):
    """AdderDet's FCOS on 800 x 1333: 987.7 mJ, or with adders in backbone and neck 702.7 mJ, of 112.9 G multiplications
    and 316.5 G additions. Our images are 11 pixels wider, which a multiple of 32 takes."""
    monkeypatch.setattr(cost.Counter, "construct", shape_alone)
    monkeypatch.setattr(BatchNormAct2d, "construct", lambda self, x, *_: x)
    monkeypatch.setattr(GroupNorm, "construct", lambda self, x: x)
    n = cost.count(create("fcos_resnet50", 80, neck="fpn", backend="composed"), 3, (800, 1344))
    adder, cnn = (cost.honest_cost(kind, "fp32", n) for kind in ("adder", "cnn"))
    assert (adder.multiplications / 1e9, adder.additions / 1e9) == pytest.approx((112.9, 316.5), rel=0.005)
    assert (adder.energy / 1000, cnn.energy / 1000) == pytest.approx((702.7, 987.7), rel=0.005)
