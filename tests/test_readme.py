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
"""Every command of the README runs, in a copy of the tree, with a small data set and few epochs."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.data import synthetic
from test_convert import torch_state, write_state, write_zip

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
            for line in block.strip().splitlines()]

SMALL = ["--allow_small_dataset"]
SHORT = [*SMALL, "--epoch_size", "1", "--batch_size", "32"]
NO_ASCEND = (1, "error: device_target Ascend is not available on this machine")

# README's command: options that make it small, expected exit code, expected words (a regular expression).
EXPECTED = {
    # Refused in the copy, whose small data set must survive; test_download.py downloads.
    "bash scripts/download_data.sh cifar100 data": ([], 1, "data/cifar-100-binary is not a complete data set"),
    "bash scripts/quick_start.sh": (["--epoch_size", "1"], 0, "same logits after reloading"),
    "bash scripts/run_tests.sh": (["--version"], 0, "pytest"),
    "bash scripts/run_eval.sh ckpt data Ascend": ([], *NO_ASCEND),
    "bash scripts/run_eval.sh ckpt data CPU": (SMALL, 0, "result: 0."),
    "python train.py --device_target GPU": ([], 1, "error: device_target GPU is not available on this machine"),
    "bash scripts/run_standalone_train.sh data CPU --epoch_size 3 --output_path output/cifar100": (SHORT, 0, "best: "),
    "bash scripts/run_distribute_train.sh 2 data CPU --dataset synthetic --epoch_size 2 --batch_size 64 "
    "--output_path output/two": (["--epoch_size", "1"], 0, "best: "),
    "bash scripts/run_standalone_train.sh data CPU --epoch_size 3 --output_path output/cifar100 --resume":
        (SHORT, 0, "best: "),
    "python train.py --config_path config/adderngd_resnet20_cifar100.yaml --device_target CPU --data_path data "
    "--output_path output/ngd": (SHORT, 0, "adderngd_resnet20_cifar100_"),
    "bash scripts/run_ablation.sh data CPU --epoch_size 6 --output_path output/ablation":
        ([*SHORT, "--validation_size", "32"], 0, r"full +[01]\.\d+\nno_centres +[01]\.\d"),
    "python train.py --config_path config/cnn_resnet20_cifar100.yaml --device_target CPU --data_path data "
    "--epoch_size 6 --validation_size 5000 --output_path output/ablation/cnn": ([*SHORT, "--validation_size", "32"], 0, "best: "),
    "python -m src.figures output/ablation/vanilla output/ablation/logits output/ablation/features "
    "output/ablation/weights output/ablation/full output/ablation/full/teacher output/ablation/cnn --data_path data "
    "--output_path output/pictures":
        ([], 0, "output/pictures/weights.png"),
    "python eval.py --checkpoint_file_path ckpt --eval_dataset_path data --device_target CPU": (SMALL, 0, "top-5: "),
    "bash scripts/run_export.sh ckpt MINDIR CPU --batch_size 1": ([], 0, "exported "),
    "bash scripts/run_export.sh ckpt ONNX CPU --batch_size 1": ([], 0, "exported "),
    "bash scripts/run_export.sh ckpt AIR Ascend": ([], *NO_ASCEND),
    "python -m src.quant --checkpoint_file_path ckpt --data_path data --bits 8 --output adder_int8.ckpt":
        ([*SMALL, "--calibration_size", "32"], 0, "quantised ckpt/"),
    "python eval.py --checkpoint_file_path adder_int8.ckpt --eval_dataset_path data --device_target CPU":
        (SMALL, 0, "top-5: "),
    "python -m src.cost": ([], 0, "honest count"),
    "python -m benchmarks.quantised --checkpoint_file_path ckpt --data_path data":
        ([*SMALL, "--calibration_size", "8"], 0, "adderquant "),
    "python -m benchmarks.quantised --checkpoint_file_path ckpt/cifar10 --dataset cifar10 --data_path data "
    "--allow_small_dataset": (["--calibration_size", "8"], 0, "shared "),
    "python -m src.convert ResNet20-AdderNet.pth adder_resnet20_cifar10.ckpt": ([], 0, "converted 110 parameters"),
    "python -m benchmarks.compare --output benchmarks/results.json":
        (["--batch_size", "4", "--rounds", "1", "--parts", "networks", "quantised", "layers"], 0, "onnxruntime: "),
    "python -m benchmarks.plot benchmarks/results.json benchmarks/performance.png": ([], 0, ""),
}


@pytest.fixture(scope="module", name="tree")
def _tree(tmp_path_factory):
    """A copy of the tree, whose .venv is the environment that runs the tests."""
    tree = tmp_path_factory.mktemp("readme") / "a copy"
    shutil.copytree(ROOT, tree, ignore=lambda folder, names: {  # src/data is no data
        ".git", ".venv", "__pycache__", *(("data", "output") if folder == str(ROOT) else ())}.intersection(names))
    (tree / ".venv").symlink_to(sys.prefix)
    synthetic.write(tree / "data" / "synthetic-binary")
    hundred, ten = tree / "data" / "cifar-100-binary", tree / "data" / "cifar-10-batches-bin"
    hundred.mkdir()
    ten.mkdir()
    for split, batch in (("train", "data_batch_1"), ("test", "test_batch")):
        images = (tree / f"data/synthetic-binary/{split}.bin").read_bytes()[:96 * 3074]
        (hundred / f"{split}.bin").write_bytes(images)
        (ten / f"{batch}.bin").write_bytes(b"".join(images[i + 1:i + 3074] for i in range(0, len(images), 3074)))
    write_state(write_zip, tree / "ResNet20-AdderNet.pth", torch_state()[0])
    return tree


def test_every_command_has_an_expectation():
    assert COMMANDS == list(EXPECTED)


@pytest.mark.parametrize("command", COMMANDS)
def test_command(tree, command):
    options, code, words = EXPECTED[command]
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run([*command.split(), *options], cwd=tree, env=environment, capture_output=True, text=True,
                          timeout=400, check=False)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(words, done.stdout + done.stderr), done.stdout[-2000:]
    assert "Traceback" not in done.stderr


def test_tree_in_the_readme_is_the_tree():
    """The listing names every file of the product."""
    listing = (ROOT / "README.md").read_text("utf-8").split("```text")[1].split("```")[0]
    for pattern in ("*.py", "*.yaml", "scripts/*.sh", "src/*.py", "src/kernels/*.*", "benchmarks/*.py", "benchmarks/*.cc"):
        for path in ROOT.glob(pattern):
            assert path.name in listing or path.name == "__init__.py", path


def test_pictures_are_there():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / "README.md").read_text("utf-8"))
    assert pictures and all((ROOT / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_ci_runs_the_test_command():
    assert "scripts/run_tests.sh" in (ROOT / ".ci" / "run").read_text("utf-8")
