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
"""What damage.py damages: small files of every kind that the programs read, each with the function that loads it.

Such a function gives what must stay the same whatever happened to the file, or None where no checksum could tell.
"""
import argparse
import shutil
import threading
from types import SimpleNamespace

import mindspore as ms
import numpy as np
from PIL import Image

from src import checkpoint, data, loading, networks
from src.config import DEFAULT_CONFIG, get_config
from src.convert import __main__ as convert
from src.convert.torch_pickle import load_state_dict
from src.errors import UserError
from src.identity import Identity
from src.quant.__main__ import save_quantised
from src.quant.calibrate import quantise_network
from src.training.run_folder import STATE, RunFolder
from src.training.step import sgd
from tests.test_convert import torch_state, write_legacy, write_state, write_zip
from tests.test_download import ARCHIVES, Server, Shop

IDENTITY = Identity("lenet5_bn", "l1", 10, "mnist")
TASK = SimpleNamespace(train_metrics=("accuracy",), metrics=("accuracy", "top5"), fraction=10_000)
IMAGES = np.random.default_rng(0).standard_normal((16, 1, 32, 32), np.float32)
COMMAND = ("--epoch_size", "3", "--lr=1e-2", "--network", "resnet20", "--layer=l2", "--data_path", "data", "--resume",
           "--seed", "7", "--dataset=cifar10", "--ema", "0.99")
CIFAR10_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


def network():
    ms.set_seed(1)
    return networks.create("lenet5_bn", 10, in_channels=1)


def make(folder):
    """What is damaged: dict of file to the function that loads it and returns what must stay the same."""
    return {**checkpoints(folder), **runs(folder / "run"), **texts(folder / "options"), **images(folder / "images"),
            **archives(folder / "download")}


def checkpoints(folder):
    net = network().set_train()
    for _ in range(60):  # for statistics that fit: without them every activation is 0, and no damage changes a logit
        net(ms.Tensor(IMAGES))
    net.set_train(False)
    checkpoint.save_parameters(net.parameters_dict(), folder / "float.ckpt", identity=IDENTITY.dumps())
    save_quantised(quantise_network(net, IMAGES, 8), folder / "quantised.ckpt", IDENTITY)
    save_quantised(quantise_network(net, IMAGES, 4, "adderquant"), folder / "groups.ckpt", IDENTITY)
    write_state(write_zip, folder / "zip.pth", torch_state()[0])
    write_state(write_legacy, folder / "legacy.pth", torch_state()[0])
    loads = {folder / name: logits for name in ("float.ckpt", "quantised.ckpt", "groups.ckpt")}
    return {**loads, folder / "zip.pth": converted, folder / "legacy.pth": converted}


def runs(folder):
    folder.mkdir()
    net = network()
    step = sgd(net, 10, 0.1, 0.9, 0.0)
    with run_folder(folder, resume=False) as run:
        run.begin(step)
        run.save(step, net, {"epoch": 1, "loss": 1.0, "train_accuracy": 0.5, "test_accuracy": 0.25, "test_top5": 0.5,
                             "images_per_second": 1.0})
    return {folder / name: resumed for name in (STATE, "metrics.csv", "config.yaml")}


def texts(folder):
    folder.mkdir()
    first = DEFAULT_CONFIG.read_text(encoding="utf-8").split("\n---\n")[0]
    (folder / "options.yaml").write_text(first, encoding="utf-8")
    (folder / "command_line").write_text("\0".join(COMMAND), encoding="utf-8")
    return {folder / "options.yaml": options, folder / "command_line": command_line}


def images(folder):
    """Small data sets, with all their files; those of MNIST are of the right form."""
    noise = np.random.default_rng(0)
    for name, files, record in (("cifar100", ("train.bin", "test.bin"), 3074), ("cifar10", CIFAR10_FILES, 3073)):
        (folder / name).mkdir(parents=True)
        for file in files:
            records = noise.integers(0, 256, (4, record), np.uint8)
            records[:, :record - 3072] %= 10
            records.tofile(folder / name / file)
    (folder / "mnist").mkdir()
    for split in ("train", "t10k"):
        header = np.array([2051, 4, 28, 28, 2049, 4], ">i4").tobytes()
        pictures = noise.integers(0, 256, 4 * 784, np.uint8).tobytes()
        (folder / "mnist" / f"{split}-images-idx3-ubyte").write_bytes(header[:16] + pictures)
        (folder / "mnist" / f"{split}-labels-idx1-ubyte").write_bytes(header[16:] + bytes(range(4)))
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / "folder" / split / name).mkdir(parents=True)
            for number, suffix in enumerate(("png", "jpg")):
                file = folder / "folder" / split / name / f"{number}.{suffix}"
                Image.fromarray(noise.integers(0, 256, (40, 37, 3), np.uint8)).save(file)
    return {path: read_images for path in folder.rglob("*") if path.is_file()}


def archives(folder):
    """The archive of CIFAR-100 that a server sends to download_data.sh."""
    folder.mkdir()
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    shop = Shop(folder, server)
    path = folder / ARCHIVES["cifar100"]
    path.write_bytes(server.archives[path.name])
    return {path: lambda path: downloaded(shop, path)}


def converted(path):
    parameters = convert.convert_names(load_state_dict(path), path)
    identity = convert.fit(parameters, argparse.Namespace(file=path, network=None, layer=None, dataset=None))
    if path.stem == "zip":  # the other format has no checksum
        return identity, [(name, value.tobytes()) for name, value in parameters.items()]
    return None


def options(path):
    get_config("train", "", ["--config_path", str(path)])


def command_line(path):
    try:
        get_config("train", "", path.read_bytes().decode("utf-8", "surrogateescape").split("\0"))
    except SystemExit as end:  # after --help
        assert end.code == 0


def read_images(path):
    root = next(parent for parent in path.parents if parent.parent.name == "images")
    name = root.name
    folder = data.prepare(name, str(root), ("train", "test"), allow_small=True)
    for split in ("train", "test"):
        for batch in data.create_dataset(name, folder, split, batch_size=2):
            assert batch[0].shape[1:] == (data.channels(name), 32, 32)


def downloaded(shop, path):
    """download_data.sh takes the archive or says one line and leaves nothing."""
    shop.server.archives[path.name] = path.read_bytes()
    with shop.start("cifar100", shop.data) as process:
        _, errors = process.communicate()
    left = sorted(each.name for each in shop.data.rglob("*"))
    shutil.rmtree(shop.data)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    if process.returncode:
        assert lines == errors.splitlines()[-1:] and not left, (errors, left)
        raise UserError(f"{path}: {lines[0]}")
    return left


def logits(path):
    options = SimpleNamespace(network="lenet5_bn", layer="l1", dataset="mnist", class_num=10, image_size=0, given=())
    net, identity = loading.load(path, options, "composed")
    return identity, net.set_train(False)(ms.Tensor(IMAGES[:2])).asnumpy().tobytes()


def resumed(path):
    step = sgd(network(), 10, 0.1, 0.9, 0.0)
    with run_folder(path.parent) as run:
        epoch = run.begin(step)
        best = None if path.suffix == ".csv" else (run.best, run.best_value)
        return epoch, best, [value.asnumpy().tobytes() for value in step.get_parameters()]


def run_folder(path, resume=True):
    return RunFolder(path, "adder_lenet5_bn_mnist", {"seed": 1}, TASK, IDENTITY.dumps(), 3, resume).opened()
