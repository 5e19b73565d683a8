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
"""Quantisation: its arithmetic, the two forms of the network, and the way from a checkpoint to a smaller one."""
import argparse
import dataclasses
import re
import runpy
import sys
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import onnxruntime
import pytest
from mindspore import nn

import oracle
from src import data, device, errors, kinds, loading
from src.adder import Adder2d
from src.checkpoint import save_parameters
from src.distill.student import fixed
from src.errors import UserError
from src.exporter import export
from src.identity import Identity
from src.kernels import Geometry
from src.networks import NETWORKS, create
from src.norm import BatchNormAct2d
from src.pairs import pairs
from src.quant import __main__ as program_of_quant
from src.quant import fine_tune, schemes
from src.quant.__main__ import calibration_images, save_quantised
from src.quant.calibrate import calibrated, quantise_network
from src.quant.cells import BITS, Distances, check, occupy
from src.quant.schemes import SCHEMES
from src.res20_adder import ResNet

ROOT = Path(__file__).parents[1]
IDENTITY = Identity("resnet20", "l1", 10, "synthetic")


@pytest.fixture(autouse=True, scope="module")
def fixture_shallow():
    """All that is called ResNet-20 here has a block in each stage instead of three, and compiles three times as fast;
    tests/test_networks.py quantises whole networks, and the README's commands ours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "resnet20", dataclasses.replace(NETWORKS["resnet20"], build=shallow))
        yield


def shallow(class_num=10, layer="l1", in_channels=3, **options):
    return ResNet(class_num, (1, 1, 1), (16, 32, 64), in_channels, *kinds.sockets(layer, **options))


def quantised(parameters, backend="auto"):
    """The network in integers."""
    return occupy(shallow(backend="composed"), parameters, backend)


def load(path, **options):
    """The network of a quantised checkpoint."""
    return loading.load(path, loading.stated(argparse.Namespace(**options)))[0]


@pytest.fixture(name="images", scope="module")
def fixture_images():
    return np.random.default_rng(0).standard_normal((16, 3, 32, 32), np.float32)


@pytest.fixture(name="net", scope="module")
def fixture_net(images):
    """A seeded network whose running statistics fit noise."""
    ms.set_seed(1)
    net = shallow().set_train()
    for _ in range(60):
        net(ms.Tensor(images))
    return net.set_train(False)


@pytest.fixture(name="eight", scope="module")
def fixture_eight(net, images):
    """Its parameters in 8 bits."""
    return quantise_network(net, images, 8)


@pytest.fixture(name="layer")
def fixture_layer():
    """Inputs, never negative, and weights of every kind: negative, within the inputs' range, and beyond it."""
    random = np.random.default_rng(0)
    return np.abs(random.normal(0, 1, (4, 5, 8, 8))), random.normal(0, 2, (12, 5, 3, 3))


def test_weights_clipped_to_the_range_of_the_inputs_lose_a_constant(layer):
    x, w = layer
    clipped = np.clip(w, 0, x.max())
    lost = oracle.forward(x, w, 2, 1) - oracle.forward(x, clipped, 2, 1)
    assert (clipped != w).mean() > 0.4
    assert np.allclose(lost, -np.abs(w - clipped).sum((1, 2, 3))[:, None, None])


@pytest.mark.parametrize("bits", BITS)
def test_unsigned_layer(layer, bits):
    """Integers times the step are the response up to a constant, and a rounding error of each term."""
    x, w = layer
    limit, top = x.max(), 2 ** bits - 1
    step = limit / top
    values = schemes.unsigned_layer(w, limit, step, bits)
    assert values["adder"].dtype == np.uint8 and values["adder"].max() == top and list(values["ratio"]) == [1]
    s = -oracle.forward(schemes.quantise(x, step, top), values["adder"], 1, 1)
    error = step * s + np.abs(w - np.clip(w, 0, limit)).sum((1, 2, 3))[:, None, None] + oracle.forward(x, w, 1, 1)
    assert np.abs(error).max() <= step * w[0].size and np.abs(error).std() < step * w[0].size ** 0.5


