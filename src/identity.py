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
"""What a checkpoint is a network of. It is stored in the checkpoint, as one line of JSON.

The zoo's checkpoints, and those that were written before, have none: the options say it then.
"""
import dataclasses
import json

from src import data, networks
from src.errors import UserError, quote
from src.kinds import KINDS
from src.networks import LARGEST_IMAGE, MOST_CLASSES, NETWORKS

KEY = "identity"  # among the checkpoint's parameters
LONGEST = 1 << 20  # characters


@dataclasses.dataclass(frozen=True)
class Identity:
    """A trained network.

    Attributes:
        network: a key of `src.networks.NETWORKS`.
        layer: a key of `src.kinds.KINDS`.
        class_num: classes of its head.
        dataset: that it was trained on, a key of `src.data.SETS`.
        classes: their names, or nothing.
        image_size: pixels of a side of its images; 0 is the network's own.
    """
    network: str
    layer: str
    class_num: int
    dataset: str
    classes: tuple = ()
    image_size: int = 0

    @property
    def size(self):
        """Height and width of its images. Raises UserError where the network takes no such."""
        return networks.image_size(self.network, self.image_size)

    def dumps(self):
        """As JSON, for `save_parameters(..., identity=identity.dumps())`; a resumed run must have the same."""
        fields = dataclasses.asdict(self)
        if not self.image_size:
            del fields["image_size"]  # as in files from before there was a choice
        return json.dumps(fields, ensure_ascii=False)


def take(parameters, source):
    """Take the identity out of the parameters of a checkpoint.

    Args:
        parameters (dict): what `src.checkpoint.load_parameters` returned; loses its identity.
        source (Path): of the checkpoint, for messages.

    Returns:
        Identity, or None where the checkpoint has none.

    Raises:
        UserError: it is damaged, or of a network that is not known here.
    """
    text = parameters.pop(KEY, None)
    if text is None:
        return None
    try:
        fields = json.loads(text) if isinstance(text, str) and len(text) <= LONGEST else None
        identity = Identity(**{**fields, "classes": tuple(fields["classes"])})
        _check(identity)
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise UserError(f"{source}: damaged, the identity of the network makes no sense") from error
    for name, table in (("network", NETWORKS), ("layer", KINDS), ("dataset", data.SETS)):
        if getattr(identity, name) not in table:
            raise UserError(f"{source}: {name} {quote(getattr(identity, name))} is not known here")
    return identity


def _check(identity):
    for field in dataclasses.fields(Identity):
        if type(getattr(identity, field.name)) is not field.type:
            raise TypeError(field.name)
    names = identity.classes
    if not 0 <= identity.image_size <= LARGEST_IMAGE:
        raise ValueError("image_size")
    if not 1 <= identity.class_num <= MOST_CLASSES or len(names) not in (0, identity.class_num) or not all(
            isinstance(name, str) and name.isprintable() for name in names):
        raise ValueError("classes")


def settle(identity, options, source):
    """The identity of a checkpoint, from the file or, where it has none, from the options.

    Args:
        identity (Identity | None): from the file.
        options (Namespace): network, layer, class_num (0: the data set's), dataset and image_size, and `given`, the
            names of the options that were not left at their defaults.
        source (Path): of the checkpoint.

    Returns:
        Identity, with the image_size of the options if it was given: networks can be evaluated at other sizes.

    Raises:
        UserError: an option that was given contradicts the file.
    """
    if identity is None:
        check_name(source, options.layer)
        return Identity(options.network, options.layer, data.class_count(options.dataset, options.class_num),
                        options.dataset, image_size=options.image_size)
    for name in ("network", "layer", "class_num", "dataset"):
        wanted, stored = getattr(options, name), getattr(identity, name)
        if name in options.given and wanted != stored and not (name == "class_num" and wanted == 0):
            raise UserError(f"{source} is a network of {name} {stored}, not {wanted}; leave out --{name}")
    return dataclasses.replace(identity, image_size=options.image_size) if "image_size" in options.given else identity


def check_name(source, layer):
    """Networks of layer l1 and l2 have the same parameters: what a published checkpoint is called tells them apart.

    Raises:
        UserError: by its name it is of another layer.
    """
    prefixes = {prefix: name for name, kind in KINDS.items() for prefix in (kind.prefix, kind.student) if prefix}
    named = prefixes.get(source.name.partition("_")[0], layer)
    if named != layer:
        raise UserError(f"{source}: by its name a network of layer {named}, not {layer}; say --layer {named}")
