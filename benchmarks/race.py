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
"""Times contestants side by side: each in a process of its own, taking turns, so that all see the same machine.

Who is not running is stopped, since the threads of some libraries go on spinning for a while.
"""
import multiprocessing
import os
import signal
import statistics
import time

from benchmarks import contestants
from src.errors import die_with_parent


def race(entries, rounds):
    """Time contestants in turns.

    Args:
        entries (dict): name to (function of `benchmarks.contestants`, its arguments).
        rounds (int): turns of each, after one to warm up.

    Returns:
        dict, name to {"seconds": median of a run, "fastest": the shortest, "memory": peak in bytes}, or to
        {"skipped": reason} where a library is missing, or anything else fails.
    """
    runners = {}
    try:
        for name, entry in entries.items():
            runners[name] = _Runner(*entry)
        times = {name: [] for name in entries}
        for turn in range(rounds + 1):
            for name, runner in runners.items():
                seconds = runner.ask("run")
                if turn and not runner.failure:
                    times[name].append(seconds)
        return {name: {"skipped": runner.failure} if runner.failure else {
            "seconds": statistics.median(times[name]), "fastest": min(times[name]), "memory": runner.ask("memory")}
                for name, runner in runners.items()}
    finally:
        for runner in runners.values():
            runner.stop()


class _Runner:
    """A process with one contestant; the names of what it shall do go in, results come out."""

    def __init__(self, function, *arguments):
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=_serve, args=(end, function, arguments))
        if "OMP_NUM_THREADS" not in os.environ:
            os.unsetenv("OMP_NUM_THREADS")  # MindSpore sets it to 1 where it is imported, and children would inherit it
        self._process.start()
        end.close()  # the process has its own; should it die, reading here fails instead of waiting
        self._hear()

    def ask(self, question):
        if self.failure:
            return None
        os.kill(self._process.pid, signal.SIGCONT)
        self._pipe.send(question)
        return self._hear()

    def stop(self):
        self._process.kill()  # the only signal that a stopped process does not wait with
        self._process.join()

    def _hear(self):
        try:
            self.failure, answer = self._pipe.recv()
        except EOFError:
            self.failure, answer = "its process ended", None
        if not self.failure:
            os.kill(self._process.pid, signal.SIGSTOP)
        return answer


def _serve(pipe, function, arguments):
    die_with_parent()
    try:
        run = getattr(contestants, function)(*arguments)
        pipe.send((None, None))
        while True:
            pipe.send((None, _timed(run) if pipe.recv() == "run" else _peak_memory()))
    except ModuleNotFoundError as error:
        pipe.send((f"{error.name} is not installed", None))
    except Exception as error:  # pylint: disable=broad-exception-caught
        pipe.send((f"{type(error).__name__}: {error}".splitlines()[0], None))  # the others go on


def _timed(run):
    run()  # to wake up
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) / getattr(run, "times", 1)


def _peak_memory():
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
