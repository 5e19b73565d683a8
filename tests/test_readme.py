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
"""Every command of the READMEs runs, in a copy of the tree, with small data and few epochs."""
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import test_data_folder
import test_data_mnist
import test_detection
import test_super_resolution
from src import device, errors
from src.data import synthetic
from test_convert import torch_state, write_state, write_zip

ROOT = Path(__file__).resolve().parents[1]
READMES = {name: (ROOT / name).read_text("utf-8")
           for name in ("README.md", "src/README.md", "src/tasks/README.md", "ckpt/README.md", "benchmarks/README.md")}


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


COMMANDS = [line for text in READMES.values() for block in blocks(text, "bash") for line in block.strip().splitlines()]

SMALL = ["--allow_small_dataset"]
SHORT = [*SMALL, "--epoch_size", "1", "--batch_size", "32"]
TINY = [*SHORT, "--network", "lenet5_bn"]  # compiles in a moment
TINY_EDSR = ["--epoch_size", "1", "--batch_size", "4", "--patch_size", "12", "--n_feats", "4", "--n_resblocks", "1"]
TINY_FCOS = ["--epoch_size", "1", "--batch_size", "2", "--image_size", "64", "--fpn_channels", "4", "--head_convs", "1",
             "--neck", "fpn", "--mode", "PYNATIVE"]
HELD_OUT = [*TINY, "--validation_size", "32"]
NO_ASCEND = (1, "error: device_target Ascend is not available on this machine")
# Refused in the copy, whose small data sets must survive; test_download.py downloads.
NO_DOWNLOAD = (1, "is not a complete data set")

