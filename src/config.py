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
import dataclasses
import importlib
import math
import re
from pathlib import Path

from . import yaml_files
from .errors import UserError, quote

DEFAULT_CONFIG = Path(__file__).with_name("default_config.yaml")  # a link; when the package is installed, a copy
# What may be another value when a run is resumed: where things lie, what is shown, what other programs use.
NOT_DECIDING = ("config_path", "given", "device_target", "device_id", "run_distribute", "data_path",
                "eval_dataset_path", "output_path", "resume", "eval_interval", "checkpoint_file_path",
                "file_format", "file_name")
RECORDED = ("devices", "teacher_sha256")  # what config.yaml of a run has beside the options
EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # PyYAML takes 1e-4, a number in YAML 1.2, for text
# What is meant by who gives an option to the wrong program.
MEANT = {"data_path": "eval_dataset_path", "eval_dataset_path": "data_path", "checkpoint_file_path": "pre_trained"}


def get_config(program, description, arguments=None):
    """Read the options.

    Args:
        program (str): "train", "eval" or "export": which options the command line may have. A file may have all of
            them, since the three share it.
        description (str): what the program does, for --help.
        arguments (list[str]): command line without the program's name; `sys.argv[1:]` if None.

    Returns:
        argparse.Namespace with one attribute for every key of default_config.yaml, `config_path`, and `given`: the set
        of the keys that the command line or the file of --config_path names.

    Raises:
        UserError: a file that cannot be read, an unknown key, an option that the program does not use, a value of the
            wrong type, out of range or not among the choices.
        SystemExit: code 0 after --help.
    """
    defaults, groups, choices, ranges, programs = yaml_files.documents(DEFAULT_CONFIG)
    choices = {key: _expanded(names) for key, names in choices.items()}
    used = {key for group in programs[program] for key in groups[group]}
    parser = _parser(program, description, defaults, groups, choices, used)
    # Every key begins as None, which no option can be: what is another value in the end was given.
    config = parser.parse_args(arguments, argparse.Namespace(**dict.fromkeys(defaults)))
    given = {key: value for key, value in vars(config).items() if key in defaults and value is not None}
    _check_used(program, given, used)
    if config.config_path is not None:
        given = {**_file_values(Path(config.config_path), defaults, choices), **given}
    values = {**defaults, **given}
    for key, ends in ranges.items():
        check_range(key, values[key], *ends)
    return argparse.Namespace(**values, config_path=config.config_path, given=set(given))


def defaults_but(**values):
    """The options of default_config.yaml as a Namespace, but for some values."""
    return argparse.Namespace(**{**yaml_files.values(DEFAULT_CONFIG), **values})


def pick(cls, config):
    """A dataclass of options, each field from the key of its name. Raises UserError if the dataclass refuses them."""
    return cls(**{field.name: getattr(config, field.name) for field in dataclasses.fields(cls)})


def check_range(key, value, least, most):
    """Refuse a number that is not between two others: raises UserError."""
    if not least <= value <= most:  # nor is NaN
        raise UserError(f"{key} must be a number from {least} to {most}, not {quote(value)}")


def check_values(values, source):
    """Refuse options, of a checkpoint for instance, that no file of options may have: raises UserError.

    Args:
        values (dict): name to value, of keys of default_config.yaml.
        source (str | Path): where they come from, for messages.
    """
    defaults, _, choices, ranges, _ = yaml_files.documents(DEFAULT_CONFIG)
    for key, value in values.items():
        value = _checked(f"{source}: {key}", value, defaults[key], _expanded(choices.get(key, ())))
        if key in ranges:
            check_range(f"{source}: {key}", value, *ranges[key])


def refuse_unused(options, names, who):
    """Refuse options that mean nothing for someone, unless they are the defaults: raises UserError.

    Args:
        options (Namespace or dataclass): has all of them.
        names: keys of default_config.yaml.
        who (str): for the message.
    """
    defaults = yaml_files.values(DEFAULT_CONFIG)
    for name in sorted(names):
        if getattr(options, name) != defaults[name]:
            raise UserError(f"{who} does not use --{name}")


def decides(config):
    """The options that decide the result of a training run, as a dictionary; a resumed run must have the same."""
    return {key: value for key, value in vars(config).items() if key not in NOT_DECIDING}


class Parser(argparse.ArgumentParser):
    """The command line of a program. Wrong options end like any other bad input: one line, exit code 1."""

    def __init__(self, program, description, parents=()):
        super().__init__(program, description=description.split("\n")[0], parents=parents, allow_abbrev=False,
                         formatter_class=argparse.ArgumentDefaultsHelpFormatter)

    def error(self, message):
        raise UserError(re.sub(r"\S{60,}", lambda word: f"{word[0][:57]}...", message) + " (see --help)")


def _parser(program, description, defaults, groups, choices, used):
    parser = Parser(f"{program}.py", description)
    parser.add_argument("--config_path", metavar="FILE", help="YAML file whose values replace the defaults")
    for title, helps in groups.items():
        group = parser.add_argument_group(title)
        for key, text in helps.items():
            group.add_argument(f"--{key}", default=defaults[key], **_form(defaults[key], choices.get(key)),
                               help=text if key in used else argparse.SUPPRESS)  # the program will refuse it by name
    return parser


def add_options(parser, names):
    """Give another program's parser options of default_config.yaml, as train.py has them."""
    defaults, groups, *_ = yaml_files.documents(DEFAULT_CONFIG)
    for key, text in ((key, text) for helps in groups.values() for key, text in helps.items() if key in names):
        parser.add_argument(f"--{key}", default=defaults[key], help=text, **_form(defaults[key]))


def _form(default, choices=None):
    """How an option of that default is parsed."""
    if isinstance(default, bool):
        return {"nargs": "?", "const": True, "type": _bool}
    return {"type": type(default), "choices": choices}


def _check_used(program, given, used):
    for key in given:
        if key not in used:
            instead = f"; it takes --{MEANT[key]}" if MEANT.get(key) in used else " (see --help)"
            raise UserError(f"{program}.py does not use --{key}{instead}")


def _expanded(names):
    """Choices, with the keys of a table in the place of where it is in the package, such as .kinds.KINDS."""
    found = []
    for name in names:
        module, _, table = name.rpartition(".")
        found += list(getattr(importlib.import_module(module, __package__), table)) if module else [name]
    return found


def _bool(text):
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{quote(text)} is neither true nor false")
    return text.lower() == "true"


def _file_values(path, defaults, choices):
    """The options of a YAML file, config.yaml of a run among them, in the types of their defaults."""
    values = {key: value for key, value in yaml_files.values(path).items() if key not in RECORDED}
    for key in values:
        if key not in defaults:
            raise UserError(f"{path}: {quote(key)}: unknown key")
    return {key: _checked(f"{path}: {key}", value, defaults[key], choices.get(key)) for key, value in values.items()}


def _checked(name, value, default, choices):
    """A value from YAML in the type of its default."""
    if isinstance(default, float) and (type(value) is int or isinstance(value, str) and EXPONENT.fullmatch(value)):
        value = _float(value)
    if type(value) is not type(default):
        raise UserError(f"{name}: {quote(value)} is not of type {type(default).__name__}")
    if choices and value not in choices:
        raise UserError(f"{name}: {quote(value)} is not one of {', '.join(choices)}")
    return value


def _float(number):
    try:
        return float(number)
    except OverflowError:  # an integer of more than 308 digits
        return math.inf
