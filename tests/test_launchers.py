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
"""Tests of the launchers in scripts/: copies of them, with recorders in place of the programs they start."""
import importlib.util
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import mindspore
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh")) + [ROOT / ".ci" / "run"]
SYSTEM = "/usr/bin:/bin"

PROGRAM = """import json, os, sys, time
from pathlib import Path
environ = {key: os.environ.get(key) for key in ("RANK_ID", "MS_ROLE", "RANK_TABLE_FILE")}
print(json.dumps([Path(__file__).name, sys.argv[1:], os.getcwd(), environ]))
if "PIDS" in os.environ:
    Path(os.environ["PIDS"], str(os.getpid())).touch()
    time.sleep(600)
if "CODE" in os.environ and environ["RANK_ID"] in (None, "1") and environ["MS_ROLE"] != "MS_SCHED":
    sys.stderr.write("error: it broke\\n")
    sys.exit(int(os.environ["CODE"]))
elif "CODE" in os.environ:
    time.sleep(600)
"""

# Records its arguments; makes copies of itself as virtual environments; BROKEN lists what fails.
PYTHON = """#!/bin/bash
echo "$*" >>"$RECORD"
for broken in $BROKEN; do
  [[ " $* " != *" $broken"* ]] || exit 3
done
case "$*" in
  --version) echo "Python 3.8.1" ;;
  "-m venv"*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
esac
"""


@pytest.fixture(name="repository")
def _repository(tmp_path):
    repository = tmp_path / "my repository"
    shutil.copytree(ROOT / "scripts", repository / "scripts")
    for name in ("requirements.txt", "tests/requirements.txt", ".ci/run"):
        (repository / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, repository / name)
    for name in ("train.py", "eval.py", "export.py"):
        (repository / name).write_text(PROGRAM)
    return repository


@pytest.fixture(name="start")
def _start(repository, tmp_path):
    """Starts a script in a folder outside of the repository that holds `some data` and `a.ckpt`."""
    folder = tmp_path / "else where"
    (folder / "some data").mkdir(parents=True)
    (folder / "a.ckpt").touch()
    base = {key: value for key, value in os.environ.items() if not key.startswith(("MS_", "RANK", "MASTER_", "NODE_"))}
    base |= {"PATH": f"{Path(sys.executable).parent}:{SYSTEM}", "VIRTUAL_ENV": "active", "PYTHONDONTWRITEBYTECODE": "1"}

    def start(script, *arguments, **environ):
        return subprocess.Popen([shutil.which("bash"), repository / "scripts" / script, *arguments], cwd=folder,
                                env=base | environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return start


@pytest.fixture(name="run")
def _run(start):
    def run(*arguments, **environ):
        process = start(*arguments, **environ)
        out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)
    return run


