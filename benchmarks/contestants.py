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
the imports inside. On a GPU a run is several steps, of which only the last is waited for: `times` says how many.
"""
import ctypes

import numpy as np

from benchmarks.binding import Gpu, bind

CLASSES = 100
STEPS = 20  # of a run on a GPU


def adder_inference(batch, backend, device="CPU", layer="l1", precision="float32"):
    """The network as eval.py runs it."""
    import mindspore as ms

    from src.folding import fold
    from src.res20_adder import resnet20

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device(device)
    net = fold(resnet20(CLASSES, layer=layer, backend=backend), backend, precision)
    images = ms.Tensor(_images(batch))
    return _steps(lambda: net(images), lambda logits: logits.asnumpy(), device)


def adder_int8_inference(batch, bits):
    """The network quantised to `bits` bits, as eval.py runs it; its weights are random, with statistics that fit."""
    import mindspore as ms

    net, images = _quantised(bits, "auto"), ms.Tensor(_images(batch))
    return lambda: net(images).asnumpy()


def onnxruntime_adder_inference(batch, bits):
    """The network, of floats if `bits` is 0, as export.py writes it for ONNX Runtime."""
    import tempfile
    from pathlib import Path

    import onnxruntime

    from src.exporter import export
    from src.kernels.operations import thread_count
    from src.res20_adder import resnet20

    images, options = _images(batch), onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    net = _quantised(bits, "onnx") if bits else resnet20(CLASSES, backend="onnx")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        export(net, (None, *images.shape[1:]), file, "ONNX")
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images})


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


def adder_training(batch, backend, device="CPU", layer="l1", precision="float32"):
    """A step as train.py makes it: forward, backward, optimizer."""
    import mindspore as ms

    from src.res20_adder import resnet20
    from src.tasks.classification import Loss
    from src.training.step import TrainStep, sgd

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device(device)
    net = resnet20(CLASSES, layer=layer, backend=backend, **_of_l1(layer, precision)).set_train()
    step = TrainStep(Loss(net), sgd(net, 10_000, 0.1, 0.9, 5e-4))
    images, labels = ms.Tensor(_images(batch)), ms.Tensor(_labels(batch).astype(np.int32))
    return _steps(lambda: step(images, labels)[0], lambda loss: loss.asnumpy(), device)


def adder_edsr(shape, n_feats, n_resblocks, training, layer="l1", precision="float32"):
    """EDSR, of scale 2, as eval.py runs it on images of a shape [N, 3, h, w], or a training step as train.py makes it."""
    import mindspore as ms

    from src.folding import fold
    from src.networks.adder_sr import edsr
    from src.tasks.super_resolution import Loss
    from src.training.step import TrainStep, adam

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")
    options = _of_l1(layer, precision) if training else {}
    net = edsr(n_feats=n_feats, n_resblocks=n_resblocks, layer=layer, **options)
    small, large = map(ms.Tensor, _pictures(shape))
    if not training:
        net = fold(net, precision=precision)
        return lambda: net(small).asnumpy()
    step = TrainStep(Loss(net.set_train()), adam(net, 10_000, 1e-3, 1.0, 0.0))
    return lambda: step(small, large)[0].asnumpy()


def torch_edsr(shape, n_feats, n_resblocks, training, layout):
    """The CNN of the same shape in PyTorch; see `torch_inference` for the layout."""
    import torch

    from benchmarks.torch_edsr import EDSR

    layout = getattr(torch, layout)
    net = EDSR(n_feats, n_resblocks).to(memory_format=layout)
    small, large = (torch.from_numpy(pictures).to(memory_format=layout) for pictures in _pictures(shape))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def enlarge():
        with torch.inference_mode():
            return net(small)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.l1_loss(net(small), large)
        loss.backward()
        optimizer.step()

    return step if training else enlarge


def adder_layer(x_shape, w_shape, stride, padding, function, device="CPU"):
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
    call = getattr(ctypes.CDLL(str(library_path(device))), function)
    if device == "CPU":
        return _checked(bind(call, tensors))
    gpu = Gpu()
    addresses = [gpu.allocate(tensor.nbytes) for tensor in tensors]
    for address, tensor in zip(addresses, tensors):
        gpu.write(address, tensor.ctypes.data, tensor.nbytes)
    return _steps(_checked(bind(call, tensors, addresses)), lambda _: gpu.synchronise(), device)


def _checked(call):
    """A call of the library that may not fail: a refused one takes no time."""
    def run():
        if call() != 0:
            raise RuntimeError("the kernel failed")
    return run


def torch_inference(batch, layout, device="cpu", tf32=False, compiled=False):
    """The CNN of the same shape in PyTorch.

    Args:
        batch (int): images.
        layout (str): "contiguous_format" or "channels_last".
        device (str): "cpu" or "cuda".
        tf32 (bool): whether convolutions round their operands to ten bits; on a GPU.
        compiled (bool): by torch.compile, else as it stands.
    """
    import torch

    net, images = _torch_network(batch, layout, device, tf32)
    net.eval()
    net = torch.compile(net, mode="max-autotune-no-cudagraphs") if compiled else net

    def step():
        with torch.inference_mode():
            return net(images)

    return _steps(step, lambda logits: logits.cpu(), device)


def torch_training(batch, layout, device="cpu", tf32=False, compiled=False):
    """A training step of that CNN: forward, backward, optimizer."""
    import torch

    net, images = _torch_network(batch, layout, device, tf32)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=5e-4)
    labels = torch.from_numpy(_labels(batch)).to(device)
    net = torch.compile(net) if compiled else net

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return _steps(step, lambda loss: loss.detach().cpu(), device)


def _quantised(bits, backend):
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
    return occupy(resnet20(CLASSES, backend=backend), values, backend)


def _torch_network(batch, layout, device, tf32):
    import torch

    from benchmarks.torch_resnet import ResNet20

    if device == "cuda":
        if not torch.cuda.is_available():
            raise ImportError(name="torch with CUDA")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True  # the fastest algorithm of each convolution
    layout = getattr(torch, layout)
    return (ResNet20(CLASSES).to(device, memory_format=layout),
            torch.from_numpy(_images(batch)).to(device, memory_format=layout))


def _of_l1(layer, precision):
    """Options of layers l1, which others do not take."""
    return {"precision": precision} if layer == "l1" else {}


def _steps(step, wait, device):
    """What makes one step on a CPU, several on a GPU, and waits for the last one's result."""
    def run():
        for _ in range(run.times - 1):
            step()
        wait(step())

    run.times = 1 if device.upper() == "CPU" else STEPS
    return run


def _images(batch):
    return np.random.default_rng(0).standard_normal((batch, 3, 32, 32), np.float32)


def _labels(batch):
    return np.arange(batch) % CLASSES


def _pictures(shape):
    """Small ones [N, 3, h, w] and as many of twice the size, of values 0 .. 1."""
    random, (batch, channels, height, width) = np.random.default_rng(0), shape
    return [random.uniform(size=size).astype(np.float32)
            for size in (shape, (batch, channels, 2 * height, 2 * width))]
