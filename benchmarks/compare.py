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
"""Adder layers against convolutions on this machine: prints tables, and writes them as JSON.

    python -m benchmarks.compare --output benchmarks/results.json

PyTorch and ONNX Runtime (with onnx) take part if they are installed; on a GPU, PyTorch if it has CUDA.
"""
from src import errors

errors.guard(__name__)  # before what takes seconds to import

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path

from benchmarks.binding import Gpu
from benchmarks.peak import PASSES, peaks
from benchmarks.race import race
from src.config import Parser, check_range
from src.errors import UserError
from src.files import check_output, replacing
from src.kernels.geometry import Geometry
from src.kernels.operations import thread_count

LAYERS = {  # name: x [C, H, W], w [C_out, C / groups, k, k], stride, padding
    "3x3, 16 to 16, 32x32": ((16, 32, 32), (16, 16, 3, 3), 1, 1),
    "3x3, 16 to 32, 32x32, stride 2": ((16, 32, 32), (32, 16, 3, 3), 2, 1),
    "1x1, 16 to 32, 32x32, stride 2": ((16, 32, 32), (32, 16, 1, 1), 2, 0),
    "3x3, 32 to 32, 16x16": ((32, 16, 16), (32, 32, 3, 3), 1, 1),
    "3x3, 32 to 64, 16x16, stride 2": ((32, 16, 16), (64, 32, 3, 3), 2, 1),
    "1x1, 32 to 64, 16x16, stride 2": ((32, 16, 16), (64, 32, 1, 1), 2, 0),
    "3x3, 64 to 64, 8x8": ((64, 8, 8), (64, 64, 3, 3), 1, 1),
    "4 groups, 3x3, 64 to 64, 16x16": ((64, 16, 16), (64, 16, 3, 3), 1, 1),
    "depthwise, 3x3, 64, 16x16": ((64, 16, 16), (64, 1, 3, 3), 1, 1),
}
LARGE_LAYERS = {  # of ImageNet networks
    "3x3, 64 to 64, 56x56": ((64, 56, 56), (64, 64, 3, 3), 1, 1),
    "1x1, 256 to 64, 56x56": ((256, 56, 56), (64, 256, 1, 1), 1, 0),
    "3x3, 512 to 512, 7x7": ((512, 7, 7), (512, 512, 3, 3), 1, 1),
}
FUNCTIONS = {"forward": "AdderForward", "input_grad": "AdderInputGrad", "weight_grad": "AdderWeightGrad"}
EDSR = (64, 16)  # channels and blocks of its baseline
SMALL_PICTURES = {"inference": (1, 3, 180, 320), "training": (16, 3, 48, 48)}
ON_CPU_ONLY = ("quantised", "exported", "super_resolution")  # parts
LAYOUTS = {"torch CNN, channels last": "channels_last", "torch CNN, NCHW": "contiguous_format"}
PEERS = {  # arguments of the CNNs in PyTorch behind the batch, by device
    "CPU": {name: (layout,) for name, layout in LAYOUTS.items()},
    "GPU": {"torch CNN, NCHW": ("contiguous_format", "cuda"), "torch CNN, channels last": ("channels_last", "cuda"),
            "torch CNN, compiled": ("channels_last", "cuda", False, True),
            "TF32: torch CNN, NCHW": ("contiguous_format", "cuda", True),
            "TF32: torch CNN, channels last": ("channels_last", "cuda", True),
            "TF32: torch CNN, compiled": ("channels_last", "cuda", True, True)},
}


def main():
    parser = Parser("python -m benchmarks.compare", __doc__)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=11, help="runs of each contestant, of which the median counts")
    parser.add_argument("--composed_batch_size", type=int, default=64,
                        help="of the composed form and of exported models, which are slow")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), help="all that the device has, if not given")
    parser.add_argument("--device_target", default="CPU", choices=("CPU", "GPU"))
    arguments = parser.parse_args()
    check(arguments)
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    results = {"machine": machine(arguments.device_target), "settings": settings,
               "peak": peaks(arguments.device_target)}
    print(describe(results), flush=True)
    for part in arguments.parts:
        results[part] = PARTS[part](arguments, results["peak"])
        if arguments.output:
            with replacing(arguments.output) as temporary:
                temporary.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def check(arguments):
    """Refuse what would fail only after minutes, and complete the parts."""
    for name in ("batch_size", "rounds", "composed_batch_size"):
        check_range(name, getattr(arguments, name), 1, 65536)
    if arguments.output:
        check_output(arguments.output, ".json")
    on_gpu = arguments.device_target == "GPU"
    arguments.parts = arguments.parts or [part for part in PARTS if not on_gpu or part not in ON_CPU_ONLY]
    if on_gpu:
        for part in ON_CPU_ONLY:
            if part in arguments.parts:
                raise UserError(f"the part {part} runs on CPU only: leave it out of --parts")
        try:
            Gpu()
        except OSError as error:
            raise UserError(f"no NVIDIA GPU here: {error}") from error