@pytest.fixture(name="fake")
def _fake(tmp_path):
    """The environment of a machine whose only Python is a recorder, and the record."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "cat", "cp", "dirname", "mkdir", "rm", "sha256sum"):
        (tools / tool).symlink_to(shutil.which(tool))
    (tools / "python3").write_text(PYTHON)
    (tools / "python3").chmod(0o755)
    return {"PATH": str(tools), "RECORD": str(tmp_path / "record"), "BROKEN": ""}


def record(fake):
    path = Path(fake["RECORD"])
    lines = path.read_text().splitlines() if path.exists() else []
    path.write_text("")
    return lines


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_is_executable_bash(script):
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/bash\n")
    subprocess.run(["bash", "-n", script], check=True)


DATA, CKPT = "{root}/data", "{root}/ckpt"


@pytest.mark.parametrize("script, arguments, program, expected", [
    ("run_standalone_train.sh", [], "train.py", ["--data_path", DATA]),
    ("run_standalone_train.sh", ["some data", "CPU"], "train.py",
     ["--data_path", "some data", "--device_target", "CPU"]),
    ("run_standalone_train.sh", ["some data", "GPU", "--output_path", "a 'b' \"c\" $d *", "--resume"], "train.py",
     ["--data_path", "some data", "--device_target", "GPU", "--output_path", "a 'b' \"c\" $d *", "--resume"]),
    ("run_standalone_train.sh", ["to be made", "CPU", "--dataset", "synthetic"], "train.py",
     ["--data_path", "to be made", "--device_target", "CPU", "--dataset", "synthetic"]),
    ("run_standalone_train.sh", ["--seed", "2"], "train.py", ["--data_path", DATA, "--seed", "2"]),
    ("run_standalone_train.sh", ["--config_path", "my.yaml"], "train.py", ["--config_path", "my.yaml"]),
    ("run_eval.sh", [], "eval.py", ["--checkpoint_file_path", CKPT, "--eval_dataset_path", DATA]),
    ("run_eval.sh", ["a.ckpt", "some data", "Ascend"], "eval.py",
     ["--checkpoint_file_path", "a.ckpt", "--eval_dataset_path", "some data", "--device_target", "Ascend"]),
    ("run_eval.sh", ["a.ckpt", "--class_num", "7"], "eval.py",
     ["--checkpoint_file_path", "a.ckpt", "--eval_dataset_path", DATA, "--class_num", "7"]),
    ("run_export.sh", [], "export.py", ["--checkpoint_file_path", CKPT]),
    ("run_export.sh", ["a.ckpt", "ONNX", "CPU", "--file_name", "my model"], "export.py",
     ["--checkpoint_file_path", "a.ckpt", "--file_format", "ONNX", "--device_target", "CPU",
      "--file_name", "my model"]),
])
def test_passes_arguments(run, repository, tmp_path, script, arguments, program, expected):
    result = run(script, *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    name, given, cwd, _ = json.loads(result.stdout)
    assert (name, given) == (program, [argument.format(root=repository) for argument in expected])
    assert cwd == str(tmp_path / "else where")


@pytest.mark.parametrize("script, arguments, message", [
    ("run_standalone_train.sh", ["no data", "CPU"], "no data: no such file or folder"),
    ("run_standalone_train.sh", ["some data", "cpu"], "DEVICE_TARGET is Ascend, GPU or CPU, not cpu"),
    ("run_standalone_train.sh", ["some data", "CPU", "more"], "unexpected argument more"),
    ("run_standalone_train.sh", [""], ": no such file or folder"),
    ("run_distribute_train.sh", ["some data"], "DEVICE_NUM is a number from 1 on, not some data"),
    ("run_distribute_train.sh", ["0"], "DEVICE_NUM is a number from 1 on, not 0"),
    ("run_distribute_train.sh", ["2", "no data"], "no data: no such file or folder"),
    ("run_eval.sh", ["no.ckpt", "some data"], "no.ckpt: no such file or folder"),
    ("run_eval.sh", ["a.ckpt", "no data"], "no data: no such file or folder"),
    ("run_export.sh", ["a.ckpt", "PDF"], "FILE_FORMAT is MINDIR, AIR or ONNX, not PDF"),
    ("quick_start.sh", ["CPU"], "unexpected argument CPU"),
    ("quick_start.sh", ["--layer=l2"], "--layer=l2 is not for the quick start, use scripts/run_standalone_train.sh"),
    ("quick_start.sh", ["--output_path", "x"],
     "--output_path is not for the quick start, use scripts/run_standalone_train.sh"),
])
def test_wrong_arguments(run, script, arguments, message):
    result = run(script, *arguments)
    error, usage = result.stderr.splitlines()
    assert (result.returncode, result.stdout, error) == (1, "", f"error: {message}")
    assert usage.startswith(f"Usage: bash scripts/{script} [")


@pytest.mark.parametrize("environ, message", [
    ({"NODE_NUM": "two"}, "NODE_NUM is a number from 1 on, not two"),
    ({"NODE_NUM": "2"}, "several machines need MASTER_ADDR and NODE_RANK"),
    ({"RANK_TABLE_FILE": "no table"}, "no table: no such file"),
])
def test_wrong_environment(run, environ, message):
    result = run("run_distribute_train.sh", "2", **environ)
    assert result.returncode == 1
    assert result.stderr.splitlines()[0] == f"error: {message}"


def test_help(run):
    result = run("run_eval.sh", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: bash scripts/run_eval.sh [CHECKPOINT_FILE_PATH] [DATA_PATH]")


@pytest.mark.parametrize("script", ["run_standalone_train.sh", "run_ablation.sh", "run_eval.sh", "run_export.sh"])
def test_exit_code(run, script):
    result = run(script, CODE="3")
    assert (result.returncode, result.stderr) == (3, "error: it broke\n")


TEACHER = ["--teacher_checkpoint_path", "out/full/teacher/last.ckpt"]
SAME = ["--weight_gradient", "full"]  # the gradient all the time
ABLATION = {"full": [], "vanilla": [], "logits": [*TEACHER, *SAME, "--features_weight", "0", "--inherit", "false"],
            "features": [*TEACHER, *SAME, "--inherit", "false"], "weights": [*TEACHER, *SAME],
            "no_centres": [*SAME, "--intra_weight", "0", "--inter_weight", "0"]}


def test_ablation(run, repository):
    """Each run has its folder and its switches; the last of two options counts, so that ours can be replaced."""
    options = ["--output_path=out", "--validation_size", "7"]
    printed = run("run_ablation.sh", *options).stdout.splitlines()
    commands = [json.loads(line)[1] for line in printed if line.startswith("[")]
    assert commands == [
        ["--config_path", f"{repository}/config/{'adder' if name == 'vanilla' else 'adderngd'}_resnet20_cifar100.yaml",
         "--validation_size", "5000", "--data_path", f"{repository}/data", *options, "--output_path", f"out/{name}",
         *switches] for name, switches in ABLATION.items()]


def test_ablation_with_a_teacher(run):
    """Both ways of writing an option; the teacher is every run's, and none is trained without centres."""
    for options in (["--output_path=out", "--teacher_checkpoint_path=ready"],
                    ["--output_path", "out", "--teacher_checkpoint_path", "ready"]):
        printed = run("run_ablation.sh", *options).stdout
        assert all((f"out/{name}" in printed) == (name != "no_centres") for name in ABLATION)
        assert "full/teacher" not in printed
    result = run("run_ablation.sh", "--config_path=x.yaml")
    assert result.returncode == 1 and "error: --config_path is not for the ablation" in result.stderr


