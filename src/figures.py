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
"""Pictures of trained networks: learning curves, features, filters, weights. Needs matplotlib, runs on CPU.

    python -m src.figures FOLDER --data_path data --output_path FOLDER [FOLDER ...]

Each run is the output folder of train.py: its metrics.csv, config.yaml and last.ckpt, or best checkpoint, are read.
"""
from . import errors

errors.guard(__name__)  # before what takes seconds to import

import argparse
import csv
import math
from pathlib import Path

import numpy as np

from . import checkpoint, data, device, loading, picture, yaml_files
from .config import Parser, check_values
from .errors import UserError
from .folding import fold
from .identity import check_data
from .kinds import KINDS
from .networks import NETWORKS
from .pairs import pairs
from .training.run_folder import series

CLASSES = 10  # of the features' picture; more would hide each other
COLUMNS = 4  # of networks side by side


def main():
    parser = Parser("python -m src.figures", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="FOLDER", help="output folder of a run of train.py")
    parser.add_argument("--data_path", default="data", help="evaluation images, for the features")
    parser.add_argument("--output_path", type=Path, default=Path("."), help="folder for the pictures")
    arguments = parser.parse_args()
    device.set_up("CPU")
    runs = [Run(path) for path in arguments.runs]
    arguments.output_path.mkdir(parents=True, exist_ok=True)
    figures = {name: draw(runs, arguments.data_path)
               for name, draw in (("curves", draw_curves), ("features", draw_features), ("filters", draw_filters),
                                  ("weights", draw_weights))}
    for name, figure in figures.items():
        path = arguments.output_path / f"{name}.png"
        picture.save(figure, path)
        print(f"wrote {path}")


class Run:
    """A run of train.py, read from its folder. Raises UserError where something is missing."""

    def __init__(self, path):
        self.path, self.title = path, path.name
        try:
            settings = yaml_files.values(path / "config.yaml")
            # Runs of before have fewer settings; a teacher's has no layer of its own.
            options = {"network": settings.get("network", "resnet20"), "dataset": settings["dataset"],
                       "layer": settings.get("layer") or settings["teacher"], "class_num": settings["class_num"],
                       "image_size": settings.get("image_size", 0)}
            check_values(options, "config.yaml")
            if NETWORKS[options["network"]].task != "classification":
                raise UserError(f"{options['network']} is no classifier")
            check_data(options["network"], options["dataset"])
            self.options, self.kind = argparse.Namespace(**options, given=()), KINDS[options["layer"]].title
            with open(path / "metrics.csv", encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            self.training, self.held_out = (series(rows, f"{split}_accuracy") for split in ("train", "test"))
        except (UserError, OSError, ValueError, TypeError, LookupError, csv.Error) as error:
            raise UserError(f"{path} is no folder of a run: {' '.join(str(error).split())}") from error

    def load(self):
        """The trained network and its identity."""
        last = self.path / "last.ckpt"
        return loading.load(last if last.exists() else checkpoint.find_checkpoint(self.path), self.options)

    def features(self, data_path):
        """Features [N, D] and labels [N] of the test images of the first classes."""
        net, identity = self.load()
        net = fold(net)
        folder = data.prepare(identity.dataset, data_path, ("test",), allow_small=True, size=identity.size)
        batches = data.create_dataset(identity.dataset, folder, "test", 250, size=identity.size)
        columns = [(net.features(images).asnumpy(), labels.asnumpy())
                   for images, labels in batches.create_tuple_iterator(num_epochs=1)]
        features, labels = (np.concatenate(column) for column in zip(*columns))
        chosen = labels < CLASSES
        return features[chosen].reshape(chosen.sum(), -1), labels[chosen]

    def filters(self):
        """The filters [F, C, k, k] of the first layer."""
        net, _ = self.load()
        return pairs(net)[0].weight.asnumpy()

    def weights(self):
        """All weights [n] of the layers between the first and the last."""
        net, _ = self.load()
        return np.concatenate([pair.weight.asnumpy().ravel() for pair in pairs(net)[1:-1]])


def draw_curves(runs, _):
    """Accuracy by epoch: lines on the training images, points on the held-out ones."""
    figure, (axes,) = _axes(1)
    for run in runs:
        line, = axes.plot(*run.training, label=run.title)
        axes.plot(*run.held_out, "o", color=line.get_color(), markersize=4)
    axes.set(title="accuracy: lines training, points held out", xlabel="epoch")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def draw_features(runs, data_path):
    """Features before the last layer, as points of a plane."""
    figure, every_axes = _axes(len(runs))
    for run, axes in zip(runs, every_axes):
        features, labels = run.features(data_path)
        axes.scatter(*on_a_plane(features).T, c=labels, cmap="tab10", s=4)
        axes.set(title=f"{run.title}: {run.kind}\nspread within / between classes {spread(features, labels):.2f}",
                 xticks=[], yticks=[])
    return figure


def on_a_plane(features):
    """Features [N, D] as points [N, 2]: themselves if D is 2, else on the two directions in which they vary most."""
    if features.shape[1] == 2:
        return features
    centred = features - features.mean(0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T


def spread(features, labels):
    """Variance within classes over that of the class means, both summed over the features."""
    means = np.stack([features[labels == label].mean(0) for label in np.unique(labels)])
    within = features - means[np.searchsorted(np.unique(labels), labels)]
    return within.var(0).sum() / means.var(0).sum()


def draw_filters(runs, _):
    """The filters of each network's first layer."""
    figure, every_axes = _axes(len(runs))
    for run, axes in zip(runs, every_axes):
        axes.imshow(mosaic(run.filters()), cmap="gray")
        axes.set(title=f"{run.title}: {run.kind}", xticks=[], yticks=[])
    return figure


def mosaic(filters):
    """Filters [F, C, k, k] side by side, each scaled to 0 .. 1, with white lines between: an image [h, w, 3] in colour
    where C is 3, else [h, w, 1] of the mean of the channels."""
    tiles = filters.transpose(0, 2, 3, 1) if filters.shape[1] == 3 else filters.mean(1)[..., None]
    tiles = tiles - tiles.min((1, 2, 3), keepdims=True)
    tiles = tiles / np.maximum(tiles.max((1, 2, 3), keepdims=True), 1e-12)
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = -(-len(tiles) // columns)
    tiles = np.pad(tiles, ((0, rows * columns - len(tiles)), (0, 1), (0, 1), (0, 0)), constant_values=1.0)
    _, height, width, channels = tiles.shape
    image = tiles.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return image.reshape(rows * height, columns * width, channels)


def draw_weights(runs, _):
    """Histograms of each network's weights, with a Gaussian and a Laplacian of their deviation."""
    figure, every_axes = _axes(len(runs))
    for run, axes in zip(runs, every_axes):
        weights = run.weights()
        deviation = weights.std()
        at = np.linspace(-4 * deviation, 4 * deviation, 201)
        axes.hist(weights, bins=at, density=True, color="lightsteelblue")
        axes.plot(at, np.exp(-0.5 * (at / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi)), label="Gaussian")
        axes.plot(at, np.exp(-np.abs(at) * np.sqrt(2) / deviation) / (deviation * np.sqrt(2)), label="Laplacian")
        axes.set(title=f"{run.title}: {run.kind}", yticks=[])
        axes.legend()
    return figure


def _axes(count):
    rows, columns = -(-count // COLUMNS), min(count, COLUMNS)
    figure = picture.new_figure(4.5 * columns, 3.5 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for unused in axes.flat[count:]:
        unused.set_axis_off()
    return figure, axes.flat[:count]


if __name__ == "__main__":
    errors.run(main)
