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
"""Training from the options to the files: a small data set, resumed runs, kills of real processes."""
import contextlib
import csv
import errno
import importlib
import io
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
import yaml

import test_data_folder
from src import checkpoint, identity
from src.data import synthetic
from src.errors import UserError
from src.identity import Identity
from src.networks import create
from src.training import progress as progress_module
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


def arguments(data, output, *options):
    return ["--device_target", "CPU", "--dataset", "cifar100", "--data_path", str(data), "--allow_small_dataset",
            "--class_num", "10", "--batch_size", "32", "--epoch_size", str(EPOCHS), "--output_path", str(output),
            "--network", "lenet5_bn", *options]


def command(data, output, *options):
    """The same as a process."""
    return [sys.executable, str(ROOT / "train.py"), *arguments(data, output, *options)]


def call(program, *options):
    """Run the main function of an entry point here; returns what it prints. Raises UserError."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr("src.device._set_device", lambda *_: None)  # too late: tensors of other tests are there
        patch.setattr(sys, "argv", [program, *map(str, options)])
        importlib.import_module(program).main()
    return printed.getvalue()


def train(data, output, *options):
    return call("train", *arguments(data, output, *options))


def refused(data, output, *options):
    """The line that train.py ends with."""
    with pytest.raises(UserError) as caught:
        train(data, output, *options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module", name="whole")
def _whole(data, tmp_path_factory):
    """An uninterrupted run: its folder and what it printed."""
    output = tmp_path_factory.mktemp("run") / "whole"
    return output, train(data, output)


class Killed(BaseException):
    """Instead of a signal."""


def die():
    raise Killed


def kill_after_epoch(data, output, epoch, *options):
    """Run with --resume until metrics.csv has that epoch's row, then kill -9 at a moment of no particular kind."""
    with subprocess.Popen(command(data, output, "--resume", *options), stdout=subprocess.DEVNULL) as process:
        while len(rows(output)) < epoch:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.7)
        os.kill(process.pid, signal.SIGKILL)


def end_after_epochs(epochs, data, output, *options):
    """Run with --resume for so many epochs, of whichever network, and end without any further ado."""
    save, left = RunFolder.save, iter([False] * (epochs - 1) + [True])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunFolder, "save", lambda *values: save(*values) or next(left) and die())
        train(data, output, "--resume", *options)


def assert_same_run(folder, other):
    """The same bits in weights and state, and the same metrics but for the speed."""
    for name in ("last.ckpt", "train_state.ckpt"):
        expected, got = (ms.load_checkpoint(str(path / name)) for path in (folder, other))
        assert expected.keys() == got.keys()
        for key, value in expected.items():
            if isinstance(value, ms.Tensor):
                assert np.array_equal(value.asnumpy(), got[key].asnumpy()), key
            else:
                assert value == got[key], key
    assert len(rows(folder)) == len(rows(other))
    for before, after in zip(rows(folder), rows(other)):
        del before["images_per_second"], after["images_per_second"]
        assert before == after
    assert {path.name for path in folder.iterdir()} == {path.name for path in other.iterdir()}


