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
"""Post-training quantisation of Adder ResNet-20: a float checkpoint and training images to a quantised checkpoint.

Usage: python -m src.quant --checkpoint_file_path FILE --data_path data --bits 8 --output OUT.ckpt

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

Everything is decided on training images, layer by layer, each seeing what the quantised layers before it let through.
"""
import argparse
import dataclasses
from functools import partial
from pathlib import Path

import mindspore as ms
import numpy as np

from src import checkpoint, data as dataset, device, errors
from src.errors import UserError
from src.files import check_output
from src.folding import scale_and_shift
from src.quant.cells import BITS, SCHEMES, STORED_TOP, Distances
from src.res20_adder import resnet20

QUANTILES = (0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 1.0)
GROUPS = 4
LEAST_LIMIT = 1e-3
SEARCH_SIZE = 128  # images on which limits are chosen; all of them give the scales and shifts


# ---- pure functions ----

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


# ---- the walk through the network ----

@dataclasses.dataclass(frozen=True)
class Unsigned:
    """What scheme "unsigned" tries for the activations x that the float network has in front of a layer."""
    bits: int

    def trials(self, x, between_blocks):
        """Yields step and largest integer (None for floats) of the stored activations, and what makes a layer of its
        weights."""
        top = STORED_TOP if between_blocks else 2 ** self.bits - 1
        *tried, whole = limits(x, QUANTILES)
        for limit in (*tried, whole):
            # Shortcuts keep 8 bits over the whole range where the layers see fewer.
            step = (limit if 2 ** self.bits - 1 == top else whole) / top
            yield step, top, partial(unsigned_layer, limit=limit, stored_step=step, bits=self.bits)

    def fit(self, s, target, norm):
        """Scale and shift of responses s, target [N, F, H, W] being the normalised ones of the float network."""
        mean, deviation = moments(target)
        return norm_fit(s, mean, -np.sign(norm.gamma.asnumpy()) * deviation)


@dataclasses.dataclass(frozen=True)
class AdderQuant:
    """The same for schemes "adderquant" and "shared"; activations are stored as floats."""
    bits: int
    groups: int = GROUPS

    def trials(self, x, between_blocks):
        del between_blocks
        limit = max(limits(x[i:i + 128], (0.9997 ** 2,))[0] for i in range(0, len(x), 128))
        yield 1.0, None, partial(adderquant_layer, limit=limit, bits=self.bits, groups=self.groups)

    def fit(self, s, target, norm):
        del target
        return norm_fit(s, norm.beta.asnumpy(), -norm.gamma.asnumpy())


def quantise_network(net, images, bits, scheme="unsigned"):
    """Quantise a trained network.

    Args:
        net (Cell): a `src.res20_adder.ResNet` of layer "l1", with its final weights and statistics.
        images (ndarray): normalised training images [N, 3, 32, 32]; some hundreds of them.
        bits (int): of the integers that adder layers see, one of `BITS`.
        scheme (str): one of `SCHEMES`.

    Returns:
        dict, name to array, number or string: what `src.quant.cells.QuantisedResNet` takes.
    """
    net.set_train(False)
    walk = {"unsigned": Unsigned, "adderquant": AdderQuant, "shared": partial(AdderQuant, groups=1)}[scheme](bits)
    x = v = np.maximum(_run(lambda batch: net.bn1(net.conv1(batch)), images), 0)
    scale, shift = scale_and_shift(net.bn1)
    parameters = {"conv1.weight": net.conv1.weight.asnumpy() * scale[:, None, None, None], "conv1.bias": shift}
    written = ["conv1.weight", "conv1.bias"]  # what writes x, in its units until its step is chosen
    for name, block in _blocks(net):
        step, layers, x, v = _quantise_block(block, x, v, walk)
        _divide(parameters, written, step)
        parameters.update({f"{name}.{key}": value for key, value in layers.items()})
        written = [f"{name}.conv2.{key}" for key in ("scale", "shift", "residual_scale")]
    step = limits(x, (1.0,))[0] / STORED_TOP if scheme == "unsigned" else 1.0
    _divide(parameters, written, step)
    scale, shift = scale_and_shift(net.bn2)
    parameters["fc.weight"] = net.fc.weight.asnumpy()[:, :, 0, 0] * scale[:, None] * step
    parameters["fc.bias"] = shift
    return {**{name: value if value.dtype == np.uint8 else value.astype(np.float32)
               for name, value in parameters.items()}, "bits": bits, "scheme": scheme}


