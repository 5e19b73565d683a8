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
"""The options that every stress test has."""
import argparse


def parser(doc, count, what, seconds):
    """The command line of a stress test: its docstring, and defaults of how many of what, and of seconds."""
    made = argparse.ArgumentParser(description=doc.split("\n", maxsplit=1)[0], allow_abbrev=False)
    made.add_argument("--count", type=int, default=count, help=what)
    made.add_argument("--seconds", type=float, default=seconds, help="after which it ends")
    made.add_argument("--seed", type=int, default=0, help="of the random numbers")
    return made
