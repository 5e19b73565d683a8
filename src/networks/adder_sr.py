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
"""AdderSR: EDSR and VDSR of adder layers, and the ordinary ones of convolutions, for super-resolution.

Images [N, C, h, w] of values 0 .. 1 become images [N, C, scale * h, scale * w] of the same kind, whatever their size.

Sources: AdderSR, arXiv 2009.08891, which has no published code: adder layers cannot pass on what they see, so each one
adds its input to its response (self-shortcut), a batch norm follows, and a power activation with an exponent that is
learned takes the place of multiplications that sharpen. EDSR, arXiv 1707.02921, whose baseline has 16 blocks of 64
channels; VDSR, arXiv 1511.04587, 20 layers of 64 channels on brightness. As in both, the first and the last layers and
the one that enlarges are convolutions; those of layer `conv` have neither norms nor anything else that AdderSR adds.
"""
import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops

from .. import kinds
from ..data.bicubic import weights
from ..kernels import Float32
from ..norm import AddRelu

BODY = ("n_feats", "self_shortcut", "power_activation", "batch_norm")
OPTIONS = {"edsr": ("scale", *BODY, "n_resblocks", "res_scale"), "vdsr": ("scale", *BODY)}  # of default_config.yaml
MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, which EDSR takes from its images
RANGE = 4.0  # by which values 0 .. 1 are multiplied, so that what the body sees is about as large as its weights
VDSR_LAYERS = 20
LEAST = 1e-6  # |y| below which the power activation is a line


def edsr(scale=2, n_feats=64, n_resblocks=16, res_scale=1.0, layer="l1", in_channels=3, **options):
    """EDSR, in and out colours.

    Args:
        scale (int): 2, 3 or 4.
        n_feats (int): channels of the body.
        n_resblocks (int): blocks of two layers.
        res_scale (float): by which the output of a block is multiplied before it is added.
        layer (str): of the body, a key of `src.kinds.KINDS`.
        in_channels (int): 3.
        options: of `body`, and eta, backend and mix of `src.kinds.sockets`.
    """
    return EDSR(scale, n_feats, n_resblocks, res_scale, in_channels, body(layer, n_feats, **options))


def vdsr(scale=2, n_feats=64, layer="l1", in_channels=1, **options):
    """VDSR: what 20 layers add to the bicubic enlargement. Arguments as those of `edsr`."""
    return VDSR(scale, n_feats, in_channels, body(layer, n_feats, **options))


def body(layer, n_feats, self_shortcut=True, power_activation=True, batch_norm=True, **options):
    """What makes the layers of a body from `relu`; of layer `conv` without the three parts of AdderSR.

    Args:
        layer (str): a key of `src.kinds.KINDS`.
        n_feats (int): channels.
        self_shortcut, power_activation, batch_norm (bool): leave a part out for a comparison.
        options: of `src.kinds.sockets`.
    """
    socket, norm = kinds.sockets(layer, **options)
    adder = layer != "conv"

    def make(relu):
        return Layer(n_feats, relu, socket, norm if adder and batch_norm else None, adder and self_shortcut,
                     adder and power_activation)

    return make


class Layer(nn.Cell):
    """A layer of a body and what stands behind it: power(relu(norm(layer(x)) + x)), [N, C, h, w] to the same.

    With x inside of the norm, where responses are ten times as large, EDSR of 8 x 32 channels had 0.2 dB less.

    Args:
        channels (int): C.
        relu (bool): whether there is a ReLU; it may stand before the power, since both keep the sign.
        layer, norm: the sockets, see `src.kinds`; None is no norm, but a constant of each filter.
        self_shortcut, power (bool): whether x is added, and whether there is a power activation.
    """

    def __init__(self, channels, relu, layer, norm, self_shortcut, power):
        super().__init__()
        self.self_shortcut = self_shortcut
        self.conv = layer(channels, channels, 3, 1, padding=1, has_bias=norm is None)
        self.bn = AddRelu(relu) if norm is None else norm(channels, relu=relu, shortcut=self_shortcut)
        self.power = Power() if power else None

    def construct(self, x):
        y = self.bn(self.conv(x), x) if self.self_shortcut else self.bn(self.conv(x))
        return y if self.power is None else self.power(y)


class Power(nn.Cell):
    """The power activation sign(y) |y|^alpha of a tensor of any shape, with a learned alpha, 1 at first."""

    def __init__(self):
        super().__init__()
        self.alpha, self.operation = Parameter(ms.Tensor(np.ones(1, np.float32))), PowerOp()

    def construct(self, y):
        return self.operation(y.astype(ms.float32), self.alpha).astype(y.dtype)


