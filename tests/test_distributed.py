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
"""Data-parallel training on CPU: two processes under msrun."""
import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a worker, this file is a program
from src.networks import create  # noqa: E402
from src.tasks.classification import Loss  # noqa: E402
from src.training.step import TrainStep, sgd  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
BATCH = 16


def gradients(images, labels, ranks=1):
    """Averaged gradients of a seeded network. BatchNorm uses its running statistics, which do not depend on how images
    are shared out, and the adaptive rate, which acts before averaging, is off."""
    ms.set_seed(7)
    net = create("lenet5_bn", 10, in_channels=3, eta=0.0)
    step = TrainStep(Loss(net), sgd(net, 1, 0.1, 0.9, 0.0), ranks)
    net.set_train(False)
    _, values = step.value_and_grad(ms.Tensor(images), ms.Tensor(labels))
    return {parameter.name: value.asnumpy() for parameter, value in zip(step.optimizer.parameters, step.reducer(values))}


def batch():
    random = np.random.Generator(np.random.PCG64(3))
    return random.standard_normal((BATCH, 3, 32, 32), np.float32), random.integers(0, 10, BATCH).astype(np.int32)


def worker(target):
    """What each process runs: its half of the batch; the first one keeps the averaged gradients."""
    from src import device
    rank, ranks = device.set_up("CPU", mode="PYNATIVE", run_distribute=True)
    images, labels = batch()
    values = gradients(images[rank::ranks], labels[rank::ranks], ranks)
    if rank == 0:
        np.savez(target, ranks=ranks, **values)


def test_gradients_of_two_processes_equal_those_of_one(tmp_path):
    target = tmp_path / "gradients.npz"
    done = subprocess.run(
        [sys.executable, "-m", "mindspore.parallel.cluster.run", "--worker_num=2", "--local_worker_num=2", "--join=True",
         f"--log_dir={tmp_path / 'log'}", f"--master_port={_free_port()}", __file__, str(target)],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})  # msrun starts `python`
    logs = "".join(path.read_text("utf-8", "replace") for path in (tmp_path / "log").glob("worker_*.log"))
    assert done.returncode == 0 and target.exists(), logs[-3000:] + done.stderr[-1000:]
    got = np.load(target)
    assert got["ranks"] == 2
    for name, expected in gradients(*batch()).items():
        assert np.abs(got[name] - expected).max() <= 1e-5 * np.abs(expected).max(), name


def _free_port():
    import socket
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    worker(sys.argv[1])
