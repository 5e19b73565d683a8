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
"""Networks for super-resolution: their parts against formulas; folded, exported and quantised like any other."""
import mindspore as ms
import numpy as np
import onnxruntime
import pytest
from mindspore import ops

import oracle
from src import cost
from src.data import bicubic
from src.errors import UserError
from src.exporter import export
from src.folding import fold
from src.kinds import KINDS
from src.networks import adder_sr, create
from src.networks.adder_sr import Bicubic, Layer, PowerOp, body, pixel_shuffle
from src.pairs import pairs
from src.quant import layers

SMALL = {"edsr": {"n_feats": 6, "n_resblocks": 1, "res_scale": 0.5}, "vdsr": {"n_feats": 5}}
CHANNELS = {"edsr": 3, "vdsr": 1}
both_modes = pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
both_networks = pytest.mark.parametrize("name", SMALL)


def images(name, count=4, size=(11, 9)):
    return np.random.default_rng(0).random((count, CHANNELS[name], *size), np.float32)


@pytest.fixture(name="shallow", scope="module", autouse=True)
def fixture_shallow():
    """VDSR with fewer layers, which take less time to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adder_sr, "VDSR_LAYERS", 4)
        yield


@pytest.fixture(name="trained", scope="module", params=SMALL)
def fixture_trained(request, shallow):  # pylint: disable=unused-argument
    """A network of adder layers whose statistics fit some images, with powers other than 1: its name and parameters."""
    ms.set_seed(1)
    name, random = request.param, np.random.default_rng(0)
    net = create(name, **SMALL[name]).set_train()
    for parameter in net.get_parameters():
        if parameter.name.endswith("alpha"):
            parameter.set_data(ms.Tensor(random.uniform(0.8, 1.3, 1).astype(np.float32)))
    for _ in range(30):
        net(ms.Tensor(images(name)))
    return name, {key: value.asnumpy().copy() for key, value in net.parameters_dict().items()}


def network(trained, backend="auto"):
    name, parameters = trained
    net = create(name, **SMALL[name], backend=backend).set_train(False)
    for key, value in net.parameters_dict().items():
        value.set_data(ms.Tensor(parameters[key]))
    return net


@both_modes
@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.7])
def test_power_activation(mode, alpha):
    """Its values and exact gradients, up to large |y|; at y = 0 nothing is infinite."""
    ms.set_context(mode=mode)
    random = np.random.default_rng(0)
    y = (random.choice([-1, 1], (3, 4, 5, 2)) * 10.0 ** random.uniform(-5, 5, (3, 4, 5, 2))).astype(np.float32)
    dy = random.standard_normal(y.shape).astype(np.float32)
    y[0, 0, 0], exact = (0.0, -1e-9), np.abs(y) > 1e-6
    exact[0, 0, 0] = False
    inputs = ms.Tensor(y), ms.Tensor(np.float32([alpha]))
    operation = PowerOp()
    got = operation(*inputs).asnumpy()
    gradients = [value.asnumpy() for value in ops.GradOperation(get_all=True, sens_param=True)(operation)(
        *inputs, ms.Tensor(dy))]
    size, sign = np.abs(y[exact].astype(np.float64)), np.sign(y[exact])
    np.testing.assert_allclose(got[exact], sign * size ** alpha, rtol=2e-5)
    np.testing.assert_allclose(gradients[0][exact], dy[exact] * alpha * size ** (alpha - 1), rtol=2e-5)
    terms = dy[exact] * sign * size ** alpha * np.log(size)
    assert abs(gradients[1][0] - terms.sum()) <= 1e-5 * np.abs(terms).sum()
    assert got[0, 0, 0, 0] == 0 and np.abs(got[0, 0, 0, 1]) < 1e-5
    assert all(np.isfinite(each).all() for each in gradients)


@both_modes
@pytest.mark.parametrize("shortcut, norm, power", [(True, True, True), (True, False, False), (False, True, True),
                                                   (False, False, True)])
def test_layer(mode, shortcut, norm, power):
    """power(relu(norm(adder(x)) + x)) in training, each part of which may be left out."""
    ms.set_context(mode=mode)
    ms.set_seed(1)
    layer = body("l1", 5, shortcut, power, norm)(relu=True).set_train()
    assert isinstance(layer, Layer)
    random = np.random.default_rng(0)
    x = random.standard_normal((3, 5, 6, 7)).astype(np.float32)
    values = {key: random.uniform(0.5, 1.5, value.shape).astype(np.float32) for key, value in
              layer.parameters_and_names()}
    for key, parameter in layer.parameters_and_names():
        parameter.set_data(ms.Tensor(values[key]))
    wanted = oracle.forward(x, values["conv.adder"], 1, 1)
    if norm:
        zeros = np.zeros(5)
        wanted = oracle.batch_norm(wanted, wanted, values["bn.gamma"], values["bn.beta"], zeros, zeros)[0]
    else:
        wanted = wanted + values["conv.b"][:, None, None]
    wanted = np.maximum(wanted + (x if shortcut else 0), 0) ** (values["power.alpha"][0] if power else 1)
    np.testing.assert_allclose(layer(ms.Tensor(x)).asnumpy(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_and_pixels(scale):
    image = np.random.default_rng(0).random((7, 10, 1))
    got = Bicubic(scale)(ms.Tensor(image.transpose(2, 0, 1)[None], ms.float32)).asnumpy()[0]
    np.testing.assert_allclose(got.transpose(1, 2, 0), bicubic.resize(image, (7 * scale, 10 * scale)), atol=1e-6)
    x = np.random.default_rng(0).random((2, 3 * scale ** 2, 4, 5)).astype(np.float32)
    got = pixel_shuffle(ms.Tensor(x), scale).asnumpy()
    for i in range(scale):
        for j in range(scale):
            np.testing.assert_array_equal(got[:, :, i::scale, j::scale], x[:, i * scale + j::scale ** 2])


def test_sizes(monkeypatch):
    """EDSR's baseline has 1.37 million values, VDSR 0.67; those of adder layers have three more parts."""
    monkeypatch.setattr(adder_sr, "VDSR_LAYERS", 20)
    for name, count in (("edsr", 1_369_859), ("vdsr", 665_921)):
        values = {layer: {key: value.size for key, value in create(name, layer=layer, backend="composed").
                          parameters_dict().items()} for layer in ("conv", "l1")}
        assert sum(values["conv"].values()) == count
        assert not any("bn" in key or "power" in key for key in values["conv"])
        for option, part in (("batch_norm", ".bn."), ("power_activation", ".power.")):
            without = create(name, layer="l1", backend="composed", **{option: False}).parameters_dict()
            assert any(part in key for key in values["l1"]) and not any(part in key for key in without)