# Command: options that make it small, expected exit code, expected words (a regular expression).
EXPECTED = {
    "bash scripts/quick_start.sh": (["--epoch_size", "1", "--network", "lenet5_bn"], 0, "same logits after reloading"),
    "bash scripts/download_data.sh cifar100 data": ([], *NO_DOWNLOAD),
    "bash scripts/run_eval.sh ckpt data CPU": (SMALL, 0, "result: 0."),
    "bash scripts/run_tests.sh": (["--version"], 0, "pytest"),
    "bash scripts/run_eval.sh ckpt data Ascend": ([], *NO_ASCEND),
    "source .venv/bin/activate": ([], 0, ""),
    "python train.py --device_target GPU": ([], 1, "error: device_target GPU is not available on this machine"),
    "bash scripts/run_standalone_train.sh data CPU --epoch_size 3 --output_path output/cifar100": (TINY, 0, "best: "),
    "bash scripts/run_standalone_train.sh data CPU --epoch_size 3 --output_path output/cifar100 --resume":
        (TINY, 0, "best: "),
    "python train.py --network lenet5_bn --dataset mnist --data_path data --device_target CPU --epoch_size 50 "
    "--output_path output/lenet": (SHORT, 0, "output/lenet/adder_lenet5_bn_mnist_"),
    "bash scripts/run_distribute_train.sh 2 data CPU --dataset synthetic --epoch_size 2 --batch_size 64 "
    "--output_path output/two": (["--epoch_size", "1", "--network", "lenet5_bn"], 0, "best: "),
    "python train.py --config_path config/adderngd_resnet20_cifar100.yaml --device_target CPU --data_path data "
    "--output_path output/ngd": (TINY, 0, "adderngd_lenet5_bn_cifar100_"),
    "python eval.py --checkpoint_file_path ckpt --eval_dataset_path data --device_target CPU": (SMALL, 0, "top-5: "),
    "python eval.py --checkpoint_file_path ckpt --eval_dataset_path data --device_target CPU --precision int16":
        (SMALL, 0, "top-5: "),
    "python -m src.predict photo.png --checkpoint_file_path ckpt": ([], 0, r"\d %  [a-z]+\n"),
    "python -m src.convert ResNet20-AdderNet.pth output/adder_resnet20_cifar10.ckpt":
        ([], 0, "converted 110 parameters"),
    "python train.py --dataset folder --data_path photos --device_target CPU --epoch_size 30 --batch_size 32 "
    "--output_path output/photos": (TINY, 0, "output/photos/adder_lenet5_bn_folder_"),
    "python -m src.predict photo.png --checkpoint_file_path output/photos": ([], 0, r"\d %  cat"),
    "python export.py --checkpoint_file_path output/photos --file_format ONNX "
    "--file_name output/photos/network --device_target CPU": ([], 0, "exported "),
    "bash scripts/run_export.sh ckpt MINDIR CPU": ([], 0, "exported "),
    "bash scripts/run_export.sh ckpt AIR Ascend": ([], *NO_ASCEND),
    "python -m src.quant --checkpoint_file_path ckpt --data_path data --bits 8 --output output/adder_int8.ckpt":
        ([*SMALL, "--calibration_size", "32"], 0, "quantised ckpt/"),
    "python eval.py --checkpoint_file_path output/adder_int8.ckpt --eval_dataset_path data --device_target CPU":
        (SMALL, 0, "top-5: "),
    "python -m src.cost": ([], 0, "honest count"),
    "pip install .": (["--no-deps", "--no-build-isolation", "--target", "output/site"], 0, "Successfully installed"),
    "python train.py --config_path config/adder_edsr_images.yaml --data_path pictures --device_target CPU "
    "--output_path output/edsr": (TINY_EDSR, 0, "output/edsr/adder_edsr_images_x2_"),
    "python eval.py --checkpoint_file_path output/edsr --eval_dataset_path pictures --device_target CPU": ([], 0, "SSIM: "),
    "python -m src.predict photo.png --checkpoint_file_path output/edsr --output_path output/big.png":
        ([], 0, "enlarged to"),
    "python -m benchmarks.enlarged output/edsr --data_path pictures": ([], 0, r"bicubic +\d+\.\d\d +0\.\d"),
    "python train.py --network fcos_resnet18 --dataset voc --data_path boxes --device_target CPU "
    "--output_path output/fcos": (TINY_FCOS, 0, "output/fcos/adder_fcos_resnet18_voc_"),
    "python eval.py --checkpoint_file_path output/fcos --eval_dataset_path boxes --device_target CPU":
        (["--mode", "PYNATIVE"], 0, "AP50: "),
    "python -m src.predict photo.png --checkpoint_file_path output/fcos --output_path output/found.png":
        ([], 0, "output/found.png"),
    "bash scripts/run_ablation.sh data CPU --epoch_size 6 --output_path output/ablation":
        (HELD_OUT, 0, r"full +[01]\.\d+\nno_centres +[01]\.\d"),
    "python train.py --config_path config/cnn_resnet20_cifar100.yaml --device_target CPU --data_path data "
    "--epoch_size 6 --validation_size 5000 --output_path output/ablation/cnn": (HELD_OUT, 0, "best: "),
    "python -m src.figures output/ablation/vanilla output/ablation/logits output/ablation/features "
    "output/ablation/weights output/ablation/full output/ablation/full/teacher output/ablation/cnn --data_path data "
    "--output_path output/pictures": ([], 0, "output/pictures/weights.png"),
    "python -m benchmarks.quantised --checkpoint_file_path ckpt --data_path data":
        ([*SMALL, "--calibration_size", "8", "--checkpoint_file_path", "ckpt/lenet"], 0, "adderquant "),  # a smaller one
    "python -m benchmarks.compare --output benchmarks/results.json":
        (["--batch_size", "4", "--rounds", "1", "--parts", "networks", "quantised", "--output", "output/results.json"], 0,
         "onnxruntime: "),  # tests/test_benchmarks.py has the layers
    "python -m benchmarks.plot benchmarks/results.json benchmarks/performance.png": ([], 0, ""),
}
# Called in this process, which has imported MindSpore already, are all programs but these: one chooses another device,
# one starts processes of its own, one MindSpore would mistake for another that was compiled before.
APART = ("python train.py --device_target GPU", "python -m benchmarks.compare",
         "python train.py --config_path config/adder_edsr")


@pytest.fixture(scope="module", name="tree")
def _tree(tmp_path_factory):
    """A copy of the tree, whose .venv is the environment that runs the tests."""
    tree = tmp_path_factory.mktemp("readme") / "a copy"
    shutil.copytree(ROOT, tree, symlinks=True, ignore=lambda folder, names: {  # src/data is no data
        ".git", ".venv", "__pycache__", *(("data", "output") if folder == str(ROOT) else ())}.intersection(names))
    (tree / ".venv").symlink_to(sys.prefix)
    write_data(tree / "data")
    test_data_folder.write(tree / "photos", train=16)
    test_data_folder.picture().save(tree / "photo.png")
    for split in ("train", "test"):
        test_super_resolution.write(tree / "pictures" / split)
    test_detection.voc(tree / "boxes", train=range(2), test=range(2, 4))
    write_state(write_zip, tree / "ResNet20-AdderNet.pth", torch_state()[0])
    return tree


def write_data(path):
    """Small data sets of every name."""
    test_data_mnist.write(path / "mnist")
    synthetic.write(path / "synthetic-binary")
    (path / "cifar-100-binary").mkdir()
    for split in ("train", "test"):
        images = (path / f"synthetic-binary/{split}.bin").read_bytes()[:96 * 3074]
        (path / f"cifar-100-binary/{split}.bin").write_bytes(images)


