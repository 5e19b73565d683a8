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
"""The folder of a training run: checkpoints, settings, metrics, and all that a resumed run needs."""
import csv
import io
from pathlib import Path

import yaml

from src import checkpoint, picture
from src.errors import UserError
from src.files import remove_unfinished, replacing

STATE = "train_state.ckpt"
COLUMNS = ("epoch", "loss", "train_accuracy", "test_accuracy", "test_top5", "images_per_second")


class RunFolder:
    """What a run leaves behind. Every file is replaced by a rename.

    <model>_<dataset>_<NNNN>.ckpt is the best network so far, last.ckpt the newest, train_state.ckpt the newest with the
    optimizer's state; config.yaml the settings, metrics.csv a row per epoch, curve.png its picture if matplotlib is
    there. A kill at any moment leaves the state of one whole epoch, from which the next one is repeated to the bit.

    Args:
        path (str): the folder, made if missing.
        prefix (str): <model>_<dataset>.
        settings (dict): options that decide the result; a resumed run must have the same.
        writes (bool): whether this process writes; of a distributed run only one does.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, path, prefix, settings, writes=True):
        self.path, self.prefix, self.settings, self.writes = Path(path), prefix, settings, writes
        self.best, self.best_accuracy, self.rows = "", -1.0, []
        self.path.mkdir(parents=True, exist_ok=True)

    def start(self):
        """Begin a new run; return 0, the epochs done. Raises UserError if the folder holds one already."""
        if (self.path / STATE).exists():
            raise UserError(f"{self.path} holds a run; --resume continues it, another --output_path keeps it")
        if self.writes:
            self._write("config.yaml", yaml.safe_dump(self.settings, sort_keys=False))
        return 0

    def resume(self, train_step):
        """Continue where the last whole epoch ended.

        Args:
            train_step (Cell): receives network and optimizer state.

        Returns:
            int, epochs done; 0 where the folder holds no run yet.

        Raises:
            UserError: other settings than before, or a damaged state.
        """
        if self.writes:
            remove_unfinished(self.path)
        if not (self.path / STATE).exists():
            return self.start()
        self._check_settings()
        state = checkpoint.load_parameters(self.path / STATE)
        extras = {key: state.pop(key, None) for key in ("epoch", "best", "best_accuracy")}
        if None in extras.values():
            raise UserError(f"{self.path / STATE} is no training state")
        checkpoint.fill(train_step, state, self.path / STATE)
        epoch, self.best, self.best_accuracy = int(extras["epoch"]), str(extras["best"]), float(extras["best_accuracy"])
        self.rows = self._read_rows(epoch)
        return epoch

    def save(self, train_step, net, row):
        """Keep the state after an epoch; `row` has the values of `COLUMNS`, None where there was no evaluation.

        The state comes last: whatever a kill leaves undone, the repeated epoch does again.

        Raises:
            UserError: a file cannot be written.
        """
        accuracy = row["test_accuracy"]
        if accuracy is not None and accuracy > self.best_accuracy:
            self._save_best(net, accuracy)
        checkpoint.save_parameters(_weights(net), self.path / "last.ckpt")
        self.rows.append(row)
        table = io.StringIO()
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        self._write("metrics.csv", table.getvalue())
        self._draw()
        checkpoint.save_parameters(train_step.parameters_dict(), self.path / STATE, epoch=row["epoch"], best=self.best,
                                   best_accuracy=self.best_accuracy)

    def _save_best(self, net, accuracy):
        name = f"{self.prefix}_{round(accuracy * 10_000):04d}.ckpt"
        checkpoint.save_parameters(_weights(net), self.path / name)
        if self.best and self.best != name:
            (self.path / self.best).unlink(missing_ok=True)
        self.best, self.best_accuracy = name, accuracy

    def _check_settings(self):
        try:
            before = dict(yaml.safe_load((self.path / "config.yaml").read_text("utf-8")))
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise UserError(f"cannot read the settings of the run, {self.path / 'config.yaml'}") from error
        changed = [f"{key} {before.get(key)} -> {value}" for key, value in self.settings.items()
                   if before.get(key) != value]
        if changed:
            raise UserError(f"the run in {self.path} had other settings: {', '.join(changed)}")

    def _read_rows(self, epoch):
        """The rows up to an epoch."""
        path = self.path / "metrics.csv"
        try:
            with open(path, encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= epoch]
            for column in COLUMNS:
                series(rows, column)  # raises where a value is no number
            if int(rows[-1]["epoch"]) != epoch or None in rows[-1].values():
                raise ValueError
            return rows
        except FileNotFoundError:
            return []
        except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
            raise UserError(f"{path} is damaged; mend it, or remove it to go on without the rows so far") from error

    def _draw(self):
        """The learning curve, if matplotlib is installed."""
        try:
            figure = picture.new_figure(9, 3.5)
        except UserError:
            return
        left, right = figure.subplots(1, 2)
        left.plot(*series(self.rows, "loss"), label="training loss")
        right.plot(*series(self.rows, "train_accuracy"), label="training accuracy")
        right.plot(*series(self.rows, "test_accuracy"), marker=".", label="test accuracy")
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.grid(alpha=0.3)
            axes.legend()
        picture.save(figure, self.path / "curve.png")

    def _write(self, name, text):
        with replacing(self.path / name) as temporary:
            temporary.write_text(text, "utf-8")


def _weights(net):
    """The parameters of a network that decide its outputs: without `mix`, which belongs to its training."""
    return {name: value for name, value in net.parameters_dict().items() if name.rsplit(".", 1)[-1] != "mix"}


def series(rows, column):
    """Epochs and values of a column where it has any."""
    points = [(int(row["epoch"]), float(row[column])) for row in rows if row[column] not in (None, "")]
    return tuple(zip(*points)) or ((), ())
