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
"""Files that appear whole or not at all, and the reading of regular ones."""
import contextlib
import errno
import fcntl
import glob
import os
import shutil
import tempfile
from pathlib import Path

from .errors import UserError, unfinished

UNFINISHED = ".unfinished"
LONGEST = 50  # characters of a file's name in that of its hidden folder


def bytes_of(path):
    """The bytes of a regular file. A pipe may wait for ever, and a device have no end.

    Args:
        path (Path): the file.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.read_bytes()


def check_name(path):
    """Refuse a path that MindSpore cannot be given: raises UserError where it is no UTF-8, as on Linux it may be."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{path}: the name is not UTF-8, as it must be for MindSpore") from error


def remove_unfinished(folder):
    """Remove what killed processes left of `replacing` in a folder, which is the caller's alone."""
    _remove_left(Path(folder).glob(f".*{UNFINISHED}"), without_locks=True)


def _remove_left(folders, without_locks=False):
    """Remove those that no process has locked; where there are no locks, all if that is wanted, else none."""
    for folder in folders:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                pass
            except OSError:
                if without_locks:
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def check_output(path, suffix):
    """Refuse a file that could not be written in the end, before the work: raises UserError."""
    check_folder(path.parent, f"{path}: ")
    if path.suffix != suffix or path.is_dir():
        raise UserError(f"output must be a file that ends in {suffix}, not {path}")


def check_folder(path, source=""):
    """The same for a folder to write into, which must be there."""
    if not path.is_dir():
        raise UserError(f"{source}there is no folder {path}")


@contextlib.contextmanager
def locked(folder):
    """Keep other processes, or a second user in this one, out of a folder; the lock leaves nothing behind.

    Args:
        folder (str | Path): it must be there.

    Raises:
        UserError: somebody else has it. A file system without locks is taken as it is.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(f"{folder} is in use by another run; another --output_path is free") from error
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path):
    """A file to write in place of `path`: `with replacing(path) as temporary: ...`.

    It has the name of `path`, in a hidden folder beside it: MindSpore insists on suffixes, and leaves files of its own
    where a save fails. At the end it is on the disk and renamed to `path`; after an exception `path` is what it was. What
    killed processes left of the same is removed.

    Args:
        path (str | Path): the file.

    Yields:
        Path, the file to write.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    try:
        folder, descriptor = _hidden_folder(path)
    except OSError as error:
        error.filename = str(path)  # the name that the user knows
        raise
    unfinished.add(folder)
    try:
        temporary = folder / path.name
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # MindSpore makes its files 0400
        os.replace(temporary, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.discard(folder)
        os.close(descriptor)


def _hidden_folder(path):
    """A new folder beside `path`, and what locks it as long as this process lives; others without a lock are removed."""
    prefix = f".{path.name[:LONGEST]}."
    _remove_left(path.parent.glob(f"{glob.escape(prefix)}*{UNFINISHED}"))
    while True:
        folder = Path(tempfile.mkdtemp(UNFINISHED, prefix, path.parent))
        with contextlib.suppress(FileNotFoundError):  # another process took it for left before it was locked
            descriptor = os.open(folder, os.O_RDONLY)
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)