def rows(output):
    try:
        with open(output / "metrics.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def test_run_leaves_what_it_promises(whole):
    output, printed = whole
    accuracy = max(float(row["test_accuracy"]) for row in rows(output))
    best = output / f"adder_lenet5_bn_cifar100_{round(accuracy * 1e4):04d}.ckpt"
    names = {"config.yaml", "metrics.csv", "curve.png", "last.ckpt", "train_state.ckpt", best.name}
    assert {path.name for path in output.iterdir()} == names
    assert f"ckpt= {best}" in printed
    for path in (best, output / "last.ckpt"):
        parameters = checkpoint.load_parameters(path)
        assert identity.take(parameters, path) == Identity("lenet5_bn", "l1", 10, "cifar100")
        assert len(parameters) == 25
    assert "identity" in ms.load_checkpoint(str(output / "train_state.ckpt"))
    assert (output / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert (output / "metrics.csv").read_text("utf-8").startswith(
        "epoch,loss,train_accuracy,test_accuracy,test_top5,images_per_second\n1,")
    settings = yaml.safe_load((output / "config.yaml").read_text("utf-8"))
    assert settings["batch_size"] == 32 and settings["devices"] == 1 and "output_path" not in settings


def test_progress_is_shown_and_loss_falls(whole):
    output, printed = whole
    assert "epoch 3/3 step 10/10 loss " in printed and " images/s, 0:00:00 left" in printed
    losses = [float(row["loss"]) for row in rows(output)]
    assert len(losses) == EPOCHS and losses[-1] < losses[0]


def test_killed_run_resumes_to_the_same_bits(data, whole, tmp_path):
    """With its own config.yaml as the file of options."""
    output = tmp_path / "killed"
    kill_after_epoch(data, output, 1)
    train(data, output, "--resume", "--config_path", output / "config.yaml")
    assert_same_run(whole[0], output)


def test_state_of_an_older_version_resumes(data, whole, tmp_path):
    """Its config.yaml has fewer options and an older name, its checkpoints have no identity."""
    output = tmp_path / "old"
    end_after_epochs(1, data, output)
    settings = yaml.safe_load((output / "config.yaml").read_text("utf-8"))
    for key in ("method", "weight_gradient", "pre_trained", "clip_norm"):
        del settings[key]
    (output / "config.yaml").write_text(yaml.safe_dump({**settings, "progressive": False}), "utf-8")
    checkpoint.save_parameters({"nothing": np.zeros(1)}, output / "last.ckpt")
    assert "clip_norm 0.0 -> 1.0" in refused(data, output, "--resume", "--clip_norm", "1")
    assert "weight_gradient full -> sign" in refused(data, output, "--resume", "--weight_gradient", "sign")
    train(data, output, "--resume")
    (output / "config.yaml").write_bytes((whole[0] / "config.yaml").read_bytes())
    assert_same_run(whole[0], output)


FEW = ("--epoch_size", "2", "--mode", "PYNATIVE", "--validation_size", "288")  # 32 images are left
NGD = ("--config_path", str(ROOT / "config" / "adderngd_resnet20_cifar100.yaml"), "--teacher_epoch_size", "2")


def test_distillation_trains_teacher_then_student_and_resumes_both(data, tmp_path):
    """Ended while the teacher trains, and while the student does: the same bits as without."""
    output, killed = tmp_path / "whole", tmp_path / "killed"
    printed = train(data, output, *NGD).splitlines()
    assert [line.split(": ")[0] for line in printed if line.startswith("training ")] == [
        "training the teacher", "training the student"]
    assert len(rows(output / "teacher")) == 2 and len(rows(output)) == EPOCHS
    assert list(output.glob("adderngd_lenet5_bn_cifar100_*.ckpt"))
    assert list((output / "teacher").glob("adderl2_lenet5_bn_cifar100_*.ckpt"))
    for path, layer in ((output / "last.ckpt", "l1"), (output / "teacher" / "last.ckpt", "l2")):
        parameters = checkpoint.load_parameters(path)
        assert identity.take(parameters, path).layer == layer
        assert len(parameters) == 25  # nothing that only training needs
    settings = yaml.safe_load((output / "teacher" / "config.yaml").read_text("utf-8"))
    assert settings["teacher_epoch_size"] == 2 and "temperature" not in settings and "layer" not in settings
    end_after_epochs(1, data, killed, *NGD)
    end_after_epochs(2, data, killed, *NGD)
    train(data, killed, *NGD, "--resume")
    assert_same_run(output / "teacher", killed / "teacher")
    assert_same_run(output, killed)
    assert "temperature 4.0 -> 2.0" in refused(data, killed, *NGD, "--resume", "--temperature", "2")
    ready = tmp_path / "ready"
    train(data, ready, *NGD, "--teacher_checkpoint_path", output / "teacher" / "last.ckpt", "--teacher", "none")
    assert not (ready / "teacher").exists()
    for name, value in ms.load_checkpoint(str(output / "last.ckpt")).items():
        assert name == "identity" or np.array_equal(
            value.asnumpy(), ms.load_checkpoint(str(ready / "last.ckpt"))[name].asnumpy()), name


def test_wide_teacher_of_another_kind(data, tmp_path):
    """Features of another size are projected by what only training has; a resumed run has the same bits."""
    net, task = create("resnet20_w4", 10, "conv").set_train(), Identity("resnet20_w4", "conv", 10, "cifar100")
    noise = ms.Tensor(np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32))
    for _ in range(20):
        net(noise)  # it has statistics of images, as trained ones have
    checkpoint.save_parameters(net.parameters_dict(), tmp_path / "teacher.ckpt", identity=task.dumps())
    ngd = ("--method", "ngd", "--teacher_checkpoint_path", tmp_path / "teacher.ckpt", "--logits_weight", "1",
           "--features_weight", "0.01", "--direction_weight", "1", *FEW)
    assert_resumes(data, tmp_path, "adder", {"project.linear.weight"}, *ngd)


PKKD = ("--method", "pkkd", "--logits_weight", "1", "--features_weight", "1", *FEW)


def test_pkkd_trains_teacher_and_student_together_and_resumes_both(data, tmp_path):
    """The run folder holds the student, the state also the teacher; one that is given is not trained."""
    trained = {"rho.0.weight", "rho.1.weight", "teacher.conv1.weight", "accum.teacher.conv1.weight"}
    output = assert_resumes(data, tmp_path, "pkkd", trained, *PKKD, "--teacher", "conv")
    ready = "--teacher_checkpoint_path", output / "last.ckpt"
    printed = train(data, tmp_path / "fixed", *PKKD, *ready, "--mixup", "0.2")
    assert "training the student: " in printed
    names = ms.load_checkpoint(str(tmp_path / "fixed" / "train_state.ckpt")).keys()
    assert not any(name.startswith("accum.teacher.") for name in names)


def assert_resumes(data, folder, prefix, trained, *options):
    """A run of two epochs, in one go and in two, whose checkpoints hold a student alone; returns its folder.

    `trained` are parameters that are trained with it.
    """
    output, ended = folder / "whole", folder / "ended"
    train(data, output, *options)
    end_after_epochs(1, data, ended, *options)
    before = ms.load_checkpoint(str(ended / "train_state.ckpt"))
    train(data, ended, *options, "--resume")
    assert_same_run(output, ended)
    paths = [*output.glob(f"{prefix}*_lenet5_bn_cifar100_*.ckpt"), output / "last.ckpt"]
    for path in paths:
        parameters = checkpoint.load_parameters(path)
        assert identity.take(parameters, path) == Identity("lenet5_bn", "l1", 10, "cifar100") and len(parameters) == 25
    state = ms.load_checkpoint(str(output / "train_state.ckpt"))
    assert len(paths) == 2 and trained <= state.keys()
    assert all(np.any(state[name].asnumpy() != before[name].asnumpy()) for name in trained)
    return output


def test_teacher_that_does_not_fit(data, whole, tmp_path):
    """It is refused before anything is written."""
    ready = ("--method", "ngd", "--logits_weight", "1", "--teacher_checkpoint_path", str(whole[0] / "last.ckpt"))
    assert "layer l1, not conv" in refused(data, tmp_path / "no", *ready, "--teacher", "conv")
    assert "does not fit the network" in refused(data, tmp_path / "no", *ready, "--class_num", "11")
    assert "cannot begin with the weights" in refused(data, tmp_path / "no", *ready, "--layer", "conv", "--inherit")
    assert not (tmp_path / "no").exists()


def test_student_begins_with_what_it_inherits(data, whole, tmp_path):
    """At hardly any learning rate it still has the teacher's filters, and not those of its own seed."""
    teacher = whole[0] / "last.ckpt"
    train(data, tmp_path / "student", "--method", "ngd", "--teacher_checkpoint_path", teacher, "--epoch_size", "1",
          "--lr", "1e-8", "--inherit")
    own, given = (ms.load_checkpoint(str(path)) for path in (tmp_path / "student" / "last.ckpt", teacher))
    for name in (name for name in given if name.endswith(".adder")):
        np.testing.assert_allclose(own[name].asnumpy(), given[name].asnumpy(), atol=1e-5)


def test_options_that_make_no_sense_together(data, tmp_path):
    """tests/test_distill.py has the others; nothing is read or written."""
    assert "method alone has no teacher" in refused(tmp_path / "no data", tmp_path / "run", "--teacher", "l2")
    assert "optimizer adam does not use --momentum" in refused(tmp_path / "no data", tmp_path / "run", "--optimizer",
                                                               "adam", "--momentum", "0.5")
    assert "optimizer sgd does not use --adder_rate" in refused(tmp_path / "no data", tmp_path / "run", "--adder_rate", "3")
    assert "precision int16 is one of layer l1 only, not of l2" in refused(
        tmp_path / "no data", tmp_path / "run", "--precision", "int16", "--layer", "l2")
    assert "precision int16 needs the kernel for CPU" in refused(data, tmp_path / "run", "--precision", "int16",
                                                                 "--backend", "composed")
    assert not (tmp_path / "run").exists()


def test_fixed_point(data, whole, tmp_path):
    """Training in integers of 16 bits ends near where that in floats does, and is resumed as that only."""
    output = tmp_path / "run"
    train(data, output, "--precision", "int16")
    losses, floats = ([float(row["loss"]) for row in rows(folder)] for folder in (output, whole[0]))
    assert losses != floats and np.allclose(losses, floats, atol=0.1)
    assert "precision" in refused(data, output, "--resume", "--epoch_size", str(EPOCHS))


@pytest.mark.parametrize("name, model", [("adder", "adder"), ("adderl2", "adderl2"), ("cnn", "cnn")])
def test_configurations_of_single_networks(data, tmp_path, name, model):
    """Each trains, is evaluated by eval.py without being told what it is, and gives what train.py said."""
    settings = ["--config_path", ROOT / "config" / f"{name}_resnet20_cifar100.yaml", "--network", "resnet20"]
    assert " validation accuracy " in train(data, tmp_path, *settings, "--epoch_size", "1", "--validation_size", "64")
    (best,) = tmp_path.glob(f"{model}_resnet20_cifar100_*.ckpt")
    assert f"ckpt= {best}" in call("eval", "--device_target", "CPU", "--eval_dataset_path", data,
                                   "--allow_small_dataset", "--checkpoint_file_path", best)


def one_error_line(done):
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(errors) == 1 and "Traceback" not in done.stderr, done.stderr
    return errors[0]


def figures(data, output, *runs):
    return call("src.figures", *runs, "--data_path", data, "--output_path", output)


def test_pictures_of_a_run(data, whole, tmp_path):
    figures(data, tmp_path / "pictures", *5 * [whole[0]])
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()}
    assert set(pictures) == {"curves.png", "features.png", "filters.png", "weights.png"}
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())


