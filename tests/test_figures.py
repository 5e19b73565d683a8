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
"""What the pictures of src.figures show, without drawing it; test_training.py draws them."""
import sys

import numpy as np
import pytest

from src import figures
from src.errors import UserError
from src.figures import mosaic, on_a_plane, spread

CONFIG = {"network": "lenet5_bn", "layer": "l1", "dataset": "mnist", "class_num": 0, "image_size": 0}
METRICS = "epoch,train_accuracy,test_accuracy\n1,0.5,0.4\n2,0.6,0.5\n"


@pytest.mark.parametrize("config, metrics, words", [
    ({"network": "nonsense"}, METRICS, "config.yaml: network: 'nonsense' is not one of resnet20, "),
    ({"dataset": "nonsense"}, METRICS, "config.yaml: dataset: 'nonsense' is not one of cifar100, "),
    ({"layer": ["l1"]}, METRICS, r"config.yaml: layer: \['l1'\] is not of type str"),
    ({"class_num": "abc"}, METRICS, "config.yaml: class_num: 'abc' is not of type int"),
    ({"class_num": -3}, METRICS, "config.yaml: class_num must be a number from 0 to 1000000, not -3"),
    ({"image_size": "abc"}, METRICS, "config.yaml: image_size: 'abc' is not of type int"),
    ({"network": "edsr", "dataset": "images"}, METRICS, "edsr is no classifier"),
    ({"dataset": "coco"}, METRICS, "lenet5_bn learns classification, for which data set coco is none"),
    ({}, "epoch,train_accuracy\n1,0.5\n", "is no folder of a run: 'test_accuracy'"),
    ({}, METRICS, "0 checkpoints named"),  # which no other picture than the curves needs
], ids=range(10))
def test_runs_that_make_no_sense(config, metrics, words, tmp_path, monkeypatch):
    """Are refused before a picture is written."""
    lines = (f"{key}: {value!r}\n" for key, value in {**CONFIG, **config}.items())
    (tmp_path / "config.yaml").write_text("".join(lines), "utf-8")
    (tmp_path / "metrics.csv").write_text(metrics, "utf-8")
    monkeypatch.setattr("src.device._set_device", lambda *_: None)  # a process chooses its processor once
    monkeypatch.setattr(sys, "argv", ["figures", str(tmp_path), "--output_path", str(tmp_path / "pictures")])
    with pytest.raises(UserError, match=words) as caught:
        figures.main()
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert not list(tmp_path.glob("pictures/*"))


def test_spread_of_features():
    """Half as wide within as the distance of two classes from their middle."""
    features = np.array([[-2.0, 5], [-4, 5], [3, 5], [3, 5]])
    assert abs(spread(features, np.array([4, 4, 9, 9])) - 0.5 / 9) < 1e-12


def test_features_on_a_plane():
    """Two features are shown as they are; of more, the plane has all variance that a plane can have."""
    random = np.random.default_rng(0)
    points = random.standard_normal((50, 2))
    np.testing.assert_array_equal(on_a_plane(points), points)
    basis = np.linalg.qr(random.standard_normal((7, 2)))[0]
    shown = on_a_plane(points @ basis.T + 3)
    centred = points - points.mean(0)
    np.testing.assert_allclose(shown @ shown.T, centred @ centred.T, atol=1e-9)


@pytest.mark.parametrize("shape, wanted", [((5, 3, 2, 2), (6, 9, 3)), ((5, 4, 2, 2), (6, 9, 1)),
                                           ((1, 1, 5, 5), (6, 6, 1))])
def test_filters_side_by_side(shape, wanted):
    filters = np.random.default_rng(0).normal(5, 3, shape)
    image = mosaic(filters)
    assert image.shape == wanted and image.min() == 0 and image.max() == 1
    for number, each in enumerate(filters):
        row, column = (place * (shape[2] + 1) for place in divmod(number, wanted[1] // (shape[2] + 1)))
        got = image[row:row + shape[2], column:column + shape[2]]
        each = each.transpose(1, 2, 0) if shape[1] == 3 else each.mean(0)[..., None]
        np.testing.assert_allclose(got, (each - each.min()) / (each.max() - each.min()))
        assert (image[row + shape[2], column:column + shape[2]] == 1).all()


def test_filters_that_are_all_the_same():
    assert np.isfinite(mosaic(np.ones((2, 1, 3, 3)))).all()
