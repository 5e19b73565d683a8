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
"""src.config: the command line beats a YAML file, which beats default_config.yaml; mistakes name their key."""
import ast
import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from src import config, data, kernels
from src.config import decides, get_config, pick
from src.distill import METHODS
from src.errors import UserError
from src.kinds import KINDS
from src.networks import LARGEST_IMAGE, MOST_CLASSES, NETWORKS
from src.tasks import TASKS
from src.training import trainer

ROOT = Path(__file__).parents[1]
DEFAULTS, GROUPS, NAMES, RANGES, PROGRAMS = yaml.safe_load_all((ROOT / "default_config.yaml").read_text("utf-8"))
CHOICES = {key: config._expanded(names) for key, names in NAMES.items()}  # pylint: disable=protected-access
HELPS = {key: text for group in GROUPS.values() for key, text in group.items()}
OPTIONS = [table.Options for table in (*METHODS.values(), *TASKS.values(), trainer)]  # dataclasses filled by `pick`
USED = {program: {key for group in groups for key in GROUPS[group]} for program, groups in PROGRAMS.items()}
FLAGS = [key for key, value in DEFAULTS.items() if isinstance(value, bool)]


@pytest.fixture(name="yaml_file")
def fixture_yaml_file(tmp_path):
    """A function that writes a configuration file and returns the option that names it."""
    def write(content):
        path = tmp_path / "mine.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["--config_path", str(path)]
    return write


def read(arguments, key="seed"):
    """The options of a program that uses a key."""
    return get_config(next(program for program, keys in USED.items() if key in keys), "x", arguments)


def another(key):
    """A valid value of a key that is not its default."""
    value = DEFAULTS[key]
    if key in CHOICES:
        return next(choice for choice in CHOICES[key] if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value}-2"
    return value / 2 if isinstance(value, float) and value else value + 1


def refused(arguments, *words):
    """The message with which the options are refused: one line that has all the words."""
    with pytest.raises(UserError) as caught:
        read(arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
    return message


# Where a value comes from.

def test_without_options_every_value_is_the_default():
    values = vars(read([]))
    assert values.pop("config_path") is None and values.pop("given") == set()
    assert values == DEFAULTS
    assert {key: type(value) for key, value in values.items()} == {key: type(DEFAULTS[key]) for key in values}


@pytest.mark.parametrize("key", DEFAULTS)
def test_command_line_beats_default(key):
    value = getattr(read([f"--{key}", str(another(key))], key), key)
    assert (value, type(value)) == (another(key), type(DEFAULTS[key]))


@pytest.mark.parametrize("key", DEFAULTS)
def test_yaml_beats_default(key, yaml_file):
    values = vars(read(yaml_file(yaml.safe_dump({key: another(key)}))))
    assert {**DEFAULTS, key: another(key)}.items() <= values.items()
    assert type(values[key]) is type(DEFAULTS[key])


@pytest.mark.parametrize("key", DEFAULTS)
def test_command_line_beats_yaml(key, yaml_file):
    option = yaml_file(yaml.safe_dump({key: another(key)}))
    chosen = [f"--{key}", str(DEFAULTS[key])]
    for arguments in (option + chosen, chosen + option):
        assert getattr(read(arguments, key), key) == DEFAULTS[key]


def test_options_that_were_given(yaml_file):
    """Whatever their value, those of the file and of the command line, and no others."""
    assert read(["--seed", "1", "--resume", "false"]).given == {"seed", "resume"}
    assert read([*yaml_file("layer: l1"), "--resume"]).given == {"layer", "resume"}


@pytest.mark.parametrize("key, value, words", [
    ("eta", "nan", "eta must be a number from 0.0 to 1e+38, not nan"),
    ("lr", "1e999", "lr must be a number from 1e-08 to 1e+38, not inf"),
    ("lr", "1" + 400 * "0", "lr must be a number from 1e-08 to 1e+38, not inf"),
    ("momentum", "-inf", "momentum must be a number from 0.0 to 1.0, not -inf"),
    ("epoch_size", "0", "epoch_size must be a number from 1 to 100000, not 0"),
    ("epoch_size", "100000000", "epoch_size must be a number from 1 to 100000, not 100000000"),
    ("batch_size", str(2 ** 31), "batch_size must be a number from 1 to 65536, not 2147483648"),
    ("class_num", "-1" + 400 * "0", "class_num must be a number from 0 to 1000000, not -1"),
    ("seed", str(2 ** 32), "seed must be a number from 0 to 4294967295, not 4294967296")])
def test_out_of_range(key, value, words, yaml_file):
    text = {"nan": ".nan", "1e999": "1e999", "-inf": "-.inf"}.get(value, value)
    for arguments in ([f"--{key}={value}"], yaml_file(f"{key}: {text}")):
        assert len(refused(arguments, words)) < 120


@pytest.mark.parametrize("key", [key for key, value in DEFAULTS.items() if type(value) in (int, float)])
def test_every_number_has_two_finite_ends(key):
    """And those that MindSpore takes as float32 are finite there."""
    least, most = RANGES[key]
    assert least <= DEFAULTS[key] <= most < (2 ** 32 if isinstance(DEFAULTS[key], int) else 3e38)


def test_classes_end_where_those_of_networks_do():
    assert RANGES["class_num"] == [0, MOST_CLASSES] and RANGES["image_size"] == [0, LARGEST_IMAGE]


def test_command_line_is_sys_argv_unless_given(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--seed", "77"])
    assert get_config("train", "x").seed == 77


def test_defaults_are_found_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert read([]).batch_size == DEFAULTS["batch_size"]


# The file of defaults.

@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_use_no_other_key(program):
    assert attributes_of_config(f"{program}.py") <= USED[program] | {"given"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_options_that_a_program_does_not_use(program, yaml_file):
    """They are refused by name on the command line, and taken from a file, which other programs share."""
    for key in set(DEFAULTS) - USED[program]:
        with pytest.raises(UserError, match=f"^{program}.py does not use --{key}(;| )"):
            get_config(program, "x", [f"--{key}={another(key)}"])
        assert getattr(get_config(program, "x", yaml_file(yaml.safe_dump({key: another(key)}))), key) == another(key)


@pytest.mark.parametrize("program, option, other", [("eval", "data_path", "eval_dataset_path"),
                                                    ("train", "eval_dataset_path", "data_path")])
def test_option_that_another_stands_for(program, option, other):
    with pytest.raises(UserError, match=f"^{program}.py does not use --{option}; it takes --{other}$"):
        get_config(program, "x", [f"--{option}", "somewhere"])


def test_every_key_is_used():
    """By being a field of a dataclass of options, or by an entry point."""
    used = set().union(*map(attributes_of_config, ("train.py", "eval.py", "export.py")))
    for options in OPTIONS:
        used |= {field.name for field in dataclasses.fields(options)}
    assert used >= set(DEFAULTS)


def attributes_of_config(program):
    """The `config.key` of a program."""
    tree = ast.parse((ROOT / program).read_text("utf-8"))
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name) and node.value.id == "config"}


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options.__module__)
def test_fields_of_options_are_keys(options):
    """In the types of the defaults."""
    for field in dataclasses.fields(options):
        assert field.type is type(DEFAULTS[field.name]), field.name