def test_adderquant_layer(layer):
    """Signed weights of twice the step: sum |xq - 2 wq| up to a constant, each group with its own step."""
    x, w = layer
    w[:4] *= 0.1
    values = schemes.adderquant_layer(w, 3.0, 5)
    steps = 1 / values["ratio"][values["group"]]
    assert len(values["ratio"]) == 4 and steps.max() < 3.001 / 31 and steps.min() < steps.max() / 4
    for f, step in enumerate(steps):
        integers, signed = schemes.quantise(x, step, 31), np.clip(np.rint(w[f:f + 1] / (2 * step)), -16, 15)
        published, ours = (oracle.forward(integers, v, 1, 1) for v in (2 * signed, values["adder"][f:f + 1]))
        difference = published - ours
        assert np.ptp(difference) < 1e-6 < np.abs(difference).max()


def test_limits_are_of_all_columns():
    """Of more than a million values every second is taken or fewer, but never the same columns of each row."""
    x = np.zeros((128, 16, 32, 32), np.float32)
    x[..., 1::2] = 1
    x[0, 0, 0, 0] = 9
    assert schemes.limits(x, (0.25, 0.75, 1.0)) == [schemes.LEAST_LIMIT, 1, 9]


def test_cluster():
    values = np.array([5.0, 1.0, 9.1, 1.1, 5.2, 9.0, 0.9, 20.0])
    assert list(schemes.cluster(values, 4)) == [1, 0, 2, 0, 1, 2, 0, 3]
    assert set(schemes.cluster(np.ones(6), 4)) == {0}


def test_norm_fit():
    """Responses that batch norm would turn and normalise."""
    random = np.random.default_rng(0)
    x = random.normal(3000, 500, (6, 4, 5, 5)).astype(np.float32)
    gamma, beta = random.normal(1, 0.1, 4), random.normal(0, 1, 4)
    scale, shift = schemes.norm_fit(x, beta, -gamma)
    wanted = oracle.batch_norm(-0.01 * x, x, gamma, beta, np.zeros(4), np.ones(4))[0]
    assert np.allclose(scale[:, None, None] * x + shift[:, None, None], wanted, atol=1e-5)


@pytest.mark.parametrize("scheme, bits, correlation", [
    ("unsigned", 8, 0.99), ("unsigned", 6, 0.9), ("unsigned", 5, 0.8), ("unsigned", 4, 0.6), ("unsigned", 3, 0.5),
    ("adderquant", 4, 0.6), ("shared", 8, 0.9)])
def test_simulated_and_integer_forms_agree(net, images, scheme, bits, correlation):
    """Every activation behind every block, and close to the float network's."""
    parameters = quantise_network(net, images, bits, scheme)
    simulated, integer = (quantised(parameters, backend) for backend in ("composed", "kernel"))
    x, y = (form.bn1(form.conv1(ms.Tensor(images[:2]))) for form in (simulated, integer))
    for name in ("layer1", "layer2", "layer3"):
        for block, other in zip(getattr(simulated, name), getattr(integer, name)):
            x, y = block(x), other(y)
            channels_first = y.asnumpy().transpose(0, 3, 1, 2) if scheme == "unsigned" else y.asnumpy()
            assert np.array_equal(x.asnumpy(), channels_first) and len(np.unique(channels_first)) > 50
    logits, got = net(ms.Tensor(images)).asnumpy(), integer(ms.Tensor(images)).asnumpy()
    assert np.corrcoef(logits.ravel(), got.ravel())[0, 1] > correlation


@pytest.fixture(name="grouped", scope="module")
def fixture_grouped(images):
    """Makes a network with a depthwise layer and one in two groups of channels."""
    def make():
        return nn.SequentialCell(nn.Conv2d(3, 12, 3), BatchNormAct2d(12), Adder2d(12, 24, 3, 2, 1, group=12),
                                 BatchNormAct2d(24), Adder2d(24, 10, 1, group=2), BatchNormAct2d(10, relu=False))
    ms.set_seed(1)
    net = make().set_train()
    for _ in range(60):
        net(ms.Tensor(images))
    return make, net.set_train(False)


@pytest.mark.parametrize("scheme", ["unsigned", "shared"])
def test_groups_of_channels(grouped, images, scheme):
    make, net = grouped
    parameters = quantise_network(net, images, 8, scheme)
    assert parameters["2.adder"].shape == (24, 1, 3, 3) and parameters["4.adder"].shape == (10, 12, 1, 1)
    check(make(), parameters, Path("a.ckpt"))
    simulated, integer = (occupy(make(), parameters, backend)(ms.Tensor(images)).asnumpy()
                          for backend in ("composed", "kernel"))
    np.testing.assert_allclose(simulated, integer, rtol=1e-5, atol=1e-5)
    wanted = net(ms.Tensor(images)).asnumpy()
    assert np.corrcoef(wanted.ravel(), integer.ravel())[0, 1] > 0.99


