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
"""Options: default_config.yaml, overridden by another YAML file, overridden by the command line."""
import argparse
import math
from pathlib import Path

import yaml

from src.errors import UserError

LEAST = {"batch_size": 1, "epoch_size": 1, "eval_interval": 1, "num_parallel_workers": 1, "class_num": 0, "device_id": 0,
         "validation_size": 0, "seed": 0, "lr": 1e-8, "momentum": 0.0, "weight_decay": 0.0, "eta": 0.0,
         "teacher_epoch_size": 0, "teacher_eta": 0.0, "intra_weight": 0.0, "inter_weight": 0.0, "logits_weight": 0.0,
         "features_weight": 0.0, "temperature": 1e-3}
MOST = {"seed": 2 ** 32 - 1}
DEFAULT_CONFIG = Path(__file__).resolve().parents[1] / "default_config.yaml"


def get_config(description, arguments=None):
    """Read the options.

    Args:
        description (str): what the program does, for --help.
        arguments (list[str]): command line without the program's name; `sys.argv[1:]` if None.

    Returns:
        argparse.Namespace with one attribute for every key of default_config.yaml.

    Raises:
        UserError: a file that cannot be read, an unknown key, a value of the wrong type, out of range or not
            among the choices.
        SystemExit: code 0 after --help.
    """
    defaults, helps, choices = _documents(DEFAULT_CONFIG)
    parser = _Parser(description=description, allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--config_path", metavar="FILE", help="YAML file whose values replace the defaults")
    for key, value in defaults.items():
        if isinstance(value, bool):
            parser.add_argument(f"--{key}", nargs="?", const=True, default=value, type=_bool, help=helps[key])
        else:
            parser.add_argument(f"--{key}", default=value, type=type(value), choices=choices.get(key), help=helps[key])
    path = parser.parse_known_args(arguments)[0].config_path
    if path is not None:
        values = _documents(Path(path))[0]
        for key, value in values.items():
            values[key] = _checked(f"{path}: {key}", value, defaults.get(key), choices.get(key))
        parser.set_defaults(**values)
    config = parser.parse_args(arguments)
    for key, least in LEAST.items():
        if not least <= getattr(config, key) <= MOST.get(key, math.inf):  # false for NaN
            most = f" and at most {MOST[key]}" if key in MOST else ""
            raise UserError(f"{key} must be at least {least}{most}, not {getattr(config, key)}")
    return config


class _Parser(argparse.ArgumentParser):
    """Wrong options end like any other bad input: one line, exit code 1."""

    def error(self, message):
        raise UserError(f"{message} (see --help)")


def _documents(path):
    """The YAML documents of a file, as dictionaries."""
    try:
        documents = list(yaml.safe_load_all(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise UserError(f"{path}: expected `key: value` lines")
    return documents


def _checked(name, value, default, choices):
    """A value from YAML in the type of its default."""
    if default is None:
        raise UserError(f"{name}: unknown key")
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise UserError(f"{name}: {value!r} is not of type {type(default).__name__}")
    if choices and value not in choices:
        raise UserError(f"{name}: {value!r} is not one of {', '.join(choices)}")
    return value


def _bool(text):
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"
