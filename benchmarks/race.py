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
"""Times contestants side by side: each in a process of its own, taking turns, so that all see the same machine."""
import multiprocessing
import statistics
import time

from benchmarks import contestants


def race(entries, rounds):
    """Time contestants in turns.

    Args:
        entries (dict): name to (function of `benchmarks.contestants`, its arguments).
        rounds (int): turns of each, after two to warm up.

    Returns:
        dict, name to {"seconds": median of a run, "fastest": the shortest, "memory": peak in bytes}, or to
        {"skipped": reason} where a library is missing.
    """
    runners = {name: _Runner(*entry) for name, entry in entries.items()}
    times = {name: [] for name in entries}
    for turn in range(rounds + 2):
        for name, runner in runners.items():
            seconds = runner.ask("run")
            if turn >= 2 and not runner.failure:
                times[name].append(seconds)
    results = {}
    for name, runner in runners.items():
        memory = runner.ask("memory")
        runner.stop()
        results[name] = {"skipped": runner.failure} if runner.failure else {
            "seconds": statistics.median(times[name]), "fastest": min(times[name]), "memory": memory}
    return results


class _Runner:
    """A process with one contestant; the names of what it shall do go in, results come out."""

    def __init__(self, function, *arguments):
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=_serve, args=(end, function, arguments))
        self._process.start()
        self.failure = self._pipe.recv()

    def ask(self, question):
        if self.failure:
            return None
        self._pipe.send(question)
        return self._pipe.recv()

    def stop(self):
        self._pipe.close()
        self._process.join()


def _serve(pipe, function, arguments):
    try:
        run = getattr(contestants, function)(*arguments)
    except ImportError as error:
        pipe.send(f"{error.name} is not installed")
        return
    pipe.send(None)
    try:
        while True:
            pipe.send(_timed(run) if pipe.recv() == "run" else _peak_memory())
    except EOFError:
        pass


def _timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _peak_memory():
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
