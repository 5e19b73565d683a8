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
"""A training step by hand: the learning rate from step to step, and gradients that are too long."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from src.errors import UserError
from src.training.step import OPTIMIZERS, TrainStep, sgd

SLOPE = np.array([3.0, -4.0], np.float32)


class Slope(nn.Cell):
    """A loss whose gradient is SLOPE wherever the weights are."""

    def __init__(self):
        super().__init__()
        self.weights = ms.Parameter(ms.Tensor(np.zeros(2, np.float32)), name="weights")

    def construct(self, scale):
        loss = (scale * self.weights * ms.Tensor(SLOPE)).sum()
        return loss, loss


def moves(steps, optimizer="sgd", own=0.0, scale=1.0, clip_norm=0.0, loss=None, **options):
    """What each step adds to the weights."""
    loss = loss or Slope()
    step = TrainStep(loss, OPTIMIZERS[optimizer](loss, steps, 0.5, own, 0.0, **options), clip_norm=clip_norm)
    places = [loss.weights.asnumpy().astype(np.float64)]
    for _ in range(steps):
        step(ms.Tensor(scale, ms.float32))
        places.append(loss.weights.asnumpy().astype(np.float64))
    return np.diff(places, axis=0)


@pytest.mark.parametrize("warm_up", [0, 1, 4, 10, 30])
def test_rates(warm_up):
    """A cosine from 0.5 to zero, of which the first steps climb by a line."""
    climb = np.minimum(1, np.arange(1, 11) / max(1, warm_up))
    rates = 0.25 * (1 + np.cos(np.pi * np.arange(10) / 10)) * climb
    np.testing.assert_allclose(moves(10, warm_up=warm_up), -rates[:, None] * SLOPE, rtol=1e-5, atol=1e-6)


def test_rates_of_adam():
    """Whose first steps are as long as the rate in each direction."""
    np.testing.assert_allclose(moves(8, "adam", 1.0, warm_up=4)[0], [-0.125, 0.125], rtol=1e-4)


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_adam_is_faster_for_filters(mode):
    """And as fast as without for all else, in a network with both."""
    ms.set_context(mode=mode)

    class Both(Slope):
        def __init__(self):
            super().__init__()
            self.adder = ms.Parameter(ms.Tensor(np.zeros(2, np.float32)), name="adder")

        def construct(self, scale):
            loss = (scale * (self.weights + self.adder) * ms.Tensor(SLOPE)).sum()
            return loss, loss

    usual, both = moves(4, "adam", 1.0), Both()
    np.testing.assert_allclose(moves(4, "adam", 3.0, loss=both), usual, rtol=1e-4)
    np.testing.assert_allclose(both.adder.asnumpy(), 3 * usual.sum(0), rtol=1e-4)


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
@pytest.mark.parametrize("scale, clip_norm, norm", [(1.0, 0.0, 5), (1.0, 6.0, 5), (1.0, 2.0, 2), (1e4, 2.0, 2), (0.0, 2.0, 0)])
def test_long_gradients_are_shortened(mode, scale, clip_norm, norm):
    ms.set_context(mode=mode)
    np.testing.assert_allclose(moves(1, scale=scale, clip_norm=clip_norm)[0], -0.5 * norm / 5 * SLOPE, rtol=1e-5,
                               atol=1e-7)


def test_schedule_of_too_many_steps():
    """Seen at once, instead of a list that fills the memory."""
    with pytest.raises(UserError, match="^10000001 training steps are more than 10000000: take a smaller --epoch_size"):
        sgd(nn.Dense(2, 2), 10_000_001, 0.1, 0.9, 0.0)
