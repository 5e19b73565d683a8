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
"""train.py as its users run it: a small data set, real processes, kills."""
import csv
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import yaml

from src.data import synthetic
from src.errors import UserError
from src.figures import spread
from src.training.progress import Progress
from src.training.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 3


@pytest.fixture(scope="module", name="data")
def _data(tmp_path_factory):
    """320 training and 50 test images of the synthetic set, dressed up as CIFAR-100."""
    folder = tmp_path_factory.mktemp("data")
    synthetic.write(folder / "whole")
    for split, size in {"train": 320, "test": 50}.items():
        content = (folder / "whole" / f"{split}.bin").read_bytes()
        (folder / f"{split}.bin").write_bytes(content[:size * 3074])
    return folder


def command(data, output, *options):
    return [sys.executable, str(ROOT / "train.py"), "--device_target", "CPU", "--dataset", "cifar100", "--data_path",
            str(data), "--allow_small_dataset", "--class_num", "10", "--batch_size", "32", "--epoch_size", str(EPOCHS),
            "--output_path", str(output), *options]


def train(data, output, *options, **process_options):
    return subprocess.run(command(data, output, *options), capture_output=True, text=True, timeout=300, check=False,
                          **process_options)


@pytest.fixture(scope="module", name="whole")
def _whole(data, tmp_path_factory):
    """An uninterrupted run: its folder and what it printed."""
    output = tmp_path_factory.mktemp("run") / "whole"
    done = train(data, output)
    assert done.returncode == 0, done.stderr
    return output, done.stdout


def kill_after_epoch(data, output, epoch, *options, part="."):
    """Run with --resume until metrics.csv has that epoch's row, then kill -9 at a moment of no particular kind."""
    with subprocess.Popen(command(data, output, "--resume", *options), stdout=subprocess.DEVNULL) as process:
        while len(rows(output / part)) < epoch:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.7)
        os.kill(process.pid, signal.SIGKILL)


def assert_same_run(folder, other):
    """The same bits in weights and state, and the same metrics but for the speed."""
    for name in ("last.ckpt", "train_state.ckpt"):
        expected, got = (ms.load_checkpoint(str(path / name)) for path in (folder, other))
        assert expected.keys() == got.keys()
        for key, value in expected.items():
            if isinstance(value, ms.Tensor):
                assert np.array_equal(value.asnumpy(), got[key].asnumpy()), key
    for before, after in zip(rows(folder), rows(other), strict=True):
        del before["images_per_second"], after["images_per_second"]
        assert before == after
    assert {path.name for path in folder.iterdir()} == {path.name for path in other.iterdir()}