@pytest.mark.parametrize("active, used", [("", ".venv"), ("/some/environment", "system")])
def test_chooses_python(run, repository, fake, active, used):
    (repository / ".venv/bin").mkdir(parents=True)
    (repository / ".venv/bin/python").write_text("#!/bin/bash\necho .venv")
    (repository / ".venv/bin/python").chmod(0o755)
    Path(fake["PATH"], "python3").write_text("#!/bin/bash\necho system")
    assert run("run_eval.sh", **fake, VIRTUAL_ENV=active).stdout.strip() == used


def test_no_python(run, fake):
    Path(fake["PATH"], "python3").unlink()
    result = run("run_eval.sh", **fake)
    assert (result.returncode, result.stderr) == (1, "error: python3 is needed, please install Python 3.9 to 3.12\n")


def programs(*options):
    data, result = "--dataset synthetic --device_target CPU", "output/quick_start"
    train = f"train.py {data} --data_path data --output_path {result} --resume"
    return [" ".join([train, "--epoch_size 3 --batch_size 64", *options]),
            f"eval.py {data} --eval_dataset_path data --checkpoint_file_path {result}",
            f"export.py {data} --checkpoint_file_path {result} --file_name {result}/adder_resnet20 "
            "--file_format MINDIR --batch_size 1"]


def set_up(repository, requirements):
    return ["-c import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 13))", "-c import ensurepip, venv",
            "--version", f"-m venv --clear {repository}/.venv", install(repository, requirements)]


def install(repository, requirements):
    return f"-m pip install --quiet --disable-pip-version-check -r {repository}/{requirements}"