def test_groups_of_channels_have_one_step(grouped, images):
    with pytest.raises(UserError, match="must have one step; use scheme unsigned or shared"):
        quantise_network(grouped[1], images, 8, "adderquant")


@pytest.mark.parametrize("scheme", ["unsigned", "adderquant"])
def test_graph_mode_gives_the_same_logits(net, images, scheme):
    """No compiler may simplify the rounding away."""
    parameters = quantise_network(net, images, 5, scheme)
    wanted = quantised(parameters, "kernel")(ms.Tensor(images[:2])).asnumpy()
    ms.set_context(mode=ms.GRAPH_MODE)
    for backend in ("composed", "kernel"):
        got = quantised(parameters, backend)(ms.Tensor(images[:2])).asnumpy()
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_deterministic(net, images):
    first, second = (quantise_network(net, images, 3) for _ in range(2))
    assert first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_calibration_images_are_the_same_each_time(tmp_path):
    """The first of seed 0, whatever the seed of the program."""
    folder = data.prepare("synthetic", tmp_path, ("train",))
    first = calibration_images(IDENTITY, folder, 300)
    ms.set_seed(7)
    second = calibration_images(IDENTITY, folder, 300)
    assert first.shape == (300, 3, 32, 32) and np.array_equal(first, second)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_checkpoint(net, images, tmp_path, scheme):
    """At most 0.3 of the size, and the same logits when it is loaded."""
    parameters = quantise_network(net, images, 8, scheme)
    save_parameters(net.parameters_dict(), tmp_path / "float.ckpt")
    save_quantised(parameters, tmp_path / "int8.ckpt", IDENTITY)
    assert (tmp_path / "int8.ckpt").stat().st_size <= 0.3 * (tmp_path / "float.ckpt").stat().st_size
    logits = load(tmp_path / "int8.ckpt")(ms.Tensor(images)).asnumpy()
    assert np.array_equal(logits, quantised(parameters)(ms.Tensor(images)).asnumpy())


def test_checkpoint_without_identity(net, images, tmp_path):
    """As they were written before: the options say what it is of."""
    parameters = quantise_network(net, images, 8)
    numbers = {name: parameters.pop(name) for name in ("bits", "scheme")}
    save_parameters(parameters, tmp_path / "int8.ckpt", **numbers)
    logits = load(tmp_path / "int8.ckpt", class_num=10)(ms.Tensor(images)).asnumpy()
    assert np.array_equal(logits, quantised({**parameters, **numbers})(ms.Tensor(images)).asnumpy())
    with pytest.raises(UserError, match="network of 10 classes, not 100; give --class_num 10, or --dataset cifar10"):
        load(tmp_path / "int8.ckpt", class_num=100)


def test_layer_that_would_be_lost(images):
    """A head without a norm is in no pair."""
    net = nn.SequentialCell(nn.Conv2d(3, 4, 3), BatchNormAct2d(4), Adder2d(4, 5, 3), BatchNormAct2d(5), nn.AdaptiveAvgPool2d(1),
                            nn.Flatten(), nn.Dense(5, 10))
    with pytest.raises(UserError, match="6.weight cannot be quantised: no norm stands behind its layer"):
        quantise_network(net, images, 8)


@pytest.mark.parametrize("change, words", [
    ({"layer1.0.conv1.group": np.full(16, 1, np.uint8)}, "the integers of layer1.0.conv1 make no sense"),
    ({"bits": 7}, "7 bits, scheme unsigned: no quantisation"),
    ({"layer2.0.conv2.residual_scale": None}, "missing: layer2.0.conv2.residual_scale"),
    ({"layer1.0.conv1.scale": None}, "missing: layer1.0.conv1.scale"),
    ({"extra": np.ones(1, np.float32)}, "unexpected: extra"),
    ({"layer1.0.conv1.adder": np.ones((16, 16, 3), np.uint8)}, "of another shape: layer1.0.conv1.adder")])
def test_checkpoint_that_does_not_fit(eight, change, words):
    """One line, which says what."""
    parameters = {**eight, **change}
    parameters = {name: value for name, value in parameters.items() if value is not None}
    with pytest.raises(UserError, match=words):
        check(shallow(backend="composed"), parameters, Path("a.ckpt"))


