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
"""Gives random hostile files to the converter's reader: nothing may run, every answer is one line, soon and small.

Usage: python -m tests.stress.pickles [--count N] [--seconds S] [--seed N]

Each file is read in a process of its own, forked so that its time and memory can be measured and bounded. There an
audit hook of Python sees whatever a pickle could bring about: programs, imports, evaluated code, files opened, made or
removed.
"""
import os
import pickle
import pickletools
import random
import resource
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from src.convert.torch_pickle import load_state_dict
from src.errors import UserError
from tests.stress.options import parser
from tests.test_convert import (FIXTURES, NESTED, call, module, name_of, opcodes, pickled, storage, tensor,
                                write_legacy, write_zip)

TIMEOUT = 60          # seconds
MEMORY = 2 ** 31      # bytes of addresses
READ, REFUSED, EXECUTED, TRACEBACK, MANY_LINES = range(5)
OUTCOMES = ("read", "refused in one line", "EXECUTED", "TRACEBACK", "MANY LINES")
HARMLESS = ("object.", "gc.", "sys.", "array.", "code.__new__", "marshal.", "builtins.id")


def gadgets(canary):
    """Opcodes that would leave the file `canary`, if anything ran them."""
    touch, code = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    system = name_of("os", "system")
    return [
        call("os", "system", touch), call("posix", "system", touch), call("subprocess", "getoutput", touch),
        call("builtins", "eval", code), call("builtins", "exec", code), call("__builtin__", "eval", code),
        call("pathlib", "Path.touch", call("pathlib", "PosixPath", str(canary))), call("os", "mkdir", str(canary)),
        opcodes("os") + opcodes("system") + b"\x93" + opcodes((touch,)) + b"R",
        b"(" + opcodes(touch) + b"ios\nsystem\n", b"(" + system + opcodes(touch) + b"o", b"\x82\x01", b"Ppersistent\n",
        system + opcodes((touch,)) + b"\x81", system + opcodes((touch,)) + opcodes({}) + b"\x92",
        call("functools", "partial", system, touch) + b")R", call("operator", "methodcaller", "system", touch),
        call("copyreg", "_reconstructor", system, name_of("builtins", "object"), None),
        call("copyreg", "__newobj__", system, touch), call("builtins", "map", system, [touch]),
        call("builtins", "getattr", name_of("os", "path"), "system"), call("types", "CodeType", 0),
        call("torch.serialization", "load", str(canary)), call("torch.hub", "load", "a/b", "c"),
        call("torch.utils.cpp_extension", "load_inline", "a", code), call("torch.storage", "_load_from_bytes", touch),
        call("torch._utils", "_rebuild_tensor_v2", system, touch),
        call("torch", "_rebuild_from_type", system, 0, (touch,), {}),
        call("torch._tensor", "_rebuild_from_type_v2", system, name_of("torch", "Tensor"), (touch,), {}),
        call("torch._utils", "_rebuild_parameter", call("os", "system", touch), True, None),
        call("numpy.core.multiarray", "_reconstruct", name_of("numpy", "ndarray"), (0,), touch),
        call("runpy", "run_path", touch),
        pickled("builtins object", {"__setstate__": system, "__class__": system, "__reduce__": system}),
        pickled("torch.nn Module", {"_parameters": call("os", "system", touch), "_buffers": {}, "_modules": {}}),
        module({"w": call("os", "system", touch)}), opcodes(("module", system, touch, code)) + b"Q",
        opcodes(("storage", system, touch, "cpu", 6)) + b"Q",
    ]


def bombs(dice):
    """Programs that want much memory, time or recursion."""
    depth = dice.choice((1000, 10 ** 5, 400_000))
    long = opcodes("ab.." * dice.randrange(250_000))
    net = b"cnet\nNet\n)\x81h\x01b"
    parts = {"_parameters": {}, "_buffers": {}, "_modules": {"a": b"h\x01", "b": b"h\x01"}}
    level = dice.choice((b"\x85", b"h\x01\x86", b"h\x01h\x01\x87", b"]h\x01a", b"h\x01a", net,
                         b"}" + opcodes("a") + b"h\x01s"))
    return [
        b"]q\x01" + depth * (level + b"q\x01"), NESTED, b"}" + NESTED + b"h\x01s",
        *(depth * each for each in (b"(", b"]", b"}")),
        b"]q\x01" + depth // 40 * (b"cnet\nNet\n)\x81" + opcodes(parts) + b"bq\x01"),
        long + b"q\x01" + depth // 3 * b"h\x01h\x01\x93", long + b"q\x01}q\x02" + depth // 6 * b"}h\x01h\x02sq\x02",
        opcodes("torch") + b"q\x01" + depth // 3 * (opcodes("FloatStorage") + b"\x93"),
        b"Nr\xff\xff\xff\xff", b"\x8d" + struct.pack("<Q", dice.getrandbits(63)), b"\x8b\xff\xff\xff\x7f",
        b"\x8f(" + depth * b"N" + b"\x90",
        b"L" + b"9" * depth + b"L\n", b"I" + b"9" * depth + b"\n", b"\x8b" + struct.pack("<i", depth) + depth * b"\x7f",
        b"](" + depth // 4 * call("collections", "OrderedDict", b"](]NaNae") + b"e",
    ]


def sizes(dice):
    """Tensors and storages of sizes, offsets, strides and keys that make no sense."""
    def number():
        return dice.choice((0, 1, 6, -1, 2 ** 30, 2 ** 40, 2 ** 62, 2 ** 200, 1.5, None, True, "6", (), NESTED))

    key = dice.choice(("0", "1", "../data.pkl", "../../../etc/passwd", "/etc/passwd", "", "a" * 10 ** 5, "\0", 0, None,
                       NESTED))
    kind = dice.choice(("FloatStorage", "DoubleStorage", "BoolStorage", "UntypedStorage", "BFloat16Storage", "system"))
    place = storage(key, number(), kind, *([("0", number(), number())] if dice.random() < 0.3 else []))
    rank = dice.randrange(10)
    return tensor(dice.choice((place, storage("0", 6))), number(), tuple(number() for _ in range(rank)),
                  tuple(number() for _ in range(rank)))


