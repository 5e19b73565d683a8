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
"""src.data with folders of own images: every kind of image arrives, and what cannot is named before the work."""
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src import data
from src.config import get_config, pick
from src.data import imagenet, pictures
from src.data.cifar import MEAN, STD
from src.errors import UserError
from src.networks import NETWORKS
from src.tasks.classification import Classification

BOTH = ("train", "test")
ROOT = Path(__file__).resolve().parents[1]


def picture(number=0, size=(48, 40)):
    """A smooth image in colour; `number` is in its blue."""
    rows, columns = np.mgrid[:size[0], :size[1]]
    blue = np.full(size, number)
    return Image.fromarray(np.stack([columns * 255 // size[1], rows * 255 // size[0], blue], 2).astype(np.uint8))


def write(parent, classes=("cat", "dog"), train=6, test=3, test_folder="test"):
    """A folder with images of many sizes."""
    for name, count in (("train", train), (test_folder, test)):
        for label, each in enumerate(classes):
            (parent / name / each).mkdir(parents=True)
            for number in range(count):
                image = picture(100 * label + number, (30 + number % 9, 50 - number % 9))
                image.save(parent / name / each / f"{number}.png")
    return parent


def batches(*args, **options):
    return list(data.create_dataset("folder", *args, **options).create_tuple_iterator(num_epochs=1, output_numpy=True))


def everything(*args, constants=(MEAN, STD), **options):
    """Pixels [N, 3, 32, 32] and labels [N]."""
    images, labels = (np.concatenate(column) for column in zip(*batches(*args, **options)))
    mean, std = (np.reshape(values, (3, 1, 1)).astype(np.float32) * 255 for values in constants)
    return (images * std + mean).round().astype(int), labels


def numbers(images):
    """Which pictures they are."""
    return images[:, 2, 16, 16].tolist()


def refused(path, *words, splits=BOTH, **options):
    with pytest.raises(UserError) as caught:
        data.prepare("folder", str(path), splits, **options)
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words), caught.value


# Images and labels.

@pytest.mark.parametrize("test_folder", ["test", "val", "validation"])
def test_images_arrive_with_the_labels_of_their_folders(test_folder, tmp_path):
    folder = data.prepare("folder", str(write(tmp_path, test_folder=test_folder)), BOTH)
    images, labels = everything(folder, "test", 4)
    assert numbers(images) == [0, 1, 2, 100, 101, 102] and labels.tolist() == [0, 0, 0, 1, 1, 1]
    expected = picture(102, (32, 48)).resize((32, 32), Image.BICUBIC)
    np.testing.assert_array_equal(images[-1], np.asarray(expected).transpose(2, 0, 1))


@pytest.mark.parametrize("split", BOTH)
@pytest.mark.parametrize("size", [(32, 32), (28, 36), (64, 64)])
def test_images_have_the_networks_size(size, split, tmp_path):
    images, labels = batches(write(tmp_path), split, 5, size=size)[0]
    assert images.shape == (5, 3, *size) and images.dtype == np.float32 and labels.dtype == np.int32


def test_training_images_are_shuffled_cropped_and_mirrored(tmp_path):
    folder = write(tmp_path, train=100)
    images, labels = everything(folder, "train", 100, seed=1)
    assert numbers(images) != sorted(numbers(images)) and len(set(numbers(images))) == len(images) == 200
    assert np.array_equal(labels, np.array(numbers(images)) // 100)
    mirrored = images[:, 0, 16, 20] < images[:, 0, 16, 10]
    black = [(images[:, :, 0] == 0).all((1, 2)), (images[:, :, -1] == 0).all((1, 2))]
    assert 60 < mirrored.sum() < 140 and all(50 < edge.sum() < 130 for edge in black)


def test_the_seed_decides_the_batches(tmp_path):
    folder = write(tmp_path)
    first, again, other = (everything(folder, "train", 4, seed=seed, workers=2)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_shards_are_disjoint(tmp_path):
    parts = [numbers(everything(write(tmp_path / "a") if not shard else tmp_path / "a", "train", 1, shards=2,
                                shard_id=shard)[0]) for shard in (0, 1)]
    assert len(parts[0]) == len(parts[1]) == len(set(sum(parts, []))) // 2 == 6


def test_held_out_images_are_of_every_class(tmp_path):
    """They lie class by class: the last ones would all be dogs."""
    folder = write(tmp_path)
    held, labels = everything(folder, "validation", 1, validation_size=4)
    rest, _ = everything(folder, "train", 1, validation_size=4)
    assert sorted(labels) == [0, 0, 1, 1] and sorted(numbers(held)) == numbers(held)
    assert sorted(numbers(held) + numbers(rest)) == [*range(6), *range(100, 106)]


# Photographs, for networks of images as large as ImageNet's.

def test_photographs_are_cropped_in_the_middle(tmp_path):
    """The shorter side becomes 256 / 224 of the crop's; a single picture is treated likewise."""
    folder = write(tmp_path, classes=("cat",))
    photograph = picture(7, (300, 500))
    photograph.save(folder / "test" / "cat" / "9.png")
    images, _ = everything(folder, "test", 1, size=(128, 128), constants=(imagenet.MEAN, imagenet.STD))
    expected = photograph.resize((243, 146), Image.BICUBIC).crop((57, 9, 185, 137))
    assert abs(images[-1] - np.asarray(expected).astype(int).transpose(2, 0, 1)).max() <= 3  # half a column of them
    got = data.from_picture("folder", folder / "test" / "cat" / "9.png", (128, 128))
    np.testing.assert_array_equal(got, batches(folder, "test", 1, size=(128, 128))[-1][0][0])


def test_photographs_in_training_are_random_parts(tmp_path):
    """Of 8 to 100 % of the area; whether one is mirrored has nothing to do with where it lies."""
    folder = tmp_path / "train" / "cat"
    folder.mkdir(parents=True)
    for number in range(200):
        picture(0, (120, 160)).save(folder / f"{number}.png")
    images, _ = everything(tmp_path, "train", 200, seed=1, size=(96, 96), constants=(imagenet.MEAN, imagenet.STD))
    left, right = images[:, 0, 48, 0], images[:, 0, 48, -1]
    top, bottom = images[:, 1, 0, 48], images[:, 1, -1, 48]
    areas = abs(right - left) * (bottom - top) / 255 ** 2
    assert 0.06 < areas.min() < 0.12 and 0.8 < areas.max() <= 1 and 0.4 < areas.mean() < 0.65
    mirrored = right < left
    places = [np.minimum(left, right), top, areas]
    assert 70 < mirrored.sum() < 130 and all(abs(np.corrcoef(mirrored, place)[0, 1]) < 0.25 for place in places)


# Kinds of image files.

def png_of_16_bits(colours):
    """Bytes of a PNG from uint16 [h, w, 3]."""
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    header = struct.pack(">IIBBBBB", colours.shape[1], colours.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


COLOUR = picture(77)
GREY = COLOUR.convert("L")
FORMS = {
    "rgb.png": (COLOUR, COLOUR, {}), "rgb.jpg": (COLOUR, COLOUR, {"quality": 95}), "big.JPEG": (COLOUR, COLOUR, {}),
    "rgb.bmp": (COLOUR, COLOUR, {}), "rgb.webp": (COLOUR, COLOUR, {"lossless": True}), "rgb.ppm": (COLOUR, COLOUR, {}),
    "rgb.tif": (COLOUR, COLOUR, {}), "grey.png": (GREY, GREY, {}), "grey.jpg": (GREY, GREY, {}),
    "cmyk.jpg": (COLOUR.convert("CMYK"), COLOUR, {"quality": 95}), "grey.gif": (GREY, GREY, {}),
    "rgba.png": (Image.merge("RGBA", [*COLOUR.split(), GREY]), COLOUR, {}), "la.png": (GREY.convert("LA"), GREY, {}),
    "grey16.png": (Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257), GREY, {}),
    "palette.png": (GREY.convert("P"), GREY, {"transparency": bytes(range(256))}),
    "bits.png": (GREY.convert("1"), GREY.convert("1"), {}),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.filterwarnings("error")
def test_every_kind_of_file_is_read(name, tmp_path):
    image, expected, options = FORMS[name]
    folder = write(tmp_path, classes=("cat",), test=0)
    image.save(folder / "test" / "cat" / name, **options)
    data.prepare("folder", str(folder), BOTH)
    images, _ = everything(folder, "test", 1, size=(48, 40))
    wanted = np.asarray(expected.convert("RGB")).astype(int).transpose(2, 0, 1)
    assert len(images) == 1 and abs(images[0] - wanted).max() <= 8


def test_colours_of_16_bits(tmp_path):
    (tmp_path / "a.png").write_bytes(png_of_16_bits(np.asarray(COLOUR).astype(np.uint16) * 257))
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.png"), np.asarray(COLOUR))


def test_a_turned_camera(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    COLOUR.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.png"), np.rot90(np.asarray(COLOUR), -1))


def test_other_files_are_not_read(tmp_path):
    folder = write(tmp_path)
    for name in ("notes.txt", "test/.DS_Store", "test/notes.txt", "test/cat/Thumbs.db", "test/cat/labels.csv"):
        (folder / name).write_text("x", encoding="utf-8")
    (folder / "test" / ".hidden").mkdir()
    (folder / "train" / "cat" / "more").mkdir()
    data.prepare("folder", str(folder), BOTH)
    assert data.class_names("folder", folder) == ("cat", "dog")
    assert numbers(everything(folder, "test", 1)[0]) == [0, 1, 2, 100, 101, 102]


# What is refused.

def jpeg():
    """Bytes of a JPEG."""
    buffer = io.BytesIO()
    COLOUR.save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("name, content", [
    ("a.png", b""), ("a.jpg", b""), ("a.jpg", b"no image at all"), ("._0.png", b"\0\5\x16\7" + bytes(4092)),
    ("half.jpg", jpeg()[:len(jpeg()) // 2]), ("head.jpg", jpeg()[:20]), ("end.jpg", jpeg()[:-20]),
    ("half.png", png_of_16_bits(np.zeros((99, 99, 3)))[:100]),
    ("flipped.png", png_of_16_bits(np.asarray(COLOUR))[:300] + b"x" + png_of_16_bits(np.asarray(COLOUR))[301:]),
])
def test_damaged_image_is_named(name, content, tmp_path):
    """A truncated JPEG ends MindSpore's process otherwise."""
    path = write(tmp_path) / "test" / "dog" / name
    path.write_bytes(content)
    refused(tmp_path, str(path))
    assert data.prepare("folder", str(tmp_path), ("train",))


def test_pixels_that_are_no_integers(tmp_path):
    path = write(tmp_path) / "test" / "dog" / "a.tif"
    Image.fromarray(np.zeros((9, 9), np.float32)).save(path)
    refused(tmp_path, str(path), "floating-point")


def test_folder_that_ends_like_an_image(tmp_path):
    path = write(tmp_path) / "test" / "dog" / "a.png"
    path.mkdir()
    refused(tmp_path, str(path), "not a regular file")


def test_pipe_that_is_named_like_an_image(tmp_path):
    """Nobody writes into it."""
    path = write(tmp_path) / "test" / "dog" / "a.png"
    os.mkfifo(path)
    refused(tmp_path, f"{path}: cannot be read: not a regular file")


def test_large_images(tmp_path):
    """Without a warning up to Pillow's bound, twice what it warns of; a process of its own, for pytest filters too."""
    for side in (14, 15):
        picture(0, (side, side)).save(tmp_path / f"{side}.png")
    code = ("from pathlib import Path; from PIL import Image; from src.data import pictures; "
            "Image.MAX_IMAGE_PIXELS = 100; "
            f"print(pictures.read(Path(r'{tmp_path}/14.png')).shape); pictures.read(Path(r'{tmp_path}/15.png'))")
    ended = subprocess.run([sys.executable, "-W", "error::UserWarning", "-W", "error::RuntimeWarning", "-c", code],
                           cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout == "(14, 14, 3)\n"
    assert ended.stderr.splitlines()[-1].startswith(f"src.errors.UserError: {tmp_path}/15.png: cannot be read: Image "
                                                    "size (225 pixels) exceeds limit of 200 pixels")


@pytest.mark.parametrize("size, side, fits", [
    ((1, 2047), 224, True), ((1, 2049), 224, False), ((2049, 1), 224, False), ((7, 20000), 224, False),
    ((10, 70), 4096, False), ((10, 60), 4096, True), ((1, 20000), 95, True), ((20000, 1), 32, True)])
def test_long_and_narrow_images(size, side, fits, tmp_path, monkeypatch):
    """MindSpore's Resize fails where the shorter side of one is scaled to a photograph's."""
    path = write(tmp_path) / "test" / "dog" / "a.png"
    picture(0, size).save(path)
    monkeypatch.setattr(data, "image_operations", lambda *_: [])  # which have no use for gigabytes here
    if fits:
        assert data.prepare("folder", str(tmp_path), BOTH, size=(side, side))
        assert data.from_picture("folder", path, (side, side)).shape == (*size, 3)
        return
    words = (f"{path}: {size[1]} x {size[0]} pixels are too long and narrow", f"scaled to {round(side * 256 / 224)}")
    refused(tmp_path, *words, size=(side, side))
    with pytest.raises(UserError, match=words[0]):
        data.from_picture("folder", path, (side, side))


def test_long_and_narrow_images_for_a_network(tmp_path):
    """Its images are as large as photographs, or not."""
    path = write(tmp_path) / "train" / "dog" / "a.png"
    picture(0, (1, 2049)).save(path)
    arguments = ["--dataset", "folder", "--data_path", str(tmp_path)]
    options = pick(Classification.Options, get_config("train", "x", arguments))
    assert Classification(options, NETWORKS["resnet20"]).class_num == 2
    with pytest.raises(UserError, match=f"{path}: 2049 x 1 pixels are too long and narrow"):
        Classification(options, NETWORKS["resnet18"])


def test_names_that_are_not_utf8(tmp_path):
    """Of a class, of a folder around it; images may be called so."""
    folder = write(tmp_path / "a", classes=("cat",))
    os.rename(folder / "test" / "cat" / "0.png", folder / "test" / "cat" / os.fsdecode(b"\xff.png"))
    data.prepare("folder", str(folder), BOTH)
    assert len(batches(folder, "test", 1)) == 3
    for folder, name in ((tmp_path / "b", os.fsdecode(b"a\xff")), (tmp_path / os.fsdecode(b"a\xff"), "dog")):
        refused(write(folder, classes=("cat", name)), "a\udcff", "the name is not UTF-8")


def test_missing_folders(tmp_path):
    refused(tmp_path, f"no folder train in {tmp_path}", f"{tmp_path}/train/CLASS/IMAGE")
    (tmp_path / "train").mkdir()
    refused(tmp_path, "no folder test or val or validation", "test/CLASS/IMAGE")
    refused(tmp_path, "no folders of classes", "train", splits=("train",))
    (tmp_path / "train" / "cat").mkdir()
    refused(tmp_path, "no images in", "train/cat", "png", splits=("train",))


@pytest.mark.parametrize("split", BOTH)
def test_train_and_test_have_the_same_classes(split, tmp_path):
    (write(tmp_path) / split / "cow").mkdir()
    refused(tmp_path, str(tmp_path), "same classes", "'cow'", splits=(split,))


def test_number_of_classes(tmp_path):
    folder = write(tmp_path, classes=("a", "b", "c"))
    assert data.class_count("folder", 0, folder) == 3
    assert data.class_count("folder", 5, folder) == data.class_count("folder", 5) == 5
    with pytest.raises(UserError, match="--class_num"):
        data.class_count("folder")
    refused(folder, "class 2", "2 classes end at 1", class_num=2)
    assert data.prepare("folder", str(folder), BOTH, class_num=4)


def test_names_of_the_classes(tmp_path):
    folder = write(tmp_path, classes=("z", "B", "a b", "ü"))
    assert data.class_names("folder", folder) == ("B", "a b", "z", "ü")
    for split in BOTH:
        (folder / split / "a b").rename(folder / split / "a\x1b[31m")
    assert data.class_names("folder", folder) == ()


# Pictures for a network.

@pytest.mark.parametrize("name, shape, grey", [("cifar100", (32, 32), False), ("mnist", (28, 28), True),
                                               ("folder", (20, 24), False)])
def test_picture_for_a_network(tmp_path, name, shape, grey):
    """Scaled to what the data set's files have, then treated as those in evaluation."""
    COLOUR.save(tmp_path / "a.png")
    size = (20, 24) if name == "folder" else None
    got = data.from_picture(name, tmp_path / "a.png", size)
    image = COLOUR.convert("RGB").resize(shape[::-1], Image.BICUBIC)
    image = np.asarray(image.convert("L"))[:, :, None] if grey else np.asarray(image)
    if name == "mnist":
        image = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    mean, std = data.SETS[name].statistics(shape)
    expected = (image / 255 - np.array(mean)) / std
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected.transpose(2, 0, 1), rtol=1e-4, atol=1e-5)


def test_classes_that_the_network_does_not_have(tmp_path):
    """Labels would mean other classes, in silence."""
    folder = write(tmp_path, classes=("b", "c"))
    assert data.prepare("folder", str(folder), BOTH, classes=("b", "c")) == folder
    for classes in (("a", "b", "c"), ("b", "d")):
        with pytest.raises(UserError, match="has other classes than the network"):
            data.prepare("folder", str(folder), BOTH, class_num=len(classes), classes=classes)