@pytest.mark.parametrize("change", [{}, {"layer": "l3"}, {"dataset": "imagenet"}])
def test_pictures_of_nothing(data, whole, tmp_path, change):
    if change:
        settings = yaml.safe_load((whole[0] / "config.yaml").read_text("utf-8"))
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({**settings, **change}), "utf-8")
        shutil.copy(whole[0] / "metrics.csv", tmp_path)
    with pytest.raises(UserError, match=f"^{tmp_path} is no folder of a run: [^\n]*{''.join(change.values())}"):
        figures(data, tmp_path, tmp_path)


def test_images_of_another_size(tmp_path):
    """The checkpoint says which; a run goes on with the same."""
    photos, output = test_data_folder.write(tmp_path / "photos", train=4, test=3), tmp_path / "run"
    options = ["--dataset", "folder", "--network", "resnet20", "--mode", "PYNATIVE", "--epoch_size", "1",
               "--class_num", "0", "--batch_size", "4"]
    train(photos, output, *options, "--image_size", "20")
    (best,) = output.glob("adder_resnet20_folder_*.ckpt")
    assert identity.take(checkpoint.load_parameters(best), best).size == (20, 20)
    printed = call("eval", "--checkpoint_file_path", best, "--eval_dataset_path", photos, "--device_target", "CPU")
    assert f"result: {int(best.stem[-4:]) / 10_000:.4g}" in printed
    assert "image_size 20 -> 24" in refused(photos, output, *options, "--image_size", "24", "--resume")
    assert "the network takes images of 32 pixels a side, not 20" in refused(
        photos, tmp_path / "other", *options, "--network", "lenet5_bn", "--image_size", "20")


