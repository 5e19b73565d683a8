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
import numpy as np
import pytest

from src.figures import mosaic, on_a_plane, spread


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
