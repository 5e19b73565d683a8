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
from functools import partial
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
from src.identity import Identity, settle, take
from src.kinds import KINDS, sockets
from src.networks import NETWORKS, Network, create
from src.networks.ghostnet import ghostnet
from src.networks.resnet import Bottleneck, ResNet
from src.norm import BatchNormAct2d
from src.pairs import pairs
from src.quant.calibrate import quantise_network
from src.quant.cells import occupy


def bottlenecks(class_num, layer="l1", in_channels=3, **options):
    """All that ResNet-18 and -50 have, in few layers; the first block adds what the pool gives, as in ResNet-18."""
    return ResNet(class_num, Bottleneck, (1, 1, 1, 1), (64, 16, 32, 64), in_channels, *sockets(layer, **options))


# What the parametrised tests take: of other networks, few layers have all that these have not, in a moment.
BLOCKS = ((3, 16, 16, False, 1), (5, 72, 40, True, 2))  # with nothing and with all that a block can have
MINIATURES = {"bottlenecks": Network(bottlenecks, (41, 36)),
              "ghosts": Network(partial(ghostnet, width=0.25, blocks=BLOCKS), (31, 32))}
SMALL = ["resnet32", "vgg_small", "lenet5_bn", "lenet_pp", *MINIATURES]  # ResNet-20 has tests of its own
REFUSED = {"lenet_pp": "what fc1 gives ends in no ReLU but is read on, which cannot be quantised here",  # by src.quant
           "ghosts": "blocks.1.se.conv_reduce.weight cannot be quantised: no norm stands behind its layer"}
# Parameters and trainable values at ten classes; M of pairs (x, w) in adder layers and in convolutions.
EXPECTED = {"resnet20": (110, 272_484, 40.370, 0.443), "resnet20_w2": (110, 1_084_596, 161.481, 0.886),
            "resnet20_w4": (110, 4_327_764, 645.923, 1.772), "resnet32": (170, 466_916, 68.682, 0.443),
            "resnet56": (290, 855_780, 125.305, 0.443), "vgg_small": (35, 4_660_116, 603.980, 3.621),
            "lenet5_bn": (25, 61_942, 0.417, 0.0), "lenet_pp": (40, 797_644, 80.911, 0.0),
            "ghostnet_025": (433, 509_114, 3.497, 0.526),
            "ghostnet_050": (433, 1_320_128, 10.930, 1.223), "ghostnet_100": (433, 3_915_080, 39.497, 3.183),
            "ghostnet_025_imagenet": (438, 509_246, 12.271, 1.770),
            "ghostnet_050_imagenet": (438, 1_320_392, 37.349, 3.712),
            "ghostnet_100_imagenet": (438, 3_915_608, 131.724, 8.160),
            "resnet18": (106, 11_181_662, 1695.547, 118.019), "resnet50": (271, 23_528_542, 3969.122, 118.034)}


@pytest.fixture(name="miniatures", scope="module", autouse=True)
def fixture_miniatures():
    """The miniatures stand in the table of networks."""
    with pytest.MonkeyPatch.context() as patch:
        for name, each in MINIATURES.items():
            patch.setitem(NETWORKS, name, each)
        yield


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


@pytest.mark.parametrize("name", EXPECTED)
def test_sizes(name):
    """Of every network of the table; every norm of it stands behind a layer."""
    net = create(name, 10)
    norms = [cell for _, cell in net.cells_and_names() if isinstance(cell, BatchNormAct2d)]
    assert [pair.norm for pair in pairs(net)] == norms
    assert (len(net.parameters_dict()), sum(p.size for p in net.trainable_params())) == EXPECTED[name][:2]
    count = cost.count(net, NETWORKS[name].channels, NETWORKS[name].size)
    assert (count.inner / 1e6, count.outer / 1e6) == pytest.approx(EXPECTED[name][2:], abs=6e-4)


def test_every_network_is_tested():
    classifiers = {name for name, each in NETWORKS.items() if each.task == "classification"}
    assert EXPECTED.keys() | MINIATURES.keys() == classifiers


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
    *maps, last = net.stages(batch)
    assert tuple(each.shape[1] for each in maps) == tuple(net.stage_channels)
    np.testing.assert_array_equal(last.asnumpy(), features.asnumpy())
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
    """To 8 bits. Both forms agree, but where a first layer in floats rounds otherwise; AdderQuant wants more images."""
    name, _, logits = trained
    if name in REFUSED:
        with pytest.raises(UserError, match=REFUSED[name]):
            quantise_network(network(trained), images(name, 6), 8, scheme)
        return
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


# The others have more channels, which take long in built-in operators, and nothing else.
@pytest.mark.parametrize("trained", ["lenet5_bn", *MINIATURES], indirect=True, scope="module")
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


def test_images_of_other_sizes():
    """Of networks that end in a mean of all positions."""
    assert NETWORKS["resnet18"].image_size() == (224, 224) and NETWORKS["resnet18"].image_size(128) == (128, 128)
    assert NETWORKS["lenet5_bn"].image_size(32) == NETWORKS["lenet5_bn"].image_size() == (32, 32)
    with pytest.raises(UserError, match="the network takes images of 32 pixels a side, not 64; leave out"):
        NETWORKS["lenet5_bn"].image_size(64)
    for name in ("resnet20", *MINIATURES):
        assert create(name, 5)(ms.Tensor(np.zeros((1, 3, 37, 50), np.float32))).shape == (1, 5)


def test_identity_of_another_size():
    """A checkpoint says its size, unless it is the network's own; evaluation may take another."""
    usual, other = Identity("resnet20", "l1", 10, "cifar10"), Identity("resnet20", "l1", 10, "cifar10", image_size=64)
    assert (usual.size, other.size) == ((32, 32), (64, 64)) and "image_size" not in usual.dumps()
    for identity in (usual, other):
        assert take({"identity": identity.dumps()}, Path("a.ckpt")) == identity
    options = loading.stated(argparse.Namespace())
    assert settle(other, options, Path("a.ckpt")) == other
    options = loading.stated(argparse.Namespace(image_size=40))
    assert settle(other, options, Path("a.ckpt")).size == settle(None, options, Path("a.ckpt")).size == (40, 40)
    with pytest.raises(UserError, match="image_size must be a number from 0 to 4096, not -1"):
        loading.stated(argparse.Namespace(image_size=-1))


@pytest.mark.parametrize("change", [{"dataset": "svhn"}, {"network": "resnet1"}, {"layer": "l3"}, {"class_num": 0},
                                    {"image_size": -1}, {"image_size": 10 ** 9}, {"image_size": 32.0},
                                    {"class_num": "10"}, {"classes": ("a",)}, {"classes": 3}, {"more": 1}])
def test_identity_that_makes_no_sense(change):
    fields = {"network": "resnet20", "layer": "l1", "class_num": 10, "dataset": "cifar10", "classes": (), **change}
    with pytest.raises(UserError, match="a.ckpt: "):
        take({"identity": json.dumps(fields)}, Path("a.ckpt"))