def test_finished_run_is_neither_repeated_nor_overwritten(data, whole):
    output, _ = whole
    before = {path: path.read_bytes() for path in output.iterdir()}
    assert "--resume continues it" in refused(data, output)
    assert "best: " in train(data, output, "--resume")
    assert "lr 0.1 -> 0.2" in refused(data, output, "--resume", "--lr", "0.2")
    assert before == {path: path.read_bytes() for path in output.iterdir()}


def test_training_goes_on_from_the_weights_of_a_run(data, whole, tmp_path):
    """More epochs are another run, which the message says; at hardly any rate it has the weights that it began with."""
    last = whole[0] / "last.ckpt"
    message = refused(data, whole[0], "--resume", "--epoch_size", "4")
    assert "epoch_size 3 -> 4" in message and f"another --output_path and --pre_trained {last}" in message
    train(data, tmp_path, "--pre_trained", last, "--epoch_size", "1", "--lr", "1e-8")
    own, given = (ms.load_checkpoint(str(path)) for path in (tmp_path / "last.ckpt", last))
    for name in (name for name in given if name.endswith(".adder")):
        np.testing.assert_allclose(own[name].asnumpy(), given[name].asnumpy(), atol=1e-5)
    assert "pre_trained" in refused(data, tmp_path, "--pre_trained", "", "--epoch_size", "1", "--lr", "1e-8", "--resume")