def networks(arguments, peak):  # pylint: disable=unused-argument
    """The whole network: inference and training, and inference of single images."""
    results, device = {}, arguments.device_target
    for title, batch, form in (("inference", arguments.batch_size, "inference"),
                               ("training", arguments.batch_size, "training"), ("latency", 1, "inference")):
        entries = {"adder": (f"adder_{form}", batch, "kernel", device),
                   **{name: (f"torch_{form}", batch, *options) for name, options in PEERS[device].items()}}
        if device == "CPU":
            entries["adder, int16"] = (f"adder_{form}", batch, "kernel", device, "l1", "int16")
        if device == "GPU":
            entries["MindSpore CNN"] = (f"adder_{form}", batch, "kernel", device, "conv")
        results[title] = race(entries, arguments.rounds * (10 if batch == 1 else 1))
        _print_networks(f"{title}, batch {batch}", batch, results[title])
    return results


def quantised(arguments, peak):  # pylint: disable=unused-argument
    """Inference of the network of 8-bit integers against CNNs of floats and of 8-bit integers."""
    batch = arguments.batch_size
    entries = {"adder": ("adder_int8_inference", batch, 8),
               **{name: ("torch_inference", batch, layout) for name, layout in LAYOUTS.items()},
               "onnxruntime CNN, int8": ("onnxruntime_int8_inference", batch)}
    results = race(entries, arguments.rounds)
    _print_networks(f"inference in 8 bits, batch {batch}", batch, results)
    return results


def exported(arguments, peak):  # pylint: disable=unused-argument
    """The models that export.py writes for ONNX Runtime, against the kernel."""
    results, batch = {}, arguments.composed_batch_size
    for title, form, bits in (("floats", ("adder_inference", batch, "kernel"), 0),
                              ("8 bits", ("adder_int8_inference", batch, 8), 8)):
        entries = {"kernel": form, "exported": ("onnxruntime_adder_inference", batch, bits)}
        results[title] = race(entries, min(arguments.rounds, 5))
        _print_networks(f"ONNX in ONNX Runtime, {title}, batch {batch}", batch, results[title])
    return results


def super_resolution(arguments, peak):  # pylint: disable=unused-argument
    """EDSR of scale 2, its baseline of 16 blocks of 64 channels: enlarging a picture, and a training step."""
    results = {}
    for title, shape in SMALL_PICTURES.items():
        form = (shape, *EDSR, title == "training")
        entries = {"adder": ("adder_edsr", *form), "adder, int16": ("adder_edsr", *form, "l1", "int16"),
                   "MindSpore CNN": ("adder_edsr", *form, "conv"),
                   **{name: ("torch_edsr", *form, layout) for name, layout in LAYOUTS.items()}}
        results[title] = race(entries, min(arguments.rounds, 5))
        print(f"\nEDSR, {title}, {shape[0]} x {shape[2]} x {shape[3]} to twice the size\n{'':26}  ms   large pixels/s")
        for name, result in results[title].items():
            if "skipped" not in result:
                rate = 4e-6 * shape[0] * shape[2] * shape[3] / result["seconds"]
                print(f"{name:24} {1e3 * result['seconds']:7.1f} {rate:8.3f} M", flush=True)
    return results


def composed(arguments, peak):  # pylint: disable=unused-argument
    """The form from built-in operators, against the kernel."""
    results = {}
    batch = arguments.composed_batch_size
    for form in ("inference", "training"):
        entries = {backend: (f"adder_{form}", batch, backend, arguments.device_target)
                   for backend in ("composed", "kernel")}
        results[form] = race(entries, min(arguments.rounds, 5))
        _print_networks(f"composed form, {form}, batch {batch}", batch, results[form])
    return results


def layers(arguments, peak):
    """Each layer shape of the network, in the three directions, as a fraction of what the cores can do."""
    return _layers(LAYERS, arguments.batch_size, arguments, peak)


