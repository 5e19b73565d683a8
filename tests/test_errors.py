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
"""src.errors: one line, whatever ends a program."""
import ast
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from src import errors
from src.errors import UserError, quote, run
from src.files import replacing

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = [path for pattern in ("*.py", "src/**/*.py", "benchmarks/*.py") for path in sorted(ROOT.glob(pattern))
            if "__main__" in path.read_text("utf-8") and path.name != "errors.py"]
# Holds a file of which half is written, and says so; then works on without listening to Python's signals.
WRITER = """
from src import errors
errors.guard(__name__)
import signal, threading
from src.files import replacing
for each in (signal.SIGINT, signal.SIGTERM):
    signal.signal(each, lambda *_: None)  # as MindSpore does
with replacing("result.txt") as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    threading.Event().wait()
"""


@pytest.mark.parametrize("value, text", [
    (3, "3"), ("a\nb", r"'a\nb'"), ("\x1b[2J", r"'\x1b[2J'"), (1000 * "x", f"'{27 * 'x'}...{28 * 'x'}'"),
    ([[1, [2]]], "[[1, [...]]]"), (1 << 100_000, "a number of thousands of digits")], ids=range(6))
def test_quote(value, text):
    if sys.version_info >= (3, 11) or value != 1 << 100_000:
        assert quote(value) == text
    assert len(quote([value] * 1000)) <= 60 and quote(value).isprintable()


@pytest.mark.parametrize("error, line", [
    (UserError("a \x1b[2J\n\u202eb"), r"error: a \x1b[2J\n\u202eb"),
    (UserError(1_000_000 * "x"), f"error: {2000 * 'x'}..."),
    (FileNotFoundError(2, "No such file", "a\nb"), r"error: a\nb: No such file")])
def test_run_ends_in_one_line(error, line):
    def main():
        raise error
    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == line


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_programs_are_watched_over_from_their_first_statement(program):
    """And they use the parser that ends in one line."""
    docstring, first, second, *_, last = ast.parse(program.read_text("utf-8")).body
    assert isinstance(docstring.value, ast.Constant)
    assert re.fullmatch(r"from (src|\.+) import errors", ast.unparse(first)) and ast.unparse(second) == "errors.guard(__name__)"
    assert ast.unparse(last.body) == "errors.run(main)"


def test_there_are_programs():
    assert len(PROGRAMS) >= 11


@pytest.mark.parametrize("number, code, line", [(signal.SIGINT, 130, "interrupted\n"),
                                                (signal.SIGTERM, 143, "terminated\n"),
                                                (signal.SIGHUP, 129, "terminal closed\n")])
def test_signal_ends_in_one_line_and_leaves_nothing(number, code, line, tmp_path):
    """Unless it is ignored, as nohup has it, which may have started the tests."""
    with subprocess.Popen([sys.executable, "-c", WRITER], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          preexec_fn=lambda: signal.signal(number, signal.SIG_DFL)) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert (process.stderr.read(), process.wait()) == (line, code)
    assert not list(tmp_path.iterdir())


def test_signal_that_a_program_sends_itself_is_an_interrupt(tmp_path):
    """MindSpore does so where it has heard Ctrl-C."""
    program = "from src import errors; errors.guard(__name__); import os, time; os.kill(os.getpid(), 15); time.sleep(600)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_signal_ends_a_program_whose_messages_nobody_reads(tmp_path):
    with subprocess.Popen([sys.executable, "-c", WRITER], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"
        process.stderr.close()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert not list(tmp_path.iterdir())


def test_signal_that_is_ignored_stays_ignored(tmp_path):
    """As nohup and background jobs want it; SIGTERM still ends the process."""
    with subprocess.Popen([sys.executable, "-c", WRITER], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert (process.stderr.read(), process.wait()) == ("terminated\n", 143)


def test_characters_that_a_terminal_lacks():
    """A word or a name of a file that is written by its code is better than no result."""
    program = "from src import errors; errors.guard(__name__); print('caf\\xe9'); raise SystemExit('error: \\u65e5')"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, check=False,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout, done.stderr) == (1, "caf\\xe9\n", "error: \\u65e5\n")


@pytest.mark.parametrize("made, cure", [(False, "run bash scripts/quick_start.sh, then source .venv/bin/activate"),
                                        (True, "run source .venv/bin/activate")])
def test_missing_requirement_is_one_line(made, cure, tmp_path, monkeypatch):
    """In a clone with a .venv that is not active, and in one without."""
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "src" / "errors.py"))
    monkeypatch.setattr(errors, "REQUIREMENTS", ("sys", "spam_of_another_kind"))
    if made:
        (tmp_path / ".venv/bin").mkdir(parents=True)
        (tmp_path / ".venv/bin/python").touch()
    errors.guard("imported")
    with pytest.raises(SystemExit) as caught:
        errors.guard("__main__")
    assert caught.value.code == f"error: spam_of_another_kind is not installed for {sys.executable}: {cure}"


def test_folder_that_is_missing_is_called_as_the_user_calls_it(tmp_path):
    with pytest.raises(OSError) as caught, replacing(tmp_path / "absent" / "result.txt"):
        pass
    assert caught.value.filename == str(tmp_path / "absent" / "result.txt")


def test_what_killed_processes_left_is_removed(tmp_path):
    """And what one that lives is writing is not."""
    path, other = tmp_path / "a[1].txt", tmp_path / "b.txt"
    left = [tmp_path / f".{name}.x.unfinished" for name in ("a[1].txt", "a1.txt")]
    for folder in left:
        folder.mkdir()
        (folder / "half").write_text("half")
    with replacing(path) as mine, replacing(path) as yours, replacing(other) as theirs:
        assert not left[0].exists() and left[1].exists()
        for file in (mine, yours, theirs):
            file.write_text("mine" if file == mine else "")
    assert path.read_text("utf-8") == "mine" and {file.name for file in tmp_path.iterdir()} == {
        "a[1].txt", "b.txt", left[1].name}


def test_process_dies_with_its_parent():
    child = "from src.errors import die_with_parent as d; d(); print('ready', flush=True); import time; time.sleep(600)"
    parent = f"import subprocess, sys, time; print(subprocess.Popen([sys.executable, '-c', {child!r}]).pid); " \
             "sys.stdout.flush(); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", parent], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
                          stdout=subprocess.PIPE) as process:
        lines = {process.stdout.readline().strip() for _ in range(2)}
        process.kill()
        assert process.stdout.read() == ""  # ends where the last one that could write is gone
    assert "ready" in lines
