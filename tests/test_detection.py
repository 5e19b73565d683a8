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
"""Detection from files of boxes to pictures with boxes, by the programs of classification."""
import dataclasses
import importlib
import json
import os
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from PIL import Image

from src import predict
from src.checkpoint import save_parameters
from src.config import get_config, pick
from src.data.boxes import COCO, VOC
from src.errors import UserError
from src.identity import Identity
from src.kinds import sockets
from src.networks import NETWORKS, adder_fcos, resnet
from src.networks.adder_fcos import points
from src.quant import __main__ as quant
from src.tasks import detection
from src.tasks.detection import Detection, detect, framed
from src.training.step import TrainStep, sgd

ROOT = Path(__file__).resolve().parents[1]
SIZES = [(60, 90), (96, 50), (64, 64), (40, 80), (75, 75), (50, 60)]
COLOURS = {"disc": (230, 60, 40), "square": (40, 90, 220)}


def scene(number, size, count=2):
    """A picture of discs and squares on grey, with their boxes (left, top, right, bottom) and names."""
    random = np.random.default_rng(number)
    image, boxes, names = np.full((*size, 3), 128, np.uint8), [], []
    y, x = np.mgrid[:size[0], :size[1]] + 0.5
    for place in range(count):
        name, side = random.choice(list(COLOURS)), int(random.integers(16, 25))
        top = int(random.integers(0, size[0] - side))
        left = int(random.integers(place * size[1] // count, (place + 1) * size[1] // count - side + 1))
        inside = np.hypot(y - top - side / 2, x - left - side / 2) <= side / 2
        if name == "square":
            inside = np.maximum(np.abs(y - top - side / 2), np.abs(x - left - side / 2)) < side / 2
        image[inside] = COLOURS[name]
        boxes.append((left, top, left + side, top + side))
        names.append(str(name))
    return image, boxes, names


def coco(home, split, numbers, folder=None):
    """A split in COCO's form; gives its content, which can be written again."""
    folder, content = folder or home / f"{split}2017", {"images": [], "annotations": [], "categories": [
        {"id": 7, "name": "square"}, {"id": 3, "name": "disc"}]}
    folder.mkdir(parents=True)
    for number in numbers:
        size = SIZES[number % len(SIZES)]
        image, boxes, names = scene(number, size)
        Image.fromarray(image).save(folder / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "height": size[0], "width": size[1]})
        for (left, top, right, bottom), name in zip(boxes, names):
            content["annotations"].append({
                "id": len(content["annotations"]), "image_id": number, "category_id": {"square": 7, "disc": 3}[name],
                "bbox": [left, top, right - left, bottom - top], "iscrowd": 0})
    (home / "annotations").mkdir(exist_ok=True)
    write(home, split, content)
    return content


def write(home, split, content):
    (home / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content), "utf-8")


def voc(home, **splits):
    """Splits in VOC's form."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (home / folder).mkdir(parents=True)
    for split, numbers in splits.items():
        (home / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{number}\n" for number in numbers))
        for number in numbers:
            image, boxes, names = scene(number, SIZES[number % len(SIZES)])
            Image.fromarray(image).save(home / "JPEGImages" / f"{number}.jpg", quality=95)
            objects = "".join(
                f"<object><name>{name}</name><difficult>{place}</difficult><bndbox><xmin>{left + 1}</xmin>"
                f"<ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
                for place, ((left, top, right, bottom), name) in enumerate(zip(boxes, names)))
            (home / "Annotations" / f"{number}.xml").write_text(f"<annotation>{objects}</annotation>")
    return home


@pytest.fixture(name="home", scope="module")
def fixture_home(tmp_path_factory):
    """Folder `data` in COCO's form."""
    home = tmp_path_factory.mktemp("home")
    (home / "data").mkdir()
    coco(home / "data", "train", range(8))
    coco(home / "data", "val", range(8, 11))
    return home


def block(in_channels, out_channels, stride, layer, norm):
    """As short as can be."""
    return nn.SequentialCell(layer(in_channels, out_channels, 3, stride, padding=1), norm(out_channels))


def tiny(class_num, layer="l1", in_channels=3, **options):
    """A backbone like ResNet-18, of few layers."""
    return resnet.ResNet(class_num, block, (1, 1, 1, 1), (8, 8, 16, 32), in_channels, *sockets(layer, **options))


