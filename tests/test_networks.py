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
"""Every classifier of the table by the same code: folded, quantised, counted, exported, converted from PyTorch."""
import argparse
import json
from pathlib import Path

import mindspore as ms
import numpy as np
import onnxruntime
import pytest

import oracle
from src import cost, loading
from src.checkpoint import save_parameters
from src.convert.__main__ import convert_names, fit
from src.errors import UserError
from src.exporter import export
from src.folding import fold
from src.identity import Identity, take
from src.kinds import KINDS
from src.networks import NETWORKS, create
from src.norm import BatchNormAct2d
from src.pairs import pairs
from src.quant.calibrate import quantise_network
from src.quant.cells import occupy

# ResNet-56 and wide ResNets have nothing that others have not, but take several times as long.
CLASSIFIERS = [name for name, network in NETWORKS.items() if network.task == "classification"]
SMALL = [name for name in CLASSIFIERS if name != "resnet56" and "_w" not in name]
every_network = pytest.mark.parametrize("name", CLASSIFIERS)
# Parameters and trainable values at ten classes; M of pairs (x, w) in adder layers and in convolutions.
EXPECTED = {"resnet20": (110, 272_484, 40.370, 0.443), "resnet20_w2": (110, 1_084_596, 161.481, 0.886),
            "resnet20_w4": (110, 4_327_764, 645.923, 1.772), "resnet32": (170, 466_916, 68.682, 0.443),
            "resnet56": (290, 855_780, 125.305, 0.443), "vgg_small": (35, 4_660_116, 603.980, 3.621), "lenet5_bn": (25, 61_942, 0.417, 0.0)}


def images(name, count):
    shape = NETWORKS[name].channels, *NETWORKS[name].size
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)


@pytest.fixture(name="trained", scope="module", params=SMALL)
def fixture_trained(request):
    """A network whose statistics fit noise: its name, a checkpoint's parameters, and logits of some images."""
    return trained_on_noise(request.param, "l1", 6)


def trained_on_noise(name, layer, count):
    """A network's name, its parameters after some passes over images, and its logits of them."""
    ms.set_seed(1)
    net, batch = create(name, 10, layer).set_train(), ms.Tensor(images(name, count))
    for _ in range(40):
        net(batch)
    logits = net.set_train(False)(batch).asnumpy()
    assert np.abs(logits).max() > 0.1
    return name, {key: value.asnumpy() for key, value in net.parameters_dict().items()}, logits


def network(trained, layer="l1", **options):
    """The network, with the parameters of the trained one."""
    net = create(trained[0], 10, layer, **options).set_train(False)
    for key, value in net.parameters_dict().items():
        value.set_data(ms.Tensor(trained[1][key]))
    return net


@every_network
def test_sizes(name):
    net = create(name, 10, backend="composed")
    assert (len(net.parameters_dict()), sum(p.size for p in net.trainable_params())) == EXPECTED[name][:2]
    count = cost.count(net, NETWORKS[name].channels, NETWORKS[name].size)
    assert (count.inner / 1e6, count.outer / 1e6) == pytest.approx(EXPECTED[name][2:], abs=6e-4)


@every_network
def test_every_norm_stands_behind_a_layer(name):
    net = create(name, 10, backend="composed")
    norms = [cell for _, cell in net.cells_and_names() if isinstance(cell, BatchNormAct2d)]
    assert [pair.norm for pair in pairs(net)] == norms


@pytest.mark.parametrize("layer", KINDS)
@pytest.mark.parametrize("name", SMALL)
def test_kinds(name, layer):
    """The logits of both modes, and features that the head takes."""
    ms.set_seed(1)
    net, batch = create(name, 7, layer).set_train(False), ms.Tensor(images(name, 2))
    logits = net(batch).asnumpy()
    features = net.features(batch)
    assert features.shape == (2, net.feature_size, 1, 1) and logits.shape == (2, 7)
    np.testing.assert_array_equal(net.head(features).asnumpy(), logits)
    ms.set_context(mode=ms.GRAPH_MODE)
    np.testing.assert_allclose(create_again(net, name, layer)(batch).asnumpy(), logits, rtol=1e-5, atol=1e-6)