@pytest.mark.parametrize("name, change, words", [
    ("bits", lambda value: 8.9, "bits is of type float64, and its values are others in uint8"),
    ("bits", lambda value: -8, "bits is of type int64"),
    ("bits", lambda value: "8", "bits is text"),
    ("scheme", lambda value: 3, "8 bits, scheme 3: no quantisation"),
    ("layer1.0.conv1.scale", lambda value: value * np.inf, "layer1.0.conv1.scale has values that are not finite"),
    ("layer1.0.conv1.shift", lambda value: value * np.nan, "layer1.0.conv1.shift has values that are not finite"),
    ("layer1.0.conv1.scale", lambda value: value.astype(np.float64) + 1e-12, "layer1.0.conv1.scale is of type float64"),
    ("layer1.0.conv1.ratio", lambda value: -value, "the integers of layer1.0.conv1 make no sense"),
    ("layer1.0.conv1.ratio", lambda value: np.ones(0), "of another shape: layer1.0.conv1.ratio"),
    ("layer1.0.conv1.group", lambda value: value + 0.5, "layer1.0.conv1.group is of type float64"),
    ("layer1.0.conv1.top", lambda value: np.zeros(1, np.uint8), "the integers of layer1.0.conv1 make no sense"),
    ("layer1.0.conv1.top", lambda value: np.array([256]), "layer1.0.conv1.top is of type int64"),
    ("layer1.0.conv1.adder", lambda value: value.astype(np.int32) - 300, "layer1.0.conv1.adder is of type int32"),
    ("layer1.0.conv1.adder", lambda value: value.astype(np.float32), "the integers of layer1.0.conv1 make no sense"),
    ("fc.bias", lambda value: value * np.nan, "fc.bias has values that are not finite")])
def test_fields_that_make_no_sense(eight, name, change, words):
    """Each is refused by its name before it is used."""
    parameters = dict(eight)
    parameters[name] = change(parameters.get(name))
    with pytest.raises(UserError, match=f"a.ckpt: {words}|a.ckpt does not fit the network: {words}"):
        check(shallow(backend="composed"), parameters, Path("a.ckpt"))


