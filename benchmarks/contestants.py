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
"""What is timed. Each function builds one contestant and returns a function without arguments that runs it once.

They are called in processes of their own, so that libraries neither share threads nor count each other's memory; hence
the imports inside.
"""
import ctypes

import numpy as np

from benchmarks.binding import bind

CLASSES = 100


def adder_inference(batch, backend):
    """The network as eval.py runs it."""
    import mindspore as ms

    from src.folding import fold
    from src.res20_adder import resnet20

    ms.set_context(mode=ms.GRAPH_MODE)
    net = fold(resnet20(CLASSES, backend=backend), backend)
    images = ms.Tensor(_images(batch))
    return lambda: net(images).asnumpy()


def adder_int8_inference(batch, bits):
    """The network quantised to `bits` bits, as eval.py runs it; its weights are random, with statistics that fit."""
    import mindspore as ms

    from src.quant.calibrate import quantise_network
    from src.quant.cells import occupy
    from src.res20_adder import resnet20

    ms.set_context(mode=ms.PYNATIVE_MODE)
    net, calibration = resnet20(CLASSES).set_train(), _images(16)
    for _ in range(20):
        net(ms.Tensor(calibration))
    values = quantise_network(net, calibration, bits)
    ms.set_context(mode=ms.GRAPH_MODE)
    net, images = occupy(resnet20(CLASSES), values), ms.Tensor(_images(batch))
    return lambda: net(images).asnumpy()


def onnxruntime_int8_inference(batch):
    """The CNN of the same shape, quantised to 8 bits by ONNX Runtime, as its documentation advises for x86-64: weights
    and activations int8, one scale for each filter."""
    import tempfile
    from pathlib import Path

    import mindspore as ms
    import onnx.version_converter
    import onnxruntime
    from onnxruntime import quantization

    from src.exporter import export
    from src.kernels.operations import thread_count
    from src.res20_adder import resnet20

    class Calibration(quantization.CalibrationDataReader):
        """A batch of images, once."""

        def __init__(self):
            self.batches = [{session.get_inputs()[0].name: images}]

        def get_next(self):
            return self.batches.pop() if self.batches else None

    ms.set_context(mode=ms.GRAPH_MODE)
    images, options = _images(batch), onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    with tempfile.TemporaryDirectory() as folder:
        exported, prepared, quantised = (str(Path(folder) / f"{name}.onnx") for name in ("cnn", "prepared", "int8"))
        export(resnet20(CLASSES, layer="conv", backend="onnx"), images.shape, Path(exported), "ONNX")
        options.optimized_model_filepath = prepared  # norms folded into the convolutions
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
        onnx.save(onnx.version_converter.convert_version(onnx.load(prepared), 13), prepared)  # scales for each filter
        quantization.quantize_static(prepared, quantised, Calibration(), per_channel=True)
        options.optimized_model_filepath = ""
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(quantised, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images})


def adder_training(batch, backend):
    """A step as train.py makes it: forward, backward, optimizer."""
    import mindspore as ms

    from src.res20_adder import resnet20
    from src.tasks.classification import Loss
    from src.training.step import TrainStep, sgd

    ms.set_context(mode=ms.GRAPH_MODE)
    net = resnet20(CLASSES, backend=backend).set_train()
    step = TrainStep(Loss(net), sgd(net, 10_000, 0.1, 0.9, 5e-4))
    images, labels = ms.Tensor(_images(batch)), ms.Tensor(_labels(batch).astype(np.int32))
    return lambda: step(images, labels)[0].asnumpy()


def adder_layer(x_shape, w_shape, stride, padding, function):
    """One function of the kernel's library on one layer, called as MindSpore does, into memory that is there."""
    from src.kernels import Geometry
    from src.kernels.operations import library_path

    random, geometry = np.random.default_rng(0), Geometry(stride, padding)
    x, w = (random.standard_normal(shape, np.float32) for shape in (x_shape, w_shape))
    rows, cols = (geometry.output_size(size, w_shape[2]) for size in x_shape[2:])
    dy = random.standard_normal((x_shape[0], w_shape[0], rows, cols), np.float32)
    sizes, mix = np.empty(geometry.sizes, np.uint8), np.ones(1, np.float32)
    tensors = {"AdderForward": (x, w, sizes, np.empty_like(dy)),
               "AdderInputGrad": (dy, x, w, sizes, np.empty_like(x)),
               "AdderWeightGrad": (dy, x, w, mix, sizes, np.empty_like(w))}[function]
    return bind(getattr(ctypes.CDLL(str(library_path("CPU"))), function), tensors)


def torch_inference(batch, layout):
    """The CNN of the same shape in PyTorch; layout "contiguous_format" or "channels_last"."""
    import torch

    net, images = _torch_network(batch, layout)
    net.eval()

    def run():
        with torch.inference_mode():
            net(images)

    return run


def torch_training(batch, layout):
    """A training step of that CNN: forward, backward, optimizer."""
    import torch

    net, images = _torch_network(batch, layout)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=5e-4)
    labels = torch.from_numpy(_labels(batch))

    def run():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()

    return run


def _torch_network(batch, layout):
    import torch

    from benchmarks.torch_resnet import ResNet20

    layout = getattr(torch, layout)
    return (ResNet20(CLASSES).to(memory_format=layout),
            torch.from_numpy(_images(batch)).to(memory_format=layout))


def _images(batch):
    return np.random.default_rng(0).standard_normal((batch, 3, 32, 32), np.float32)


def _labels(batch):
    return np.arange(batch) % CLASSES
