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
"""export.py as a program, and src.exporter: models that give the network's logits, whole files or none."""
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import onnx
import onnxruntime
import pytest
from mindspore import nn, ops

import oracle
from src import exporter
from src.adder import Adder2d
from src.checkpoint import fill, load_parameters, save_parameters
from src.errors import UserError
from src.res20_adder import resnet20

ROOT = Path(__file__).parents[1]
USUAL = ["--device_target", "CPU", "--dataset", "synthetic", "--checkpoint_file_path", "net.ckpt"]


def random_network(path):
    """Save a seeded Adder ResNet-20 whose running statistics fit noise, so that its logits are of ordinary size."""
    ms.set_seed(1)
    net, random = resnet20(10), np.random.default_rng(1)
    net.set_train()
    for _ in range(15):
        net(ms.Tensor(random.standard_normal((8, 3, 32, 32), np.float32)))
    save_parameters(net.parameters_dict(), path)


@pytest.fixture(name="home", scope="module")
def fixture_home(tmp_path_factory):
    """A folder with net.ckpt, net.mindir and net.onnx."""
    home = tmp_path_factory.mktemp("export")
    random_network(home / "net.ckpt")
    home.joinpath("models").mkdir()
    printed = []
    for file_format in ("MINDIR", "ONNX"):
        done = export(home, "--file_format", file_format, "--file_name", "models/net")
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    (home / "printed.txt").write_text("".join(printed))
    return home


@pytest.fixture(name="net", scope="module")
def fixture_net(home):
    """The network of net.ckpt."""
    net = resnet20(10)
    fill(net, load_parameters(home / "net.ckpt"), home / "net.ckpt")
    return net.set_train(False)


def export(home, *options):
    """Run export.py in `home`; options given here beat the usual ones."""
    return subprocess.run([sys.executable, str(ROOT / "export.py"), *USUAL, *options], cwd=home, capture_output=True,
                          text=True, check=False)


def assert_same_logits(got, expected):
    assert got.shape == expected.shape
    assert abs(expected).max() > 0.01, "a network that says nothing would prove nothing"
    assert abs(got - expected).max() < 1e-5 * abs(expected).max()


def images(count):
    return np.random.default_rng(3).standard_normal((count, 3, 32, 32), np.float32)


# The exported models.

def test_mindir_gives_the_networks_logits(home, net):
    model = nn.GraphCell(ms.load(str(home / "models" / "net.mindir")))
    for count in (1, 3):
        x = ms.Tensor(images(count))
        assert_same_logits(model(x).asnumpy(), net(x).asnumpy())


def test_onnx_gives_the_networks_logits(home, net):
    session = onnxruntime.InferenceSession(str(home / "models" / "net.onnx"))
    ((name, shape),) = ((entry.name, entry.shape) for entry in session.get_inputs())
    assert (name, shape) == ("images", ["batch", 3, 32, 32])
    for count in (1, 3):
        (logits,) = session.run(["logits"], {name: images(count)})
        assert_same_logits(logits, net(ms.Tensor(images(count))).asnumpy())


def test_onnx_has_standard_operators_only(home):
    model = onnx.load(str(home / "models" / "net.onnx"))
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    kinds = {node.op_type for node in model.graph.node}
    assert kinds.isdisjoint({"Custom", "Loop", "Scan", "If"}) and {"Max", "Conv", "BatchNormalization"} <= kinds


def test_mindir_has_builtin_operators_only(home):
    content = (home / "models" / "net.mindir").read_bytes()
    assert b"Abs" in content, "operators are not named in clear"
    for word in (b"Custom", b"AdderForward", b"adder_cpu", b".so"):
        assert word not in content


def test_message_and_files(home):
    assert (home / "printed.txt").read_text() == (
        "exported net.ckpt as models/net.mindir, any batch size, same logits after reloading\n"
        "exported net.ckpt as models/net.onnx, any batch size\n")
    assert sorted(os.listdir(home / "models")) == ["net.mindir", "net.onnx"]


@pytest.mark.parametrize("name", ["net.mindir", "net.onnx"])
def test_model_is_readable_by_all(name, home):
    assert (home / "models" / name).stat().st_mode & 0o777 == 0o644


# Mistakes.

def assert_refused(done, *words):
    """One `error:` line on stderr, nothing on stdout, exit code 1."""
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert re.fullmatch(r"error: .*\n", done.stderr), done.stderr
    assert all(str(word) in done.stderr for word in words), done.stderr


@pytest.mark.parametrize("options, words", [
    (["--file_name", "absent/net"], ["absent/net.mindir: there is no folder absent"]),
    (["--file_name", "net.ckpt/net"], ["net.ckpt/net.mindir: there is no folder net.ckpt"]),
    (["--checkpoint_file_path", "absent.ckpt"], ["absent.ckpt: no such checkpoint"]),
    (["--checkpoint_file_path", "text.ckpt"], ["text.ckpt: not a MindSpore checkpoint"]),
    (["--class_num", "100"], ["net.ckpt is a network of 10 classes, not 100; give --class_num 10, or --dataset"]),
], ids=" ".join)
def test_wrong_input(options, words, home, monkeypatch):
    (home / "text.ckpt").write_text("hello\n")
    before = sorted(os.listdir(home))
    monkeypatch.chdir(home)
    monkeypatch.setattr("src.device._set_device", lambda *_: None)  # too late: tensors of other tests are there
    monkeypatch.setattr("sys.argv", ["export.py", *USUAL, "--batch_size", "1", *options])
    with pytest.raises(UserError) as caught:
        importlib.import_module("export").main()
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words), caught.value
    assert sorted(os.listdir(home)) == before