def _blocks(net):
    return [(f"layer{i + 1}.{j}", block) for i, stage in enumerate((net.layer1, net.layer2, net.layer3))
            for j, block in enumerate(stage)]


def _quantise_block(block, x, v, walk):
    """One block: x, v [N, C, H, W] are its inputs in the float network and, before they are stored, the quantised one.

    Returns:
        step of its stored input; its parameters, those of conv2 in units of the float network; its outputs like x, v.
    """
    (step, top, make), conv1, y, target = _layer(block.conv1, block.bn1, x, v, walk, True)
    inner = np.maximum(target, 0)
    (inner_step, _, _), conv2, y, target = _layer(block.conv2, block.bn2, inner, y, walk, False)
    _divide(conv1, ("scale", "shift"), inner_step)
    layers = {"conv1": conv1, "conv2": conv2}
    stored = _stored(v, step, top)
    if block.downsample is None:
        conv2["residual_scale"], shortcut = np.full(len(conv2["scale"]), step), x
        residual = stored * np.float32(step)
    else:
        shortcut = _run(block.downsample, x)
        layers["downsample.0"], residual = _apply(*block.downsample, stored, shortcut, make, walk)
        conv2["residual_scale"] = layers["downsample.0"].pop("scale")
        conv2["shift"] = conv2["shift"] + layers["downsample.0"].pop("shift")
    parameters = {f"{name}.{key}": value for name, layer in layers.items() for key, value in layer.items()}
    return step, parameters, np.maximum(target + shortcut, 0), y + residual


def _layer(adder, norm, x, v, walk, between_blocks):
    """The best trial for an adder layer and its norm, chosen on some images; with it the layer, its output before it is
    stored, and that of the float network before ReLU."""
    target = _run(lambda batch: norm(adder(batch)), x)
    some, wanted = v[:SEARCH_SIZE], target[:SEARCH_SIZE]

    def error(trial):
        step, top, make = trial
        y = _apply(adder, norm, _stored(some, step, top), wanted, make, walk)[1]
        return np.square(np.maximum(y, 0) - np.maximum(wanted, 0)).mean(dtype=np.float64)

    step, top, make = best = min(walk.trials(x, between_blocks), key=error)
    return (best, *_apply(adder, norm, _stored(v, step, top), target, make, walk), target)


def _apply(adder, norm, stored, target, make, walk):
    """A layer with its scale and shift, and what it makes of stored activations."""
    layer = make(adder.adder.asnumpy())
    operation = adder.operation
    s = _run(Distances(layer, operation.stride, operation.padding, 2 ** walk.bits - 1), stored)
    scale, shift = walk.fit(s, target, norm)
    y = s * scale.astype(np.float32)[:, None, None] + shift.astype(np.float32)[:, None, None]
    return {**layer, "scale": scale, "shift": shift}, y


def _divide(parameters, names, step):
    """Parameters of these names in units of a step."""
    for name in names:
        parameters[name] = parameters[name] / step


def _stored(v, step, top):
    """Activations as they are stored, held in floats."""
    return np.maximum(v, 0) if top is None else quantise(v, step, top).astype(np.float32)


def _run(function, x, batch_size=256):
    return np.concatenate([function(ms.Tensor(x[i:i + batch_size])).asnumpy() for i in range(0, len(x), batch_size)])