@pytest.fixture(name="miniature", scope="module", autouse=True)
def fixture_miniature():
    """It and its detector stand in the table of networks."""
    def build(class_num=80, **form):
        return adder_fcos.fcos(tiny, class_num, **form)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "resnet18", dataclasses.replace(NETWORKS["resnet18"], build=tiny, size=(64, 64)))
        patch.setitem(NETWORKS, "fcos_resnet18", dataclasses.replace(NETWORKS["fcos_resnet18"], build=build,
                                                                     size=(64, 96)))
        yield


def options(path, **others):
    config = get_config("train", "x", ["--dataset", "coco", "--data_path", str(path)])
    return dataclasses.replace(pick(Detection.Options, config), **{"batch_size": 4, **others})


def task(path, splits=("train", "test"), classes=(), rank=0, ranks=1, **others):
    return Detection(options(path, **others), NETWORKS["fcos_resnet18"], splits, classes, rank, ranks)


def content(a_task, epoch=1):
    """The columns of an epoch."""
    return [np.concatenate(column) for column in zip(*a_task.batches(epoch).create_tuple_iterator(
        num_epochs=1, output_numpy=True))]



def check(split, numbers, crowd=()):
    assert split.classes == ("disc", "square") and split.left_out == 0
    for record, number in zip(split.records, numbers):
        image, boxes, names = scene(number, SIZES[number % len(SIZES)])
        assert record.size == image.shape[:2]
        np.testing.assert_array_equal(record.boxes, boxes)
        assert [split.classes[label] for label in record.labels] == names
        assert record.crowd.tolist() == [place in crowd for place in range(len(boxes))]


def test_coco(tmp_path):
    """Any year, images in another folder, and Roboflow's form; classes in the order of their categories."""
    coco(tmp_path, "train", range(3), tmp_path / "images" / "train2017")
    coco(tmp_path, "val", range(3, 5))
    for split, numbers in (("train", range(3)), ("test", range(3, 5))):
        check(COCO.read(tmp_path, split), numbers)
    other = tmp_path / "other"
    coco(other, "train", range(2), other / "train")
    (other / "annotations" / "instances_train2017.json").rename(other / "train" / "_annotations.coco.json")
    check(COCO.read(other, "train"), range(2))


def test_voc(tmp_path):
    """Pixels are counted from 1 there; difficult ones are crowds; folders are taken together."""
    voc(tmp_path / "a", train=range(2), val=range(2, 4))
    check(VOC.read(tmp_path / "a", "train"), range(2), crowd={1})
    check(VOC.read(tmp_path / "a", "test"), range(2, 4), crowd={1})
    voc(tmp_path / "b" / "VOCdevkit" / "VOC2007", trainval=range(2), test=range(2, 4))
    voc(tmp_path / "b" / "VOCdevkit" / "VOC2012", trainval=range(4, 6))
    check(VOC.read(tmp_path / "b", "train"), [0, 1, 4, 5], crowd={1})
    check(VOC.read(tmp_path / "b", "test"), range(2, 4), crowd={1})
    with pytest.raises(UserError, match="object 1: class '.*' is none of cat, which the network knows"):
        VOC.read(tmp_path / "a", "test", ("cat",))


OBJECT = ("<a><object><name>a</name><difficult>{}</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
          "<ymax>9</ymax></bndbox></object></a>")


def changed(content, key, index, **values):
    records = [dict(each) for each in content[key]]
    records[index] = {name: value for name, value in {**records[index], **values}.items() if value is not None}
    return {**content, key: records}


