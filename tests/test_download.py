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
"""Tests of scripts/download_data.sh against a server on 127.0.0.1, with small archives in place of the real ones.

The script has no switch for tests: they run a copy of it in which the MD5s and file sizes are those of the small
archives. The copy also keeps the default data folder out of the repository.
"""
import gzip
import hashlib
import http.server
import io
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "download_data.sh"
ARCHIVES = {"cifar10": "cifar-10-binary.tar.gz", "cifar100": "cifar-100-binary.tar.gz"}
MNIST = {"train-images-idx3-ubyte": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", 47040016),
         "train-labels-idx1-ubyte": ("d53e105ee54ea40749a09fcbcd1e9432", 60008),
         "t10k-images-idx3-ubyte": ("9fb629c4189551a2d022fa330f9573f3", 7840016),
         "t10k-labels-idx1-ubyte": ("ec29112dd5afa0611ce80d1b7f02629c", 10008)}  # file -> MD5 of its archive, real size
FOLDERS = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary", "mnist": "mnist"}
MD5S = {"cifar10": "c32a1d4ab5d03f1284b67883e8d87530", "cifar100": "03b5dce01913d631647c71ecec9e9cb8"}
LONGEST = 400  # KiB of an archive here
SIZES = {"30730000": 30730, "153700000": 153700, "30740000": 30740}  # real size -> size here
NAMES = {"cifar10": [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"],
         "cifar100": ["train.bin", "test.bin"]}


def content(dataset):
    """The files of a small data set: name -> bytes that do not compress, so that half an archive is a real half."""
    noise = random.Random(dataset)
    if dataset == "mnist":
        return {name: noise.randbytes(size // 1000) for name, (_, size) in MNIST.items()}
    sizes = dict.fromkeys(NAMES[dataset], 30730) if dataset == "cifar10" else {"train.bin": 153700, "test.bin": 30740}
    return {name: noise.randbytes(size) for name, size in sizes.items()} | {"readme.html": b"hello"}


def member(name, kind=tarfile.REGTYPE, link="", data=b""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    info.mode, info.uid = (0o777 if kind == tarfile.DIRTYPE else 0o666), 12345
    return info, io.BytesIO(data)


def pack(dataset, extra=(), files=None):
    """The archive of a data set as bytes, `extra` members last."""
    folder = FOLDERS[dataset]
    members = [member(folder, tarfile.DIRTYPE)]
    members += [member(f"{folder}/{name}", data=data) for name, data in (files or content(dataset)).items()]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for info, data in members + list(extra):
            archive.addfile(info, data)
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `archives`, with or without ranges; it can drop a reply midway, or hold it until told to go on."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.archives = {ARCHIVES[dataset]: pack(dataset) for dataset in ARCHIVES}
        self.archives |= {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in content("mnist").items()}
        self.ranges = True
        self.drop = False
        self.hold = None
        self.log = []  # (path, Range header or None, status, bytes in the reply)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that was killed is part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One reply of `Server`."""

    def do_GET(self):  # pylint: disable=invalid-name
        whole = self.server.archives.get(self.path.rsplit("/", 1)[-1])
        wanted = self.headers["Range"]
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.server.ranges else 0
        if whole is None or start >= len(whole):
            self.server.log.append((self.path, wanted, 404 if whole is None else 416, 0))
            self.send_error(404 if whole is None else 416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(len(whole) - start))
        self.end_headers()
        self.server.log.append((self.path, wanted, 206 if start else 200, len(whole) - start))
        self.send_body(whole[start:])

    def send_body(self, body):
        """Send the body, or half of it if the connection is to drop."""
        half = len(body) // 2
        self.wfile.write(body[:half])
        if self.server.hold:
            self.server.hold.wait(20)
        if not self.server.drop:
            self.wfile.write(body[half:])

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        """Keep stderr for the script."""


@pytest.fixture(name="server")
def fixture_server():
    assert shutil.which("curl"), "these tests need curl: install it (apt-get install curl)"
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        if server.hold:
            server.hold.set()
        server.shutdown()


class Shop:
    """A folder with the adapted copy of the script, a place for data and a server to fetch from."""

    def __init__(self, root, server):
        self.server, self.root, self.data = server, root, root / "some data"
        self.script = root / "a repo" / "scripts" / "download_data.sh"
        self.script.parent.mkdir(parents=True)
        self.env = {"PATH": os.environ["PATH"], "HOME": str(root), "CIFAR_URL": server.url,
                    "MNIST_URL": server.url}
        self.adapt()

    def adapt(self):
        """Write the script with the MD5s and sizes of what the server has; each must be in the real one."""
        text = SCRIPT.read_text(encoding="utf-8")
        md5s = {ARCHIVES[key]: MD5S[key] for key in ARCHIVES} | {f"{name}.gz": MNIST[name][0] for name in MNIST}
        served = {md5: hashlib.md5(self.server.archives[name]).hexdigest() for name, md5 in md5s.items()}
        sizes = SIZES | {f"{name}:{size}": f"{name}:{size // 1000}" for name, (_, size) in MNIST.items()}
        for old, new in (served | sizes | {"longest=262144": f"longest={LONGEST}"}).items():
            assert old in text, f"{old} is not in {SCRIPT}"
            text = text.replace(old, str(new))
        self.script.write_text(text, encoding="utf-8")

    def serve(self, archive):
        """Let the server have another cifar100, one with the right MD5."""
        self.server.archives[ARCHIVES["cifar100"]] = archive
        self.adapt()

    def start(self, *args, **options):
        options = {"cwd": self.root, "env": self.env} | options
        return subprocess.Popen(["bash", str(self.script), *map(str, args)], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, start_new_session=True, **options)

    def run(self, *args, code=0, **options):
        """Run the script to its end and return its output and its error output."""
        with self.start(*args, **options) as process:
            output, errors = process.communicate()
        assert process.returncode == code, output + errors
        return output, errors

    def fetch(self, code=0, **options):
        return self.run("cifar100", self.data, code=code, **options)

    def check(self, dataset="cifar100", data=None):
        """The data set is there whole, and nothing of the work is left beside it."""
        folder = (data or self.data) / FOLDERS[dataset]
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == content(dataset)
        assert not [name for name in os.listdir(folder.parent) if name not in FOLDERS.values()]

    @property
    def part(self):
        return self.data / (ARCHIVES["cifar100"] + ".part")

    def leave_part(self, count):
        """What an interrupted download leaves: the first `count` bytes."""
        self.data.mkdir(exist_ok=True)
        self.part.write_bytes(self.server.archives[ARCHIVES["cifar100"]][:count])

    def half_sent(self):
        """Wait until a held download has come halfway."""
        half = len(self.server.archives[ARCHIVES["cifar100"]]) // 2
        wait_for(lambda: self.part.exists() and self.part.stat().st_size >= half - 2 ** 14)

    def stub(self, name, text):
        """Put another program called `name` first in PATH, `real` in its text being the true one."""
        (self.root / "bin").mkdir(exist_ok=True)
        stub = self.root / "bin" / name
        stub.write_text(f'#!/bin/bash\nreal="{shutil.which(name)}"\n{text}', encoding="utf-8")
        stub.chmod(0o755)
        return self.env | {"PATH": f"{stub.parent}:{self.env['PATH']}"}


def only_tools(folder, *names):
    """A PATH with these programs and no others."""
    tools = folder / "tools"
    tools.mkdir()
    for name in names:
        (tools / name).symlink_to(shutil.which(name))
    return str(tools)


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def one_error(errors):
    """The last line of the error output, which must be the only one but for the progress bar."""
    lines = [line for line in re.split(r"[\r\n]+", errors) if not re.fullmatch(r"[-#=O ]*(\d+\.\d%)? *", line)]
    assert len(lines) == 1 and lines[0].startswith("error: "), errors
    return lines[0]


@pytest.fixture(name="shop")
def fixture_shop(tmp_path, server):
    return Shop(tmp_path, server)


def test_fresh_download(shop):
    output, errors = shop.fetch()
    shop.check()
    assert re.search(r"#+ *100\.0%", errors), "no progress bar"
    assert shop.server.url + "/cifar-100-binary.tar.gz" in output
    size = len(shop.server.archives[ARCHIVES["cifar100"]])
    assert shop.server.log == [("/cifar-100-binary.tar.gz", None, 200, size)]


def test_files_are_the_users_own(shop):
    """Owner and permissions come from the user, not from the archive, even for root."""
    shop.fetch(umask=0o027)
    folder = shop.data / FOLDERS["cifar100"]
    assert [oct(path.stat().st_mode & 0o7777) for path in (folder, folder / "train.bin")] == ["0o750", "0o640"]
    assert (folder / "train.bin").stat().st_uid == os.getuid()


def test_all_sets(shop):
    shop.run("all", shop.data)
    for dataset in FOLDERS:
        shop.check(dataset)


def test_only_cifar10(shop):
    shop.run("cifar10", shop.data)
    shop.check("cifar10")
    assert os.listdir(shop.data) == [FOLDERS["cifar10"]]


def test_defaults_from_another_folder(shop, tmp_path):
    """Without arguments: cifar100 in `data` of the repository, wherever the script is called from."""
    (tmp_path / "elsewhere").mkdir()
    shop.run(cwd=tmp_path / "elsewhere")
    shop.check(data=shop.script.parent.parent / "data")
    assert not os.listdir(tmp_path / "elsewhere")


def test_defaults_by_a_relative_path(shop, tmp_path):
    """A CDPATH in which there is another `scripts` must not lead astray."""
    repo, decoy = shop.script.parent.parent, tmp_path / "decoy"
    (decoy / "scripts").mkdir(parents=True)
    shop.script = Path("scripts") / shop.script.name
    shop.run(cwd=repo, env=shop.env | {"CDPATH": str(decoy)})
    shop.check(data=repo / "data")
    assert os.listdir(decoy) == ["scripts"]


@pytest.mark.parametrize("name", ["a b", "-x", "host:a", "$(touch boom)'\"*#1[1]"])
def test_relative_path_of_any_name(shop, tmp_path, name):
    shop.run("cifar100", name)
    shop.check(data=tmp_path / name)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("given, asked", [("", ""), ("/a/", "/a"), ("/a/[1-2]{b,c}", "/a/[1-2]{b,c}")])
def test_url_of_a_mirror(shop, given, asked):
    shop.fetch(env=shop.env | {"CIFAR_URL": shop.server.url + given})
    shop.check()
    assert [path for path, *_ in shop.server.log] == [asked + "/cifar-100-binary.tar.gz"]


def test_resume_asks_for_the_rest_only(shop):
    shop.leave_part(50000)
    shop.fetch()
    shop.check()
    rest = len(shop.server.archives[ARCHIVES["cifar100"]]) - 50000
    assert shop.server.log == [("/cifar-100-binary.tar.gz", "bytes=50000-", 206, rest)]


def test_resume_without_ranges_starts_afresh(shop):
    shop.server.ranges = False
    shop.leave_part(50000)
    output, _ = shop.fetch()
    shop.check()
    assert "starting afresh" in output
    assert [(wanted, status) for _, wanted, status, _ in shop.server.log] == [("bytes=50000-", 200), (None, 200)]


def test_whole_partial_file_needs_no_server(shop):
    shop.leave_part(None)
    shop.fetch()
    shop.check()
    assert not shop.server.log


def test_dropped_connection_then_rerun(shop):
    shop.server.drop = True
    line = one_error(shop.fetch(code=1)[1])
    assert ".tar.gz: curl: (18) " in line and "run this again to resume" in line
    got = shop.part.stat().st_size
    assert got > 0 and not (shop.data / FOLDERS["cifar100"]).exists()
    shop.server.drop = False
    shop.fetch()
    shop.check()
    assert shop.server.log[-1][1] == f"bytes={got}-"


def test_wrong_md5(shop):
    good = shop.server.archives[ARCHIVES["cifar100"]]
    shop.server.archives[ARCHIVES["cifar100"]] = good[:-1000] + bytes(1000)
    assert "wrong MD5" in one_error(shop.fetch(code=1)[1])
    assert not os.listdir(shop.data)
    shop.server.archives[ARCHIVES["cifar100"]] = good
    shop.fetch()
    shop.check()
    assert shop.server.log[-1][1:3] == (None, 200)


def test_truncated_archive_on_the_server(shop):
    good = shop.server.archives[ARCHIVES["cifar100"]]
    shop.server.archives[ARCHIVES["cifar100"]] = good[:len(good) // 2]
    assert "wrong MD5" in one_error(shop.fetch(code=1)[1])
    assert not os.listdir(shop.data)
    shop.server.archives[ARCHIVES["cifar100"]] = good
    shop.fetch()
    shop.check()


def test_foreign_partial_file(shop):
    """Remains of something else are found out by the MD5."""
    shop.data.mkdir()
    shop.part.write_bytes(b"x" * 1000)
    assert "wrong MD5" in one_error(shop.fetch(code=1)[1])
    shop.fetch()
    shop.check()


@pytest.mark.parametrize("longer", [0, 10 ** 6])
def test_foreign_partial_file_as_long_as_the_archive(shop, longer):
    """The server has nothing to add to it. Some versions of curl take that for success, others for an error."""
    whole = len(shop.server.archives[ARCHIVES["cifar100"]])
    shop.data.mkdir()
    shop.part.write_bytes(b"x" * (whole + longer))
    subprocess.run(["bash", shop.script, "cifar100", shop.data], env=shop.env, capture_output=True, check=False)
    shop.fetch()
    shop.check()
    shop.data.rename(shop.root / "done")
    shop.data.mkdir()
    shop.part.write_bytes(b"x" * (whole + longer))
    refusal = "echo 'curl: (22) The requested URL returned error: 416' >&2; exit 22"
    output, _ = shop.fetch(env=shop.stub("curl", f'if [[ -s "{shop.part}" ]]; then {refusal}; fi\nexec "$real" "$@"'))
    assert "starting afresh" in output
    shop.check()


@pytest.mark.parametrize("ranges, have", [(True, 0), (False, 0), (True, 50000), (True, LONGEST * 1024)])
def test_archive_without_end(shop, ranges, have):
    """What comes onto the disk is bounded, and what was wrong is not kept."""
    good = shop.server.archives[ARCHIVES["cifar100"]]
    shop.server.archives[ARCHIVES["cifar100"]] = bytes(10 * LONGEST * 1024)
    shop.server.ranges = ranges
    shop.data.mkdir()
    shop.part.write_bytes(bytes(have))
    record = f'"$real" "$@"; code=$?; wc -c <"{shop.part}" >"{shop.root}/size"; exit $code'
    assert "wrong MD5" in one_error(shop.fetch(code=1, env=shop.stub("curl", record))[1])
    assert int((shop.root / "size").read_text()) == LONGEST * 1024 and not os.listdir(shop.data)
    shop.server.archives[ARCHIVES["cifar100"]] = good
    shop.fetch()
    shop.check()


def test_partial_file_that_is_a_pipe(shop):
    shop.data.mkdir()
    os.mkfifo(shop.part)
    shop.fetch()
    shop.check()


def test_partial_file_that_is_a_link(shop):
    (shop.root / "other").write_bytes(b"mine")
    shop.data.mkdir()
    shop.part.symlink_to(shop.root / "other")
    shop.fetch()
    shop.check()
    assert (shop.root / "other").read_bytes() == b"mine"


# MNIST: four archives, each of one file.

def test_mnist(shop):
    output, _ = shop.run("mnist", shop.data)
    shop.check("mnist")
    assert [path for path, *_ in shop.server.log] == [f"/{name}.gz" for name in MNIST]
    assert f"{shop.data}/mnist: complete" in output
    assert "already complete" in shop.run("mnist", shop.data)[0] and len(shop.server.log) == 4


def test_mnist_resumes_where_it_was(shop):
    """What is whole is not fetched again, and what is not is continued."""
    second = "train-labels-idx1-ubyte.gz"
    good = shop.server.archives[second]
    del shop.server.archives[second]
    assert "404" in one_error(shop.run("mnist", shop.data, code=1)[1])
    assert os.listdir(shop.data) == ["train-images-idx3-ubyte.gz.part"]
    (shop.data / f"{second}.part").write_bytes(good[:30])
    shop.server.archives[second] = good
    shop.server.log.clear()
    shop.run("mnist", shop.data)
    shop.check("mnist")
    assert [entry[:2] for entry in shop.server.log] == [(f"/{second}", "bytes=30-"),
                                                       *((f"/{name}.gz", None) for name in list(MNIST)[2:])]


def test_mnist_with_a_wrong_md5(shop):
    shop.server.archives["t10k-labels-idx1-ubyte.gz"] = b"something else"
    assert "t10k-labels-idx1-ubyte.gz has a wrong MD5" in one_error(shop.run("mnist", shop.data, code=1)[1])
    assert sorted(os.listdir(shop.data)) == sorted(f"{name}.gz.part" for name in list(MNIST)[:3])


def test_mnist_of_another_size(shop):
    """A server that has other files under the right MD5s, which only the test can have."""
    shop.server.archives["t10k-labels-idx1-ubyte.gz"] = gzip.compress(b"short")
    shop.adapt()
    assert "cannot unpack" in one_error(shop.run("mnist", shop.data, code=1)[1])
    assert not (shop.data / "mnist").exists()


def test_two_runs_of_mnist_at_once(shop):
    shop.server.hold = threading.Event()
    with shop.start("mnist", shop.data) as first:
        wait_for(lambda: shop.server.log)
        with shop.start("mnist", shop.data) as second:
            assert "waiting" in second.stdout.readline()
            shop.server.hold.set()
            output, errors = second.communicate()
        first.communicate()
    assert (first.returncode, second.returncode) == (0, 0), output + errors
    shop.check("mnist")
    assert len(shop.server.log) == 4


def test_mnist_killed_before_the_last_step_then_rerun(shop):
    shop.run("mnist", shop.data, env=shop.stub("mv", "kill -9 0"), code=-signal.SIGKILL)
    assert not (shop.data / "mnist").exists()
    shop.server.log.clear()
    shop.run("mnist", shop.data)
    shop.check("mnist")
    assert not shop.server.log


INSIDE = FOLDERS["cifar100"]


@pytest.mark.parametrize("evil", [
    [member("../boom", data=b"x")],
    [member(f"{INSIDE}/../../boom", data=b"x")],
    [member("ABSOLUTE/boom", data=b"x")],
    [member(f"../x {INSIDE}/boom", data=b"x")],
    [member(f"{INSIDE}/boom", tarfile.SYMTYPE, "/etc/hostname")],
    [member(f"{INSIDE}/way", tarfile.SYMTYPE, "ABSOLUTE"), member(f"{INSIDE}/way/boom", data=b"x")],
    [member(f"{INSIDE}/boom", tarfile.LNKTYPE, f"{INSIDE}/train.bin")],
    [member(f"{INSIDE}/boom", tarfile.FIFOTYPE)],
    [member(f"{INSIDE}/boom", tarfile.CHRTYPE)],
    [member("other/boom", data=b"x")],
    [member("boom", data=b"x")],
    [member(f"{INSIDE}/..", tarfile.DIRTYPE)],
], ids=["parent", "inner-parent", "absolute", "lookalike", "symlink", "through-symlink", "hardlink", "fifo", "device",
        "other-folder", "top-file", "dotdot-folder"])
def test_malicious_archive_is_refused(shop, tmp_path, evil):
    outside = tmp_path / "outside"
    outside.mkdir()
    for info, _ in evil:
        info.name = info.name.replace("ABSOLUTE", str(outside))
        info.linkname = info.linkname.replace("ABSOLUTE", str(outside))
    shop.serve(pack("cifar100", evil))
    assert "something else than plain files" in one_error(shop.fetch(code=1)[1])
    assert not list(tmp_path.rglob("boom")) and not os.listdir(outside)
    assert not os.listdir(shop.data)


def test_archive_without_all_files_is_refused(shop):
    files = content("cifar100") | {"test.bin": b"short"}
    shop.serve(pack("cifar100", files=files))
    assert "cannot unpack" in one_error(shop.fetch(code=1)[1])
    assert os.listdir(shop.data) == [shop.part.name]


def test_complete_folder_is_left_alone(shop):
    shop.fetch()
    train = shop.data / FOLDERS["cifar100"] / "train.bin"
    before = train.stat()
    shop.server.log.clear()
    output, errors = shop.fetch(env=shop.stub("curl", "exit 1"))
    assert "already complete" in output and not errors
    assert not shop.server.log and train.stat() == before
    shop.check()


def test_complete_folder_needs_no_tools(shop, tmp_path):
    shop.fetch()
    output, errors = shop.fetch(env=shop.env | {"PATH": only_tools(tmp_path, "bash", "dirname", "rm", "wc")})
    assert "already complete" in output and not errors


@pytest.mark.parametrize("kind", ["short file", "empty folder", "file", "broken link"])
def test_other_target_is_never_replaced(shop, kind):
    target = shop.data / FOLDERS["cifar100"]
    shop.data.mkdir()
    if kind == "file":
        target.write_text("mine", encoding="utf-8")
    elif kind == "broken link":
        target.symlink_to(shop.root / "nowhere")
    else:
        target.mkdir()
        if kind == "short file":
            (target / "train.bin").write_bytes(b"mine")
    before = subprocess.check_output(["ls", "-lR", "--full-time", shop.data])
    assert "move it away" in one_error(shop.fetch(code=1)[1])
    assert subprocess.check_output(["ls", "-lR", "--full-time", shop.data]) == before
    assert not shop.server.log


def test_kill_midway_then_rerun(shop):
    shop.server.hold = threading.Event()
    with shop.start("cifar100", shop.data) as process:
        shop.half_sent()
        os.killpg(process.pid, signal.SIGKILL)
    assert os.listdir(shop.data) == [shop.part.name]
    got = shop.part.stat().st_size
    shop.server.hold.set()
    shop.fetch()
    shop.check()
    assert shop.server.log[-1][1] == f"bytes={got}-"


def test_curl_of_a_killed_run_does_not_mix_in(shop):
    """Only bash is killed: its curl goes on, and the next run waits for it."""
    shop.server.hold = threading.Event()
    with shop.start("cifar100", shop.data) as first:
        shop.half_sent()
        first.kill()
        with shop.start("cifar100", shop.data) as second:
            assert "waiting" in second.stdout.readline()
            shop.server.hold.set()
            output, errors = second.communicate()
    assert second.returncode == 0, output + errors
    shop.check()
    assert len(shop.server.log) == 1


def test_two_runs_at_once(shop):
    shop.server.hold = threading.Event()
    with shop.start("cifar100", shop.data) as first:
        shop.half_sent()
        with shop.start("cifar100", shop.data) as second:
            assert "waiting" in second.stdout.readline()
            shop.server.hold.set()
            assert "already complete" in second.communicate()[0]
        first.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    shop.check()
    assert len(shop.server.log) == 1


def test_second_run_after_the_first_has_failed(shop):
    """The first run removes what both have opened; the second starts on a file of its own."""
    good = shop.server.archives[ARCHIVES["cifar100"]]
    shop.server.archives[ARCHIVES["cifar100"]] = bytes(len(good))
    shop.server.hold = threading.Event()
    with shop.start("cifar100", shop.data) as first:
        shop.half_sent()
        with shop.start("cifar100", shop.data) as second:
            assert "waiting" in second.stdout.readline()
            shop.server.archives[ARCHIVES["cifar100"]] = good
            shop.server.hold.set()
            _, errors = second.communicate()
        assert "wrong MD5" in one_error(first.communicate()[1])
    assert (first.returncode, second.returncode) == (1, 0) and "No such file" not in errors
    shop.check()


@pytest.mark.parametrize("name, sign", [("INT", 130), ("TERM", -15)])
def test_interrupt_midway_then_rerun(shop, name, sign):
    shop.server.hold = threading.Event()
    with shop.start("cifar100", shop.data) as process:
        shop.half_sent()
        os.killpg(process.pid, getattr(signal, "SIG" + name))
        _, errors = process.communicate()
    assert process.returncode == sign
    assert name == "TERM" or one_error(errors) == "error: interrupted (run this again to resume)"
    assert os.listdir(shop.data) == [shop.part.name]
    shop.server.hold.set()
    shop.fetch()
    shop.check()


HALF_UNPACK = """[[ "$1" == -x* ]] || exec "$real" "$@"
"$real" "$@"
truncate -s 1000 "$4"/*/train.bin
"""


@pytest.mark.parametrize("tool, text", [("tar", HALF_UNPACK + "kill -9 0"), ("mv", "kill -9 0")], ids=["tar", "mv"])
def test_kill_while_unpacking_then_rerun(shop, tool, text):
    """The worst moments: everything is killed when tar has written half of the data, or just before the last step."""
    shop.fetch(env=shop.stub(tool, text), code=-signal.SIGKILL)
    assert not (shop.data / FOLDERS["cifar100"]).exists()
    assert len(os.listdir(shop.data)) == 2, "the archive and the temporary folder were expected"
    shop.server.log.clear()
    shop.fetch()
    shop.check()
    assert not shop.server.log, "the archive was whole, nothing had to be fetched"


def test_tar_that_stops_while_unpacking(shop):
    assert "cannot unpack" in one_error(shop.fetch(env=shop.stub("tar", HALF_UNPACK + "exit 2"), code=1)[1])
    assert os.listdir(shop.data) == [shop.part.name]
    shop.fetch()
    shop.check()


def run_limited(shop, blocks, code):
    """A full disk, played by a limit on file sizes (in KiB): writes beyond it fail."""
    command = ["bash", "-c", f"trap '' XFSZ; ulimit -f {blocks}; exec bash \"$@\"", "bash", shop.script, "cifar100"]
    result = subprocess.run([*command, shop.data], env=shop.env, capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stderr


def test_full_disk_while_downloading(shop):
    assert ".tar.gz: curl: (23) " in one_error(run_limited(shop, 100, 1))
    assert os.listdir(shop.data) == [shop.part.name] and shop.part.stat().st_size <= 102400
    shop.fetch()
    shop.check()
    assert shop.server.log[-1][2] == 206


def test_full_disk_while_unpacking(shop):
    files = content("cifar100") | {"train.bin": bytes(153700)}  # zeros: a small archive of a large file
    shop.serve(pack("cifar100", files=files))
    assert "error: cannot unpack" in run_limited(shop, 100, 1)
    assert os.listdir(shop.data) == [shop.part.name]
    shop.fetch()
    assert (shop.data / FOLDERS["cifar100"] / "train.bin").read_bytes() == bytes(153700)


@pytest.mark.parametrize("args", [["cifar"], ["CIFAR10"], ["cifar10", "a", "b"], ["all", "a", "b"], ["-h"], ["data"]])
def test_usage(shop, args):
    output, errors = shop.run(*args, code=1)
    assert errors == "Usage: bash scripts/download_data.sh [cifar10|cifar100|mnist|all] [DATA_PATH]\n" and not output
    assert not shop.server.log


def test_unreachable_server(shop):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can open this port
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        _, errors = shop.fetch(env=shop.env | {"CIFAR_URL": url}, code=1)
    line = one_error(errors)
    assert url in line and "connect" in line
    assert not os.listdir(shop.data)


def test_unreachable_server_keeps_what_has_come(shop):
    shop.leave_part(50000)
    shop.fetch(env=shop.env | {"CIFAR_URL": "http://127.0.0.1:1"}, code=1)
    assert shop.part.stat().st_size == 50000


def test_page_not_found(shop):
    del shop.server.archives[ARCHIVES["cifar100"]]
    assert "404" in one_error(shop.fetch(code=1)[1])
    assert not os.listdir(shop.data)


@pytest.mark.parametrize("missing", ["curl", "tar", "gzip", "md5sum", "flock"])
def test_missing_tool(shop, tmp_path, missing):
    others = {"bash", "dirname", "rm", "mkdir", "curl", "tar", "gzip", "md5sum", "flock"} - {missing}
    _, errors = shop.fetch(env=shop.env | {"PATH": only_tools(tmp_path, *others)}, code=1)
    assert errors == f"error: {missing} is needed, please install it\n"
    assert not shop.data.exists()


def test_data_path_that_cannot_be_written(shop):
    shop.data.write_text("a file", encoding="utf-8")
    _, errors = shop.fetch(code=1)
    assert errors.count("\n") == 1 and str(shop.data) in errors
    shop.data.unlink()
    shop.part.mkdir(parents=True)
    assert "cannot write" in one_error(shop.fetch(code=1)[1])
