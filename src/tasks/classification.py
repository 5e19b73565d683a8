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
"""Classification of images: batches of images and labels, cross-entropy, top-1 and top-5 accuracy."""
import dataclasses

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn, ops

from .. import data
from ..errors import UserError
from ..identity import Identity
from .finite import finite


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the task, as in default_config.yaml."""
    dataset: str
    data_path: str
    class_num: int
    image_size: int
    allow_small_dataset: bool
    validation_size: int
    num_parallel_workers: int
    batch_size: int
    seed: int
    label_smoothing: float
    mixup: float


class Classification:
    """One data set, whose images have a class each; see `src.tasks` for what every task has.

    Args:
        options (Options): of the data.
        network (Network): the network's entry in `src.networks.NETWORKS`.
        splits (tuple[str]): what must be there of "train" and "test".
        classes (tuple[str]): names of the classes that a trained network knows, if it does.
        rank, ranks (int): this process, and how many train together.

    Raises:
        UserError: see `src.data.prepare`; the network takes no images of such a size.
    """

    Options = Options
    train_metrics = ("accuracy",)
    metrics = ("accuracy", "top5")
    titles = ("accuracy", "top-5")
    fraction, output, any_size, scheme, calibration_size = 10_000, "logits", False, "unsigned", 2048

    def __init__(self, options, network, splits=("train", "test"), classes=(), rank=0, ranks=1):
        self.options, self.rank, self.ranks = options, rank, ranks
        self.size = network.image_size(options.image_size)
        self.dataset, self.batch_size = options.dataset, options.batch_size
        self.folder = data.prepare(options.dataset, options.data_path, splits, options.allow_small_dataset,
                                   options.class_num, classes, self.size)
        self.class_num = data.class_count(options.dataset, options.class_num, self.folder)
        names = data.class_names(options.dataset, self.folder)
        self.classes = names if len(names) == self.class_num else ()
        self.held_out = "validation" if options.validation_size else "test"
        self.name, self.summary = options.dataset, f"{options.dataset}, {self.class_num} classes"

    def identity(self, network, layer):
        """What a network of this task is."""
        return Identity(network, layer, self.class_num, self.dataset, self.classes, self.options.image_size)

    @property
    def steps(self):
        """Batches of an epoch. Raises UserError, as `batches`, where there is not one."""
        return self.batches(1).get_dataset_size()

    def batches(self, epoch):
        """Images and labels of an epoch, in an order and with an augmentation that seed and epoch decide.

        With mixup also what share of each batch is its own images, see `Loss`.

        Raises:
            UserError: see `src.data.create_dataset`.
        """
        seed = self.options.seed * 10_000 + epoch
        batches = self._data("train", seed=seed, shards=self.ranks, shard_id=self.rank)
        if not self.options.mixup:
            return batches
        random = np.random.Generator(np.random.PCG64([seed, self.rank]))
        shares = random.beta(self.options.mixup, self.options.mixup, batches.get_dataset_size()).astype(np.float32)
        return batches.zip(ds.NumpySlicesDataset(shares, ["share"], shuffle=False))

    def loss(self, net, objective=None):
        """The training loss of a network, see `Loss`."""
        return Loss(net, objective, self.options.label_smoothing)

    def evaluate(self, net):
        """Top-1 and top-5 accuracy (0..1) of a network on the test images, or on those that are held out."""
        return dict(zip(self.metrics, evaluate(net, self._data(self.held_out))))

    @staticmethod
    def predict(net, network, identity, path, output=None):
        """Lines of text that say what a network sees in a picture; arguments and errors as those of `likeliest`."""
        if output is not None:
            raise UserError(f"{identity.network} gives words, and no picture for --output_path")
        return [f"{100 * probability:5.1f} %  {name}"
                for name, probability in likeliest(net, path, identity.size, identity)]

    def _data(self, split, **options):
        return data.create_dataset(self.dataset, self.folder, split, self.batch_size, size=self.size,
                                   workers=self.options.num_parallel_workers,
                                   validation_size=self.options.validation_size, **options)


class Loss(nn.Cell):
    """Images [N, C, H, W] and labels [N] to the mean cross-entropy, plus the objective, and the accuracy (0..1).

    With a third input, a share (0..1), the network sees share * images + (1 - share) * images in reverse order, and the
    cross-entropy is mixed likewise (mixup, arXiv 1710.09412); accuracy and objective go by the labels as they are.

    Args:
        net (Cell): with `features` and `head`, see `src.networks.create`.
        objective (Cell): (images, labels, features, logits) to a number that is added to the loss; none if not given.
        label_smoothing (float): share of the target that is spread over all classes (arXiv 1512.00567).
    """

    def __init__(self, net, objective=None, label_smoothing=0.0):
        super().__init__(auto_prefix=False)  # parameters keep the names they have in the network
        self.net, self.objective = net, objective
        self.cross_entropy = nn.CrossEntropyLoss(label_smoothing=label_smoothing)

    def construct(self, images, labels, share=None):
        if share is not None:
            images = share * images + (1.0 - share) * ops.flip(images, (0,))
        features = self.net.features(images)
        logits = self.net.head(features)
        loss = self.cross_entropy(logits, labels)
        if share is not None:
            loss = share * loss + (1.0 - share) * self.cross_entropy(logits, ops.flip(labels, (0,)))
        if self.objective is not None:
            loss = loss + self.objective(images, labels, features, logits)
        return loss, ops.mean((ops.stop_gradient(logits).argmax(1) == labels).astype(ms.float32))


def evaluate(net, batches):
    """Top-1 and top-5 accuracy (0..1) of a network on every batch; top-5 is 1 where there are fewer classes.

    Raises:
        UserError: logits are not finite.
    """
    net.set_train(False)
    top1 = top5 = count = 0
    for images, labels in batches.create_tuple_iterator(num_epochs=1):
        best = np.argsort(-finite(net(images).asnumpy()), axis=1)[:, :5]
        hits = best == labels.asnumpy()[:, None]
        top1, top5, count = top1 + hits[:, 0].sum(), top5 + hits.sum(), count + len(hits)
    return float(top1 / count), float(top5 / count)


def likeliest(net, path, size, identity):
    """The likeliest classes of a picture.

    Args:
        net (Cell): in evaluation mode, images [N, C, H, W] to logits.
        path (Path): of a PNG or JPEG.
        size (tuple[int]): height and width of the network's images.
        identity (Identity): of the network.

    Returns:
        list of (name, probability), the likeliest first, five at most; the name is a number where names are unknown.

    Raises:
        UserError: the picture cannot be read, or logits are not finite.
    """
    image = data.from_picture(identity.dataset, path, size)
    logits = finite(net(ms.Tensor(image[None])).asnumpy()[0]).astype(np.float64)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    names = identity.classes or [f"class {number}" for number in range(identity.class_num)]
    return [(names[number], probabilities[number]) for number in np.argsort(-probabilities, kind="stable")[:5]]
