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
"""The terms of norm-guided distillation against NumPy, and the networks that take part."""
import shutil
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import oracle
import pytest
from mindspore import ops

from src import checkpoint, kinds
from src.checkpoint import save_parameters
from src.config import RECORDED, get_config, pick
from src.distill import METHODS, check_options, losses, ngd, weight_gradient
from src.distill.ngd import CentreLoss, Distillation, inherit
from src.errors import UserError
from src.folding import fold
from src.identity import Identity
from src.res20_adder import ResNet, resnet20
from src.tasks.classification import Loss
from src.training.step import TrainStep, sgd

MODES = [ms.GRAPH_MODE, ms.PYNATIVE_MODE]
CLASSES, BATCH = 7, 12


def batch(seed=0):
    """Features, logits and labels; class 0 is not among them."""
    random = np.random.default_rng(seed)
    features = random.uniform(0, 2, (BATCH, 5, 1, 1)).astype(np.float32)
    return features, random.normal(0, 3, (BATCH, CLASSES)).astype(np.float32), random.integers(1, CLASSES, BATCH, np.int32)


def softmax(values):
    values = np.exp(values - values.max(1, keepdims=True))
    return values / values.sum(1, keepdims=True)


@pytest.mark.parametrize("mode", MODES)
def test_centre_loss(mode):
    """Value, gradient, and the centres after it."""
    ms.set_context(mode=mode)
    features, logits, labels = batch()
    centres = np.random.default_rng(1).uniform(0, 2, (CLASSES, 5))
    loss = CentreLoss(CLASSES, 5, intra=0.3, inter=0.7, momentum=0.8)
    loss.centres.set_data(ms.Tensor(centres, ms.float32))

    differences = features[:, None, :, 0, 0].astype(np.float64) - centres
    distances = 0.5 * (differences ** 2).sum(2)
    own, everyone = np.eye(CLASSES)[labels], softmax(-distances)
    wanted = 0.3 * distances[own == 1].mean() - 0.7 * np.log(everyone[own == 1]).mean()
    slope = (0.3 * own + 0.7 * (own - everyone)) / BATCH  # of each distance
    wanted_gradient = (slope[:, :, None] * differences).sum(1)

    got, gradient = ops.value_and_grad(loss, 2)(None, ms.Tensor(labels), ms.Tensor(features), ms.Tensor(logits))
    assert abs(float(got) - wanted) < 1e-5
    assert oracle.relative_error(gradient.asnumpy()[:, :, 0, 0], wanted_gradient) < 1e-5
    for label in range(CLASSES):
        mean = features[labels == label, :, 0, 0].mean(0) if label in labels else centres[label]
        np.testing.assert_allclose(loss.centres.asnumpy()[label], 0.8 * centres[label] + 0.2 * mean, rtol=1e-5)