def rows(output):
    try:
        with open(output / "metrics.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def one_error_line(done):
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(errors) == 1 and "Traceback" not in done.stderr, done.stderr
    return errors[0]


def test_run_leaves_what_it_promises(whole):
    output, printed = whole
    best = output / f"adder_resnet20_cifar100_{round(max(float(r['test_accuracy']) for r in rows(output)) * 1e4):04d}.ckpt"
    names = {"config.yaml", "metrics.csv", "curve.png", "last.ckpt", "train_state.ckpt", best.name}
    assert {path.name for path in output.iterdir()} == names
    assert f"ckpt= {best}" in printed
    assert len(ms.load_checkpoint(str(output / "last.ckpt"))) == 110
    assert (output / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((output / "config.yaml").read_text("utf-8"))["batch_size"] == 32


def test_progress_is_shown_and_loss_falls(whole):
    output, printed = whole
    assert "epoch 3/3 step 10/10 loss " in printed and " images/s, 0:00:00 left" in printed
    losses = [float(row["loss"]) for row in rows(output)]
    assert len(losses) == EPOCHS and losses[-1] < losses[0]


def test_killed_run_resumes_to_the_same_bits(data, whole, tmp_path):
    output = tmp_path / "killed"
    kill_after_epoch(data, output, 1)
    kill_after_epoch(data, output, 2)
    assert train(data, output, "--resume").returncode == 0
    assert_same_run(whole[0], output)


NGD = ("--config_path", str(ROOT / "config" / "adderngd_cifar100.yaml"), "--teacher_epoch_size", "2")


def test_distillation_trains_teacher_then_student_and_resumes_both(data, tmp_path):
    """Killed while the teacher trains, and while the student does: the same bits as without."""
    output, killed = tmp_path / "whole", tmp_path / "killed"
    done = train(data, output, *NGD)
    assert done.returncode == 0, done.stderr
    assert len(rows(output / "teacher")) == 2 and len(rows(output)) == EPOCHS
    assert list(output.glob("adderngd_resnet20_cifar100_*.ckpt"))
    assert list((output / "teacher").glob("adderl2_resnet20_cifar100_*.ckpt"))
    assert len(ms.load_checkpoint(str(output / "last.ckpt"))) == 110  # nothing that only training needs
    kill_after_epoch(data, killed, 1, *NGD, part="teacher")
    kill_after_epoch(data, killed, 1, *NGD)
    assert train(data, killed, *NGD, "--resume").returncode == 0
    assert_same_run(output / "teacher", killed / "teacher")
    assert_same_run(output, killed)
    message = one_error_line(train(data, killed, *NGD, "--resume", "--temperature", "2"))
    assert "temperature 4.0 -> 2.0" in message


def test_teacher_from_a_checkpoint(data, whole, tmp_path):
    """No teacher is trained; one that does not fit is refused before anything is written."""
    ready = str(whole[0] / "last.ckpt")
    output = tmp_path / "student"
    options = ("--teacher_checkpoint_path", ready, "--logits_weight", "1", "--epoch_size", "1")
    done = train(data, output, "--teacher", "l1", *options)
    assert done.returncode == 0, done.stderr
    assert not (output / "teacher").exists() and list(output.glob("adderngd_resnet20_cifar100_*.ckpt"))
    assert "does not fit the network" in one_error_line(train(data, tmp_path / "no", "--teacher", "conv", *options))
    assert not (tmp_path / "no").exists()


def test_student_begins_with_what_it_inherits(data, whole, tmp_path):
    """At hardly any learning rate it still has the teacher's filters, and not those of its own seed."""
    teacher = whole[0] / "last.ckpt"
    options = ("--teacher", "l1", "--teacher_checkpoint_path", str(teacher), "--epoch_size", "1", "--lr", "1e-8")
    assert train(data, tmp_path / "student", *options, "--inherit").returncode == 0
    own, given = (ms.load_checkpoint(str(path)) for path in (tmp_path / "student" / "last.ckpt", teacher))
    for name in (name for name in given if name.endswith(".adder")):
        np.testing.assert_allclose(own[name].asnumpy(), given[name].asnumpy(), atol=1e-5)


@pytest.mark.parametrize("options, words", [
    (("--layer", "l2", "--progressive"), "only gradients of layer l1"),
    (("--teacher", "l2"), "a teacher teaches nothing"),
    (("--teacher", "conv", "--inherit"), "cannot begin with the weights of a teacher of conv")])
def test_parts_that_would_do_nothing(data, tmp_path, options, words):
    assert words in one_error_line(train(data, tmp_path / "run", *options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name, model", [("adder", "adder"), ("adderl2", "adderl2"), ("cnn", "cnn")])
def test_configurations_of_single_networks(data, tmp_path, name, model):
    """Each trains, is evaluated by eval.py with the same file of settings, and gives what train.py said."""
    settings = ["--config_path", str(ROOT / "config" / f"{name}_cifar100.yaml")]
    done = train(data, tmp_path, *settings, "--epoch_size", "1", "--validation_size", "64")
    assert done.returncode == 0 and "validation accuracy" in done.stdout, done.stderr
    (best,) = tmp_path.glob(f"{model}_resnet20_cifar100_*.ckpt")
    done = subprocess.run([sys.executable, str(ROOT / "eval.py"), "--device_target", "CPU", "--eval_dataset_path",
                           str(data), "--allow_small_dataset", "--class_num", "10", "--checkpoint_file_path", str(best),
                           *settings], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 and f"ckpt= {best}" in done.stdout, done.stderr


def figures(data, output, *runs):
    return subprocess.run([sys.executable, "-m", "src.figures", *map(str, runs), "--data_path", str(data),
                           "--output_path", str(output)], cwd=ROOT, capture_output=True, text=True, timeout=300,
                          check=False)


def test_pictures_of_a_run(data, whole, tmp_path):
    done = figures(data, tmp_path / "pictures", *5 * [whole[0]])
    assert done.returncode == 0, done.stderr
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()}
    assert set(pictures) == {"curves.png", "features.png", "weights.png"}
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())


@pytest.mark.parametrize("change", [{}, {"layer": "l3"}, {"dataset": "mnist"}])
def test_pictures_of_nothing(data, whole, tmp_path, change):
    if change:
        settings = yaml.safe_load((whole[0] / "config.yaml").read_text("utf-8"))
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({**settings, **change}), "utf-8")
        shutil.copy(whole[0] / "metrics.csv", tmp_path)
    message = one_error_line(figures(data, tmp_path, tmp_path))
    assert f"{tmp_path} is no folder of a run" in message and all(value in message for value in change.values())


def test_spread_of_features():
    """Half as wide within as the distance of two classes from their middle."""
    features = np.array([[-2.0, 5], [-4, 5], [3, 5], [3, 5]])
    assert abs(spread(features, np.array([4, 4, 9, 9])) - 0.5 / 9) < 1e-12


def test_finished_run_is_neither_repeated_nor_overwritten(data, whole):
    output, _ = whole
    before = {path: path.read_bytes() for path in output.iterdir()}
    assert "--resume continues it" in one_error_line(train(data, output))
    again = train(data, output, "--resume")
    assert again.returncode == 0 and "best: " in again.stdout
    assert "lr 0.1 -> 0.2" in one_error_line(train(data, output, "--resume", "--lr", "0.2"))
    assert before == {path: path.read_bytes() for path in output.iterdir()}


def test_infinite_loss_stops_with_the_checkpoint_kept(data, tmp_path):
    """A rate that overflows at once: nothing is written, and the message says where it happened."""
    done = train(data, tmp_path / "run", "--lr", "1e38", "--eta", "0")
    assert "epoch 1, step" in one_error_line(done)
    assert not list((tmp_path / "run").glob("*.ckpt"))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_progress_refuses_a_loss_that_is_not_finite(loss):
    progress = Progress(1, 2, 4, show=False)
    progress.begin(1)
    progress.step(1.0, 2)
    with pytest.raises(UserError, match="step 2"):
        progress.step(loss, 2)
    assert progress.result()["loss"] == 1.0


@pytest.mark.parametrize("name, size", [("train_state.ckpt", 100_000), ("metrics.csv", 70), ("config.yaml", 0)])
def test_damaged_state_is_one_line(data, whole, tmp_path, name, size):
    output = tmp_path / "run"
    shutil.copytree(whole[0], output)
    (output / name).write_bytes((output / name).read_bytes()[:size])
    before = {path: path.read_bytes() for path in output.iterdir()}
    assert name in one_error_line(train(data, output, "--resume"))
    assert before == {path: path.read_bytes() for path in output.iterdir()}


def test_full_disk_is_one_line_and_loses_nothing(data, whole, tmp_path):
    """A limit on file sizes stands in for a full disk."""
    output = tmp_path / "run"
    done = train(data, output, preexec_fn=_limit_file_size)
    assert "cannot write" in one_error_line(done)
    assert not list(output.glob("*.ckpt")) and not list(output.glob(".*"))


def _limit_file_size():
    import resource
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))