def noise(dice):
    """Instructions at random, each with an argument of its kind or of noise."""
    program = b""
    for _ in range(dice.choice((3, 30, 300))):
        instruction, count = dice.choice(pickletools.opcodes), dice.randrange(6)
        program += instruction.code.encode("latin-1")
        size = instruction.arg.n if instruction.arg else 0
        if size > 0:
            program += dice.randbytes(size)
        elif size == pickletools.UP_TO_NEWLINE:
            program += dice.randbytes(count) + b"\nsystem\n"
        elif size:  # the length before the argument has one, four or eight bytes
            program += struct.pack("<Q", count)[:dice.choice((1, 4, 8))] + dice.randbytes(count)
    return program


def program_of(dice, canary):
    """A pickle: some of the above, alone or inside and beside a state dict, or in a module."""
    def evil():
        return dice.choice((lambda: dice.choice(gadgets(canary)), lambda: dice.choice(bombs(dice)), lambda: sizes(dice),
                            lambda: noise(dice)))()
    good = {"a.weight": tensor(storage("0", 6))}
    return opcodes(dice.choice((
        lambda: evil(), lambda: {"a": evil()}, lambda: {"a.b": evil(), **good}, lambda: {"args": evil(), "net": good},
        lambda: {"net": good, "other": evil()}, lambda: module({"w": evil()}, {"m": module({"v": evil()})}),
        lambda: [evil(), evil(), good], lambda: evil() + b"0" + opcodes(good),
        lambda: pickled("own Trainer", {"net": good, "evil": evil()}, opcodes("k") + evil() + b"s"),
    ))())


def write(dice, folder, canary):
    """A hostile file."""
    path, program, data = folder / "hostile.pth", program_of(dice, canary), {"0": bytes(24)}
    data.update({dice.choice(("1", "../../out", "/tmp/out", "0/../../x", "\x01")): dice.randbytes(dice.randrange(100))})
    form = dice.choice(("zip", "zip", "legacy", "legacy", "tar", "plain", "damaged"))
    if form == "zip":
        write_zip(path, program, data)
    elif form == "legacy":
        write_legacy(path, program, data)
    elif form == "tar":
        path.write_bytes(bytes(257) + b"ustar" + bytes(250) + b"\x80\x02" + program + b".")
    elif form == "plain":
        path.write_bytes(b"\x80\x02" + program + b".")
    else:
        damaged = bytearray(dice.choice(sorted(FIXTURES.glob("*.pth"))).read_bytes())
        for _ in range(dice.choice((1, 4, 64))):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged[:dice.choice((len(damaged), dice.randrange(len(damaged))))])
    return path


def pickle_load(path):
    """Python's own way, to see that the judge is not blind."""
    pickle.loads(path.read_bytes())


def outcome_of(path, read=load_state_dict):
    """Read one file in a process of its own: the outcome, its seconds and its bytes."""
    began = time.monotonic()
    child = os.fork() or judge(path, read)
    _, status, usage = os.wait4(child, 0)
    outcome = OUTCOMES[os.WEXITSTATUS(status)] if os.WIFEXITED(status) else f"KILLED by {os.WTERMSIG(status)}"
    if set(os.listdir(path.parent)) != {path.name}:
        outcome = OUTCOMES[EXECUTED]
    return outcome, time.monotonic() - began, usage.ru_maxrss * 1024


def judge(path, read):
    """Read a file in this process, which ends with the outcome as its exit code."""
    events = []

    def hook(event, arguments):
        if not event.startswith(HARMLESS) and (event, *arguments[:2]) != ("open", str(path), "r"):
            events.append((event, arguments))

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.alarm(TIMEOUT)
    sys.addaudithook(hook)
    outcome = READ
    try:
        read(path)
    except UserError as error:
        outcome = REFUSED if "\n" not in str(error) and len(str(error)) < 1000 else MANY_LINES
    except BaseException:
        outcome = TRACEBACK
    if events:
        outcome = EXECUTED
        if read is load_state_dict:
            os.write(2, f"{events[:3]}\n".encode(errors="replace"))
    os._exit(outcome)


def main():
    arguments = parser(__doc__, 300, "files", 600).parse_args()
    load_state_dict(FIXTURES / "torch-2.13.0-zip.pth")  # imports what Python reads archives with
    for codec in ("cp437", "raw_unicode_escape"):       # and text with
        "".encode(codec)
    counts, slowest, largest, start = Counter(), 0.0, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        canary, control = Path(folder, "canary"), Path(folder, "control")
        control.write_bytes(b"\x80\x02" + gadgets(canary)[0] + b".")
        assert outcome_of(control, pickle_load)[0] == OUTCOMES[EXECUTED] and canary.exists()
        canary.unlink()
        control.unlink()
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            if time.monotonic() - start > arguments.seconds:
                break
            outcome, seconds, size = outcome_of(write(random.Random(seed), Path(folder), canary))
            counts[outcome] += 1
            slowest, largest = max(slowest, seconds), max(largest, size)
            if outcome not in OUTCOMES[:EXECUTED]:
                print(f"seed {seed}: {outcome}")
    print(f"{sum(counts.values())} files: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
          + f"; at most {slowest:.1f} s and {largest >> 20} MiB")
    sys.exit(not set(counts) <= set(OUTCOMES[:EXECUTED]))


if __name__ == "__main__":
    main()