def test_quick_start(run, repository, fake):
    assert run("quick_start.sh", "--epoch_size", "1", **fake).returncode == 0
    assert record(fake) == set_up(repository, "requirements.txt") + programs("--epoch_size 1")
    result = run("quick_start.sh", **fake)  # the second time, there is nothing to set up
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert record(fake) == programs()
    with open(repository / "requirements.txt", "a", encoding="utf-8") as file:
        file.write("another\n")
    assert run("quick_start.sh", **fake).returncode == 0
    assert record(fake) == ["-m pip --version", install(repository, "requirements.txt")] + programs()


@pytest.mark.parametrize("broken, last", [("train.py", 0), ("eval.py", 1), ("export.py", 2)])
def test_quick_start_stops_at_a_failure(run, fake, broken, last):
    run("quick_start.sh", **fake)
    record(fake)
    assert run("quick_start.sh", **fake | {"BROKEN": broken}).returncode == 3
    assert record(fake) == programs()[:last + 1]


def test_quick_start_installs_again_after_a_failure(run, repository, fake):
    result = run("quick_start.sh", **fake | {"BROKEN": "install"})
    assert result.returncode == 1
    assert result.stderr == "error: cannot install requirements.txt (run this again to retry)\n"
    assert record(fake) == set_up(repository, "requirements.txt")
    assert run("quick_start.sh", **fake).returncode == 0
    assert record(fake) == ["-m pip --version", install(repository, "requirements.txt")] + programs()


def test_quick_start_mends_a_broken_environment(run, repository, fake):
    (repository / ".venv/bin").mkdir(parents=True)
    (repository / ".venv/bin/python").symlink_to("gone")
    assert run("quick_start.sh", **fake).returncode == 0
    assert record(fake) == set_up(repository, "requirements.txt") + programs()


@pytest.mark.parametrize("broken, message", [
    ("sys.exit", "Python 3.9 to 3.12 is needed for mindspore 2.8.0, found Python 3.8.1"),
    ("ensurepip", "python3 has no venv module, please install it (Debian, Ubuntu: apt install python3-venv)"),
])
def test_quick_start_needs_python(run, repository, fake, broken, message):
    result = run("quick_start.sh", **fake | {"BROKEN": broken})
    assert (result.returncode, result.stderr) == (1, f"error: {message}\n")
    assert not (repository / ".venv").exists()


DRIVER = "-c import ctypes, sys; sys.exit(ctypes.CDLL('libcuda.so.1').cuInit(0))"


def test_set_up_gpu(run, repository, fake):
    """The second time, there is nothing to install; the launchers, and activate, set the variables."""
    for tool in ("chmod", "grep", "ln"):
        (Path(fake["PATH"]) / tool).symlink_to(shutil.which(tool))
    ahead = ["scripts/compile_ahead.py", "scripts/compile_ahead.py --try"]
    first, *rest = set_up(repository, "scripts/requirements_gpu.txt")
    for expected in ([first, rest[0], DRIVER, first, *rest, *ahead], [first, rest[0], DRIVER, *ahead]):
        result = run("set_up_gpu.sh", **fake)
        assert (result.returncode, result.stderr, record(fake)) == (0, "", expected)
    venv = repository / ".venv"
    assert "release 11.6, " in subprocess.check_output([venv / "cuda/bin/nvcc", "--version"], text=True)
    assert (venv / "bin/activate").read_text().count("gpu.sh") == 2  # in one line
    (venv / "bin/python").write_text('#!/bin/bash\necho "$CUDA_HOME $LD_LIBRARY_PATH $CUDA_CACHE_MAXSIZE"')
    printed = run("run_eval.sh", **fake | {"VIRTUAL_ENV": "", "LD_LIBRARY_PATH": "/mine"}).stdout
    assert printed == f"{venv}/cuda {venv}/cuda/lib:/mine 4294967296\n"


def test_set_up_gpu_without_a_driver(run, repository, fake):
    """Nothing is installed then."""
    result = run("set_up_gpu.sh", **fake | {"BROKEN": "ctypes,"})
    message = ("error: no NVIDIA GPU with a driver here: nvidia-smi has to show one, and LD_LIBRARY_PATH to name the "
               "folder of libcuda.so.1\n")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", message)
    assert not (repository / ".venv").exists()
    result = run("set_up_gpu.sh", "GPU", **fake)
    assert result.returncode == 1 and result.stderr.startswith("error: unexpected argument GPU\nUsage: ")