def test_best_checkpoint_replaces_only_the_runs_own(tmp_path):
    """A published checkpoint that lies in the output folder is not the run's to delete."""
    (tmp_path / "adder_resnet20_cifar100_9999.ckpt").write_bytes(b"published")
    net = ms.nn.Dense(2, 2)
    run = RunFolder(tmp_path, "adder_resnet20_cifar100", {})
    run.start()
    for epoch, accuracy in enumerate((0.5, 0.25, 0.75), start=1):
        run.save(net, net, {"epoch": epoch, "loss": 1.0, "train_accuracy": 0.5, "images_per_second": 1.0,
                            "test_accuracy": accuracy, "test_top5": 1.0})
    names = sorted(path.name for path in tmp_path.glob("adder*.ckpt"))
    assert names == ["adder_resnet20_cifar100_7500.ckpt", "adder_resnet20_cifar100_9999.ckpt"]


class Killed(BaseException):
    """Instead of a signal."""


def test_a_kill_between_any_two_files_loses_nothing(tmp_path, monkeypatch):
    """Two epochs, killed before the n-th rename, then resumed: the same files as without."""
    def run_to_the_end(folder):
        net = ms.nn.Dense(2, 2, weight_init="zeros", bias_init="zeros")
        run = RunFolder(folder, "net_cifar100", {"seed": 1})
        for epoch in range(run.resume(net) + 1, 3):
            net.weight.set_data(net.weight + epoch)
            run.save(net, net, {"epoch": epoch, "loss": 1.0, "train_accuracy": 0.5, "images_per_second": 1.0,
                                "test_accuracy": 0.3 * epoch, "test_top5": 1.0})

    def content(folder):
        weights = {path.name: ms.load_checkpoint(str(path)) for path in sorted(folder.glob("*.ckpt"))}
        return ({name: float(values["weight"].asnumpy()[0, 0]) for name, values in weights.items()},
                (folder / "metrics.csv").read_text("utf-8"), sorted(path.name for path in folder.iterdir()))

    rename, renames = os.replace, iter(())

    def rename_or_die(source, target):
        if next(renames, None) == 1:
            (folder / ".last.ckpt.1.unfinished").mkdir()
            raise Killed
        rename(source, target)

    run_to_the_end(tmp_path / "whole")
    monkeypatch.setattr(os, "replace", rename_or_die)
    for done in range(2 * 5 + 1):
        folder, renames = tmp_path / str(done), iter([0] * done + [1])
        with pytest.raises(Killed):
            run_to_the_end(folder)
        run_to_the_end(folder)
        assert content(folder) == content(tmp_path / "whole"), done