def growth(arguments, peak):
    """Cost per image from batch 1 to 1024, and per pair (x, w) on the layers of larger networks."""
    batches = {batch: _needed(race({"adder": ("adder_inference", batch, "kernel", arguments.device_target)},
                                   arguments.rounds))["adder"]
               for batch in (1, 4, 16, 64, 256, 1024)}
    print("\ninference by batch\nbatch   ms/image   peak memory of the host, MiB")
    for batch, result in batches.items():
        print(f"{batch:5} {1e3 * result['seconds'] / batch:10.3f} {result['memory'] / 2 ** 20:10.0f}")
    return {"batches": batches, "layers": _layers(LARGE_LAYERS, 16, arguments, peak)}


PARTS = {"networks": networks, "quantised": quantised, "composed": composed, "exported": exported, "layers": layers,
         "growth": growth, "super_resolution": super_resolution}


def _layers(shapes, batch, arguments, peak):
    device = arguments.device_target
    units = thread_count() if device == "CPU" else 1  # that the limit is of
    where = f"{units} threads" if device == "CPU" else "a GPU"
    print(f"\nlayers, batch {batch}: G|x - w|/s on {where} (fraction of the limit of the pass)")
    print(f"{'':34}" + "".join(f"{direction:>18}" for direction in PASSES))
    results = {}
    for name, (x, w, stride, padding) in shapes.items():
        geometry = ((batch, *x), w, stride, padding)
        rows, cols = (Geometry(stride, padding).output_size(size, w[2]) for size in x[1:])
        pairs = batch * w[0] * w[1] * w[2] ** 2 * rows * cols
        times = _needed(race({direction: ("adder_layer", *geometry, FUNCTIONS[direction], device)
                              for direction in PASSES}, arguments.rounds))
        results[name] = {direction: {"rate": pairs / result["seconds"], "fraction": pairs / result["seconds"] /
                                     (units * peak[direction])} for direction, result in times.items()}
        print(f"{name:34}" + "".join(f"{1e-9 * result['rate']:10.1f} ({result['fraction']:.2f}) "
                                     for result in results[name].values()), flush=True)
    return results


def _needed(results):
    """The results of contestants that all have to be there."""
    for name, result in results.items():
        if "skipped" in result:
            raise UserError(f"{name}: {result['skipped']}")
    return results


def _print_networks(title, batch, results):
    print(f"\n{title}\n{'':26} ms    ms/image   peak memory of the host, MiB")
    for name, result in results.items():
        if "skipped" in result:
            print(f"{name:24} skipped: {result['skipped']}")
        else:
            print(f"{name:24} {1e3 * result['seconds']:7.2f} {1e3 * result['seconds'] / batch:7.3f} "
                  f"{result['memory'] / 2 ** 20:9.0f}", flush=True)
    for library in ("torch", "onnxruntime"):
        peers = [result["seconds"] for name, result in results.items() if name.startswith(library)
                 and "seconds" in result]
        for name in (name for name in results if peers and name.startswith("adder")):
            print(f"{name} / best CNN of {library}: {results[name]['seconds'] / min(peers):.2f}", flush=True)


def machine(device):
    """Processor, GPU, versions and date."""
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        processor = next((line.split(":")[1].strip() for line in info if line.startswith("model name")),
                         platform.machine())
    versions = {"python": platform.python_version()}
    for name in ("mindspore", "numpy", "torch", "onnx", "onnxruntime"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    gpu = {"gpu": Gpu().name} if device == "GPU" else {}
    return {"processor": processor, **gpu, "processors": len(os.sched_getaffinity(0)), "threads": thread_count(),
            "versions": versions, "date": datetime.date.today().isoformat()}


def describe(results):
    """What was measured where, and the limits of a core."""
    info, rates = results["machine"], {name: 1e-9 * rate for name, rate in results["peak"].items()}
    versions = ", ".join(f"{name} {version or 'not installed'}" for name, version in info["versions"].items())
    return (f"{info['date']}, {info.get('gpu', info['processor'])}, {info['threads']} threads, {versions}\n"
            f"limits of {'the GPU' if 'gpu' in info else 'a core'}, G/s: multiply-add {rates['multiply_add']:.1f}, "
            f"forward {rates['forward']:.1f}, "
            f"input gradient {rates['input_grad']:.1f}, weight gradient {rates['weight_grad']:.1f}")


if __name__ == "__main__":
    errors.run(main)
