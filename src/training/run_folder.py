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
import contextlib
import csv
import io
import re
from pathlib import Path

import numpy as np
import yaml

from .. import checkpoint, picture, yaml_files
from ..config import defaults_but
from ..errors import UserError
from ..files import locked, remove_unfinished, replacing

STATE = "train_state.ckpt"
OTHERWISE = ("method",)  # said by other options in older versions


class RunFolder:
    """What a run leaves behind. Every file is replaced by a rename.

    <prefix>_<NNNN>.ckpt is the best network so far, last.ckpt the newest, train_state.ckpt the newest with the
    optimizer's state; config.yaml the settings, metrics.csv a row per epoch, curve.png its picture if matplotlib is
    there. A kill at any moment leaves the state of one whole epoch, from which the next one is repeated to the bit.

    Args:
        path (str): the folder, made if missing.
        prefix (str): of the best network's name.
        settings (dict): options that decide the result; a resumed run must have the same.
        task: its `metrics`, of which the first says which network is best, its `train_metrics` and its `fraction`, see
            `src.tasks`.
        identity (str): what the networks are, see `src.identity`.
        epochs (int): of the whole run.
        resume (bool): whether it may go on with a run that is there.
        writes (bool): whether this process writes; of a distributed run only one does.
    """

    def __init__(self, path, prefix, settings, task, identity, epochs, resume=False, writes=True):
        self.path, self.prefix, self.settings = Path(path), prefix, settings
        self.identity, self.epochs, self.resume, self.writes = identity, epochs, resume, writes
        self.columns = ("epoch", "loss", *(f"train_{name}" for name in task.train_metrics),
                        *(f"test_{name}" for name in task.metrics), "images_per_second")
        self.deciding, self.fraction = f"test_{task.metrics[0]}", task.fraction
        self.best, self.best_value, self.rows = "", -1.0, []

    @contextlib.contextmanager
    def opened(self):
        """Make the folder and keep others out of it: `with run.opened(): ...`, before anything is done for the run.

        Raises:
            UserError: another process is in it; it holds a run that may not be resumed, or what a run leaves but no
                state, which would be overwritten; the run had other settings.
            OSError: the folder cannot be made.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path) if self.writes else contextlib.nullcontext():
            if self.writes:
                self._check()
                remove_unfinished(self.path)
            yield self

    def _check(self):
        """Refuse to overwrite; raises UserError, see `opened`."""
        found = [name for name in ("config.yaml", "metrics.csv", "curve.png") if (self.path / name).exists()]
        found += sorted(path.name for path in self.path.glob("*.ckpt"))
        if STATE not in found and found not in ([], ["config.yaml"]):  # which a kill at the start leaves
            raise UserError(f"{self.path} holds {found[-1]} but no {STATE} to resume from; take another --output_path, "
                            "with --pre_trained to begin with the weights of a checkpoint")
        if self.resume and found:
            self._check_settings()
        elif found == ["config.yaml", STATE] and self._take_extras(self._load_state()) == 0:
            pass  # it ended in its first epoch: there is nothing to lose
        elif found:
            raise UserError(f"{self.path} holds a run, {found[0]}; --resume continues it, another --output_path keeps it")

    def begin(self, train_step):
        """Begin where the last whole epoch ended; return the number of epochs done, 0 in a new run.

        Args:
            train_step (Cell): receives network and optimizer state.

        Raises:
            UserError: a damaged state, or one of another run; it cannot be written.
        """
        if self.resume and (self.path / STATE).exists():
            return self._continue(train_step)
        if self.writes:
            self._write("config.yaml", yaml.safe_dump(self.settings, sort_keys=False))
            self._save_state(train_step, 0)
        return 0

    def _continue(self, train_step):
        state = self._load_state()
        if state.pop("identity", self.identity) != self.identity:
            raise UserError(f"the run in {self.path} was of another network, or of data with other classes")
        epoch = self._take_extras(state)
        checkpoint.fill(train_step, state, self.path / STATE)
        self.rows = self._read_rows(epoch) if epoch else []
        return epoch

    def _load_state(self):
        return checkpoint.load_parameters(self.path / STATE)

    def check(self, train_step, epoch):
        """Refuse weights that are not finite after an epoch, lest they take the place of others: raises UserError."""
        if not all(np.isfinite(value.asnumpy()).all() for value in train_step.get_parameters()):
            raise UserError(f"training diverged at the end of epoch {epoch}: the weights are not finite; try a smaller --lr")

    def save_best(self, net, values):
        """Keep a network if it is the best by its values, {"test_...": number}. Raises UserError as `save`."""
        value = values[self.deciding]
        if value <= self.best_value:
            return
        name = f"{self.prefix}_{round(value * self.fraction):04d}.ckpt"
        self._save_network(net, name)
        if self.best and self.best != name:
            (self.path / self.best).unlink(missing_ok=True)
        self.best, self.best_value = name, value

    def save(self, train_step, net, row):
        """Keep the state after an epoch; `row` has values of the columns, those of tests only where there was one.

        The state comes last: whatever a kill leaves undone, the repeated epoch does again.

        Raises:
            UserError: a file cannot be written.
        """
        self._save_network(net, "last.ckpt")
        self.rows.append({**dict.fromkeys(self.columns), **row})
        table = io.StringIO()
        writer = csv.DictWriter(table, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        self._write("metrics.csv", table.getvalue())
        self._draw()
        self._save_state(train_step, row["epoch"])

    def _save_state(self, train_step, epoch):
        # `best_accuracy` is of whichever metric decides; so it was named since ever.
        checkpoint.save_parameters(train_step.parameters_dict(), self.path / STATE, identity=self.identity, epoch=epoch,
                                   best=self.best, best_accuracy=self.best_value)

    def _save_network(self, net, name):
        checkpoint.save_parameters(checkpoint.weights(net), self.path / name, identity=self.identity)

    def _check_settings(self):
        """Compare with the settings that the run was begun with; those of older versions had newer options' defaults."""
        before = {**vars(defaults_but(**{key: self.settings.get(key) for key in OTHERWISE})),
                  **yaml_files.values(self.path / "config.yaml")}
        changed = [f"{key} {before[key]} -> {value}" for key, value in self.settings.items()
                   if before.get(key, value) != value]
        if changed:
            raise UserError(f"the run in {self.path} had other settings: {', '.join(changed)}; to go on from its "
                            f"weights, give another --output_path and --pre_trained {self.path / 'last.ckpt'}")

    def _take_extras(self, state):
        """Take from a state what is no parameter: the epoch, which is returned, and the best network."""
        path = self.path / STATE
        try:
            epoch, best, value = (state.pop(key) for key in ("epoch", "best", "best_accuracy"))
            epoch, value = (float(checkpoint.exactly(number, float, "", path)) for number in (epoch, value))
            ours = re.fullmatch(rf"{re.escape(self.prefix)}_\d{{4,}}\.ckpt", best)  # it will be removed one day
            if epoch not in range(self.epochs + 1) or not (ours or best == ""):
                raise ValueError
        except (KeyError, TypeError, ValueError, UserError) as error:
            raise UserError(f"{path} is no training state of this run") from error
        self.best, self.best_value = best, value
        return int(epoch)

    def _read_rows(self, epoch):
        """The rows up to an epoch."""
        path = self.path / "metrics.csv"
        try:
            with open(path, encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= epoch]
            for column in self.columns:
                series(rows, column)  # raises where a value is no number
            if int(rows[-1]["epoch"]) != epoch or None in rows[-1].values():
                raise ValueError
            return rows
        except FileNotFoundError:
            return []
        except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
            raise UserError(f"{path} is damaged; mend it, or remove it to go on without the rows so far") from error

    def _draw(self):
        """The learning curve, if matplotlib is installed: the loss, and each metric where it was taken."""
        panels = {"loss": ["loss"]}
        for column in self.columns[2:-1]:  # train_... and test_...
            panels.setdefault(column.split("_", 1)[1], []).append(column)
        try:
            figure = picture.new_figure(4.5 * len(panels), 3.5)
        except UserError:
            return
        for axes, (title, columns) in zip(figure.subplots(1, len(panels)), panels.items()):
            for column in columns:
                axes.plot(*series(self.rows, column), marker=".", label=column.replace("_", " "))
            axes.set(title=title, xlabel="epoch")
            axes.grid(alpha=0.3)
            axes.legend()
        picture.save(figure, self.path / "curve.png")

    def _write(self, name, text):
        with replacing(self.path / name) as temporary:
            temporary.write_text(text, "utf-8")


def series(rows, column):
    """Epochs and values of a column where it has any."""
    points = [(int(row["epoch"]), float(row[column])) for row in rows if row[column] not in (None, "")]
    return tuple(zip(*points)) or ((), ())