def test_centre_loss_draws_a_class_together_and_classes_apart():
    """Steps along its gradient alone: less spread within, more between."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 8).astype(np.int32)
    features = (random.standard_normal((4, 5))[labels] + random.standard_normal((32, 5))).astype(np.float32)
    loss = CentreLoss(4, 5, intra=0.1, inter=1.0)

    def ratio():
        means = np.stack([features[labels == label].mean(0) for label in range(4)])
        return ((features - means[labels]) ** 2).mean() / means.var(0).mean()

    before = ratio()
    for _ in range(50):
        gradient = ops.grad(loss, 2)(None, ms.Tensor(labels), ms.Tensor(features), None)
        features = features - 2.0 * gradient.asnumpy()
    assert ratio() < 0.5 * before


class Teacher(ms.nn.Cell):
    """Known features and logits."""

    def __init__(self, features, logits):
        super().__init__()
        self.known_features, self.known_logits = ms.Tensor(features), ms.Tensor(logits)

    def features(self, images):
        return self.known_features

    def head(self, features):
        return self.known_logits


def parts(**options):
    """Options of `Distillation`, the parts that are not named being off."""
    return SimpleNamespace(**{"logits_weight": 0.0, "logits_loss": "kd", "dkd_beta": 2.0, "standardise_logits": False,
                              "temperature": 4.0, "features_weight": 0.0, "direction_weight": 0.0, **options})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [
    {"logits_weight": 0.3}, {"logits_weight": 0.3, "logits_loss": "dkd"}, {"logits_weight": 0.3, "standardise_logits": True},
    {"features_weight": 0.2}, {"direction_weight": 0.7},
    {"logits_weight": 0.3, "logits_loss": "dkd", "standardise_logits": True, "direction_weight": 0.7}], ids=str)
def test_parts(options, mode):
    """Each alone and together: what `src.distill.losses` gives, weighted."""
    ms.set_context(mode=mode)
    (features, logits, labels), (wanted, target, _) = ([ms.Tensor(value) for value in batch(seed)] for seed in (0, 1))
    means = np.random.default_rng(2).uniform(0, 2, (CLASSES, 5)).astype(np.float32)
    got = Distillation(Teacher(wanted, target), means, parts(**options))(None, labels, features, logits)
    if options.get("standardise_logits"):
        logits, target = losses.standardised(logits), losses.standardised(target)
    terms = {"logits_weight": losses.LOGITS_LOSSES[options.get("logits_loss", "kd")](logits, target, labels, 4.0, 2.0),
             "features_weight": losses.distance(features, wanted),
             "direction_weight": losses.direction(features, wanted, labels, ms.Tensor(means))}
    assert float(got) == pytest.approx(sum(options.get(name, 0) * float(term) for name, term in terms.items()), rel=1e-5)


def test_class_means():
    """Over all batches; a class without images has zeros."""
    random = np.random.default_rng(0)
    features, labels = random.normal(0, 1, (6, 4, 5, 1, 1)).astype(np.float32), random.integers(1, CLASSES, (6, 4))
    batches = SimpleNamespace(create_tuple_iterator=lambda num_epochs: (
        (ms.Tensor(one), ms.Tensor(two, ms.int32)) for one, two in zip(features, labels)))
    net = SimpleNamespace(feature_size=5, features=lambda images: images)
    means = ngd.class_means(net, batches, CLASSES)
    for label in range(CLASSES):
        own = features[labels == label][:, :, 0, 0]
        np.testing.assert_allclose(means[label], own.mean(0) if len(own) else 0, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_distillation(mode):
    ms.set_context(mode=mode)
    (features, logits, labels), (wanted_features, wanted_logits, _) = batch(0), batch(1)
    loss = Distillation(Teacher(wanted_features, wanted_logits), None, parts(logits_weight=0.6, features_weight=0.4))

    target, own = softmax(wanted_logits.astype(np.float64) / 4), softmax(logits.astype(np.float64) / 4)
    divergence = 16 * (target * np.log(target / own)).sum(1).mean()
    difference = (features - wanted_features).astype(np.float64)
    wanted = 0.6 * divergence + 0.4 * 0.5 * (difference ** 2).sum() / BATCH

    got, (by_features, by_logits) = ops.value_and_grad(loss, (2, 3))(
        ms.Tensor(features), ms.Tensor(labels), ms.Tensor(features), ms.Tensor(logits))
    assert abs(float(got) - wanted) < 1e-5 * wanted
    assert oracle.relative_error(by_features.asnumpy(), 0.4 * difference / BATCH) < 1e-5
    assert oracle.relative_error(by_logits.asnumpy(), 0.6 * 4 * (own - target) / BATCH) < 1e-5


def test_nothing_to_learn_from_an_equal():
    features, logits, labels = batch()
    loss = Distillation(Teacher(features, logits), None, parts(logits_weight=1.0, features_weight=1.0))
    assert abs(float(loss(None, ms.Tensor(labels), ms.Tensor(features), ms.Tensor(logits)))) < 1e-5


def test_weight_gradient():
    """Full is AdderNet's own and takes no `mix`; sign is mix 0; a progressive one goes from 1 to 0."""
    assert weight_gradient.schedule("full", 9) == (None, None)
    mix, begin_epoch = weight_gradient.schedule("sign", 9)
    assert mix.asnumpy() == 0 and begin_epoch is None
    mix, begin_epoch = weight_gradient.schedule("progressive", 9)
    shares = []
    for epoch in range(1, 10):
        begin_epoch(epoch)
        shares.append(float(mix.asnumpy()[0]))
    assert shares[0] == 1.0 and abs(shares[4] - 0.5) < 1e-6 and abs(shares[-1]) < 1e-6
    assert shares == sorted(shares, reverse=True)
    assert weight_gradient.share(1, 1) == 1.0


def images(count):
    return np.random.default_rng(1).standard_normal((count, 3, 32, 32)).astype(np.float32)


def shallow(layer, **options):
    """ResNet-20 with a block in each stage instead of three: its graph compiles in a third of the time."""
    return ResNet(CLASSES, (1, 1, 1), (16, 32, 64), 3, *kinds.sockets(layer, **options))


