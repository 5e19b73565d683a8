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
"""Fashion-MNIST (arXiv 1708.07747): pictures of clothes in files like MNIST's, in a folder `fashion-mnist`."""
from .mnist import Mnist


class FashionMnist(Mnist):
    """See `src.data.DataSet`."""
    mean, std = (0.2860,), (0.3530,)
    folder, source = "fashion-mnist", "github.com/zalandoresearch/fashion-mnist has the files"

    def class_names(self, folder):
        return ["T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]


FASHION_MNIST = FashionMnist()