def test_every_command_has_an_expectation():
    assert COMMANDS == list(EXPECTED)


@pytest.mark.parametrize("command", COMMANDS)
def test_command(tree, command, monkeypatch, capfd):
    options, code, words = EXPECTED[command]
    monkeypatch.chdir(tree)
    apart = not command.startswith("python") or command.startswith(APART)
    assert (in_the_shell(command, options) if apart else called(command, options, monkeypatch)) == code
    out, error = capfd.readouterr()
    assert re.search(words, out + error), out[-2000:] + error[-2000:]
    assert "Traceback" not in error


def in_the_shell(command, options):
    """The exit code of a command, as a user runs it."""
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(["bash", "-c", f"{command} {shlex.join(options)}"], env=environment, check=False).returncode


def called(command, options, monkeypatch):
    """The exit code of a program that is called."""
    _, *arguments = [*command.split(), *options]
    as_module = arguments[0] == "-m"
    choose = device._set_device  # pylint: disable=protected-access
    monkeypatch.setattr(device, "_set_device",  # a process chooses its processor once
                        lambda target, *more: None if target == "CPU" else choose(target, *more))
    monkeypatch.setattr(errors, "guard", lambda name: None)  # this process is pytest's
    monkeypatch.setattr(sys, "argv", arguments[as_module:])
    try:
        (runpy.run_module if as_module else runpy.run_path)(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        print(end, file=sys.stderr)
        return 1 if isinstance(end.code, str) else end.code
    return 0


def test_own_network(tree, monkeypatch, capsys):
    """The program in the README trains and exports a network of the reader's own, with the package that pip installed."""
    monkeypatch.chdir(tree)
    site = tree / "output" / "site"
    if not site.exists():  # where this test runs alone
        in_the_shell("pip install .", EXPECTED["pip install ."][0])
    monkeypatch.syspath_prepend(site)
    (program,) = blocks(READMES["README.md"], "python")
    exec(program, {})  # pylint: disable=exec-used
    assert 1 < float(capsys.readouterr().out) < 5
    assert Path("net.onnx").stat().st_size > 1000
    # Programs of the package, which read what stands above it in this repository, run anywhere.
    picture = ("predict", tree / "photo.png", "--checkpoint_file_path", tree / "ckpt" / "lenet")
    for arguments, words in ((("cost", "--network", "fcos_resnet18"), "honest count"), (picture, "%  ")):
        done = subprocess.run([sys.executable, "-m", f"adderngd.{arguments[0]}", *arguments[1:]], cwd=site, text=True,
                              capture_output=True, check=False)
        assert done.returncode == 0 and words in done.stdout, done.stderr


def test_tree_in_the_readme_is_the_tree():
    """The listings name every file of the product, every folder, and no file that is not there."""
    named = {name for page in READMES.values() for listing in blocks(page, "text")
             for name in re.findall(r"[\w.]+", listing)}
    patterns = ("*.py", "*.yaml", "scripts/*.*", "src/*.py", "src/*/*.py", "src/kernels/*.*", "benchmarks/*.py",
                "benchmarks/*.cc", "benchmarks/*.cu", "benchmarks/*.sh")
    files = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    for path in files:
        assert path.name in named or path.name == "__init__.py", path
    for path in (*ROOT.glob("*/"), *ROOT.glob("src/*/")):
        ignored = path.name in ("data", "output", "build", "adderngd.egg-info") and path.parent == ROOT
        assert path.name in named or re.match(r"[._]", path.name) or ignored or not path.is_dir(), path
    names = {path.name for path in files} | {"README.md"}
    assert {name for name in named if re.search(r"\w\.(py|yaml|sh|md|txt|cc|cu|h)$", name)} <= names


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name):
    """To a file, a heading, or both; pictures are PNG."""
    for picture, target in re.findall(r"(!?)\[[^]]*\]\(((?!https?:)[^)]*)\)", READMES[name]):
        path, _, heading = target.partition("#")
        path = (ROOT / name).parent / path if path else ROOT / name
        assert path.exists(), target
        assert not picture or path.read_bytes().startswith(b"\x89PNG"), target
        assert not heading or heading in headings(path.read_text("utf-8")), target


def headings(text):
    """The anchors of a page, as its host makes them."""
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)]


def test_ci_runs_the_test_command():
    assert "scripts/run_tests.sh" in (ROOT / ".ci" / "run").read_text("utf-8")
