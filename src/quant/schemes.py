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
"""How floats become integers: the schemes of quantisation, and the arithmetic that they share. Pure functions of arrays.

An adder layer can count in integers if its activations and weights have one step, sum |x - w| = step * sum |xq - wq|.

Scheme "unsigned". The inputs of adder layers here are never negative, padding included, and so neither need weights be:
for 0 <= x <= limit, |x - w| = |x - 0| + |w| where w < 0, and |x - limit| + (w - limit) where w > limit. Weights clipped
to [0, limit] lose nothing but a constant per filter, which goes into the shift behind the layer; both operands are
0 .. 2^bits - 1 with step limit / (2^bits - 1). The limit is that of some quantiles of the activations that gives the
least error of the layer's output. Scale and shift of each filter, in the place of batch norm, give its responses in the
quantised network the mean and the deviation that the normalised ones have in the float network.

Scheme "adderquant" (arXiv 2212.10200, and its code, of which all groups are computed here). Filters are clustered by
their largest |w|; a group's limit is that or, if less, 0.9997 ^ 2 of the way up the sorted activations, the largest of
batches of 128; weights are signed multiples of twice the step, so that responses are sum |xq - 2 wq|; batch norm's
statistics are estimated anew. With wq < 0 replaced by 0 and a constant, 2 wq is unsigned as well, and even: one kernel
serves both schemes. Scheme "shared" is the same with one group, the baseline of that paper.
"""
import dataclasses
from functools import partial

import numpy as np

STORED_TOP = 255  # largest stored integer of an activation that more than one layer reads
QUANTILES = (0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 1.0)
GROUPS = 4
LEAST_LIMIT = 1e-3


def quantise(x, step, top):
    """round(x / step) within 0 .. top, as uint8."""
    return np.clip(np.rint(x / step), 0, top).astype(np.uint8)


def limits(x, quantiles):
    """Quantiles of activations, 1e-3 at least: the largest is exact, the others are those of a million of them."""
    sample = x.reshape(-1)[::x.size >> 20 | 1]  # an odd stride meets all columns of the images
    return [max(LEAST_LIMIT, float(x.max() if quantile == 1.0 else np.quantile(sample, quantile)))
            for quantile in quantiles]


def cluster(values, groups):
    """k-means in one dimension, deterministic: values [n] to the group of each, uint8 [n]; group 0 has the smallest."""
    ordered = np.sort(values)
    centres = np.unique(ordered[[(2 * i + 1) * len(ordered) // (2 * groups) for i in range(groups)]])
    while True:
        labels = np.abs(values[:, None] - centres).argmin(1)
        moved = np.array([values[labels == i].mean() for i in np.unique(labels)])
        if np.array_equal(moved, centres):
            return labels.astype(np.uint8)
        centres = moved


def unsigned_layer(w, limit, stored_step, bits):
    """Weights of scheme "unsigned", in the form of `src.quant.cells`.

    Args:
        w (ndarray): [F, C, k, k].
        limit (float): of activations and weights.
        stored_step (float): of the stored activations.
        bits (int): of the integers.

    Returns:
        dict: `adder` uint8 [F, C, k, k], `group` [F] and `ratio` [1].
    """
    top = 2 ** bits - 1
    step = limit / top
    return {"adder": quantise(w, step, top), "group": np.zeros(len(w), np.uint8),
            "ratio": np.array([stored_step / step], np.float32)}


def adderquant_layer(w, limit, bits, groups=GROUPS):
    """Weights of scheme "adderquant" for activations stored as floats: as `unsigned_layer`, `ratio` [groups]."""
    largest = np.abs(w).max((1, 2, 3))
    group = cluster(largest, groups)
    tops = np.array([min(limit, max(LEAST_LIMIT, largest[group == g].max())) for g in range(group.max() + 1)])
    steps = tops / (2 ** bits - 1)
    signed = np.rint(w / (2 * steps[group])[:, None, None, None])
    adder = 2 * np.clip(signed, 0, 2 ** (bits - 1) - 1)
    return {"adder": adder.astype(np.uint8), "group": group, "ratio": (1 / steps).astype(np.float32)}


def moments(x):
    """Mean and standard deviation [C] of each channel of x [N, C, H, W], float64."""
    axes = (0, 2, 3)
    mean = x.mean(axes, dtype=np.float64)
    return mean, np.sqrt(np.square(x - mean.astype(np.float32)[:, None, None]).mean(axes, dtype=np.float64))


def norm_fit(x, mean, deviation):
    """The line of each channel, scale * x + shift, that gives it a mean and a standard deviation.

    Args:
        x (ndarray): [N, C, H, W].
        mean, deviation (ndarray): [C]; a negative deviation turns the channel round.

    Returns:
        scale, shift [C], float64.
    """
    old_mean, old_deviation = moments(x)
    scale = deviation / np.maximum(old_deviation, 1e-3)
    return scale, mean - scale * old_mean

def store(v, step, top):
    """Activations as they are stored, held in floats."""
    return np.maximum(v, 0) if top is None else quantise(v, step, top).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Unsigned:
    """What scheme "unsigned" tries for the activations x that the float network has in front of a layer."""
    bits: int

    def trials(self, x, shared):
        """Yields, as (step, top, make), the step and largest integer (None for floats) of the stored activations, and
        what makes a layer of its weights. Activations that are `shared` by several readers keep 8 bits."""
        top = STORED_TOP if shared else 2 ** self.bits - 1
        *tried, whole = limits(x, QUANTILES)
        for limit in (*tried, whole):
            # Shortcuts keep 8 bits over the whole range where the layers see fewer.
            step = (limit if 2 ** self.bits - 1 == top else whole) / top
            yield step, top, partial(unsigned_layer, limit=limit, stored_step=step, bits=self.bits)

    def reader(self, x, step):  # pylint: disable=unused-argument
        """What makes a layer that reads activations of 0 .. 255 times that step."""
        return partial(unsigned_layer, limit=STORED_TOP * step, stored_step=step, bits=self.bits)

    def stored(self, largest):
        """Step and largest integer of activations up to `largest` that no adder layer reads."""
        return max(LEAST_LIMIT, largest) / STORED_TOP, STORED_TOP

    def fit(self, s, target, norm):
        """Scale and shift of responses s, target [N, F, H, W] being the normalised ones of the float network."""
        mean, deviation = moments(target)
        return norm_fit(s, mean, -np.sign(norm.gamma.asnumpy()) * deviation)


@dataclasses.dataclass(frozen=True)
class AdderQuant:
    """The same for schemes "adderquant" and "shared"; activations are stored as floats."""
    bits: int
    groups: int = GROUPS

    def trials(self, x, shared):  # pylint: disable=unused-argument
        yield 1.0, None, self.reader(x, 1.0)

    def reader(self, x, step):  # pylint: disable=unused-argument
        limit = max(limits(x[i:i + 128], (0.9997 ** 2,))[0] for i in range(0, len(x), 128))
        return partial(adderquant_layer, limit=limit, bits=self.bits, groups=self.groups)

    def stored(self, largest):  # pylint: disable=unused-argument
        return 1.0, None

    def fit(self, s, target, norm):  # pylint: disable=unused-argument
        return norm_fit(s, norm.beta.asnumpy(), -norm.gamma.asnumpy())


SCHEMES = {"unsigned": Unsigned, "adderquant": AdderQuant, "shared": partial(AdderQuant, groups=1)}
