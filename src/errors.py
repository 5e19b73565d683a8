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
"""How an entry point ends where it cannot go on: one line and an exit code."""
import contextlib
import ctypes
import importlib.util
import logging
import os
import reprlib
import shutil
import signal
import sys
import threading
from pathlib import Path

SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "terminal closed"}
REQUIREMENTS = ("mindspore", "numpy", "yaml")
LONGEST = 60  # characters of a value in a message
LONGEST_LINE = 2000  # characters of a message
unfinished = set()  # folders that a signal removes, see src.files.replacing


class UserError(Exception):
    """Bad input, said in one clear line. Anything else that escapes is a bug and keeps its traceback."""


_short = reprlib.Repr()
_short.maxstring = _short.maxlong = _short.maxother = LONGEST
_short.maxlevel = 2


def quote(value):
    """A value from outside for a message: its `repr`, at most 60 characters."""
    try:
        text = _short.repr(value)
    except ValueError:  # Python writes no integers of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST - 3]}..."


def guard(name):
    """Watch over an entry point; its first statement, since what it imports next takes seconds.

    From here on Ctrl-C, SIGTERM and SIGHUP end the process at once, with one line and exit code 130, 143 or 129. The signals are
    blocked and a thread waits for them: MindSpore puts handlers of its own in the place of Python's, and answers an
    exception while it compiles by a page and a file in the current folder. A signal that whoever started the process
    ignores, as nohup and background jobs do, stays ignored.

    Args:
        name (str): `__name__` of the entry point; nothing happens where it is only imported.

    Raises:
        SystemExit: a requirement is not installed; its line says what to run.
    """
    if name != "__main__":
        return
    missing = [each for each in REQUIREMENTS if importlib.util.find_spec(each) is None]
    if missing:
        made = (Path(__file__).parents[1] / ".venv" / "bin" / "python").exists()
        cure = "run " + ("" if made else "bash scripts/quick_start.sh, then ") + "source .venv/bin/activate"
        sys.exit(f"error: {missing[0]} is not installed for {sys.executable}: {cure}")
    for stream in (sys.stdout, sys.stderr):  # where a terminal lacks a character, its code is better than an end
        stream.reconfigure(errors="backslashreplace")
    heard = {number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    threading.Thread(target=_wait_and_end, args=(heard,), daemon=True).start()


def _wait_and_end(heard):
    heard = signal.sigwaitinfo(heard)
    # Where MindSpore's handler comes before this thread after all, it sends its own process SIGTERM for SIGINT.
    number = signal.SIGINT if heard.si_pid == os.getpid() else heard.si_signo
    try:
        for folder in tuple(unfinished):
            shutil.rmtree(folder, ignore_errors=True)
        os.write(2, b"\n" * os.isatty(2) + f"{SIGNALS[number]}\n".encode())  # below the ^C of a terminal
    finally:  # nobody may be there to read it
        os._exit(128 + number)


def run(main):
    """Run an entry point and end the process.

    Args:
        main (Callable[[], None]): the program; it reads `sys.argv` itself.

    Raises:
        SystemExit: code 0 on success, 1 after a `UserError` or an operating system error (a full disk, a file
            that may not be read).
    """
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {_one_line(error)}")
    except OSError as error:
        sys.exit(f"error: {_one_line(error.filename or 'system')}: {error.strerror or error}")


def _one_line(message):
    """A message without what a terminal would take for commands, such as control characters in a file's name."""
    text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(message))
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}..."


@contextlib.contextmanager
def silence(level=logging.CRITICAL):
    """No messages of Python's logging, up to a level, for a while: MindSpore logs a failure before it raises it."""
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def die_with_parent():
    """Have Linux kill this process when the one that started it is gone, which may have no time to do it itself."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
