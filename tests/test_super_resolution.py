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
"""Super-resolution from folders of images to pictures, by the programs of classification."""
import dataclasses
import importlib
import os

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from PIL import Image

from src import data, predict
from src.checkpoint import load_parameters, save_parameters
from src.config import get_config, pick
from src.data import bicubic, pictures
from src.data.images import IMAGES, brightness
from src.errors import UserError
from src.networks import NETWORKS
from src.quant import __main__ as quant
from src.tasks import super_resolution
from src.tasks.super_resolution import Loss, SuperResolution, coloured, enlarged

SIZES = [(40, 33), (26, 51), (30, 30)]


def pixels(number, size):
    """A smooth image in colour."""
    random = np.random.default_rng(number)
    return bicubic.rounded(bicubic.resize(random.uniform(0, 255, (size[0] // 5, size[1] // 5, 3)), size))


def write(folder, sizes=None, first=0):
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes or SIZES, start=first):
        Image.fromarray(pixels(number, size)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(name="home", scope="module")
def fixture_home(tmp_path_factory):
    """Folders train and test."""
    home = tmp_path_factory.mktemp("home")
    write(home / "data" / "train")
    write(home / "data" / "test", SIZES[:2], first=3)
    return home


def options(path, **others):
    config = get_config("train", "x", ["--dataset", "images", "--data_path", str(path)])
    return dataclasses.replace(pick(SuperResolution.Options, config), **{"batch_size": 4, "patch_size": 12, **others})


def task(path, network="edsr", rank=0, ranks=1, splits=("train", "test"), **others):
    return SuperResolution(options(path, **others), NETWORKS[network], splits, rank=rank, ranks=ranks)


def patches(a_task, epoch=1):
    """Both columns of an epoch."""
    return [np.concatenate(column) for column in zip(*a_task.batches(epoch).create_tuple_iterator(
        num_epochs=1, output_numpy=True))]



@pytest.mark.parametrize("place, train, test", [
    ("", "train", "test"), ("", "train", "val"), ("", "train/HR", "validation/HR"),
    ("", "DIV2K_train_HR", "DIV2K_valid_HR")])
def test_layouts(place, train, test, tmp_path):
    folders = {"train": write(tmp_path / train), "test": write(tmp_path / test)}
    assert all(IMAGES.find(tmp_path, split) == folder for split, folder in folders.items())


@pytest.mark.parametrize("inside", ["", "HR"])
def test_a_folder_of_images_alone(inside, tmp_path):
    """Enough to test on, or to train on if some are held out, but not both."""
    folder = write(tmp_path / "a" / inside)
    assert IMAGES.find(tmp_path / "a", "test") == folder
    assert len(task(tmp_path / "a", splits=("test",)).testing) == 3
    held = task(tmp_path / "a", validation_size=1)
    assert [len(held.training), len(held.testing), held.held_out] == [2, 1, "validation"]
    with pytest.raises(UserError, match="no images for tests beside those to train on"):
        task(tmp_path / "a")
    with pytest.raises(UserError, match="validation_size 3 leaves nothing of 3"):
        task(tmp_path / "a", validation_size=3)
    with pytest.raises(UserError, match=r"no images in .*, nor in train, DIV2K_train_HR in it; they end in bmp, "):
        task(tmp_path)


def test_small_images_are_made_or_read(tmp_path):
    """Those that are made are of the part that is a multiple of the scale."""
    write(tmp_path / "test" / "HR")
    for pair, size in zip(IMAGES.read(tmp_path / "test" / "HR", 3), SIZES):
        assert pair.low.shape == (size[0] // 3, size[1] // 3, 3) and pair.high.shape == (
            3 * (size[0] // 3), 3 * (size[1] // 3), 3)
        np.testing.assert_array_equal(pair.low, bicubic.shrunk(pair.high, 3))
    official = tmp_path / "test" / "LR_bicubic" / "X3"
    official.mkdir(parents=True)
    for number, size in enumerate(SIZES):
        Image.fromarray(pixels(9, (size[0] // 3, size[1] // 3))).save(official / f"{number}x3.png")
    for pair in IMAGES.read(tmp_path / "test" / "HR", 3):
        np.testing.assert_array_equal(pair.low, pixels(9, pair.low.shape[:2]))
    Image.fromarray(pixels(9, (20, 20))).save(official / "2x3.png")
    with pytest.raises(UserError, match=r"2x3.png: 20 x 20 pixels, where .*2.png asks for 10 x 10"):
        task(tmp_path, splits=("test",), scale=3, patch_size=0)
    (official / "2x3.png").unlink()
    with pytest.raises(UserError, match="2x3.png: cannot be read"):
        task(tmp_path, splits=("test",), scale=3, patch_size=0)


def test_images_that_are_too_small_or_damaged(tmp_path):
    folder = write(tmp_path / "train", [(40, 33), (11, 60)])
    write(tmp_path / "test")
    assert "1 smaller images left out" in task(tmp_path).summary
    with pytest.raises(UserError, match="every training image is smaller than a patch; take a smaller --patch_size"):
        task(tmp_path, patch_size=64)
    with pytest.raises(UserError, match="patch_size 12 is no multiple of scale 5"):
        task(tmp_path, scale=5)
    Image.fromarray(pixels(0, (15, 12))[:, :9]).save(tmp_path / "test" / "small.png")
    with pytest.raises(UserError, match="small.png: 9 x 15 pixels are too few, at least 16 x 16 are needed"):
        task(tmp_path)
    (tmp_path / "test" / "small.png").rename(folder / "small.png")
    with pytest.raises(UserError, match="1.png: 60 x 11 pixels are too few"):
        task(tmp_path, validation_size=1, patch_size=4)
    (folder / "text.png").write_text("hello")
    with pytest.raises(UserError, match="text.png: damaged, or no image"):
        task(tmp_path)
    (folder / "text.png").unlink()
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(UserError, match="pipe.png: cannot be read: not a regular file"):
        task(tmp_path)


def test_patches_belong_together(tmp_path):
    """Where every pixel of the small images is a block of the large ones, so it is however they are turned."""
    for split in ("train", "test"):
        (tmp_path / split / "HR").mkdir(parents=True)
        (tmp_path / split / "LR_bicubic" / "X2").mkdir(parents=True)
        for number, size in enumerate(SIZES):
            low = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(low).save(tmp_path / split / "LR_bicubic" / "X2" / f"{number}x2.png")
            Image.fromarray(low.repeat(2, 0).repeat(2, 1)).save(tmp_path / split / "HR" / f"{number}.png")
    low, high = patches(task(tmp_path))
    assert low.shape == (48, 3, 6, 6) and low.dtype == np.float32 and 0 <= low.min() and low.max() <= 1
    np.testing.assert_array_equal(high, low.repeat(2, 2).repeat(2, 3))
    windows = [np.lib.stride_tricks.sliding_window_view(pair.low / 255, (6, 6), (0, 1))
               for pair in task(tmp_path).training]
    found = set()
    for patch in low:  # which is somewhere in an image, in one of eight forms
        forms = [np.rot90(patch[:, :, ::way], turn, (1, 2)) for way in (1, -1) for turn in range(4)]
        found |= {number for number, form in enumerate(forms)
                  if any((np.abs(window - form) < 1e-6).all((2, 3, 4)).any() for window in windows)}
    assert found == set(range(8))


def test_epochs_and_ranks(home):
    """The same epoch is the same; ranks share it; brightness is that of the colours."""
    first, again, second = (patches(task(home / "data"), epoch)[0] for epoch in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, second)
    parts = [patches(task(home / "data", rank=rank, ranks=2))[0] for rank in (0, 1)]
    assert len(parts[0]) == len(parts[1]) == 24
    assert sorted(patch.tobytes() for part in parts for patch in part) == sorted(patch.tobytes() for patch in first)
    grey = patches(task(home / "data", "vdsr"))[0]
    np.testing.assert_allclose(grey[:, 0], brightness(255 * first.transpose(0, 2, 3, 1))[..., 0] / 255, atol=1e-6)
    assert task(home / "data").steps == 12
    with pytest.raises(UserError, match="48 patches of an epoch are fewer than batch_size 64; --patches_per_image"):
        print(task(home / "data", batch_size=64).steps)


class Nearest(nn.Cell):
    """Every pixel twice, with a little of the pixels around it, and a value beyond what there is."""
    radius = 2

    def construct(self, x):
        weight = ms.Tensor(np.full((x.shape[1], 1, 5, 5), 1 / 25), ms.float32)
        y = ms.ops.Conv2D(x.shape[1], (5, 5), pad_mode="pad", pad=2, group=x.shape[1])(x, weight)
        count, channels, height, width = y.shape
        y = y.reshape((count, channels, height, 1, width, 1)) * ms.ops.ones((1, 1, 1, 2, 1, 2), ms.float32)
        return 1.2 * y.reshape((count, channels, 2 * height, 2 * width)) - 0.1


def test_loss():
    low, high = (np.random.default_rng(size).random((2, 3, size, size)).astype(np.float32) for size in (4, 8))
    loss, psnr = Loss(Nearest())(ms.Tensor(low), ms.Tensor(high))
    error = Nearest()(ms.Tensor(low)).asnumpy() - high
    assert float(loss) == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert float(psnr) == pytest.approx(-10 * np.log10((error ** 2).mean()), rel=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tile", [4, 7, 50])
def test_tiles_are_the_whole_image(tile, channels, monkeypatch):
    monkeypatch.setattr(super_resolution, "TILE", tile)
    image, counts = pixels(0, (23, 15)), []
    got = enlarged(Nearest(), image, 2, channels, lambda *count: counts.append(count))
    x = brightness(image) if channels == 1 else image
    whole = Nearest()(ms.Tensor(x.transpose(2, 0, 1)[None] / 255, ms.float32)).asnumpy()[0].transpose(1, 2, 0)
    np.testing.assert_array_equal(got, bicubic.rounded(255 * whole))
    tiles = -(-23 // tile) * -(-15 // tile)
    assert counts == [(done, tiles) for done in range(1, tiles + 1)]


class Broken(nn.Cell):
    radius = 0

    def construct(self, x):
        return ms.ops.ones((1, 3, 2 * x.shape[2], 2 * x.shape[3]), ms.float32) * float("nan")


def test_images_that_are_none():
    """What is not finite would be black."""
    with pytest.raises(UserError, match="what the network gives is not finite"):
        enlarged(Broken(), pixels(0, (9, 9)), 2, 3)


def test_workers(home):
    with pytest.raises(UserError, match="num_parallel_workers exceeds"):
        task(home / "data", num_parallel_workers=1000).batches(1)


def test_evaluation(home):
    """Brightness of whole images, two pixels less on each side, whatever the mode of execution."""
    ms.set_context(mode=ms.GRAPH_MODE)
    values = task(home / "data").evaluate(Nearest())
    assert ms.get_context("mode") == ms.GRAPH_MODE and list(values) == ["psnr", "ssim"]
    wanted = []
    for pair in IMAGES.read(home / "data" / "test", 2):
        error = brightness(enlarged(Nearest(), pair.low, 2, 3)) - brightness(pair.high)
        wanted.append(10 * np.log10(255 ** 2 / (error[2:-2, 2:-2] ** 2).mean()))
    assert values["psnr"] == pytest.approx(np.mean(wanted), rel=1e-6) and 0 < values["ssim"] < 1


def test_colours_stay_when_brightness_changes():
    image = pixels(0, (9, 7)).astype(float)
    y = brightness(image) + np.random.default_rng(0).uniform(-20, 20, (9, 7, 1))
    got = coloured(y, image)
    np.testing.assert_allclose(brightness(got), y, atol=1e-6)
    np.testing.assert_allclose(np.ptp(got - image, 2), 0, atol=1e-6)


TRAIN = ("--dataset", "images", "--data_path", "data", "--batch_size", 16, "--patch_size", 12, "--n_feats", 4, "--mode",
         "PYNATIVE", "--optimizer", "adam", "--lr", 0.01, "--weight_decay", 0)
EDSR = (*TRAIN, "--network", "edsr", "--n_resblocks", 1)


@pytest.fixture(name="trained")
def fixture_trained(home, run):
    """A run of two epochs, the second of which was resumed; its best checkpoint."""
    if not (home / "run").exists():
        task_steps = SuperResolution.batches
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(SuperResolution, "batches", lambda self, epoch: task_steps(self, epoch) if epoch < 2 else
                          (_ for _ in ()).throw(KeyboardInterrupt()))
            run("train", *EDSR, "--epoch_size", 2, "--output_path", "run")
        run("train", *EDSR, "--epoch_size", 2, "--output_path", "run", "--resume")
        run("train", *EDSR, "--epoch_size", 2, "--output_path", "whole")
    return next((home / "run").glob("adder_edsr_images_x2_[0-9]*.ckpt")).relative_to(home)


def test_trained_and_resumed(home, trained):
    """To the bit as without the interruption; the columns are the task's, the name has the PSNR."""
    rows = (home / "run" / "metrics.csv").read_text("utf-8").splitlines()
    assert rows[0] == "epoch,loss,train_psnr,test_psnr,test_ssim,images_per_second" and len(rows) == 3
    best = max(float(row.split(",")[3]) for row in rows[1:])
    assert trained.name == f"adder_edsr_images_x2_{round(100 * best):04d}.ckpt"
    weights = [ms.load_checkpoint(str(home / name / "last.ckpt")) for name in ("run", "whole")]
    assert all(np.array_equal(value.asnumpy(), weights[1][key].asnumpy()) for key, value in weights[0].items()
               if key != "identity")


def test_evaluated_and_quantised(run, trained):
    """By what the checkpoint says of itself; folded, and in 8 bits, it is as good as in training."""
    printed = run("eval", "--checkpoint_file_path", trained, "--eval_dataset_path", "data", "--mode", "PYNATIVE")
    result, ssim = printed.splitlines()
    assert abs(float(result.split()[1]) - int(trained.stem[-4:]) / 100) < 0.01 and ssim.startswith("SSIM: 0.")
    printed = run(quant, "--checkpoint_file_path", trained, "--data_path", "data", "--output", "int8.ckpt",
                  "--calibration_size", 16, "--patch_size", 20)
    assert "to 8 bits (layers, 16 training images)" in printed
    again = run("eval", "--checkpoint_file_path", "int8.ckpt", "--eval_dataset_path", "data/test", "--mode", "PYNATIVE")
    assert abs(float(again.split()[1]) - float(result.split()[1])) < 0.5


def test_exported(run, trained, monkeypatch):
    """What is asked of `src.exporter`, which other tests are for."""
    shapes = []
    monkeypatch.setattr(importlib.import_module("export"), "export", lambda net, shape, *_, output: shapes.append(
        (shape, output)))
    printed = run("export", "--checkpoint_file_path", trained, "--file_format", "MINDIR", "--file_name", "net")
    assert printed == (f"exported {trained} as net.mindir, any batch size, images of any size, same enlarged after "
                       "reloading\n")
    printed = run("export", "--checkpoint_file_path", trained, "--file_format", "ONNX", "--file_name", "net")
    assert printed == f"exported {trained} as net.onnx, any batch size, images of 48 x 48\n"
    assert shapes == [((None, 3, None, None), "enlarged"), ((None, 3, 48, 48), "enlarged")]


@pytest.mark.parametrize("form", ["L", "RGBA", "16", "jpg"])
def test_pictures_are_enlarged(home, run, trained, form, monkeypatch):
    """Of every kind, tile by tile; the result is that of the task."""
    monkeypatch.setattr(super_resolution, "TILE", 9)
    image = Image.fromarray(pixels(7, (13, 21)))
    name = "a.jpg" if form == "jpg" else "a.png"
    image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257) if form == "16" else image.convert(
        "RGB" if form == "jpg" else form)
    image.save(home / name)
    printed = run(predict, name, "--checkpoint_file_path", trained, "--output_path", "big.png")
    assert printed == f"{name}\n  21 x 13 enlarged to 42 x 26: big.png\n"
    assert np.asarray(Image.open(home / "big.png")).shape == (26, 42, 3) and not list(home.glob(".*"))
    (home / "pictures").mkdir(exist_ok=True)
    run(predict, name, "data/test/3.png", "--checkpoint_file_path", trained, "--output_path", "pictures")
    assert {path.name for path in (home / "pictures").iterdir()} == {"a.png", "3.png"}


@pytest.mark.parametrize("arguments, words", [
    ([], "edsr gives a picture: say by --output_path where it goes"),
    (["--output_path", "big.txt"], "big.txt: a picture's name ends in .png"),
    (["--output_path", "absent/big.png"], "there is no folder absent"),
    (["--output_path", "data/test/3.png"], "data/test/3.png is the picture itself"),
    (["data/train/3.png", "--output_path", "data/train"], "data/train holds pictures that are read, and might be overwr"),
    (["data/test/4.png", "--output_path", "big.png"], "big.png is no folder, which --output_path must be for several"),
    (["data/train/3.png", "--output_path", "data"], "several pictures have one name"),
    (["--output_path", "big.png", "--scale", "3"], "unrecognized arguments: --scale 3")])
def test_predict_refuses(home, run, trained, arguments, words):
    before = (home / "data" / "test" / "3.png").read_bytes()
    with pytest.raises(UserError, match=words):
        run(predict, "data/test/3.png", *arguments, "--checkpoint_file_path", trained)
    assert (home / "data" / "test" / "3.png").read_bytes() == before
    Image.fromarray(pixels(0, (10, 10))[:1]).save(home / "line.png")
    with pytest.raises(UserError, match="line.png: 10 x 1 pixels are too few to enlarge"):
        run(predict, "line.png", "--checkpoint_file_path", trained, "--output_path", "big.png")


def test_larger_scales_begin_with_the_weights_of_smaller_ones(home, run, trained):
    """Everything but what enlarges."""
    printed = run("train", *EDSR, "--scale", 3, "--pre_trained", trained, "--epoch_size", 1, "--lr", 1e-8,
                  "--output_path", "x3")
    assert "has another scale; the head (upsampler.0.conv.weight, upsampler.0.conv.bias) begins at random" in printed
    before, after = (ms.load_checkpoint(str(path)) for path in (home / trained, home / "x3" / "last.ckpt"))
    got, wanted = (each["body.0.layer1.conv.adder"].asnumpy() for each in (after, before))
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    with pytest.raises(UserError, match="int8.ckpt is quantised; take the float checkpoint"):
        parameters = load_parameters(home / trained)
        save_parameters(parameters, home / "int8.ckpt", identity=parameters.pop("identity"), bits=8, scheme="layers")
        run("train", *EDSR, "--scale", 3, "--pre_trained", "int8.ckpt", "--output_path", "x")
    with pytest.raises(UserError, match="has another n_feats; say --n_feats 4"):
        run("train", *EDSR, "--scale", 3, "--n_feats", 5, "--pre_trained", trained, "--output_path", "x")


def test_vdsr(home, run, monkeypatch):
    """On brightness; the colours of a picture are those of its bicubic enlargement."""
    monkeypatch.setattr("src.networks.adder_sr.VDSR_LAYERS", 3)
    run("train", *TRAIN, "--network", "vdsr", "--layer", "conv", "--epoch_size", 1, "--output_path", "vdsr")
    checkpoint = next((home / "vdsr").glob("cnn_vdsr_images_x2_*.ckpt"))
    Image.fromarray(pixels(7, (13, 21))).save(home / "a.png")
    run(predict, "a.png", "--checkpoint_file_path", checkpoint, "--output_path", "big.png")
    low, big = pictures.read(home / "a.png"), pictures.read(home / "big.png")
    assert np.abs(big - bicubic.resize(low, (26, 42))).mean() < 30


def test_data_without_classes(tmp_path):
    """As figures and benchmarks of classifiers would have them."""
    with pytest.raises(UserError, match="data set images is not for classification, but for super_resolution"):
        data.prepare("images", str(tmp_path), ("train",))


@pytest.mark.parametrize("arguments, words", [
    (["--network", "edsr", "--dataset", "cifar100"],
     "edsr learns super_resolution, for which data set cifar100 is none: give --dataset images"),
    (["--network", "resnet20", "--dataset", "images"],
     "resnet20 learns classification, for which data set images is none"),
    (["--network", "edsr", "--dataset", "images", "--method", "ngd", "--teacher", "l2", "--inherit"],
     "ngd is for classifiers"),
    (["--network", "edsr", "--dataset", "images", "--mixup", "0.2"], "edsr does not use --mixup"),
    (["--network", "vdsr", "--dataset", "images", "--n_resblocks", "3"], "vdsr does not use --n_resblocks"),
    (["--network", "resnet20", "--dataset", "cifar10", "--scale", "3"], "resnet20 does not use --scale"),
    (["--network", "edsr", "--dataset", "images", "--class_num", "3"], "edsr does not use --class_num"),
    (["--network", "edsr", "--dataset", "images", "--scale", "5"], "scale must be a number from 2 to 4, not 5")])
def test_training_refuses(run, arguments, words):
    with pytest.raises(UserError, match=words):
        run("train", *arguments, "--output_path", "never")