@pytest.mark.parametrize("change, words", [
    (lambda c: changed(c, "annotations", 1, image_id=99), "train2017.json: annotation 1: there is no image 99"),
    (lambda c: changed(c, "annotations", 0, category_id=4), "annotation 0: there is no category 4"),
    (lambda c: changed(c, "annotations", 2, bbox=[1, 2, 3]), r"annotation 2: \[1, 2, 3\] is no box"),
    (lambda c: changed(c, "annotations", 2, bbox=[1, 2, 3, float("nan")]), "annotation 2: .* is no box"),
    (lambda c: changed(c, "annotations", 2, bbox=[1, 1, int("9" * 400), 5]), "annotation 2: .* is no box"),
    (lambda c: changed(c, "annotations", 2, bbox=None), "annotation 2: bbox is missing"),
    (lambda c: changed(c, "annotations", 2, iscrowd="0"), "annotation 2: iscrowd is '0', neither 0 nor 1"),
    (lambda c: changed(c, "annotations", 2, iscrowd=[]), r"annotation 2: iscrowd is \[\], neither 0 nor 1"),
    (lambda c: changed(c, "images", 1, id=0), "train2017.json: image 0: there are two of this id"),
    (lambda c: changed(c, "categories", 1, id=7), "train2017.json: category 7: there are two of this id"),
    (lambda c: changed(c, "categories", 1, name=None), "category 3: name is missing"),
    (lambda c: changed(c, "images", 1, file_name="x.png"), "image 1: .*x.png: cannot be read: No such file"),
    (lambda c: changed(c, "images", 1, width=3), "image 1: .*1.png has 50 x 96 pixels, not 3 x 96"),
    (lambda c: changed(c, "images", 0, id="a"), "image 'a': id is 'a'"),
    (lambda c: changed(c, "categories", 0, name="disc"), "the names of the classes are"),
    (lambda c: {**c, "categories": []}, "the names of the classes are"),
    (lambda c: {**c, "images": 3}, "instances_train2017.json: images is 3"),
    (lambda c: {**c, "annotations": [7]}, "annotation 7: image_id is missing"),
    (lambda c: [], "categories is missing"), (lambda c: {**c, "annotations": []}, "no training image has a box")],
    ids=[str(number) for number in range(20)])
def test_records_that_make_no_sense(tmp_path, change, words):
    whole = coco(tmp_path, "train", range(2))
    write(tmp_path, "train", change(whole))
    with pytest.raises(UserError, match=words) as caught:
        task(tmp_path, ("train",))
    assert "\n" not in str(caught.value)


def test_files_that_make_no_sense(tmp_path):
    with pytest.raises(UserError, match=r"no annotations to test on in .*: neither annotations/instances_test\*.json"):
        COCO.read(tmp_path, "test")
    with pytest.raises(UserError, match="no images to train on in .*ImageSets/Main/train.txt, beside the folder"):
        VOC.read(tmp_path, "train")
    coco(tmp_path, "train", range(1))
    (tmp_path / "annotations" / "instances_train2014.json").write_text("{")
    with pytest.raises(UserError, match="several files for train: instances_train2014.json, instances_train2017.json"):
        COCO.read(tmp_path, "train")
    (tmp_path / "annotations" / "instances_train2017.json").unlink()
    with pytest.raises(UserError, match="instances_train2014.json: damaged, or no JSON"):
        COCO.read(tmp_path, "train")
    home = voc(tmp_path / "voc", train=range(1))
    for text, words in (("<a>", "0.xml: damaged, or no XML"), ("<a><object/></a>", "0.xml: name is missing"),
                        ("<a><object><name>a</name></object></a>", "object 1: bndbox/xmin is missing"),
                        (OBJECT.format("yes"), "object 1: difficult is 'yes', neither 0 nor 1"),
                        ('<?xml version="1.0" encoding="gb2312"?><a/>', "0.xml: cannot be read in the encoding that it "
                         "names: multi-byte encodings are not supported; UTF-8 can"),
                        ('<?xml version="1.0" encoding="nonsense"?><a/>', "0.xml: .*unknown encoding: nonsense")):
        (home / "Annotations" / "0.xml").write_text(text)
        with pytest.raises(UserError, match=words):
            VOC.read(home, "train")
    (home / "Annotations" / "0.xml").unlink()
    with pytest.raises(UserError, match="0.xml: cannot be read: No such file"):
        VOC.read(home, "train")


def test_pipes_are_not_waited_for(tmp_path):
    """Nobody writes into them. They may stand for a picture or for a file of annotations."""
    coco(tmp_path, "train", range(1))
    home = voc(tmp_path / "voc", train=range(1))
    for read, file in ((lambda: COCO.read(tmp_path, "train"), tmp_path / "train2017" / "0.png"),
                       (lambda: COCO.read(tmp_path, "train"), tmp_path / "annotations" / "instances_train2017.json"),
                       (lambda: VOC.read(home, "train"), home / "JPEGImages" / "0.jpg"),
                       (lambda: VOC.read(home, "train"), home / "Annotations" / "0.xml")):
        before = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(UserError, match=f"{file}: cannot be read: not a regular file"):
            read()
        file.unlink()
        file.write_bytes(before)


