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
"""The picture of the README, from the JSON of `benchmarks.compare`.

    python -m benchmarks.plot benchmarks/results.json benchmarks/performance.png
"""
from src import errors

errors.guard(__name__)  # before what takes seconds to import

import json
from pathlib import Path

from benchmarks.peak import PASSES
from src import picture
from src.config import Parser
from src.errors import UserError
from src.files import check_output


def main():
    parser = Parser("python -m benchmarks.plot", __doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    check_output(arguments.picture, ".png")
    picture.save(draw(read(arguments.results)), arguments.picture)


def read(path):
    """What `benchmarks.compare` wrote. Raises UserError where a part of it is missing."""
    try:
        results = json.loads(path.read_text("utf-8"))
        missing = [part for part in ("machine", "settings", "networks", "layers") if part not in results]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: no results of benchmarks.compare: {error}") from error
    if missing:
        raise UserError(f"{path}: the picture needs the parts {', '.join(missing)} of benchmarks.compare")
    return results


def draw(results):
    """The picture: the networks' times, and the layers' fractions of the limit."""
    figure = picture.new_figure(11, 3.6)
    time_axes, layer_axes = figure.subplots(1, 2, width_ratios=(1, 1.3))
    _draw_networks(time_axes, results)
    _draw_layers(layer_axes, results)
    machine = results["machine"]
    figure.suptitle(f"Adder ResNet-20 and its CNN, {machine['processor']}, {machine['threads']} threads, "
                    f"{machine['date']}", fontsize=10)
    return figure


def _draw_networks(axes, results):
    batch = results["settings"]["batch_size"]
    titles = ("inference", "training")
    names = [name for name, result in results["networks"]["inference"].items() if "seconds" in result]
    for i, name in enumerate(names):
        times = [results["networks"][title].get(name) for title in titles]
        places = [x + (i - (len(names) - 1) / 2) / (len(names) + 0.7) for x, time in enumerate(times) if time]
        bars = axes.bar(places, [1e3 * time["seconds"] / batch for time in times if time], 0.92 / (len(names) + 0.7),
                        label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(range(2), titles)
    axes.set_ylabel(f"ms per image, batch {batch}")
    axes.legend(fontsize=8)


def _draw_layers(axes, results):
    layers = {name: result for name, result in results["layers"].items() if name.startswith("3x3")}
    for i, direction in enumerate(PASSES):
        values = [result[direction]["fraction"] for result in layers.values()]
        axes.barh([y + (i - 1) * 0.27 for y in range(len(layers))], values, 0.25, label=direction.replace("_", " "))
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("fraction of the processor's limit")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(PASSES), frameon=False)


if __name__ == "__main__":
    errors.run(main)