def create_again(net, name, layer):
    """A network of the same parameters, which was not called yet."""
    other = create(name, 7, layer).set_train(False)
    for key, value in other.parameters_dict().items():
        value.set_data(ms.Tensor(net.parameters_dict()[key].asnumpy()))
    return other


def test_folded(trained):
    got = fold(network(trained))(ms.Tensor(images(trained[0], 6))).asnumpy()
    assert oracle.relative_error(got, trained[2]) < 1e-4


@pytest.mark.parametrize("scheme", ["unsigned", "adderquant"])
def test_quantised(trained, scheme):
    """To 8 bits. The two forms agree, but where a first layer in floats rounds otherwise; AdderQuant is for more images."""
    name, _, logits = trained
    values = quantise_network(network(trained), images(name, 6), 8, scheme)
    kernel, simulated = (occupy(create(name, 10, backend="composed"), values, backend)(
        ms.Tensor(images(name, 6))).asnumpy() for backend in ("kernel", "composed"))
    assert np.corrcoef(kernel.ravel(), simulated.ravel())[0, 1] > 0.9999
    assert scheme != "unsigned" or np.corrcoef(kernel.ravel(), logits.ravel())[0, 1] > 0.99


def test_saved_and_loaded(trained, tmp_path):
    """By what the checkpoint says of itself."""
    name, parameters, logits = trained
    identity = Identity(name, "l1", 10, "mnist" if NETWORKS[name].channels == 1 else "cifar10")
    save_parameters(parameters, tmp_path / "a.ckpt", identity=identity.dumps())
    net, found = loading.load(tmp_path / "a.ckpt", loading.stated(argparse.Namespace()))
    assert found == identity
    np.testing.assert_array_equal(net.set_train(False)(ms.Tensor(images(name, 6))).asnumpy(), logits)


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_exported(trained, tmp_path, file_format):
    net = network(trained, backend="onnx" if file_format == "ONNX" else "unrolled")
    file, batch = tmp_path / f"net.{file_format.lower()}", images(trained[0], 6)[:1]
    export(net, (None, *batch.shape[1:]), file, file_format)  # a MINDIR is compared with the network there
    if file_format == "ONNX":
        session = onnxruntime.InferenceSession(str(file))
        got = session.run(None, {session.get_inputs()[0].name: batch})[0]
        assert oracle.relative_error(got, trained[2][:1]) < 1e-4


def test_converted_from_the_names_of_pytorch(trained):
    name, parameters, _ = trained
    theirs = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    state = {}
    for key, value in parameters.items():
        module, _, leaf = key.rpartition(".")
        state[f"module.{module}.{theirs.get(leaf, leaf)}"] = value
        if leaf == "gamma":
            state[f"module.{module}.num_batches_tracked"] = np.array(7)
    converted = convert_names(state, "a.pth")
    identity = fit(converted, argparse.Namespace(file="a.pth", network=name, layer="l1", dataset=None))
    assert identity == Identity(name, "l1", 10, "mnist" if NETWORKS[name].channels == 1 else "cifar10")
    assert converted.keys() == parameters.keys()
    assert all(np.array_equal(converted[key], value) for key, value in parameters.items())


@pytest.mark.parametrize("change", [{"dataset": "svhn"}, {"network": "resnet1"}, {"layer": "l3"}, {"class_num": 0},
                                    {"class_num": "10"}, {"classes": ("a",)}, {"classes": 3}, {"more": 1}])
def test_identity_that_makes_no_sense(change):
    fields = {"network": "resnet20", "layer": "l1", "class_num": 10, "dataset": "cifar10", "classes": (), **change}
    with pytest.raises(UserError, match="a.ckpt: "):
        take({"identity": json.dumps(fields)}, Path("a.ckpt"))