@pytest.mark.parametrize("backend", ["kernel", "composed"])
def test_student_learns_and_teacher_stays(backend):
    """A step of the whole: the loss falls, the student's weights leave those it inherited, the teacher's stay."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(1)
    teacher = shallow("l2", backend=backend)
    mix = ms.Parameter(ms.Tensor(np.array([0.5], np.float32)), name="mix", requires_grad=False)
    student = shallow("l1", backend=backend, mix=mix).set_train()
    assert len(student.parameters_dict()) == 51  # one `mix` for all layers
    assert len(checkpoint.weights(student)) == 50
    inherit(student, teacher)
    for name, value in teacher.parameters_dict().items():
        np.testing.assert_array_equal(student.parameters_dict()[name].asnumpy(), value.asnumpy())
    steps = 12 if backend == "kernel" else 1
    teacher = fold(teacher, backend)
    before = [value.asnumpy().copy() for value in teacher.get_parameters()]
    step = TrainStep(Loss(student, Distillation(teacher, None, parts(logits_weight=1.0, features_weight=0.1))), sgd(student, 30, 0.1, 0.9, 5e-4))
    data = ms.Tensor(images(16)), ms.Tensor(np.arange(16, dtype=np.int32) % CLASSES)
    weights = student.layer1[0].conv1.adder.asnumpy().copy()
    losses = [float(step(*data)[0]) for _ in range(steps)]
    assert np.isfinite(losses).all() and (steps == 1 or losses[-1] < 0.9 * losses[0])
    assert np.any(student.layer1[0].conv1.adder.asnumpy() != weights)
    for value, old in zip(teacher.get_parameters(), before):
        np.testing.assert_array_equal(value.asnumpy(), old)


def test_centres_follow_the_features_of_training():
    ms.set_context(mode=ms.GRAPH_MODE)
    net = resnet20(CLASSES, backend="kernel", layer="l2").set_train()
    centre_loss = CentreLoss(CLASSES, net.feature_size, 0.01, 0.1)
    step = TrainStep(Loss(net, centre_loss), sgd(net, 30, 0.1, 0.9, 5e-4))
    for _ in range(2):
        step(ms.Tensor(images(8)), ms.Tensor(np.full(8, 3, np.int32)))
    centres = centre_loss.centres.asnumpy()
    assert np.any(centres[3] != 0) and not np.any(np.delete(centres, 3, 0))
    assert "centres" in step.parameters_dict()  # a resumed run has them again


# What goes together.

def options(*arguments):
    """The options of a method from a command line."""
    config = get_config("train", "x", list(arguments))
    check_options(config)
    return pick(METHODS[config.method].Options, config)


NGD = ("--method", "ngd", "--logits_weight", "1")


@pytest.mark.parametrize("arguments, words", [
    (("--layer", "l2", "--weight_gradient", "progressive"), "progressive is one of layer l1 only, not of l2"),
    ((*NGD, "--teacher", "l2", "--layer", "conv", "--weight_gradient", "sign"), "one of layer l1 only, not of conv"),
    (("--teacher", "l2"), "method alone has no teacher"),
    (("--features_weight", "3"), "method alone does not use --features_weight"),
    (("--method", "pkkd", "--teacher", "conv", "--features_weight", "1", "--inherit"), "method pkkd does not use --inherit"),
    ((*NGD, "--teacher", "l2", "--response_kernel", "false"), "method ngd does not use --response_kernel"),
    (("--teacher_checkpoint_path", "ckpt"), "method alone has no teacher"),
    (NGD, "method ngd needs a teacher"),
    ((*NGD, "--teacher", "l2", "--inherit", "--pre_trained", "a.ckpt"), "the network begins with the weights of one of"),
    (("--method", "ngd", "--teacher", "l2"), "a teacher teaches nothing")])
def test_options_that_make_no_sense_together(arguments, words):
    with pytest.raises(UserError, match=words):
        options(*arguments)


@pytest.mark.parametrize("arguments, words", [
    (("--inherit", "--teacher", "conv"), "cannot begin with the weights"),
    (("--inherit", "--teacher", "l2"), None),
    (("--teacher", "conv", "--features_weight", "1"), None)])
def test_pairs_of_networks(arguments, words):
    pair = [resnet20(CLASSES, layer=layer) for layer in ("l1", arguments[arguments.index("--teacher") + 1])]
    if words is None:
        ngd.check_pair(*pair, options(*NGD, *arguments))
    else:
        with pytest.raises(UserError, match=words):
            ngd.check_pair(*pair, options(*NGD, *arguments))


PROJECTED = [("features_weight",), ("direction_weight",), ("features_weight", "direction_weight")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("names", PROJECTED, ids=str)
def test_features_of_another_size(names, mode):
    """They are compared behind a learned linear map, whose gradient is right too; in float64 by NumPy."""
    ms.set_context(mode=mode)
    random, (features, logits, labels) = np.random.default_rng(3), batch()
    wanted, means = random.uniform(0, 2, (BATCH, 9, 1, 1)), random.uniform(0, 2, (CLASSES, 9))
    project = ngd.Projection(5, 9)
    loss = Distillation(Teacher(wanted.astype(np.float32), logits), means.astype(np.float32),
                        parts(**dict.fromkeys(names, 0.3)), project)

    def in_numpy(weight):
        mapped = features[:, :, 0, 0].astype(np.float64) / np.sqrt(5) @ weight.T
        longer = np.maximum(*(np.linalg.norm(each, axis=1) for each in (mapped, wanted[:, :, 0, 0])))
        unit = means / np.linalg.norm(means, axis=1, keepdims=True)
        terms = {"features_weight": 0.5 * ((mapped - wanted[:, :, 0, 0]) ** 2).sum(1).mean(),
                 "direction_weight": (1 - (mapped * unit[labels]).sum(1) / longer).mean()}
        return sum(0.3 * terms[name] for name in names)

    weight = project.linear.weight.asnumpy()[:, :, 0, 0].astype(np.float64)
    inputs = None, ms.Tensor(labels), ms.Tensor(features), ms.Tensor(logits)
    got, gradient = ops.value_and_grad(loss, None, loss.trainable_params())(*inputs)
    assert [value.name for value in loss.trainable_params()] == ["project.linear.weight"]
    assert float(got) == pytest.approx(in_numpy(weight), rel=1e-5)
    steps = 1e-5 * np.eye(weight.size).reshape((-1, *weight.shape))
    slopes = [(in_numpy(weight + step) - in_numpy(weight - step)) / 2e-5 for step in steps]
    assert oracle.relative_error(gradient[0].asnumpy().ravel(), np.array(slopes)) < 1e-4


TASK = SimpleNamespace(dataset="cifar10", class_num=CLASSES, size=(32, 32), options=SimpleNamespace(image_size=0),
                       identity=lambda network, layer: Identity(network, layer, CLASSES, "cifar10"))


@pytest.fixture(name="trained", scope="module")
def fixture_trained(tmp_path_factory):
    """An l2 network, its checkpoint with an identity, and one without."""
    folder, net = tmp_path_factory.mktemp("trained"), resnet20(CLASSES, layer="l2")
    identity = Identity("resnet20", "l2", CLASSES, "cifar10")
    save_parameters(net.parameters_dict(), folder / "known.ckpt", identity=identity.dumps())
    save_parameters(net.parameters_dict(), folder / "unknown.ckpt")
    return net, folder


@pytest.mark.parametrize("name, layer", [("known", "none"), ("known", "l2"), ("unknown", "l2")])
def test_teacher_of_a_checkpoint(trained, name, layer):
    """Its layers are those of its identity; without one, the option's."""
    net, folder = trained
    teacher, network = options(*NGD, "--teacher", layer, "--teacher_checkpoint_path",
                               str(folder / f"{name}.ckpt")).trained_teacher(TASK)
    assert network == "resnet20"
    x = ms.Tensor(images(2))
    np.testing.assert_array_equal(teacher.set_train(False)(x).asnumpy(), net.set_train(False)(x).asnumpy())


