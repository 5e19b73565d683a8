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
"""eval.py: the line of the result, its accuracy, and mistakes that end in one line."""
import importlib
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
from src.checkpoint import fill, load_parameters, save_parameters
from src.data import synthetic
from src.data.cifar import MEAN, STD
from src.errors import UserError
from src.identity import Identity
from src.res20_adder import resnet20
from src.tasks import classification

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
    fill(net, load_parameters(home / "net.ckpt"), home / "net.ckpt")
    net.set_train(False)
    data = np.fromfile(home / "synthetic-binary" / "test.bin", np.uint8).reshape(-1, 3074)
    images = (data[:, 2:].reshape(-1, 3, 32, 32) / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    logits = np.concatenate([net(ms.Tensor(part.astype(np.float32))).asnumpy() for part in np.split(images, 5)])
    best = np.argsort(logits, 1)[:, ::-1]
    hits = best == data[:, 1:2]
    assert len(set(best[:, 0])) > 2, "a network that says nothing would prove nothing"
    return round(hits[:, 0].mean(), 6), round(hits[:, :5].any(1).mean(), 6)


@pytest.fixture(name="evaluate")
def fixture_evaluate(home, monkeypatch, capsys):
    """A function that runs eval.py's main in `home`; options given to it come last and so beat the usual ones."""
    def evaluate(*options, checkpoint="net.ckpt", usual=("--dataset", "synthetic")):
        monkeypatch.chdir(home)
        monkeypatch.setattr("src.device._set_device", lambda *_: None)  # too late: tensors of other tests are there
        monkeypatch.setattr("sys.argv", command(*usual, *options, checkpoint=checkpoint))
        importlib.import_module("eval").main()
        return capsys.readouterr().out
    return evaluate


def command(*options, checkpoint="net.ckpt"):
    return ["eval.py", "--device_target", "CPU", "--eval_dataset_path", ".", "--checkpoint_file_path", str(checkpoint),
            *map(str, options)]


def process(home, *options):
    """Run eval.py as its users do."""
    return subprocess.run([sys.executable, str(ROOT / command()[0]), *command(*options)[1:]], cwd=home,
                          capture_output=True, text=True, check=False)


def lines(expected, path):
    return "result: {0} ckpt= {2}\ntop-5: {1}\n".format(*expected, path)


def refused(evaluate, *options, words, **where):
    with pytest.raises(UserError) as caught:
        evaluate(*options, **where)
    assert "\n" not in str(caught.value) and all(str(word) in str(caught.value) for word in words), caught.value


def test_program(home, expected):
    """Its lines, and those of a mistake: one `error:` line on stderr, nothing on stdout, exit code 1."""
    done = process(home, "--dataset", "synthetic")
    assert (done.returncode, done.stdout) == (0, lines(expected, "net.ckpt")), done.stderr
    done = process(home, "--batch", "3")
    assert (done.returncode, done.stdout) == (1, "") and re.fullmatch(r"error: .*--batch.*\n", done.stderr), done.stderr


@pytest.mark.parametrize("options", [("--batch_size", "501", "--mode", "PYNATIVE"), ("--num_parallel_workers", "2")],
                         ids=" ".join)
def test_result_is_what_numpy_finds(options, evaluate, expected):
    assert evaluate(*options) == lines(expected, "net.ckpt")


def test_fixed_point(evaluate, expected):
    """As good within an image or two, of 500."""
    top1, top5 = (float(line.split()[1]) for line in evaluate("--precision", "int16").splitlines())
    assert abs(top1 - expected[0]) <= 0.004 and abs(top5 - expected[1]) <= 0.004
    refused(evaluate, "--precision", "int16", "--backend", "composed", words=["int16 needs the kernel for CPU"])
    refused(evaluate, "--precision", "int8", words=["precision", "int8"])


def test_folder_with_one_best_checkpoint(home, evaluate, expected, tmp_path):
    """Which says itself what it is."""
    best = tmp_path / "adder_resnet20_synthetic_1234.ckpt"
    save_parameters(load_parameters(home / "net.ckpt"), best,
                    identity=Identity("resnet20", "l1", 10, "synthetic").dumps())
    (tmp_path / "last.ckpt").write_text("not this one")
    assert evaluate("--batch_size", "7", checkpoint=tmp_path, usual=()) == lines(expected, best)
    refused(evaluate, "--layer", "l2", checkpoint=tmp_path, usual=(), words=[best, "layer l1, not l2"])


def test_fewer_classes_than_five():
    random = np.random.default_rng(0)
    images, labels = random.standard_normal((12, 3, 32, 32), np.float32), np.arange(12, dtype=np.int32) % 3
    net = resnet20(3).set_train(False)
    hits = net(ms.Tensor(images)).asnumpy().argmax(1) == labels
    data = NumpySlicesDataset((images, labels), shuffle=False).batch(8)
    assert classification.evaluate(net, data) == (pytest.approx(hits.mean()), 1)


def test_class_that_the_network_does_not_have(home, evaluate, tmp_path):
    folder = tmp_path / "synthetic-binary"
    shutil.copytree(home / "synthetic-binary", folder)
    data = np.fromfile(folder / "test.bin", np.uint8).reshape(-1, 3074)
    data[7, 1] = 10
    data.tofile(folder / "test.bin")
    refused(evaluate, "--eval_dataset_path", tmp_path,
            words=[folder / "test.bin", "class 10, and the network's 10 classes end at 9"])


@pytest.mark.parametrize("options, words", [
    (["--class_num", "100"], ["net.ckpt is a network of 10 classes, not 100; give --class_num 10, or --dataset"]),
    (["--dataset", "cifar100"], ["net.ckpt is a network of 10 classes, not 100; give --class_num 10, or --dataset"]),
    (["--dataset", "cifar100", "--class_num", "10"], ["no test.bin in .", "cifar-100-binary"]),
    (["--checkpoint_file_path", "absent.ckpt"], ["absent.ckpt: no such checkpoint"]),
    (["--checkpoint_file_path", "synthetic-binary/test.bin"], ["test.bin: not a MindSpore checkpoint"]),
], ids=" ".join)
def test_wrong_input(options, words, evaluate):
    refused(evaluate, *options, words=words)


@pytest.mark.parametrize("device", ["Ascend", "GPU"])
def test_device_that_is_not_there(device, home):
    if ms.hal.is_available(device):
        pytest.skip(f"this machine has a device {device}")
    done = process(home, "--device_target", device)
    assert done.returncode == 1 and f"device_target {device} is not available" in done.stderr
