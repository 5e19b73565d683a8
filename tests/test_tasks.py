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
"""Tasks: what the training loop gets of one, from its data to its loss."""
import dataclasses

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from src.config import get_config, pick
from src.data import synthetic
from src.identity import Identity
from src.networks import NETWORKS
from src.tasks import TASKS
from src.tasks.classification import Classification, Loss, evaluate

RESNET20 = NETWORKS["resnet20"]


@pytest.fixture(name="options", scope="module")
def fixture_options(tmp_path_factory):
    """Of the synthetic set."""
    folder = tmp_path_factory.mktemp("data")
    synthetic.write(folder / "synthetic-binary")
    arguments = ["--dataset", "synthetic", "--data_path", str(folder)]
    return pick(Classification.Options, get_config("train", "x", arguments))


def content(batches):
    return [tuple(value.asnumpy() for value in batch) for batch in batches.create_tuple_iterator(num_epochs=1)]


def test_epochs_are_always_the_same_and_differ_from_each_other(options):
    task = TASKS["classification"](options, RESNET20)
    first, again, second = (content(Classification(options, RESNET20).batches(epoch)) for epoch in (1, 1, 2))
    assert len(first) == task.steps == 2560 // 256
    for (images, labels), (same_images, same_labels), (other_images, _) in zip(first, again, second):
        assert images.shape == (256, 3, 32, 32) and labels.dtype == np.int32
        assert np.array_equal(images, same_images) and np.array_equal(labels, same_labels)
        assert not np.array_equal(images, other_images)


def test_what_a_network_of_the_task_needs(options):
    task = Classification(options, RESNET20, splits=("test",))
    assert task.identity("resnet20", "l2") == Identity("resnet20", "l2", 10, "synthetic") and task.held_out == "test"
    assert task.metrics[0] == "accuracy" and len(task.titles) == len(task.metrics)
    assert Classification(dataclasses.replace(options, class_num=12), RESNET20).class_num == 12


def test_images_are_of_the_networks_size(options):
    images, _ = content(Classification(options, dataclasses.replace(RESNET20, size=(40, 40))).batches(1))[0]
    assert images.shape == (256, 3, 40, 40)


class Guess(nn.Cell):
    """Always the same logits, and says how many images it saw."""

    def __init__(self):
        super().__init__()
        self.logits, self.images = np.arange(10, dtype=np.float32)[None], 0

    def construct(self, x):
        self.images += len(x)
        return ms.Tensor(np.repeat(self.logits, len(x), 0))


def test_evaluation_is_on_what_is_held_out(options):
    """All of it, in batches of any size; the guess is right for a class in ten, and for five classes of its five."""
    for validation_size, count in ((0, 500), (300, 300)):
        task = Classification(dataclasses.replace(options, validation_size=validation_size, batch_size=77), RESNET20)
        net = Guess()
        values = task.evaluate(net)
        assert list(values) == list(task.metrics) and net.images == count
        assert abs(values["accuracy"] - 0.1) < 0.06 and abs(values["top5"] - 0.5) < 0.1
    assert task.steps == (2560 - 300) // 77 and task.held_out == "validation"


class Linear(nn.Cell):
    """Features and logits of given numbers."""

    def features(self, x):
        return 2 * x

    def head(self, x):
        return x + 1


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_loss(mode):
    """Cross-entropy, what an objective makes of all there is, and accuracy, which has no gradient."""
    ms.set_context(mode=mode)

    class Objective(nn.Cell):
        def construct(self, images, labels, features, logits):
            return (features - images).sum() + logits.sum() + labels.astype(ms.float32).sum()

    x, labels = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32), np.array([0, 2, 1, 1], np.int32)
    logits = 2.0 * x + 1
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for objective, more, slope in ((None, 0, 0), (Objective(), x.sum() + logits.sum() + 4, 3)):
        wanted = -np.log(probabilities[range(4), labels]).mean() + more
        (got, accuracy), gradient = ops.value_and_grad(Loss(Linear(), objective), 0, has_aux=True)(
            ms.Tensor(x), ms.Tensor(labels))
        assert abs(float(got) - wanted) < 1e-5 and float(accuracy) == (logits.argmax(1) == labels).mean()
        np.testing.assert_allclose(gradient.asnumpy(), (probabilities - np.eye(3)[labels]) / 2 + slope, atol=1e-5)


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_smoothed_and_mixed_loss(mode):
    """Targets of one classes' share and all classes' share; images and targets in pairs, the first with the last."""
    ms.set_context(mode=mode)
    random = np.random.default_rng(0)
    x, labels, share = random.standard_normal((5, 3)).astype(np.float32), np.array([0, 2, 1, 1, 0], np.int32), 0.3
    logits = 2.0 * (share * x + (1 - share) * x[::-1]) + 1
    target = share * np.eye(3)[labels] + (1 - share) * np.eye(3)[labels[::-1]]
    target = 0.8 * target + 0.2 / 3
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    got, accuracy = Loss(Linear(), label_smoothing=0.2)(ms.Tensor(x), ms.Tensor(labels), ms.Tensor(np.float32(share)))
    assert float(got) == pytest.approx(-(target * log_probabilities).sum(1).mean(), rel=1e-5)
    assert float(accuracy) == pytest.approx((logits.argmax(1) == labels).mean())


def test_shares_of_mixup(options):
    """One for each batch, decided by seed and epoch, of the beta distribution, and the same images as without."""
    tasks = [Classification(dataclasses.replace(options, mixup=alpha, batch_size=16), RESNET20) for alpha in (0, 0.4)]
    plain, mixed, again, second = (content(task.batches(epoch)) for task, epoch in zip([*tasks, *tasks[1:] * 2], (1, 1, 1, 2)))
    shares, same, others = (np.array([batch[2] for batch in batches]) for batches in (mixed, again, second))
    assert np.array_equal(shares, same) and not np.array_equal(shares, others) and len(shares) == 160
    assert abs(shares.mean() - 0.5) < 0.1 and abs(shares.std() - (0.25 / 1.8) ** 0.5) < 0.05
    assert all(np.array_equal(batch[0], other[0]) for batch, other in zip(plain, mixed))


def test_equal_logits_are_ranked_as_by_numpy():
    data = [(ms.Tensor(np.zeros((2, 7), np.float32)), ms.Tensor(np.array([0, 6], np.int32)))]

    class Batches:
        def create_tuple_iterator(self, num_epochs):
            return data * num_epochs

    assert evaluate(nn.Identity(), Batches()) == (0.5, 0.5)