def test_content_of_the_teacher_decides(trained, tmp_path):
    """Not where it lies: in the folder of a run there may be a better one when the student goes on."""
    settings = []
    for name in ("known", "known", "unknown"):
        shutil.copy(trained[1] / f"{name}.ckpt", tmp_path / "teacher.ckpt")
        settings.append(options(*NGD, "--teacher_checkpoint_path", str(tmp_path / "teacher.ckpt")).settings)
    assert settings[0] == settings[1] != settings[2] and settings[0].keys() <= set(RECORDED)
    assert options(*NGD, "--teacher", "l2").settings == {}


def test_mixed_images_have_no_direction():
    task = SimpleNamespace(options=SimpleNamespace(mixup=0.2))
    with pytest.raises(UserError, match="direction_weight needs images of one class each: leave out mixup"):
        ngd.train(SimpleNamespace(task=task), options(*NGD, "--teacher", "l2", "--direction_weight", "1"), None, {})


@pytest.mark.parametrize("name, layer, words", [
    ("known", "l1", "is a network of layer l2, not l1; give --teacher none"),
    ("unknown", "none", "does not say which layers it has"),
    ("unknown", "conv", "does not fit the network"),
    ("absent", "l2", "no such checkpoint")])
def test_teacher_that_is_none(trained, name, layer, words):
    with pytest.raises(UserError, match=words):
        options(*NGD, "--teacher", layer, "--teacher_checkpoint_path",
                str(trained[1] / f"{name}.ckpt")).trained_teacher(TASK)
