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
"""Export a checkpoint, float or quantised: images [N, C, H, W] to logits, or enlarged, of any N or of --batch_size."""
from src import errors

errors.guard(__name__)  # before what takes seconds to import

from pathlib import Path

from src import checkpoint, data, device, loading
from src.config import get_config
from src.errors import UserError
from src.exporter import export
from src.files import check_output
from src.networks import NETWORKS
from src.tasks import TASKS


def main():
    config = get_config("export", __doc__)
    if config.file_format == "AIR" and config.device_target != "Ascend":
        raise UserError("AIR is exported on Ascend only (MindSpore needs its backend); "
                        "use --device_target Ascend there, or --file_format MINDIR")
    file = Path(f"{config.file_name}.{config.file_format.lower()}")
    check_output(file, file.suffix)
    path = checkpoint.find_checkpoint(config.checkpoint_file_path)
    device.set_up(config.device_target, config.device_id)
    net, identity = loading.load(path, config, "onnx" if config.file_format == "ONNX" else "unrolled")
    fixed = "batch_size" in config.given or config.file_format == "AIR"
    batch = config.batch_size if fixed else None
    task = TASKS[NETWORKS[identity.network].task]
    any_size = task.any_size and config.file_format == "MINDIR"  # MindSpore writes no ONNX and no AIR of such
    size = (None, None) if any_size else identity.size
    channels = data.channels(identity.dataset) or NETWORKS[identity.network].channels
    export(net, (batch, channels, *size), file, config.file_format, output=task.output)
    print(f"exported {path} as {file}, " + (f"batch size {batch}" if fixed else "any batch size")
          + (", images of any size" if any_size else f", images of {size[0]} x {size[1]}" if task.any_size else "")
          + (f", same {task.output} after reloading" if config.file_format == "MINDIR" else ""))


if __name__ == "__main__":
    errors.run(main)