def test_what_is_left_out_and_held_out(tmp_path):
    """Boxes are cut at the edges; those of which nothing is left and images without boxes are counted."""
    whole = coco(tmp_path, "train", range(4))
    whole = changed(changed(whole, "annotations", 0, bbox=[-5, -5, 20, 20]), "annotations", 1, bbox=[90, 0, 9, 9])
    whole = changed(changed(whole, "annotations", 2, bbox=[3, 3, 0, 5]), "annotations", 3, iscrowd=1)
    write(tmp_path, "train", whole)
    a_task = task(tmp_path, ("train",), batch_size=2)
    assert a_task.summary == ("coco, 2 classes, images of 64 x 96, 2 boxes without an area left out, 1 images without "
                              "boxes left out")
    np.testing.assert_array_equal(a_task.training[0].boxes, [[0, 0, 15, 15]])
    held = task(tmp_path, validation_size=1)
    assert (len(held.testing), len(held.training), held.held_out) == (1, 2, "validation")
    for others, words in (({"validation_size": 4}, "validation_size 4 leaves nothing of 4 training images"),
                          ({"class_num": 3}, "has 2 classes, not 3; leave out --class_num"),
                          ({"image_size": 40}, "images of multiples of 32 pixels a side, not 40")):
        with pytest.raises(UserError, match=words):
            task(tmp_path, **others) if "validation_size" in others else task(tmp_path, ("train",), **others)
    with pytest.raises(UserError, match="3 training images are fewer than batch_size 8"):
        print(task(tmp_path, ("train",), batch_size=8).steps)



@pytest.mark.parametrize("jitter", [0.0, 0.5])
def test_samples(home, jitter):
    """Boxes lie where the colours are, mirrored or not, at any scale; epochs are always the same, and ranks share them.
    """
    a_task = task(home / "data", scale_jitter=jitter)
    images, classes, distances = content(a_task)
    assert all(np.array_equal(one, other) for one, other in zip(content(a_task), (images, classes, distances)))
    assert not np.array_equal(content(a_task, 2)[0], images)
    parts = [content(task(home / "data", scale_jitter=jitter, rank=rank, ranks=2, batch_size=2))[0] for rank in (0, 1)]
    assert {image.tobytes() for part in parts for image in part} == {image.tobytes() for image in images}
    centres, _ = points((64, 96))
    pixels = images.transpose(0, 2, 3, 1) * np.float32(detection.STD) + np.float32(detection.MEAN)
    assert (classes > 0).any(1).sum() >= 6
    for image, numbers, sides in zip(pixels, classes, distances):
        for place in np.flatnonzero(numbers):
            (x, y), (left, top, right, bottom) = centres[place], sides[place]
            middle = image[min(int(y + (bottom - top) / 2), 63), min(int(x + (right - left) / 2), 95)]
            assert np.abs(middle - np.array(COLOURS[("disc", "square")[numbers[place] - 1]]) / 255).max() < 0.05


@pytest.mark.parametrize("size, zoom, place", [((60, 90), 1.0, (0, 0)), ((31, 77), 0.4, (0.3, 0.9)),
                                               ((80, 20), 1.7, (0.5, 0.2)), ((1, 500), 1.0, (0, 0))])
def test_framed(size, zoom, place):
    """A grey image is one where factor and corner say, and 0 elsewhere."""
    frame, factor, corner = framed(np.full((*size, 3), 200, np.uint8), (64, 96), zoom, np.array(place))
    assert frame.shape == (3, 64, 96) and frame.dtype == np.float32
    (left, top), (right, bottom) = corner, np.rint(corner + factor * size[::-1]).astype(int)
    wanted = np.zeros((64, 96), bool)
    wanted[max(top, 0):max(bottom, 0), max(left, 0):max(right, 0)] = True
    np.testing.assert_array_equal(frame != 0, np.broadcast_to(wanted, frame.shape))
    grey = (200 / 255 - np.array(detection.MEAN)) / np.array(detection.STD)
    np.testing.assert_allclose(frame[:, wanted], grey[:, None].repeat(wanted.sum(), 1), rtol=1e-5)


class Oracle(nn.Cell):
    """Says of every image in turn what its targets are."""

    def __init__(self, answers):
        super().__init__()
        self.answers, self.done = answers, 0

    def construct(self, x):
        self.done += len(x)
        rows = []
        for classes, distances in self.answers[self.done - len(x):self.done]:
            logits = np.where(classes[:, None] == [1, 2], 9.0, -9.0)
            rows.append(np.concatenate([logits, distances, np.where(classes[:, None] > 0, 9.0, -9.0)], 1))
        return ms.Tensor(np.stack(rows).astype(np.float32))


