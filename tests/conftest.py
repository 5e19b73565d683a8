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
"""What all tests share."""
import importlib
import os
import signal
import sys
import tempfile

import mindspore as ms
import pytest


# A job in the background ignores Ctrl-C, and so would the programs that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where MindSpore writes of a graph that it cannot compile, as tests of bad arguments ask of it; by itself it takes the working folder.
os.environ.setdefault("MS_OM_PATH", os.path.join(tempfile.gettempdir(), "adderngd_tests"))

LONGEST = ("test_readme.py", "test_training.py", "test_mixed_precision.py", "test_quant.py")


def pytest_collection_modifyitems(items):
    """The files that take longest come first, lest one of them is what all wait for in the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def fixture_pynative():
    """Put MindSpore's default mode back, lest the next test compile what it calls because this one chose GRAPH."""
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.fixture(name="run")
def fixture_run(home, monkeypatch, capsys):
    """Runs a program in the folder that a test file's own `home` gives; gives what it prints."""
    monkeypatch.chdir(home)
    monkeypatch.setattr("src.device._set_device", lambda *_: None)  # a process chooses its processor once

    def run(program, *arguments):
        main = program.main if hasattr(program, "main") else importlib.import_module(program).main
        monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments), "--device_target", "CPU"])
        main()
        return capsys.readouterr().out
    return run
