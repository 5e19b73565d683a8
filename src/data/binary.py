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
"""What data sets of a few large binary files have in common."""
import fnmatch
import os

from ..errors import UserError

DOWNLOAD = "scripts/download_data.sh fetches the official archives"


def find_folder(path, name, files, advice=DOWNLOAD):
    """The folder `path` itself or the one called `name` in it.

    Args:
        path (Path): where to look.
        name (str): of the official folder.
        files (list[str]): that must be in it.
        advice (str): what the user is told where they are not.

    Raises:
        UserError: neither folder has all of them.
    """
    for folder in (path, path / name):
        if all((folder / file).is_file() for file in files):
            return folder
    raise UserError(f"no {' and '.join(files)} in {path} or {path / name}; {advice}")


def check_count(source, count, official, allow_small, missing=()):
    """Refuse another number of images than the official one.

    Args:
        source (str): folder and split, for the message.
        count, official (int): images that are there, and that should be.
        allow_small (bool): accept fewer.
        missing (list[str]): official files that are not there.

    Raises:
        UserError: too many, or too few.
    """
    if count > official or (count < official and not allow_small):
        raise UserError(f"{source} images instead of {official}"
                        + (f", {', '.join(missing)} missing" if missing else "")
                        + (" (--allow_small_dataset accepts fewer)" if count < official else ""))


def others(folder, pattern, files):
    """Names in a folder that match a pattern and are none of `files`.

    MindSpore's readers take every file whose name looks right, so they are not used where there are others.
    """
    return sorted(set(fnmatch.filter(os.listdir(folder), pattern)) - set(files))