def test_air_is_refused_at_once(home):
    """Before anything is read."""
    done = export(home, "--file_format", "AIR", "--checkpoint_file_path", "absent.ckpt")
    assert_refused(done, "AIR", "Ascend", "MINDIR")


# src.exporter, with networks that export in no time.

class Mean(nn.Cell):
    """Means over all positions; MindSpore's adaptive pools do not become ONNX."""

    def construct(self, x):
        return ops.mean(x, (2, 3))


def own_network():
    ms.set_seed(1)
    return nn.SequentialCell(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), Adder2d(5, 6, 3, 2, 1), nn.BatchNorm2d(6),
                             Adder2d(6, 12, 3, 1, 1, group=6), Adder2d(12, 6, 1, group=2), nn.BatchNorm2d(6),
                             Adder2d(6, 8, 1, norm=2, group=2), Adder2d(8, 4, 5, 1, 0, bias=True), Mean())


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
@pytest.mark.parametrize("batch", [None, 3])
def test_network_of_ones_own(mode, file_format, batch, tmp_path):
    """Adder layers of any backend take the form of exported models, and have their own again afterwards."""
    ms.set_context(mode=mode)
    net, file = own_network().set_train(False), tmp_path / f"net.{file_format.lower()}"
    x = np.random.default_rng(0).standard_normal((3, 3, 9, 11), np.float32)
    expected = net(ms.Tensor(x)).asnumpy()
    exporter.export(net, (batch, 3, 9, 11), file, file_format)
    assert oracle.relative_error(run_model(file, x), expected) < 1e-6
    assert b"Custom" not in file.read_bytes()
    np.testing.assert_array_equal(net(ms.Tensor(x)).asnumpy(), expected)



def small_network():
    return nn.SequentialCell(nn.Dense(4, 3), nn.BatchNorm1d(3))


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_file_is_replaced_and_nothing_else_is_left(file_format, tmp_path):
    file = tmp_path / f"net.v2.{file_format.lower()}"
    file.write_text("old")
    exporter.export(small_network(), (2, 4), file, file_format)
    assert os.listdir(tmp_path) == [file.name]
    assert file.stat().st_size > 100 and file.stat().st_mode & 0o777 == 0o644


def run_model(file, x):
    if file.suffix == ".mindir":
        return nn.GraphCell(ms.load(str(file)))(ms.Tensor(x)).asnumpy()
    session = onnxruntime.InferenceSession(str(file))
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_network_is_exported_in_inference_mode(file_format, tmp_path):
    """Batch normalisation by the batch itself would give other outputs."""
    net, file = small_network(), tmp_path / f"net.{file_format.lower()}"
    x = np.random.default_rng(0).standard_normal((2, 4), np.float32)
    expected = net.set_train(False)(ms.Tensor(x)).asnumpy()
    exporter.export(net.set_train(), (2, 4), file, file_format)
    np.testing.assert_allclose(run_model(file, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", [lambda y: y * 1.0001, lambda y: y + np.nan], ids=["a little", "not a number"])
def test_mindir_that_differs_is_refused(change, tmp_path, monkeypatch):
    graph_cell = nn.GraphCell
    monkeypatch.setattr(exporter.nn, "GraphCell", lambda graph: lambda x: change(graph_cell(graph)(x)))
    (tmp_path / "net.mindir").write_text("old")
    with pytest.raises(UserError, match="net.mindir: the reloaded model's outputs differ") as caught:
        exporter.export(small_network(), (2, 4), tmp_path / "net.mindir", "MINDIR")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["net.mindir"] and (tmp_path / "net.mindir").read_text() == "old"


def test_network_whose_outputs_are_all_zero_can_be_exported(tmp_path):
    """Such as an untrained Adder ResNet-20."""
    net = nn.Dense(4, 3, weight_init="zeros", bias_init="zeros")
    exporter.export(net, (2, 4), tmp_path / "net.mindir", "MINDIR")
    assert os.listdir(tmp_path) == ["net.mindir"]


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_failing_rename_leaves_the_old_file(file_format, tmp_path, monkeypatch):
    def fail(source, target):
        assert os.stat(source).st_dev == os.stat(target).st_dev
        raise OSError(28, "No space left on device")
    file = tmp_path / f"net.{file_format.lower()}"
    file.write_text("old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="cannot export .*No space left"):
        exporter.export(small_network(), (2, 4), file, file_format)
    assert os.listdir(tmp_path) == [file.name] and file.read_text() == "old"
