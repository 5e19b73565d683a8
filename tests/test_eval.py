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
"""eval.py as a program: the line of the result, its accuracy, and mistakes that end in one line."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore.dataset import NumpySlicesDataset

from src import data as dataset
from src.data import synthetic
from src.training import step as train_step
from src.checkpoint import load_strictly, save_parameters
from src.data.cifar import MEAN, STD
from src.res20_adder import resnet20

ROOT = Path(__file__).parents[1]


def random_network(path, folder):
    """Save a seeded Adder ResNet-20 whose running statistics fit the images, so that it tells them apart."""
    ms.set_seed(1)
    net = resnet20(10)
    net.set_train()
    for _ in range(3):
        for images, _ in dataset.create_dataset("synthetic", folder, "test", 50).create_tuple_iterator(num_epochs=1):
            net(images)
    save_parameters(net.parameters_dict(), path)


@pytest.fixture(name="home", scope="module")
def fixture_home(tmp_path_factory):
    """A folder with net.ckpt and the synthetic set."""
    home = tmp_path_factory.mktemp("eval")
    synthetic.write(home / "synthetic-binary")
    random_network(home / "net.ckpt", home / "synthetic-binary")
    return home


@pytest.fixture(name="expected", scope="module")
def fixture_expected(home):
    """The accuracies that NumPy finds, top-1 and top-5."""
    net = resnet20(10)
    load_strictly(net, home / "net.ckpt")
    net.set_train(False)
    data = np.fromfile(home / "synthetic-binary" / "test.bin", np.uint8).reshape(-1, 3074)
    images = (data[:, 2:].reshape(-1, 3, 32, 32) / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    logits = np.concatenate([net(ms.Tensor(part.astype(np.float32))).asnumpy() for part in np.split(images, 5)])
    best = np.argsort(logits, 1)[:, ::-1]
    hits = best == data[:, 1:2]
    assert len(set(best[:, 0])) > 2, "a network that says nothing would prove nothing"
    return round(hits[:, 0].mean(), 6), round(hits[:, :5].any(1).mean(), 6)


def evaluate(home, *options, checkpoint="net.ckpt"):
    """Run eval.py in `home`; options given here come last and so beat the usual ones."""
    usual = ["--device_target", "CPU", "--dataset", "synthetic", "--eval_dataset_path", ".",
             "--checkpoint_file_path", checkpoint]
    return subprocess.run([sys.executable, str(ROOT / "eval.py"), *usual, *options], cwd=home, capture_output=True,
                          text=True, timeout=120, check=False)


def assert_result(done, expected, path):
    top1, top5 = expected
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"result: {top1} ckpt= {path}\ntop-5: {top5}\n"


def assert_refused(done, *words):
    """One `error:` line on stderr, nothing on stdout, exit code 1."""
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert re.fullmatch(r"error: .*\n", done.stderr), done.stderr
    assert all(str(word) in done.stderr for word in words), done.stderr


@pytest.mark.parametrize("options", [(), ("--batch_size", "501", "--mode", "PYNATIVE")],
                         ids=lambda options: " ".join(options) or "defaults")
def test_result_is_what_numpy_finds(options, home, expected):
    assert_result(evaluate(home, *options), expected, "net.ckpt")


def test_folder_with_one_best_checkpoint(home, expected, tmp_path):
    shutil.copy(home / "net.ckpt", tmp_path / "adder_resnet20_synthetic_1234.ckpt")
    (tmp_path / "last.ckpt").write_text("not this one")
    done = evaluate(home, "--batch_size", "7", checkpoint=str(tmp_path))
    assert_result(done, expected, tmp_path / "adder_resnet20_synthetic_1234.ckpt")


def test_fewer_classes_than_five():
    random = np.random.default_rng(0)
    images, labels = random.standard_normal((12, 3, 32, 32), np.float32), np.arange(12, dtype=np.int32) % 3
    net = resnet20(3).set_train(False)
    hits = net(ms.Tensor(images)).asnumpy().argmax(1) == labels
    data = NumpySlicesDataset((images, labels), shuffle=False).batch(8)
    assert train_step.evaluate(net, data) == (pytest.approx(hits.mean()), 1)


def test_class_that_the_network_does_not_have(home, tmp_path):
    folder = tmp_path / "synthetic-binary"
    shutil.copytree(home / "synthetic-binary", folder)
    data = np.fromfile(folder / "test.bin", np.uint8).reshape(-1, 3074)
    data[7, 1] = 10
    data.tofile(folder / "test.bin")
    assert_refused(evaluate(home, "--eval_dataset_path", str(tmp_path)), folder / "test.bin",
                   "class 10, and the network's 10 classes end at 9")


@pytest.mark.parametrize("options, words", [
    (["--class_num", "100"], ["net.ckpt", "fc.weight (10, 64, 1, 1) instead of (100, 64, 1, 1)"]),
    (["--dataset", "cifar100"], ["no test.bin in .", "cifar-100-binary"]),
    (["--checkpoint_file_path", "absent.ckpt"], ["absent.ckpt: no such checkpoint"]),
    (["--checkpoint_file_path", "synthetic-binary/test.bin"], ["test.bin: not a MindSpore checkpoint"]),
    (["--batch", "3"], ["--batch"]),
], ids=" ".join)
def test_wrong_input(options, words, home):
    assert_refused(evaluate(home, *options), *words)


def test_checkpoint_of_another_data_set(home, tmp_path):
    (tmp_path / "test.bin").write_bytes(bytes(3074 * 10))
    done = evaluate(home, "--dataset", "cifar100", "--eval_dataset_path", str(tmp_path), "--allow_small_dataset")
    assert_refused(done, "does not fit the network", "fc.weight (10, 64, 1, 1) instead of (100, 64, 1, 1)")


@pytest.mark.parametrize("device", ["Ascend", "GPU"])
def test_device_that_is_not_there(device, home):
    if ms.hal.is_available(device):
        pytest.skip(f"this machine has a device {device}")
    assert_refused(evaluate(home, "--device_target", device), f"device_target {device} is not available")