@both_networks
def test_cost(name):
    net = create(name, **SMALL[name], scale=3, backend="composed")
    count, features = cost.count(net, CHANNELS[name], (8, 6)), SMALL[name]["n_feats"]
    if name == "edsr":
        assert (count.inner, count.outer) == (3 * 9 * 36 * 48, 9 * 48 * (3 * 6 + 6 * 54 + 9 * 6 * 3))
    else:
        assert (count.inner, count.outer) == (2 * 9 * features ** 2 * 9 * 48, 2 * 9 * features * 9 * 48)


@pytest.mark.parametrize("layer", KINDS)
@pytest.mark.parametrize("name, scale", [("edsr", 4), ("vdsr", 3)])
def test_kinds(name, scale, layer):
    """Images of the right size; both modes give the same ones."""
    ms.set_seed(1)
    net, x = create(name, layer=layer, **SMALL[name], scale=scale).set_train(False), ms.Tensor(images(name, 2))
    wanted = net(x).asnumpy()
    assert wanted.shape == (2, CHANNELS[name], 11 * scale, 9 * scale) and np.isfinite(wanted).all()
    if (name, layer) == ("edsr", "l1"):
        ms.set_context(mode=ms.GRAPH_MODE)
        other = create(name, layer=layer, **SMALL[name], scale=scale).set_train(False)
        for key, value in other.parameters_dict().items():
            value.set_data(ms.Tensor(net.parameters_dict()[key].asnumpy()))
        np.testing.assert_allclose(other(x).asnumpy(), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_every_parameter_learns():
    ms.set_seed(1)
    net, x = create("edsr", **SMALL["edsr"]).set_train(), ms.Tensor(images("edsr"))
    gradients = ops.GradOperation(get_by_list=True)(lambda x: ops.abs(net(x)).mean(), net.trainable_params())(x)
    assert all(np.isfinite(each.asnumpy()).all() and np.abs(each.asnumpy()).max() > 0 for each in gradients)


def test_folded(trained):
    net, x = network(trained), ms.Tensor(images(trained[0]))
    wanted, count = net(x).asnumpy(), len(pairs(net))
    assert count == {"edsr": 3, "vdsr": 2}[trained[0]]
    assert oracle.relative_error(fold(net)(x).asnumpy(), wanted) < 1e-5


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_exported(trained, tmp_path, file_format, monkeypatch):
    """A MINDIR takes images of any size. It compiles slowly: fewer blocks, and adder layers in one network only."""
    monkeypatch.setattr("src.kernels.exported.MOST", 2)
    name, file = trained[0], tmp_path / f"net.{file_format.lower()}"
    net = create(name, layer="conv", **SMALL[name]) if (name, file_format) == ("vdsr", "MINDIR") else network(trained)
    shape = (None, CHANNELS[name], *((None, None) if file_format == "MINDIR" else (11, 9)))
    export(net, shape, file, file_format, "enlarged")  # a MINDIR is compared with the network there
    if file_format == "ONNX":
        got = onnxruntime.InferenceSession(str(file)).run(["enlarged"], {"images": images(name, 3)})[0]
        assert oracle.relative_error(got, net(ms.Tensor(images(name, 3))).asnumpy()) < 1e-5
    else:
        graph = ms.nn.GraphCell(ms.load(str(file)))
        for size in ((5, 14), (8, 6)):
            got = graph(ms.Tensor(images(name, 1, size))).asnumpy()
            assert oracle.relative_error(got, net(ms.Tensor(images(name, 1, size))).asnumpy()) < 1e-5


def test_quantised(trained):
    """In the kernel and in floats adder layers of bits are the same; fewer bits are farther from the float network."""
    name, x = trained[0], images(trained[0])
    net = network(trained)
    wanted, errors = net(ms.Tensor(x)).asnumpy(), []
    for bits in (8, 5):
        values = layers.check(network(trained), layers.quantise_network(net, x, bits), "a.ckpt")
        assert values[f"{pairs(net)[0].name}.adder"].dtype == np.uint8
        got = [fold(layers.occupy(network(trained, "composed"), values, backend), backend)(ms.Tensor(x)).asnumpy()
               for backend in ("kernel", "composed")]
        np.testing.assert_allclose(*got, rtol=1e-5, atol=1e-5)
        errors.append(np.abs(got[0] - wanted).mean())
    assert errors == sorted(errors) and errors[0] < 0.05 * wanted.std()
    np.testing.assert_array_equal(net(ms.Tensor(x)).asnumpy(), wanted)  # it is left as it was


@pytest.fixture(name="six_bits", scope="module")
def fixture_six_bits():
    """A network and its parameters in 6 bits."""
    ms.set_seed(1)
    net = create("edsr", **SMALL["edsr"])
    return net, layers.quantise_network(net, images("edsr"), 6)


@pytest.mark.parametrize("change, words", [
    ({"body.0.layer1.conv.adder": np.full((6, 6, 3, 3), 64, np.uint8)}, "integers of body.0.layer1.conv make no sense"),
    ({"body.0.layer1.conv.ratio": np.zeros(1)}, "integers of body.0.layer1.conv make no sense"),
    ({"body.0.layer1.conv.low": np.full(1, np.nan)}, "low has values that are not finite"),
    ({"body.0.layer1.power.alpha": None}, "missing: body.0.layer1.power.alpha"),
    ({"bits": 7}, "7 bits: no quantisation that is known"), ({"extra": np.ones(2)}, "unexpected: extra")],
    ids=[str(number) for number in range(6)])
def test_quantised_parameters_that_make_no_sense(six_bits, change, words):
    net, values = six_bits
    with pytest.raises(UserError, match=words):
        layers.check(net, {key: value for key, value in {**values, **change}.items() if value is not None}, "a.ckpt")
