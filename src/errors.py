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
"""Mistakes that the user can mend, and how an entry point shows them: one line and exit code 1."""
import sys


class UserError(Exception):
    """Bad input, said in one clear line. Anything else that escapes is a bug and keeps its traceback."""


def run(main):
    """Run an entry point and end the process.

    Args:
        main (Callable[[], None]): the program; it reads `sys.argv` itself.

    Raises:
        SystemExit: code 0 on success, 1 after a `UserError` or an operating system error (a full disk, a file
            that may not be read), 130 after Ctrl-C.
    """
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'system'}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)