def main():
    """The command line: read, calibrate, write."""
    parser = argparse.ArgumentParser(prog="python -m src.quant", description=__doc__.split("\n")[0],
                                     allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter,
                                     parents=[calibration_options()])
    parser.add_argument("--output", type=Path, required=True, help="quantised checkpoint to write")
    parser.add_argument("--bits", type=int, default=8, choices=BITS, help="of activations and weights")
    parser.add_argument("--scheme", default="unsigned", choices=SCHEMES, help="how weights become integers")
    parser.add_argument("--device_target", default="CPU", choices=("Ascend", "GPU", "CPU"), help="processor")
    arguments = parser.parse_args()
    check_output(arguments.output, ".ckpt")
    device.set_up(arguments.device_target, mode="PYNATIVE")  # in GRAPH mode every trial would be compiled
    path, net, images = inputs(arguments)
    if arguments.output.exists() and arguments.output.samefile(path):
        raise UserError(f"output {arguments.output} is the float checkpoint itself")
    save_quantised(quantise_network(net, images, arguments.bits, arguments.scheme), arguments.output)
    print(f"quantised {path} to {arguments.bits} bits ({arguments.scheme}, {len(images)} training images) as "
          f"{arguments.output}: {arguments.output.stat().st_size / path.stat().st_size:.2f} of its size")


def calibration_options():
    """The options that say what is quantised, and on which images it is decided how."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--checkpoint_file_path", default="ckpt", help="float checkpoint of l1 layers, or its folder")
    options.add_argument("--dataset", default="cifar100", choices=sorted(dataset.LAYOUTS), help="which data")
    options.add_argument("--class_num", type=int, default=0, help="classes of the head; 0 takes the data set's")
    options.add_argument("--data_path", default="data", help="training data, as of train.py")
    options.add_argument("--allow_small_dataset", action="store_true", help="accept fewer images than official")
    options.add_argument("--calibration_size", type=int, default=2048, help="training images to decide everything on")
    return options


def inputs(arguments):
    """What `calibration_options` name: the checkpoint's path, its network, and images [calibration_size, 3, 32, 32].

    Raises:
        UserError: no such checkpoint or data, a damaged one, values that are not finite, or fewer images.
    """
    for name, least in (("calibration_size", 1), ("class_num", 0)):
        if getattr(arguments, name) < least:
            raise UserError(f"{name} must be at least {least}, not {getattr(arguments, name)}")
    path = checkpoint.find_checkpoint(arguments.checkpoint_file_path)
    folder = dataset.prepare(arguments.dataset, arguments.data_path, ("train",), arguments.allow_small_dataset)
    net = resnet20(dataset.class_count(arguments.dataset, arguments.class_num))
    checkpoint.load_strictly(net, path)
    for parameter in net.get_parameters():
        if not np.isfinite(parameter.asnumpy()).all():
            raise UserError(f"{path}: {parameter.name} has values that are not finite")
    images = calibration_images(arguments.dataset, folder, arguments.calibration_size)
    if len(images) < arguments.calibration_size:
        raise UserError(f"calibration_size {arguments.calibration_size}: there are only {len(images)} training images")
    return path, net, images


def save_quantised(parameters, path):
    """Write what `quantise_network` returned. Raises UserError if it cannot be written."""
    numbers = {name: parameters[name] for name in ("bits", "scheme")}
    arrays = {name: value for name, value in parameters.items() if name not in numbers}
    checkpoint.save_parameters(arrays, path, **numbers)


def calibration_images(name, folder, count):
    """The first training images [count, 3, 32, 32] of seed 0, cropped and mirrored as in training.

    Norms have the statistics of cropped images, with their black margins: what is estimated on others would not fit.
    """
    data = dataset.create_dataset(name, folder, "train", 1).take(count)
    return np.concatenate([image for image, _ in data.create_tuple_iterator(num_epochs=1, output_numpy=True)])


