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
"""benchmarks.enlarged, on networks with random weights."""
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import enlarged
from src import checkpoint, device
from src.data import bicubic, pictures
from src.errors import UserError
from src.identity import Identity
from src.loading import create
from src.tasks.quality import psnr
from test_super_resolution import write

OPTIONS = {"scale": 2, "n_feats": 4, "self_shortcut": True, "power_activation": True, "batch_norm": True}


@pytest.fixture(name="home")
def fixture_home(tmp_path, monkeypatch):
    """A set of images, and checkpoints of EDSR and VDSR, the latter of scale 3 too."""
    monkeypatch.setattr(device, "_set_device", lambda *_: None)
    write(tmp_path / "set")
    for name, network, scale in (("edsr", "edsr", 2), ("vdsr", "vdsr", 2), ("larger", "vdsr", 3)):
        more = {"n_resblocks": 1, "res_scale": 1.0} if network == "edsr" else {}
        identity = Identity(network, "l1", 0, "images", options={**OPTIONS, "scale": scale, **more})
        checkpoint.save_parameters(checkpoint.weights(create(identity)), tmp_path / f"{name}.ckpt",
                                   identity=identity.dumps())
    return tmp_path


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["enlarged", *map(str, arguments)])
    enlarged.main()


def test_table_and_picture(home, monkeypatch, capsys):
    call(monkeypatch, home / "edsr.ckpt", home / "vdsr.ckpt", "--data_path", home / "set", home / "set", "--crop", "1.png",
         3, 2, 20, "--output", home / "crops.png")
    title, *rows, wrote = capsys.readouterr().out.splitlines()
    assert title.split() == ["x2", "set", "set"] and wrote == f"wrote {home / 'crops.png'}"
    found = {row.split()[0]: [float(value) for value in row.split()[1:]] for row in rows}
    assert list(found) == ["bicubic", "edsr", "vdsr"] and all(row[:2] == row[2:] for row in found.values())
    images = [pictures.read(path).astype(np.float64) for path in sorted((home / "set").iterdir())]
    images = [image[:image.shape[0] // 2 * 2, :image.shape[1] // 2 * 2] for image in images]
    brightness = np.array([65.481, 128.553, 24.966]) / 255
    large = [bicubic.rounded(bicubic.resize(bicubic.shrunk(image, 2), image.shape)) for image in images]
    wanted = [psnr(*((one @ brightness)[2:-2, 2:-2] for one in pair)) for pair in zip(images, large)]
    assert abs(found["bicubic"][0] - np.mean(wanted)) < 0.006
    assert Image.open(home / "crops.png").width > 1000


@pytest.mark.parametrize("arguments, words", [
    (["larger.ckpt"], "larger.ckpt: vdsr does not enlarge images 2 times"),
    (["--crop", "9.png", "0", "0", "9"], "no image 9.png in the sets"),
    (["--crop", "1.png", "30", "0", "30"], "--crop 1.png 30 0 30 lies outside of 50 x 26 pixels"),
    (["--crop", "1.png", "a", "0", "30"], "--crop 1.png a 0 30 lies outside of"),
    (["--crop", "1.png", "9" * 5000, "0", "30"], "lies outside of"),
    (["--crop", "1.png", "0", "0", "9", "--output", "a.txt"], "output must be a file that ends in .png, not a.txt")])
def test_refused(home, monkeypatch, arguments, words):
    monkeypatch.chdir(home)
    with pytest.raises(UserError, match=words):
        call(monkeypatch, "edsr.ckpt", *arguments[:1 if arguments[0] == "larger.ckpt" else 0], "--data_path", "set",
             *arguments[1 if arguments[0] == "larger.ckpt" else 0:])