def test_helps_choices_and_ranges_are_of_keys():
    assert list(HELPS) == list(DEFAULTS) and all(text.strip() for text in HELPS.values())
    assert set.union(*USED.values()) == set(DEFAULTS)
    assert set(CHOICES) <= set(DEFAULTS)
    assert set(RANGES) == {key for key, value in DEFAULTS.items() if type(value) in (int, float)}


@pytest.mark.parametrize("key", CHOICES)
def test_default_is_among_the_choices(key):
    assert DEFAULTS[key] in CHOICES[key]


@pytest.mark.parametrize("key, table", [("dataset", data.SETS), ("network", NETWORKS), ("layer", KINDS),
                                        ("teacher", {"none", *KINDS}), ("method", METHODS)])
def test_choices_are_the_tables(key, table):
    assert set(CHOICES[key]) == set(table)


def test_backends_are_known():
    assert set(CHOICES["backend"]) <= set(kernels.BACKENDS)


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_called_as_their_checkpoints(path):
    values = read(["--config_path", str(path)])
    prefix = {"ngd": "adderngd", "pkkd": "pkkd"}.get(values.method, KINDS[values.layer].prefix)
    assert path.stem.startswith(f"{prefix}_{values.network}_{values.dataset}")  # of own images, their name follows
    NETWORKS[values.network].image_size(values.image_size)
    pick(METHODS[values.method].Options, values)


# What a run keeps of its options.

def test_all_options_decide_but_a_few():
    """An option that a new version adds is one of them without anybody's doing."""
    assert set(DEFAULTS) - set(decides(read([]))) == {
        "device_target", "device_id", "run_distribute", "data_path", "eval_dataset_path",
        "output_path", "resume", "eval_interval", "checkpoint_file_path", "file_format", "file_name"}


def test_settings_of_a_run_are_a_file_of_options(yaml_file):
    given = ["--lr", "1e-5", "--method", "ngd", "--teacher", "l2", "--inherit"]
    settings = decides(read(given))
    assert decides(read(yaml_file(yaml.safe_dump({**settings, "devices": 2})))) == settings


