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
"""Training that begins with the weights of a checkpoint."""
import mindspore as ms
import numpy as np
import pytest

from src import checkpoint, networks
from src.checkpoint import save_parameters
from src.distill import warm_start
from src.errors import UserError
from src.identity import Identity


def network(seed, name="lenet5_bn", class_num=10, **options):
    ms.set_seed(seed)
    return networks.create(name, class_num, **options)


def values(net):
    return {name: value.asnumpy() for name, value in net.parameters_dict().items()}


def saved(path, class_num=10, name="lenet5_bn", layer="l1", known=True):
    """A checkpoint in which no value is one that networks begin with."""
    random = np.random.default_rng(5)
    parameters = {key: random.uniform(0.5, 1, value.shape).astype(np.float32)
                  for key, value in checkpoint.weights(network(1, name, class_num, layer=layer)).items()}
    extras = {"identity": Identity(name, layer, class_num, "folder").dumps()} if known else {}
    save_parameters(parameters, path, **extras)
    return parameters


def begin(net, path, name="lenet5_bn", class_num=10, layer="l1"):
    warm_start.begin_with(net, str(path), Identity(name, layer, class_num, "folder"))


@pytest.mark.parametrize("known", [True, False], ids=["ours", "zoo's"])
def test_same_classes(tmp_path, capsys, known):
    """Everything is taken, from a file or the best checkpoint of a folder."""
    wanted = saved(tmp_path / "adder_lenet5_bn_folder_9000.ckpt", known=known)
    net = network(2)
    begin(net, tmp_path)
    assert all(np.array_equal(value, wanted[name]) for name, value in values(net).items())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("known", [True, False], ids=["ours", "zoo's"])
@pytest.mark.parametrize("name", ["resnet20", "lenet5_bn"])
@pytest.mark.parametrize("class_num", [64, 7])
def test_other_classes(tmp_path, capsys, name, class_num, known):
    """The head stays as it was, and one line says so; 64 is the width of other layers too."""
    wanted, net = saved(tmp_path / "a.ckpt", 5, name, known=known), network(2, name, class_num)
    before = values(net)
    begin(net, tmp_path / "a.ckpt", name, class_num)
    head = {key for key, value in values(net).items() if np.array_equal(value, before[key])}
    assert head and head == {key for key in wanted if wanted[key].shape != before[key].shape}
    assert all(np.array_equal(value, wanted[key]) for key, value in values(net).items() if key not in head)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and "other classes; the head (" in printed and all(key in printed for key in head)


def test_what_only_training_needs_stays(tmp_path):
    wanted, mix = saved(tmp_path / "a.ckpt"), ms.Parameter(0.25, name="mix")
    net = network(2, mix=mix)
    begin(net, tmp_path / "a.ckpt")
    assert float(mix) == 0.25
    assert all(np.array_equal(value.asnumpy(), wanted[name]) for name, value in checkpoint.weights(net).items())


@pytest.mark.parametrize("made, wanted, words", [
    ({"layer": "l2"}, {}, "lenet5_bn of layer l2, not lenet5_bn of layer l1; say --network lenet5_bn --layer l2"),
    ({"name": "vgg_small"}, {}, "vgg_small of layer l1, not lenet5_bn of layer l1"),
    ({"name": "resnet20", "known": False}, {}, "a.ckpt does not fit the network: missing: "),
    ({}, {"in_channels": 3}, "a.ckpt does not fit the network: of another shape: ")], ids=str)
def test_other_networks(tmp_path, made, wanted, words):
    saved(tmp_path / "a.ckpt", **made)
    net = network(2, **wanted)
    before = values(net)
    with pytest.raises(UserError, match=words):
        begin(net, tmp_path / "a.ckpt")
    assert all(np.array_equal(value, before[name]) for name, value in values(net).items())


def test_other_files(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        begin(network(2), tmp_path / "absent.ckpt")
    parameters = saved(tmp_path / "a.ckpt")
    save_parameters(parameters, tmp_path / "a.ckpt", bits=8, scheme="unsigned")
    with pytest.raises(UserError, match="a.ckpt is quantised; take the float checkpoint that it was made from"):
        begin(network(2), tmp_path / "a.ckpt")
    saved(tmp_path / "adderl2_lenet5_bn_folder_9000.ckpt", known=False)
    with pytest.raises(UserError, match="by its name a network of layer l2, not l1; say --layer l2"):
        begin(network(2), tmp_path / "adderl2_lenet5_bn_folder_9000.ckpt")
