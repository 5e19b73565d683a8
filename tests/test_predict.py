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
"""src.predict: the classes of pictures, as the network that evaluation runs sees them."""
import os
import sys

import mindspore as ms
import numpy as np
import pytest
from PIL import Image

from src import data, device, predict
from src.checkpoint import save_parameters
from src.errors import UserError
from src.identity import Identity
from src.networks import create
from src.tasks.classification import likeliest

CLASSES = ("apple", "bear", "cup", "dolphin", "elm", "fox", "grape")


@pytest.fixture(name="home", scope="module")
def fixture_home(tmp_path_factory):
    """Checkpoints with and without names of classes, and pictures."""
    home = tmp_path_factory.mktemp("predict")
    ms.set_seed(1)
    net, random = create("lenet5_bn", 7, in_channels=3).set_train(), np.random.default_rng(0)
    for _ in range(20):
        net(ms.Tensor(random.standard_normal((8, 3, 32, 32)), ms.float32))
    for name, classes in (("named", CLASSES), ("plain", ())):
        identity = Identity("lenet5_bn", "l1", 7, "folder", classes)
        save_parameters(net.parameters_dict(), home / f"{name}.ckpt", identity=identity.dumps())
    pixels = random.integers(0, 256, (45, 80, 3), np.uint8)
    Image.fromarray(pixels).save(home / "colour.png")
    Image.fromarray(pixels).save(home / "photo.jpg", quality=95)
    Image.fromarray(pixels[:, :, 0]).save(home / "grey.png")
    (home / "text.png").write_text("hello")
    os.mkfifo(home / "pipe.png")
    return home


@pytest.fixture(name="run")
def fixture_run(home, monkeypatch, capsys):
    """Runs the program in `home`; gives what it prints."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(device, "_set_device", lambda *_: None)  # a process does that once

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["predict", *arguments])
        predict.main()
        return capsys.readouterr().out
    return run


def test_five_classes_of_each_picture(run):
    printed = run("colour.png", "photo.jpg", "grey.png", "--checkpoint_file_path", "named.ckpt").splitlines()
    assert printed[::6] == ["colour.png", "photo.jpg", "grey.png"] and len(printed) == 18
    for start in (1, 7, 13):
        lines = [line.split(" %  ") for line in printed[start:start + 5]]
        shares = [float(share) for share, _ in lines]
        assert shares == sorted(shares, reverse=True) and 5 / 7 * 100 <= sum(shares) <= 100.3
        assert {name for _, name in lines} < set(CLASSES)


def test_probabilities_are_the_networks(home):
    net = create("lenet5_bn", 7, in_channels=3).set_train(False)
    parameters = ms.load_checkpoint(str(home / "named.ckpt"))
    for name, value in net.parameters_dict().items():
        value.set_data(ms.Tensor(parameters[name].asnumpy()))
    image = data.from_picture("folder", home / "colour.png", (32, 32))
    logits = net(ms.Tensor(image[None])).asnumpy()[0].astype(np.float64)
    identity = Identity("lenet5_bn", "l1", 7, "folder", CLASSES)
    got = likeliest(net, home / "colour.png", (32, 32), identity)
    best = np.argsort(-logits)[:5]
    assert [name for name, _ in got] == [CLASSES[i] for i in best]
    np.testing.assert_allclose([share for _, share in got], np.exp(logits[best]) / np.exp(logits).sum(), rtol=1e-6)


def test_classes_without_names(run):
    assert "%  class " in run("colour.png", "--checkpoint_file_path", "plain.ckpt")


def test_logits_that_are_no_numbers(home, run, tmp_path):
    net = create("lenet5_bn", 7, in_channels=3)
    for name, value in net.parameters_dict().items():
        if name.endswith("gamma"):
            value.set_data(ms.Tensor(np.full(value.shape, 3e38, np.float32)))
    save_parameters(net.parameters_dict(), tmp_path / "huge.ckpt", identity=Identity("lenet5_bn", "l1", 7, "folder").dumps())
    with pytest.raises(UserError, match="what the network gives is not finite"):
        run("colour.png", "--checkpoint_file_path", str(tmp_path / "huge.ckpt"))


@pytest.mark.parametrize("arguments, words", [
    (["absent.png"], "absent.png: cannot be read: No such file"),
    (["text.png"], "text.png: damaged, or no image"),
    (["pipe.png"], "pipe.png: cannot be read: not a regular file"),
    (["colour.png", "--layer", "l2"], "named.ckpt is a network of layer l1, not l2; leave out --layer"),
    (["colour.png", "--network", "resnet20"], "named.ckpt is a network of network lenet5_bn, not resnet20"),
])
def test_bad_input(run, arguments, words):
    with pytest.raises(UserError, match=words):
        run(*arguments, "--checkpoint_file_path", "named.ckpt")
