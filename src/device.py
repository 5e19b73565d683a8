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
"""Chooses the processor, and joins the other processes of a distributed run."""
import contextlib

import mindspore as ms
from mindspore import communication

from .errors import UserError, die_with_parent, silence


def set_up(device_target, device_id=0, mode="GRAPH", run_distribute=False):
    """Prepare MindSpore; call it before anything touches a tensor.

    Args:
        device_target (str): "Ascend", "GPU" or "CPU".
        device_id (int): which one of this machine; the launcher decides in a distributed run.
        mode (str): "GRAPH" or "PYNATIVE".
        run_distribute (bool): join the processes that msrun started, and end with it.

    Returns:
        tuple (rank, ranks), (0, 1) in a run that is not distributed.

    Raises:
        UserError: the device is not there, or this process was not started by msrun.
    """
    ms.set_context(mode=ms.GRAPH_MODE if mode == "GRAPH" else ms.PYNATIVE_MODE)
    _set_device(device_target, device_id, run_distribute)
    if not run_distribute:
        return 0, 1
    die_with_parent()
    try:
        communication.init()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot join a distributed run ({reason}); start it with scripts/run_distribute_train.sh"
                        ) from error
    return communication.get_rank(), communication.get_group_size()


def pynative():
    """PYNATIVE mode for a while."""
    return _in_mode(ms.PYNATIVE_MODE)


def graph():
    """GRAPH mode for a while."""
    return _in_mode(ms.GRAPH_MODE)


@contextlib.contextmanager
def _in_mode(mode):
    before = ms.get_context("mode")
    ms.set_context(mode=mode)
    try:
        yield
    finally:
        ms.set_context(mode=before)


def _set_device(device_target, device_id, run_distribute):
    try:
        with silence():  # MindSpore logs a page about missing drivers before it raises
            if device_target == "CPU" or run_distribute:
                ms.set_device(device_target)
            else:
                ms.set_device(device_target, device_id)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].split(". Please")[0]
        cure = {"GPU": "; bash scripts/set_up_gpu.sh, then source .venv/bin/activate",
                "Ascend": "; without one, give --device_target CPU"}.get(device_target, "")
        raise UserError(f"device_target {device_target} is not available on this machine: {reason}{cure}") from error
