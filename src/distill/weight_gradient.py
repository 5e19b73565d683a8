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
"""The gradient of the filters of l1 layers, which may change from epoch to epoch: see `src.adder.MixedAdderOp`."""
import math

import mindspore as ms
import numpy as np


def schedule(kind, epochs):
    """`mix` of a network, and what sets it.

    Args:
        kind (str): "full", AdderNet's x - w; "sign", of it, the derivative; "progressive", from the one to the other.
        epochs (int): of the run.

    Returns:
        tuple (mix, begin_epoch): a Parameter [1], and a function of the epoch, counted from 1, to call before it. None
        where there is none.
    """
    if kind == "full":
        return None, None
    mix = ms.Parameter(ms.Tensor(np.full(1, kind == "progressive", np.float32)), name="mix", requires_grad=False)

    def begin_epoch(epoch):
        mix.set_data(ms.Tensor([share(epoch, epochs)], ms.float32))

    return mix, begin_epoch if kind == "progressive" else None


def share(epoch, epochs):
    """How much of the full gradient a progressive one has, counted from 1: half a cosine from 1 to 0."""
    return 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / max(1, epochs - 1)))