@pytest.mark.parametrize("path", sorted(ROOT.glob("ckpt/**/config.yaml")), ids=lambda path: path.parent.name)
def test_settings_of_published_runs_are_files_of_options(path):
    read(["--config_path", str(path)])


@pytest.mark.parametrize("old, new", [
    ("progressive: true\nteacher: l2", {"weight_gradient": "progressive", "method": "ngd"}),
    ("progressive: false\nteacher: none", {"weight_gradient": "full", "method": "alone"})])
def test_settings_of_older_versions(old, new, yaml_file):
    assert new.items() <= vars(read(yaml_file(old))).items()


# Help.

@pytest.mark.parametrize("program", PROGRAMS)
def test_help_lists_what_a_program_uses(program, capsys, monkeypatch):
    """Every option with its help, default and choices, and no other."""
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as caught:
        get_config(program, "Bakes bread.", ["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0 and "Bakes bread." in text
    assert set(re.findall(r"^  --(\w+)", text, re.MULTILINE)) == USED[program] | {"config_path"}
    for key in USED[program]:
        entry = re.search(rf"^  --{key} .*\n?(?:   .*\n)*", text, re.MULTILINE)[0]
        assert HELPS[key] in entry and f"(default: {DEFAULTS[key]})" in entry
        assert key not in CHOICES or "{" + ",".join(CHOICES[key]) + "}" in entry


# Flags.

@pytest.mark.parametrize("key", FLAGS)
@pytest.mark.parametrize("values, expected", [([], True), (["true"], True), (["false"], False), (["TRUE"], True),
                                              (["False"], False)])
def test_flag(key, values, expected):
    assert getattr(read([f"--{key}", *values], key), key) is expected
    if values:
        assert getattr(read([f"--{key}={values[0]}"], key), key) is expected


def test_flag_before_another_option():
    values = read(["--resume", "--seed", "5"])
    assert (values.resume, values.seed) == (True, 5)


@pytest.mark.parametrize("value", ["maybe", "1", "yes", ""])
def test_flag_refuses_anything_else(value):
    refused(["--resume", value], "--resume", repr(value))


# Mistakes on the command line.

@pytest.mark.parametrize("arguments, words", [
    (["--speed", "3"], ["--speed"]),
    (["--batch", "3"], ["--batch"]),
    (["--res"], ["--res"]),
    (["--config", "a.yaml"], ["--config"]),
    (["train"], ["train"]),
    (["--batch_size"], ["--batch_size"]),
    (["--batch_size", "x"], ["--batch_size", "'x'"]),
    (["--batch_size", "2.5"], ["--batch_size", "'2.5'"]),
    (["--batch_size", ""], ["--batch_size"]),
    (["--lr", "fast"], ["--lr", "'fast'"]),
    (["--mode", "graph"], ["--mode", "'graph'", "GRAPH", "PYNATIVE"]),
    (["--dataset", "imagenet"], ["--dataset", "'imagenet'", "synthetic"]),
    (["--file_format", "GEIR"], ["--file_format", "'GEIR'", "MINDIR"]),
    (["--config_path"], ["--config_path"]),
], ids=" ".join)
def test_wrong_command_line(arguments, words):
    assert refused(arguments, *words).endswith("(see --help)")


def test_wrong_command_line_beside_a_good_file(yaml_file):
    refused([*yaml_file("seed: 3"), "--speed", "3"], "--speed")


# Mistakes in a YAML file.

@pytest.mark.parametrize("text, words", [
    ("speed: 3", ["'speed'", "unknown key"]),
    ("batch: 3", ["'batch'", "unknown key"]),
    ("config_path: a.yaml", ["'config_path'", "unknown key"]),
    ("3: 3", ["3", "unknown key"]),
    ("batch_size: x", ["batch_size", "'x'", "int"]),
    ("batch_size: 2.5", ["batch_size", "2.5", "int"]),
    ("batch_size: '3'", ["batch_size", "'3'", "int"]),
    ("batch_size: true", ["batch_size", "True", "int"]),
    ("batch_size:", ["batch_size", "None", "int"]),
    ("batch_size: [3]", ["batch_size", "[3]", "int"]),
    ("lr: fast", ["lr", "'fast'", "float"]),
    ("lr: true", ["lr", "True", "float"]),
    ("lr: '0.1'", ["lr", "'0.1'", "float"]),
    ("progressive: 1", ["'progressive'", "unknown key"]),
    ("resume: 'true'", ["resume", "'true'", "bool"]),
    ("resume: 1", ["resume", "1", "bool"]),
    ("data_path: 3", ["data_path", "3", "str"]),
    ("dataset: [cifar10]", ["dataset", "['cifar10']", "str"]),
    ("dataset: imagenet", ["dataset", "'imagenet'", "cifar100, cifar10"]),
    ("mode: graph", ["mode", "'graph'", "GRAPH, PYNATIVE"]),
], ids=lambda value: value if isinstance(value, str) else "")
def test_wrong_value_in_a_file(text, words, yaml_file):
    option = yaml_file(f"seed: 3\n{text}\n")
    refused(option, f"{option[1]}: {words[0]}: ", *words)


def test_wrong_value_in_a_file_is_refused_though_the_command_line_has_another(yaml_file):
    refused([*yaml_file("batch_size: x"), "--batch_size", "3"], "batch_size")


@pytest.mark.parametrize("text", ["lr: 1", "lr: 1.0", "lr: 1.0e+0", "lr: 1e0", "lr: 10e-1", "lr: 1.e0", "lr: +0.1e1"])
def test_forms_of_a_float(text, yaml_file):
    """PyYAML takes a number without a point, or an exponent without a sign, for text."""
    value = read(yaml_file(text)).lr
    assert (value, type(value)) == (1.0, float)


@pytest.mark.parametrize("content", [b"", b"---\n", b"# nothing\n", b"- seed\n", b"seed\n", b"seed: [3\n",
                                     b"seed: 3\n\t", b"a: b: c", b"\xff\xfe\x00",
                                     b"seed: !!python/object/apply:os.system [false]"])
def test_file_that_holds_no_values(content, yaml_file):
    option = yaml_file(content)
    refused(option, option[1])


@pytest.mark.parametrize("name", ["absent.yaml", ""])
def test_file_that_cannot_be_read(name, tmp_path):
    refused(["--config_path", str(tmp_path / name)], str(tmp_path / name))


def test_default_file_that_cannot_be_read(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "DEFAULT_CONFIG", tmp_path / "default_config.yaml")
    refused([], "default_config.yaml")


@pytest.mark.parametrize("value", ["x" * 20_000, "[" + ",".join(5_000 * "x") + "]", "0x" + 20_000 * "f",
                                   '"\\e[2Jcleared"', "{a: {b: {c: {d: [" + 1_000 * "x, " + "]}}}}"],
                         ids=["text", "list", "integer", "control", "nested"])
@pytest.mark.parametrize("key", ["batch_size", "dataset", "inherit", "unknown"])
def test_what_a_message_quotes_is_short_and_printable(key, value, yaml_file, tmp_path):
    message = refused(yaml_file(f"{key}: {value}"), f"{key}")
    assert len(message) < len(str(tmp_path)) + 200 and message.isprintable()


def test_long_words_of_the_command_line():
    for arguments in ([f"--batch_size={9_000 * 'x'}"], [f"--{9_000 * 'x'}"], [f"--mode={9_000 * 'x'}"],
                      [f"--inherit={9_000 * 'x'}"]):
        assert len(refused(arguments)) < 160


def test_key_that_is_long(yaml_file, tmp_path):
    assert len(refused(yaml_file(f"? {200 * 'x'}\n: 1"), "unknown key")) < len(str(tmp_path)) + 100


@pytest.mark.parametrize("text", ["a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "seed: &s 3\nepoch_size: *s",
                                  "a: &a\n  <<: *a"])
def test_aliases(text, yaml_file):
    refused(yaml_file(text), "cannot read", "aliases such as *")


def test_a_key_that_is_there_twice(yaml_file):
    refused(yaml_file("seed: 1\nlr: 0.1\nseed: 2"), "cannot read", "the key 'seed' is there twice")


@pytest.mark.parametrize("number", ["010", "1:30", "+08", "1_0:5"])
def test_numbers_that_are_not_what_they_look_like(number, yaml_file):
    """Those of YAML 1.1 in bases 8 and 60."""
    refused(yaml_file(f"seed: {number}"), f"seed: '{number}' is not of type int")


@pytest.mark.parametrize("value", ['!!int ""', '!!float ""', "!!bool maybe", "!!timestamp x", "!!python/none x", "!!set 3",
                                   "!!binary 5", "!!omap 1"])
def test_values_that_their_tags_do_not_fit(value, yaml_file):
    assert "\n" not in refused(yaml_file(f"seed: {value}"))


def test_file_that_is_no_file_of_options(yaml_file):
    refused(yaml_file("#" + 1_000_000 * " "), "cannot read", "more than 32768 bytes are no options")


def test_nested_too_deep(yaml_file):
    refused(yaml_file("lr: " + 2_000 * "["), "cannot read")


def test_a_copy_of_the_default_file_is_a_valid_file(yaml_file):
    values = vars(read(yaml_file((ROOT / "default_config.yaml").read_text("utf-8"))))
    assert DEFAULTS.items() <= values.items()