def test_integers_of_more_bits(eight):
    parameters = {**eight, "bits": 6}
    with pytest.raises(UserError, match="the integers of layer1.0.conv1 make no sense"):
        check(shallow(backend="composed"), parameters, Path("a.ckpt"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_fields_of_other_types_are_converted(net, images, scheme):
    """What loses nothing; the result is the same to the bit and type."""
    parameters = quantise_network(net, images, 5, scheme)
    others = {name: value.astype(np.int64 if value.dtype == np.uint8 else np.float64)
              if isinstance(value, np.ndarray) else value for name, value in parameters.items()}
    got = check(shallow(backend="composed"), {**others, "bits": np.array(5.0)}, Path("a.ckpt"))
    assert got.keys() == parameters.keys() and type(got["bits"]) is int
    for name, value in parameters.items():
        assert np.array_equal(got[name], value) and getattr(got[name], "dtype", 0) == getattr(value, "dtype", 0), name


def test_network_is_left_as_it_was(net, images):
    before, cells = net(ms.Tensor(images)).asnumpy(), [cell for _, cell in net.cells_and_names()]
    names = list(net.parameters_dict())
    quantise_network(net, images, 8)
    assert list(net.parameters_dict()) == names
    assert np.array_equal(net(ms.Tensor(images)).asnumpy(), before)
    assert all(one is other for one, (_, other) in zip(cells, net.cells_and_names(), strict=True))
    assert len(pairs(net)) == 10


def test_onnx(net, images, tmp_path):
    """ONNX Runtime gives the same logits as the integer kernel."""
    parameters = quantise_network(net, images, 5)
    got = onnx_outputs(quantised(parameters, "onnx"), images[:2], tmp_path)
    expected = quantised(parameters)(ms.Tensor(images[:2])).asnumpy()
    assert oracle.relative_error(got, expected) < 1e-5


def test_onnx_of_groups(layer, tmp_path):
    x, w = layer
    parameters = schemes.adderquant_layer(w, 3.0, 5)
    assert len(parameters["ratio"]) > 1
    x = x.astype(np.float32)
    got = onnx_outputs(Distances(parameters, Geometry(2, 1), 31, "onnx"), x, tmp_path)
    np.testing.assert_array_equal(got, Distances(parameters, Geometry(2, 1), 31, "auto")(ms.Tensor(x)).asnumpy())


def onnx_outputs(net, x, folder):
    export(net, x.shape, folder / "net.onnx", "ONNX")
    session = onnxruntime.InferenceSession(str(folder / "net.onnx"))
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.mark.parametrize("scheme", ["unsigned", "adderquant"])
def test_commands(tmp_path, monkeypatch, capsys, scheme):
    """python -m src.quant, then eval.py and export.py on what it wrote: what the functions give."""
    def program(name, *options):
        monkeypatch.setattr(sys, "argv", [name, *map(str, options), "--device_target", "CPU"])
        runpy.run_module(name, run_name="__main__")
        return capsys.readouterr().out

    monkeypatch.setattr(device, "_set_device", lambda *_: None)  # a process chooses its processor once
    monkeypatch.setattr(errors, "guard", lambda name: None)  # which would block signals here, and in all children
    ms.set_seed(1)
    net = create("lenet5_bn", 10, in_channels=3)
    identity = Identity("lenet5_bn", "l1", 10, "synthetic")
    save_parameters(net.parameters_dict(), tmp_path / "net.ckpt", identity=identity.dumps())
    printed = program("src.quant", "--checkpoint_file_path", tmp_path / "net.ckpt", "--data_path", tmp_path,
                      "--bits", 4, "--scheme", scheme, "--calibration_size", 64, "--output", tmp_path / "int4.ckpt")
    assert f"to 4 bits ({scheme}, 64 training images)" in printed
    result = program("eval", "--checkpoint_file_path", tmp_path / "int4.ckpt", "--eval_dataset_path", tmp_path)
    assert result.startswith("result: ") and f"ckpt= {tmp_path / 'int4.ckpt'}\ntop-5: " in result
    folder = data.prepare("synthetic", tmp_path, ("train", "test"))
    ms.set_context(mode=ms.PYNATIVE_MODE)
    parameters = quantise_network(net.set_train(False), calibration_images(identity, folder, 64), 4, scheme)
    integers = occupy(create("lenet5_bn", 10, in_channels=3, backend="composed"), parameters, "auto")
    accuracies = accuracies_of(integers, data.create_dataset("synthetic", folder, "test", 250))
    printed = [float(result.split()[i]) for i in (1, -1)]
    assert printed == pytest.approx(accuracies, abs=0.005) and printed[1] > printed[0] > 0
    printed = program("export", "--checkpoint_file_path", tmp_path / "int4.ckpt", "--batch_size", 1,
                      "--file_name", tmp_path / "int4")
    assert "same logits after reloading" in printed and (tmp_path / "int4.mindir").is_file()


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_rounded(mode):
    """Values as a layer sees them, and gradients straight through, of filters also beyond the ends."""
    ms.set_context(mode=mode)
    v = np.array([-1.0, -0.01, 0.0, 0.24, 0.26, 1.0, 2.9, 3.0, 3.1], np.float32)
    for clip, wanted in ((True, [0, 0, 1, 1, 1, 1, 1, 1, 0]), (False, [1] * 9)):
        rounded = fine_tune.Rounded(3.0, 6, clip)
        assert np.array_equal(rounded(ms.Tensor(v)).asnumpy(), [0, 0, 0, 0, 0.5, 1, 3, 3, 3])
        assert np.array_equal(ms.grad(rounded)(ms.Tensor(v)).asnumpy(), wanted)


@pytest.mark.parametrize("bits", [8, 3])
def test_in_loop_is_what_the_integers_give(net, images, bits):
    """A network with the quantiser in the loop, its norms fitted, and the quantised one: nearly the same logits, since
    only activations for shortcuts are rounded once more."""
    before, limits = list(net.cells_and_names()), calibrated(net, images, bits).limits
    assert set(limits) == {pair.name for pair in pairs(net) if isinstance(pair.layer, Adder2d)}
    with fine_tune.in_loop(net, limits, bits):
        wanted = net(ms.Tensor(images)).asnumpy()
        got = quantised(quantise_network(net, images, bits))(ms.Tensor(images)).asnumpy()
    assert list(net.cells_and_names()) == before
    assert np.corrcoef(wanted.ravel(), got.ravel())[0, 1] > 0.97


def test_fine_tuning_brings_the_network_back(net, images):
    """Some steps on the images themselves take away most of what 3 bits cost."""
    class Task:
        """Of one batch."""
        steps, batch_size, train_metrics = 1, len(images), ("accuracy",)

        @staticmethod
        def batches(epoch):
            return ds.NumpySlicesDataset((images, np.zeros(len(images), np.int32)), shuffle=False).batch(len(images))

    student, teacher = shallow(), shallow()
    ms.load_param_into_net(student, net.parameters_dict())
    student.set_train()
    for _ in range(100):
        student(ms.Tensor(images))
    ms.load_param_into_net(teacher, student.parameters_dict())
    wanted = fixed(teacher, "auto")(ms.Tensor(images)).asnumpy()

    def distance():
        logits = quantised(quantise_network(student, images, 3))(ms.Tensor(images)).asnumpy()
        return np.square(logits - wanted).mean()

    before = distance()
    with fine_tune.in_loop(student, calibrated(student, images, 3).limits, 3):
        fine_tune.fine_tune(student, teacher, Task, 40, 0.01)
        after = distance()
    assert after < 0.6 * before


@pytest.mark.parametrize("options, words", [
    (["--output", "int8.ckpt", "--fine_tune_lr", "0.1"], "fine_tune_lr is of no use without --fine_tune_epochs"),
    (["--output", "int8.ckpt", "--fine_tune_epochs", "-1"], "fine_tune_epochs must be a number from 0 to 10000, not -1"),
    (["--output", "int8.ckpt", "--fine_tune_epochs", "1", "--fine_tune_lr", "nan"],
     "fine_tune_lr must be a number from 1e-08 to 1000.0, not nan"),
    (["--output", "int8.ckpt", "--fine_tune_epochs", "1", "--fine_tune_lr", "0"],
     "fine_tune_lr must be a number from 1e-08 to 1000.0, not 0"),
    (["--output", "int8.ckpt", "--fine_tune_epochs", "1", "--scheme", "shared"],
     "fine_tune_epochs is for scheme unsigned, not shared"),
    (["--output", "int8"], "output must be a file that ends in .ckpt, not int8"),
    (["--output", "net.ckpt"], "output net.ckpt is the float checkpoint itself"),
    (["--output", "nowhere/int8.ckpt"], "nowhere/int8.ckpt: there is no folder nowhere"),
    (["--output", "int8.ckpt", "--calibration_size", "2561"],
     "calibration_size 2561: there are only 2560 training images"),
    (["--output", "int8.ckpt", "--class_num", "-1"], "class_num must be a number from 0 to 1000000, not -1"),
    (["--output", "int8.ckpt", "--class_num", "7"], "net.ckpt is a network of class_num 10, not 7; leave out --class_num"),
    (["--output", "int8.ckpt", "--layer", "l2"], "net.ckpt is a network of layer l1, not l2; leave out --layer"),
    (["--output", "int8.ckpt", "--checkpoint_file_path", "l2.ckpt"],
     "l2.ckpt: only float networks of layer l1 can be quantised; this one is of layer l2"),
    (["--output", "int8.ckpt", "--checkpoint_file_path", "int8_already.ckpt"],
     "int8_already.ckpt: only float networks of layer l1 can be quantised; this one is quantised already"),
    (["--output", "int8.ckpt", "--checkpoint_file_path", "nan.ckpt"], "nan.ckpt: fc.weight has values that are not fin"),
])
def test_bad_input(net, images, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    if "int8_already.ckpt" in options:
        save_quantised(quantise_network(net, images, 8), Path("int8_already.ckpt"), IDENTITY)
    parameters = net.parameters_dict()
    save_parameters(parameters, Path("net.ckpt"), identity=IDENTITY.dumps())
    save_parameters(parameters, Path("l2.ckpt"), identity=Identity("resnet20", "l2", 10, "synthetic").dumps())
    save_parameters({**parameters, "fc.weight": parameters["fc.weight"] * np.nan}, Path("nan.ckpt"),
                    identity=IDENTITY.dumps())
    before = Path("net.ckpt").read_bytes()
    common = ["--checkpoint_file_path", "net.ckpt", "--data_path", ".",
              "--calibration_size", "32"]
    monkeypatch.setattr(device, "set_up", lambda *_, **__: None)  # a process does that once
    monkeypatch.setattr(sys, "argv", ["src.quant", *common, *options])
    with pytest.raises(UserError, match=re.escape(words)):
        program_of_quant.main()
    assert Path("net.ckpt").read_bytes() == before and not Path("int8.ckpt").exists()


def accuracies_of(net, batches):
    """Top-1 and top-5."""
    columns = [(net(images).asnumpy(), labels.asnumpy()) for images, labels in
               batches.create_tuple_iterator(num_epochs=1)]
    logits, labels = (np.concatenate(column) for column in zip(*columns))
    hits = np.argsort(-logits, 1) == labels[:, None]
    return hits[:, 0].mean(), hits[:, :5].any(1).mean()