def test_infinite_loss_stops_with_the_checkpoint_kept(data, tmp_path):
    """A rate that overflows at once: no network is written, and the message says where it happened."""
    assert "training diverged: the loss became" in refused(data, tmp_path / "run", "--lr", "1e38", "--eta", "0")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.yaml", "train_state.ckpt"}


# What is shown.

def test_header(whole):
    """Before anything else, what trains on what, and where to."""
    assert whole[1].splitlines()[0] == (
        "training the network: lenet5_bn of layer l1 on cifar100, 10 classes, 10 steps of 32 images, 3 epochs, on CPU, "
        f"backend auto, into {whole[0]}")


TASK = SimpleNamespace(train_metrics=("accuracy",), metrics=("accuracy", "top5"), fraction=10_000, batch_size=4)


class Value:
    """A number on a device: to ask for it is to wait for the device."""

    asked = 0

    def __init__(self, value):
        self.value = value

    def __float__(self):
        Value.asked += 1
        return self.value


@pytest.fixture(name="clock")
def fixture_clock(monkeypatch):
    """A clock that stands still unless it is set."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_progress_asks_for_values_where_it_shows_them(clock, capsys):
    """The first step, of 100 s, is in no rate; then 11 steps of 1 s: a line after more than 10 s, one at the end."""
    progress = Progress(epochs=2, steps=13, task=TASK)
    progress.begin(1)
    clock.now += 100
    progress.step(Value(4.0), Value(0.5))
    asked = []
    for _ in range(12):
        clock.now += 1
        before = Value.asked
        progress.step(Value(2.0), Value(1.0))
        asked.append(Value.asked - before)
    assert asked == [*10 * [0], 22, 2]
    assert capsys.readouterr().out == (
        "epoch 1/2 step 12/13 loss 2.1667 accuracy 0.9583 4 images/s, 0:00:14 left\n"
        "epoch 1/2 step 13/13 loss 2.1538 accuracy 0.9615 4 images/s, 0:00:13 left\n")
    assert progress.result() == {"epoch": 1, "loss": 2.153846, "train_accuracy": 0.961538, "images_per_second": 4.0}
    progress.begin(2)
    for _ in range(13):
        clock.now += 0.5
        progress.step(1.0, 0.25)
    assert progress.result() == {"epoch": 2, "loss": 1.0, "train_accuracy": 0.25, "images_per_second": 8.0}


def test_progress_of_one_step_an_epoch(clock):
    """There is nothing to time but what compiles."""
    progress = Progress(epochs=1, steps=1, task=TASK, ranks=2, show=False)
    progress.begin(1)
    clock.now += 2
    progress.step(1.0, 0.25)
    assert progress.result()["images_per_second"] == 4.0


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_progress_refuses_a_loss_that_is_not_finite(loss):
    """When it asks, and with the step that had it first."""
    progress = Progress(1, 4, TASK, show=False)
    progress.begin(1)
    progress.step(1.0, 0.5)
    progress.step(loss, 0.5)
    progress.step(math.nan, 0.5)
    with pytest.raises(UserError, match=f"became {loss} in epoch 1, step 2"):
        progress.step(math.nan, 0.5)


# What a run leaves where it fails.

@pytest.mark.parametrize("name, size", [("train_state.ckpt", 100_000), ("metrics.csv", 70), ("config.yaml", 0)])
def test_damaged_state_is_one_line(data, whole, tmp_path, name, size):
    output = tmp_path / "run"
    shutil.copytree(whole[0], output)
    (output / name).write_bytes((output / name).read_bytes()[:size])
    before = {path: path.read_bytes() for path in output.iterdir()}
    assert name in refused(data, output, "--resume")
    assert before == {path: path.read_bytes() for path in output.iterdir()}


@pytest.mark.parametrize("extras", [
    {"best": "../precious_1234.ckpt"}, {"best": "precious_1234.ckpt"}, {"best": "net_cifar100_/../x_1234.ckpt"},
    {"best": "/precious_1234.ckpt"}, {"best": 3}, {"epoch": "abc"}, {"epoch": -1}, {"epoch": math.nan},
    {"epoch": 1.5}, {"epoch": 4}, {"best": "net_cifar100_1234.ckpt\n"}, {"best_accuracy": "x"},
    {"best_accuracy": math.inf}, {"best_accuracy": None}], ids=str)
def test_state_that_says_nonsense(tmp_path, extras):
    """Above all, it does not choose what is removed for a better network."""
    net = ms.nn.Dense(2, 2)
    values = {"epoch": 1, "best": "net_cifar100_1234.ckpt", "best_accuracy": 0.1234, **extras}
    checkpoint.save_parameters(net.parameters_dict(), tmp_path / "train_state.ckpt",
                               **{key: value for key, value in values.items() if value is not None})
    (tmp_path / "config.yaml").write_text("seed: 1\n", "utf-8")
    with pytest.raises(UserError, match="train_state.ckpt is no training state of this run"):
        run_folder(tmp_path, resume=True).begin(net)


def test_full_disk_is_one_line_and_loses_nothing(data, tmp_path):
    """A limit on file sizes stands in for a full disk."""
    output = tmp_path / "run"
    done = subprocess.run(command(data, output), capture_output=True, text=True, check=False,
                          preexec_fn=_limit_file_size)
    assert "cannot write" in one_error_line(done)
    assert not list(output.glob("*.ckpt")) and not list(output.glob(".*"))


def _limit_file_size():
    import resource
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))


def run_folder(path, resume=False):
    return RunFolder(path, "net_cifar100", {"seed": 1}, TASK, "nobody", epochs=3, resume=resume)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("trace", ["config.yaml", "metrics.csv", "curve.png", "last.ckpt", "adder_x_y_1234.ckpt"])
def test_traces_of_a_run_without_its_state(tmp_path, trace, resume):
    """They are kept; only a config.yaml alone may be resumed, as a kill at the start leaves it, and it must agree."""
    (tmp_path / trace).write_text("seed: 2\n", "utf-8")
    with pytest.raises(UserError, match=f"{tmp_path}.* (holds|had other settings).*another --output_path"):
        with run_folder(tmp_path, resume).opened():
            pass
    assert [path.name for path in tmp_path.iterdir()] == [trace]
    assert (tmp_path / trace).read_text("utf-8") == "seed: 2\n"


def test_run_that_ended_in_its_first_epoch(tmp_path):
    """May be begun again with other settings, there is nothing to lose; after the first epoch it may not."""
    net = ms.nn.Dense(2, 2)
    for seed in (1, 2):
        run = RunFolder(tmp_path, "net", {"seed": seed}, TASK, "nobody", epochs=3)
        with run.opened():
            assert run.begin(net) == 0
    keep(run, net, row(1, 0.5))
    for name in ("metrics.csv", "curve.png", "last.ckpt", "net_5000.ckpt"):
        with pytest.raises(UserError, match="holds a run, config.yaml; --resume continues it"):
            with run.opened():
                pass
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match="holds a run, config.yaml; --resume continues it"):
        with run.opened():
            pass


def test_folder_without_traces(tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "teacher").mkdir()
    with run_folder(tmp_path).opened() as run:
        assert run.begin(ms.nn.Dense(2, 2)) == 0


@pytest.mark.parametrize("resume", [False, True])
def test_two_runs_in_one_folder(tmp_path, resume):
    """The second one is refused before it writes; other ranks of the first are not, nor is who comes later."""
    with run_folder(tmp_path / "run").opened():
        with pytest.raises(UserError, match="is in use by another run"):
            with run_folder(tmp_path / "run", resume).opened():
                pass
        with RunFolder(tmp_path / "run", "net", {}, TASK, "nobody", epochs=3, writes=False).opened():
            pass
    with run_folder(tmp_path / "run", resume).opened():
        pass
    assert not list((tmp_path / "run").iterdir())


def test_file_system_without_locks(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr("fcntl.flock", fail)
    with run_folder(tmp_path).opened() as run:
        assert run.begin(ms.nn.Dense(2, 2)) == 0


def test_weights_that_are_not_finite_do_not_replace_good_ones(tmp_path):
    net = ms.nn.Dense(2, 2)
    run = run_folder(tmp_path)
    run.begin(net)
    keep(run, net, row(1, 0.5))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    net.bias.set_data(ms.Tensor([1.0, math.inf]))
    with pytest.raises(UserError, match="diverged at the end of epoch 2.*smaller --lr"):
        keep(run, net, row(2, 0.75))
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def keep(run, net, row):
    """What the loop does after an epoch, with an evaluation or not."""
    run.check(net, row["epoch"])
    if row[run.deciding] is not None:
        run.save_best(net, row)
    run.save(net, net, row)


def row(epoch, accuracy):
    return {"epoch": epoch, "loss": 1.0, "train_accuracy": 0.5, "images_per_second": 1.0, "test_accuracy": accuracy,
            "test_top5": 1.0}


def test_best_checkpoint_replaces_only_the_runs_own(tmp_path):
    """A published checkpoint that came into the output folder is not the run's to delete."""
    net = ms.nn.Dense(2, 2)
    run = run_folder(tmp_path)
    run.begin(net)
    (tmp_path / "net_cifar100_9999.ckpt").write_bytes(b"published")
    for epoch, accuracy in enumerate((0.5, 0.25, 0.75), start=1):
        keep(run, net, row(epoch, accuracy))
    names = sorted(path.name for path in tmp_path.glob("net*.ckpt"))
    assert names == ["net_cifar100_7500.ckpt", "net_cifar100_9999.ckpt"]


