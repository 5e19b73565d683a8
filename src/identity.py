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

from . import data
from .config import check_values, defaults_but
from .errors import UserError, quote
from .kinds import KINDS
from .networks import LARGEST_IMAGE, MOST_CLASSES, NETWORKS

KEY = "identity"  # among the checkpoint's parameters
LONGEST = 1 << 20  # characters


@dataclasses.dataclass(frozen=True)
class Identity:
    """A trained network.

    Attributes:
        network: a key of `src.networks.NETWORKS`.
        layer: a key of `src.kinds.KINDS`.
        class_num: classes of its head; 0 where it knows none.
        dataset: that it was trained on, a key of `src.data.SETS`.
        classes: their names, or nothing.
        image_size: pixels of a side of its images; 0 is the network's own.
        options: the other options that decide its form, by name, see `src.networks.Network`.
    """
    network: str
    layer: str
    class_num: int
    dataset: str
    classes: tuple = ()
    image_size: int = 0
    options: dict = dataclasses.field(default_factory=dict)

    @property
    def size(self):
        """Height and width of its images. Raises UserError where the network takes no such."""
        return NETWORKS[self.network].image_size(self.image_size)

    @property
    def form(self):
        """All options that decide its form, as `src.networks.create` takes them."""
        return {**({"class_num": self.class_num} if self.class_num else {}), **self.options}

    @property
    def settings(self):
        """All options that it decides, of data and form."""
        return {"dataset": self.dataset, "image_size": self.image_size, **self.form}

    def dumps(self):
        """As JSON, for `save_parameters(..., identity=identity.dumps())`; a resumed run must have the same."""
        fields = dataclasses.asdict(self)
        for name in ("image_size", "options"):
            if not fields[name]:
                del fields[name]  # as in files from before there was a choice
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
    wanted = set(NETWORKS[identity.network].options)
    newer = wanted - identity.form.keys() - {"class_num"}  # than the file: it has their defaults
    if wanted != identity.form.keys() | newer:
        raise UserError(f"{source}: damaged, {identity.network} has other options")
    defaults = {name: getattr(defaults_but(), name) for name in newer}
    identity = dataclasses.replace(identity, options={**identity.options, **defaults})
    check_values(identity.form, source)
    check_data(identity.network, identity.dataset)
    return identity


def _check(identity):
    for field in dataclasses.fields(Identity):
        if type(getattr(identity, field.name)) is not field.type:
            raise TypeError(field.name)
    names = identity.classes
    if not 0 <= identity.image_size <= LARGEST_IMAGE:
        raise ValueError("image_size")
    if not 0 <= identity.class_num <= MOST_CLASSES or len(names) not in (0, identity.class_num) or not all(
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
        check_data(options.network, options.dataset)
        if NETWORKS[options.network].options != ("class_num",):
            raise UserError(f"{source} does not say what it is, as every {options.network} does that was trained here")
        check_name(source, options.layer)
        return Identity(options.network, options.layer, data.class_count(options.dataset, options.class_num),
                        options.dataset, image_size=options.image_size)
    known = {**dataclasses.asdict(identity), **identity.options}
    for name in sorted(known.keys() & set(options.given) - {"image_size"}):
        wanted, stored = getattr(options, name), known[name]
        if wanted != stored and not (name == "class_num" and wanted == 0):
            raise UserError(f"{source} is a network of {name} {stored}, not {wanted}; leave out --{name}")
    if "image_size" not in options.given:
        return identity
    resized = dataclasses.replace(identity, image_size=options.image_size)
    if NETWORKS[identity.network].task == "classification":
        values = [data.SETS[identity.dataset].statistics(each.size) for each in (identity, resized)]
        if values[0] != values[1]:
            raise UserError(f"{source} takes images of {identity.size[0]} pixels, which are cropped and normalised "
                            f"otherwise than those of {resized.size[0]}")
    return resized


def check_data(network, dataset):
    """Refuse data for another task than that of a network: raises UserError."""
    task = NETWORKS[network].task
    if data.SETS[dataset].task != task:
        fitting = ", ".join(name for name, each in data.SETS.items() if each.task == task)
        raise UserError(f"{network} learns {task}, for which data set {dataset} is none: give --dataset {fitting}")


def check_name(source, layer):
    """Networks of layer l1 and l2 have the same parameters: what a published checkpoint is called tells them apart.

    Raises:
        UserError: by its name it is of another layer.
    """
    prefixes = {prefix: name for name, kind in KINDS.items() for prefix in (kind.prefix, kind.student) if prefix}
    named = prefixes.get(source.name.partition("_")[0], layer)
    if named != layer:
        raise UserError(f"{source}: by its name a network of layer {named}, not {layer}; say --layer {named}")