def test_evaluation(home):
    """What says what is there has an AP of 1, in the pixels of the images, crowds and empty images among them."""
    a_task, answers = task(home / "data", ("test",), batch_size=2), []
    for record in a_task.testing:
        _, factor, _ = framed(np.zeros((*record.size, 3), np.uint8), (64, 96))
        answers.append(detection.targets(record.boxes * np.tile(factor, 2), record.labels, (64, 96)))
    assert a_task.evaluate(Oracle(answers)) == pytest.approx({"ap": 1, "ap50": 1, "ap75": 1})
    nothing = [(np.zeros_like(classes), distances) for classes, distances in answers]
    assert a_task.evaluate(Oracle(nothing)) == {"ap": 0, "ap50": 0, "ap75": 0}


TRAIN = ("--dataset", "coco", "--data_path", "data", "--batch_size", 8, "--network", "fcos_resnet18",
         "--fpn_channels", 16, "--head_convs", 1, "--neck", "fpn", "--mode", "PYNATIVE", "--lr", 0.02,
         "--input_gradient", "sign")


@pytest.fixture(name="trained")
def fixture_trained(home, run):
    """A run of two epochs, the second of which was resumed; its best checkpoint."""
    if not (home / "run").exists():
        batches = Detection.batches
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Detection, "batches", lambda self, epoch: batches(self, epoch) if epoch < 2 else
                          (_ for _ in ()).throw(KeyboardInterrupt()))
            run("train", *TRAIN, "--epoch_size", 2, "--output_path", "run")
        run("train", *TRAIN, "--epoch_size", 2, "--output_path", "run", "--resume")
    return next((home / "run").glob("adder_fcos_resnet18_coco_[0-9]*.ckpt")).relative_to(home)


def test_trained_and_resumed(home, trained):
    """The columns are the task's, and finite. That batches are the same after an interruption is said above."""
    rows = (home / "run" / "metrics.csv").read_text("utf-8").splitlines()
    assert rows[0] == ("epoch,loss,train_classes,train_boxes,train_centreness,test_ap,test_ap50,test_ap75,"
                       "images_per_second") and len(rows) == 3
    values = np.array([row.split(",") for row in rows[1:]], float)
    assert np.isfinite(values).all() and int(trained.stem[-4:]) == round(1e4 * values[:, 5].max())


def test_evaluated_quantised_and_exported(run, trained, monkeypatch):
    """By what the checkpoint says of itself."""
    printed = run("eval", "--checkpoint_file_path", trained, "--eval_dataset_path", "data", "--mode", "PYNATIVE")
    assert abs(float(printed.split()[1]) - int(trained.stem[-4:]) / 1e4) < 0.01 and "\nAP50: 0." in printed
    printed = run(quant, "--checkpoint_file_path", trained, "--data_path", "data", "--output", "int8.ckpt",
                  "--calibration_size", 4)
    assert "to 8 bits (layers, 4 training images)" in printed
    run("eval", "--checkpoint_file_path", "int8.ckpt", "--eval_dataset_path", "data", "--mode", "PYNATIVE")
    shapes = []
    monkeypatch.setattr(importlib.import_module("export"), "export", lambda net, shape, *_, output: shapes.append(
        (shape, output)))
    printed = run("export", "--checkpoint_file_path", trained, "--file_format", "MINDIR", "--file_name", "net")
    assert printed == f"exported {trained} as net.mindir, any batch size, same detections after reloading\n"
    assert shapes == [((None, 3, 64, 96), "detections")]


def test_pictures_have_boxes(home, run, trained, monkeypatch):
    picture = "data/val2017/8.png"
    monkeypatch.setattr(detection, "SHOWN", 1.1)
    assert run(predict, picture, "--checkpoint_file_path", trained) == f"{picture}\n  nothing\n"
    monkeypatch.setattr(detection, "SHOWN", 0.3)
    monkeypatch.setattr(detection, "detect", lambda *_: [(np.array([[3, 5, 60.4, 50], [1, 1, 9, 9]]), np.array([
        0.75, 0.2]), np.array([1, 0]))])
    printed = run(predict, picture, "--checkpoint_file_path", trained, "--output_path", "seen.png")
    assert printed == f"{picture}\n   75.0 %  square at 3, 5, 60, 50\n  drawn: seen.png\n"
    before, after = (np.asarray(Image.open(home / name).convert("RGB")) for name in (picture, "seen.png"))
    assert (after[50, 3:61] == (60, 180, 75)).all() and np.array_equal(after[:5], before[:5])
    for name, words in (("seen.txt", "a picture's name ends in .png"), (picture, "is the picture itself")):
        with pytest.raises(UserError, match=words):
            run(predict, picture, "--checkpoint_file_path", trained, "--output_path", name)


