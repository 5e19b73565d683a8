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
"""The adder layer and batch norm in NumPy, float64, written out from the paper's equations: what the tests compare with."""
import numpy as np

EPSILON, MOMENTUM = 1e-5, 0.9  # of batch norm, MindSpore's defaults


def forward(x, w, stride=1, padding=0, norm=1):
    """y = -sum |x - w| (eq. 2), or -1/2 sum (x - w)^2 (arXiv 2212.11803); zeros of the padding take part."""
    x, w = _pad(x, padding), w.astype(np.float64)
    power = np.abs if norm == 1 else lambda d: d * d / 2
    return -sum(power(_differences(x, w, i, j, window)).sum(2) for i, j, window in _taps(x, w, stride))


def weight_grad(dy, x, w, stride=1, padding=0, mix=1.0):
    """dw = sum dy * (x - w) (eq. 5), before the adaptive rate; in all, sum dy * (mix * d + (1 - mix) * sign(d))."""
    x, w = _pad(x, padding), w.astype(np.float64)
    dw = np.zeros_like(w)
    for i, j, window in _taps(x, w, stride):
        d = _differences(x, w, i, j, window)
        dw[:, :, i, j] = (dy[:, :, None] * _blend(mix, d, np.sign(d))).sum((0, 3, 4))
    return dw


def input_grad(dy, x, w, stride=1, padding=0, norm=1, slope=lambda d: np.clip(d, -1.0, 1.0)):
    """dx = sum dy * clip(w - x, -1, 1) (eq. 6), or sum dy * (w - x); `slope` stands in the clip's place."""
    rows, cols = (slice(padding, padding + size) for size in x.shape[2:])
    x, w = _pad(x, padding), w.astype(np.float64)
    dx = np.zeros_like(x)
    for i, j, window in _taps(x, w, stride):
        d = -_differences(x, w, i, j, window)
        slopes = dy[:, :, None] * (slope(d) if norm == 1 else d)
        batch, filters, channels, *size = slopes.shape
        groups = group_count(x, w)
        dx[window] += slopes.reshape(batch, groups, filters // groups, channels, *size).sum(2).reshape(x[window].shape)
    return dx[:, :, rows, cols]


def adaptive(dw, eta):
    """The adaptive rate (eqs. 12-13): dw of norm eta * sqrt(numel), whatever its own size; eta 0 switches it off."""
    return dw * eta * np.sqrt(dw.size) / max(np.linalg.norm(dw), 1e-12) if eta else dw


def batch_norm(x, dy, gamma, beta, moving_mean, moving_variance):
    """Batch norm in training (arXiv 1502.03167): y, dx, dgamma, dbeta, and the new moving statistics."""
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    axes, column, count = (0, 2, 3), (-1, 1, 1), x[:, 0].size
    mean, variance = x.mean(axes), x.var(axes)
    inverse = 1 / np.sqrt(variance + EPSILON)
    normal = (x - mean.reshape(column)) * inverse.reshape(column)
    dgamma, dbeta = (dy * normal).sum(axes), dy.sum(axes)
    dx = (gamma * inverse).reshape(column) * (dy - (dbeta.reshape(column) + normal * dgamma.reshape(column)) / count)
    unbiased = variance * count / max(1, count - 1)
    return (normal * gamma.reshape(column) + beta.reshape(column), dx, dgamma, dbeta,
            MOMENTUM * moving_mean + (1 - MOMENTUM) * mean, MOMENTUM * moving_variance + (1 - MOMENTUM) * unbiased)


def relative_error(got, expected):
    """The largest deviation relative to the largest expected value."""
    assert got.shape == expected.shape
    return np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30)


def _blend(mix, a, b):
    """mix * a + (1 - mix) * b; an infinity counts in neither if its factor is zero."""
    return a if mix == 1 else b if mix == 0 else mix * a + (1 - mix) * b


def _pad(x, padding):
    return np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))


def _taps(x, w, stride):
    """Every place (i, j) in the window, with the slice of the padded input that it sees."""
    kernel = w.shape[2]
    for i in range(kernel):
        for j in range(kernel):
            # The last window starts at the last multiple of the stride that leaves room for it.
            rows, cols = (slice(first, first + (size - kernel) // stride * stride + 1, stride)
                          for first, size in ((i, x.shape[2]), (j, x.shape[3])))
            yield i, j, np.s_[:, :, rows, cols]


def _differences(x, w, i, j, window):
    """x - w of one tap, [N, C_out, C_in / groups, H_out, W_out]."""
    batch, channels, *size = x[window].shape
    groups = group_count(x, w)
    seen = x[window].reshape(batch, groups, channels // groups, *size).repeat(w.shape[0] // groups, 1)
    return seen - w[:, :, i, j, None, None]


def group_count(x, w):
    """Of a layer on x [N, C_in, H, W] with filters w [C_out, C_in / groups, k, k]."""
    return x.shape[1] // w.shape[1] if w.shape[1] else 1
