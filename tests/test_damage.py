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
"""Some of tests/stress/damage.py: no damaged checkpoint or state is believed, and none is a traceback."""
from src import checkpoint
from stress import damage, inputs


def test_damaged_files_are_refused_in_one_line(tmp_path):
    counts = damage.run(count=100, seconds=3600, seed=1, folder=tmp_path)
    bad = {what: number for what, number in counts.items() if what[-1] not in ("refused", "identical") and number}
    assert not bad
    refused = {way for way, outcome in (what for what in counts if isinstance(what, tuple)) if outcome == "refused"}
    assert refused == {"truncated", "flipped", "zeroed", "swapped", "spliced"}


def test_what_is_believed_would_be_told(tmp_path):
    """One weight, changed and saved with a right checksum."""
    path, net = tmp_path / "float.ckpt", inputs.network()
    parameters = {name: value.asnumpy() for name, value in net.parameters_dict().items()}
    checkpoint.save_parameters(parameters, path, identity=inputs.IDENTITY.dumps())
    wanted = inputs.logits(path)
    assert damage.outcome(inputs.logits, path, wanted) == "identical"
    parameters["fc3.adder"][7, 5] += 1
    checkpoint.save_parameters(parameters, path, identity=inputs.IDENTITY.dumps())
    assert damage.outcome(inputs.logits, path, wanted) == "believed"