def test_begins_with_a_classifier(home, run):
    """Its weights and statistics become the backbone's, frozen there; of another network there is a message."""
    net, identity = tiny(5), Identity("resnet18", "l1", 5, "folder")
    values = {name: np.abs(value.asnumpy()) + 0.5 for name, value in net.parameters_dict().items()}
    for name, network in (("body.ckpt", "resnet18"), ("other.ckpt", "resnet20")):
        save_parameters(values, home / name, identity=dataclasses.replace(identity, network=network).dumps())
    printed = run("train", *TRAIN, "--pre_trained", "body.ckpt", "--frozen_norm", "--epoch_size", 1,
                  "--output_path", "f")
    assert "pre_trained: body.ckpt is the backbone; everything else begins at random" in printed
    after, norms, others = ms.load_checkpoint(str(home / "f" / "last.ckpt")), 0, 0
    for name, value in values.items():
        if f"backbone.{name}" in after:
            same = np.array_equal(after[f"backbone.{name}"].asnumpy(), value)
            norm = name.rsplit(".", 1)[1] in ("gamma", "beta", "moving_mean", "moving_variance")
            norms, others = norms + norm, others + (not norm)
            assert same == norm, name
    assert norms == 20 and others == 5
    with pytest.raises(UserError, match="pre_trained: other.ckpt is resnet20 of layer l1, not fcos_resnet18"):
        run("train", *TRAIN, "--pre_trained", "other.ckpt", "--output_path", "g")


def test_twenty_steps_lower_the_loss(home):
    """As the recipe for COCO says, but for the size of images and network."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(1)
    recipe = get_config("train", "x", ["--config_path", str(ROOT / "config" / "adder_fcos_resnet50_coco.yaml")])
    a_task = task(home / "data", batch_size=recipe.batch_size, scale_jitter=recipe.scale_jitter)
    net = adder_fcos.fcos(tiny, 2, layer=recipe.layer, neck=recipe.neck, fpn_channels=16, head_convs=1,
                          input_gradient=recipe.input_gradient).set_train()
    train = TrainStep(a_task.loss(net), sgd(net, 20, recipe.lr, recipe.momentum, recipe.weight_decay),
                      clip_norm=recipe.clip_norm)
    losses = [float(train(*batch)[0]) for epoch in range(10)
              for batch in a_task.batches(epoch).create_tuple_iterator(num_epochs=1)]
    assert len(losses) == 20 and np.isfinite(losses).all() and np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])


@pytest.mark.parametrize("arguments, words", [
    (["--network", "fcos_resnet18", "--dataset", "images"],
     "fcos_resnet18 learns detection, for which data set images is none: give --dataset coco, voc"),
    (["--network", "resnet20", "--dataset", "voc"], "resnet20 learns classification, for which data set voc is none"),
    (["--network", "resnet20", "--dataset", "cifar10", "--neck", "fpn"], "resnet20 does not use --neck"),
    (["--network", "fcos_resnet18", "--dataset", "coco", "--mixup", "0.2"], "fcos_resnet18 does not use --mixup"),
    (["--network", "fcos_resnet18", "--dataset", "coco", "--layer", "conv", "--input_gradient", "sign"],
     "input_gradient sign is one of layer l1 only, not of conv"),
    (["--network", "fcos_resnet18", "--dataset", "coco", "--data_path", "absent"],
     "no annotations to train on in absent")])
def test_training_refuses(run, arguments, words):
    with pytest.raises(UserError, match=words):
        run("train", *arguments, "--output_path", "never")


def test_detect_in_own_pixels(monkeypatch):
    """Boxes come back from the frame to each image, and are cut at its edges."""
    monkeypatch.setattr(detection, "decode", lambda *_: (np.array([[0, 0, 96.0, 64.0]]), np.ones(1), np.zeros(1)))
    images = [np.zeros((*size, 3), np.uint8) for size in ((32, 48), (100, 60))]
    with pytest.raises(UserError, match="what the network gives is not finite"):
        detect(nn.SequentialCell(nn.BatchNorm2d(3, gamma_init=float("nan"))), images, (64, 96))
    found = detect(nn.Identity(), images, (64, 96))
    np.testing.assert_allclose([each[0][0] for each in found], [[0, 0, 48, 32], [0, 0, 60, 100]])