def test_compile_ahead():
    """Its reading of MindSpore's library, which on a GPU is compiled; here there is nothing to do it."""
    program = ROOT / "scripts" / "compile_ahead.py"
    spec = importlib.util.spec_from_file_location("compile_ahead", program)
    ahead = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ahead)

    def image(kind, size):
        return struct.pack("<HHIQ", kind, 257, 64, size) + bytes(48 + size)

    body = image(1, 100) + image(2, 300) + image(1, 20)
    data = bytes(16) + ahead.MAGIC + struct.pack("<HHQ", 1, 16, len(body)) + body + ahead.MAGIC + bytes(50)
    assert list(ahead.modules(data)) == [(16, 120)]
    library = Path(mindspore.__file__).parent / "lib" / "plugin" / "gpu" / "libcuda_ops.so.11"
    if library.exists():
        assert len(list(ahead.modules(library.read_bytes()))) == 407


def test_run_tests(run, repository, fake):
    assert run("../.ci/run", **fake).returncode == 0
    assert run("run_tests.sh", "-k", "launchers", **fake).returncode == 0
    pytest_call = "-m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder"
    assert record(fake) == set_up(repository, "tests/requirements.txt") + [pytest_call, f"{pytest_call} -k launchers"]


def test_distribute(run, tmp_path):
    """Both ranks run, and the first is shown."""
    (tmp_path / "else where" / "table").touch()
    result = run("run_distribute_train.sh", "2", "some data", "CPU", "--output_path", "a b", RANK_TABLE_FILE="table")
    assert (result.returncode, result.stderr) == (0, "")
    logs = tmp_path / "else where" / "a b" / "msrun_log"
    ranks = [json.loads((logs / f"worker_{rank}.log").read_text()) for rank in range(2)]
    assert json.loads(result.stdout) == ranks[0]
    for rank, (name, arguments, cwd, environ) in enumerate(ranks):
        assert name == "train.py"
        assert arguments == ["--run_distribute", "--data_path", "some data", "--device_target", "CPU",
                             "--output_path", "a b"]
        assert cwd == str(tmp_path / "else where")
        assert environ == {"RANK_ID": str(rank), "MS_ROLE": "MS_WORKER", "RANK_TABLE_FILE": "table"}


def test_distribute_shows_the_failure_of_one_rank(run):
    result = run("run_distribute_train.sh", "2", "some data", "CPU", CODE="3", LOG_DIR="my logs")
    assert (result.returncode, result.stderr) == (3, "error: it broke\nthe logs are in my logs\n")


def test_distribute_without_mindspore(run, fake):
    result = run("run_distribute_train.sh", "2", "some data", "CPU", **fake | {"BROKEN": "importlib.util"})
    assert (result.returncode, result.stderr) == (
        1, f"error: mindspore is not installed for {fake['PATH']}/python3: run bash scripts/quick_start.sh\n")


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_distribute_ends_its_processes(start, run, tmp_path, number, code):
    """Whatever ends the launcher, which meanwhile lets no other write to its logs."""
    pids, logs = tmp_path / "pids", tmp_path / "else where" / "output" / "msrun_log"
    pids.mkdir()
    process = start("run_distribute_train.sh", "2", "some data", "CPU", PIDS=str(pids))
    try:
        while len(list(pids.iterdir())) < 3:  # two ranks and msrun's scheduler
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(0.5)
        other = run("run_distribute_train.sh", "2", "some data", "CPU")
        assert (other.returncode, other.stderr) == (
            1, "error: another run is writing to output/msrun_log: give it an --output_path of its own\n")
        assert json.loads((logs / "worker_0.log").read_text())[0] == "train.py"
    finally:
        process.send_signal(number)
        process.communicate()
    assert process.returncode == code
    assert len(list(pids.iterdir())) == 3
    while any(alive(path.name) for path in pids.iterdir()):
        time.sleep(0.1)


def alive(pid):
    try:
        return Path("/proc", pid, "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