def test_columns_and_the_best_are_those_of_the_task(tmp_path):
    """Another task, whose networks are compared by something else and not every epoch."""
    net = ms.nn.Dense(2, 2)
    task = SimpleNamespace(train_metrics=(), metrics=("psnr", "ssim"), fraction=100)
    run = RunFolder(tmp_path, "net_patches", {}, task, "nobody", epochs=3)
    run.begin(net)
    for epoch, (psnr, ssim) in enumerate([(37.5, 0.1), (None, None), (36.25, 0.9)], start=1):
        keep(run, net, {"epoch": epoch, "loss": 1.0, "test_psnr": psnr, "test_ssim": ssim, "images_per_second": 2.0})
    assert (tmp_path / "metrics.csv").read_text("utf-8").splitlines() == [
        "epoch,loss,test_psnr,test_ssim,images_per_second", "1,1.0,37.5,0.1,2.0", "2,1.0,,,2.0", "3,1.0,36.25,0.9,2.0"]
    assert (tmp_path / "net_patches_3750.ckpt").exists() and (tmp_path / "curve.png").exists()
    again = RunFolder(tmp_path, "net_patches", {}, task, "nobody", epochs=3, resume=True)
    assert again.begin(net) == 3 and len(again.rows) == 3 and again.best == "net_patches_3750.ckpt"


def test_a_kill_between_any_two_files_loses_nothing(tmp_path, monkeypatch):
    """Two epochs, killed before the n-th rename, then resumed: the same files as without."""
    def run_to_the_end(folder):
        net = ms.nn.Dense(2, 2, weight_init="zeros", bias_init="zeros")
        with run_folder(folder, resume=True).opened() as run:
            for epoch in range(run.begin(net) + 1, 3):
                net.weight.set_data(net.weight + epoch)
                keep(run, net, row(epoch, 0.3 * epoch))

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
    for done in range(2 * 5 + 2):
        folder, renames = tmp_path / str(done), iter([0] * done + [1])
        with pytest.raises(Killed):
            run_to_the_end(folder)
        run_to_the_end(folder)
        assert content(folder) == content(tmp_path / "whole"), done