class PowerOp(Float32):
    """The operation on (y, alpha [1]), float32, with its exact gradients, dy = alpha |y|^(alpha - 1) and dalpha = sum
    sign(y) |y|^alpha log |y|. At 0 they may be infinite: where |y| < 1e-6, the factor |y|^(alpha - 1) is that of 1e-6.
    """

    def construct(self, y, alpha):
        return y * self.factor(self.logarithm(y), alpha)

    def bprop(self, y, alpha, out, dout):
        logarithm = self.logarithm(y)
        return dout * alpha * self.factor(logarithm, alpha), (dout * out * logarithm).sum().reshape((1,))

    @staticmethod
    def logarithm(y):
        return ops.log(ops.maximum(ops.abs(y), LEAST))

    @staticmethod
    def factor(logarithm, alpha):
        """|y|^(alpha - 1); MindSpore's own power takes ten times as long on CPU."""
        return ops.exp((alpha - 1.0) * logarithm)


def conv(in_channels, out_channels):
    """A convolution outside the body."""
    return nn.Conv2d(in_channels, out_channels, 3, pad_mode="pad", padding=1, has_bias=True)


class EDSR(nn.Cell):
    """The network; `make` makes the layers of its body.

    Attributes:
        radius (int): how many pixels around it decide one, at most; in those of the small image.
    """

    def __init__(self, scale, n_feats, n_resblocks, res_scale, in_channels, make):
        super().__init__()
        self.radius = 2 * n_resblocks + 5
        self.mean = ms.Tensor(np.reshape(MEAN, (1, in_channels, 1, 1)), ms.float32)
        self.head = conv(in_channels, n_feats)
        self.body = nn.SequentialCell(*[ResBlock(res_scale, make) for _ in range(n_resblocks)], make(relu=False))
        factors = (2, 2) if scale == 4 else (scale,)
        self.upsampler = nn.SequentialCell(*[Upsampler(n_feats, factor) for factor in factors])
        self.tail = conv(n_feats, in_channels)

    def construct(self, x):
        x = self.head((x - self.mean) * RANGE)  # [N, n_feats, h, w]
        x = self.upsampler(x + self.body(x))    # [N, n_feats, scale * h, scale * w]
        return self.tail(x) / RANGE + self.mean


class ResBlock(nn.Cell):
    """Two layers whose output, times res_scale, is added to their input."""

    def __init__(self, res_scale, make):
        super().__init__()
        self.res_scale, self.layer1, self.layer2 = res_scale, make(relu=True), make(relu=False)

    def construct(self, x):
        return x + self.res_scale * self.layer2(self.layer1(x))


class Upsampler(nn.Cell):
    """[N, C, h, w] to [N, C, factor * h, factor * w], by a convolution whose channels become pixels."""

    def __init__(self, channels, factor):
        super().__init__()
        self.factor, self.conv = factor, conv(channels, channels * factor ** 2)

    def construct(self, x):
        return pixel_shuffle(self.conv(x), self.factor)


def pixel_shuffle(x, factor):
    """[N, C * factor^2, h, w] to [N, C, factor * h, factor * w], as `ops.pixel_shuffle`, which cannot become ONNX."""
    _, channels, height, width = x.shape
    x = x.reshape((-1, channels // factor ** 2, factor, factor, height, width))
    x = ops.transpose(x, (0, 1, 4, 2, 5, 3))
    return x.reshape((-1, channels // factor ** 2, factor * height, factor * width))


class VDSR(nn.Cell):
    """The network; arguments and attributes as those of `EDSR`."""

    def __init__(self, scale, n_feats, in_channels, make):
        super().__init__()
        self.radius = VDSR_LAYERS // scale + 3
        self.bicubic = Bicubic(scale)
        self.head = conv(in_channels, n_feats)
        self.body = nn.SequentialCell(*[make(relu=True) for _ in range(VDSR_LAYERS - 2)])
        self.tail = conv(n_feats, in_channels)

    def construct(self, x):
        x = self.bicubic(x)
        y = self.body(ops.relu(self.head((x - 0.5) * RANGE)))
        return x + self.tail(y) / RANGE


class Bicubic(nn.Cell):
    """The bicubic enlargement of `src.data.bicubic`, [N, 1, h, w] to [N, 1, scale * h, scale * w]: a convolution over
    two more pixels on each side, which are mirrored."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        taps = weights(5, 5 * scale)[2 * scale:3 * scale]  # of the pixel in the middle, [scale, 5]
        self.weight = ms.Tensor(np.einsum("ij,kl->ikjl", taps, taps).reshape((scale ** 2, 1, 5, 5)), ms.float32)
        self.convolution = ops.Conv2D(scale ** 2, (5, 5))

    def construct(self, x):
        x = ops.concat((x[:, :, 1:2], x[:, :, :1], x, x[:, :, -1:], x[:, :, -2:-1]), 2)
        x = ops.concat((x[..., 1:2], x[..., :1], x, x[..., -1:], x[..., -2:-1]), 3)
        return pixel_shuffle(self.convolution(x, self.weight), self.scale)

