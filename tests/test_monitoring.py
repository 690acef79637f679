"""Callbacks of one's own in `train`, and TensorBoard."""

import importlib.util

import keras
import pytest

from keras_resnet import train
from keras_resnet.cli import main
from keras_resnet.training import snapshots

SETTINGS = {
    "epochs": 2, "warmup_epochs": 0, "steps_per_epoch": 2, "batch_size": 16,
    "architecture": {"stages": ((1, 16), (1, 32))},
}  # fmt: skip


class Seen(keras.callbacks.Callback):
    """Has nothing to save; counts epochs."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    stop, seen = keras.callbacks.EarlyStopping("val_loss", mode="max", patience=1, start_from_epoch=0), Seen()
    tensorboard = importlib.util.find_spec("tensorboard") is not None
    out = tmp_path_factory.mktemp("run") / "run"
    train(out=out, settings=SETTINGS, callbacks=[seen, stop], tensorboard=tensorboard)
    return out, stop, seen


def test_callbacks_of_ones_own(run):
    out, _, seen = run
    assert seen.epochs == [0, 1]
    # The epoch log and the early stopping; what has no state to save is not among them.
    assert len(snapshots.newest(out / "snapshots").state["callbacks"]) == 2
    assert (out / "history.csv").read_text().count("\n") == 3


def test_a_run_goes_on_with_the_same_callbacks(run):
    out, stop, _ = run
    with pytest.raises(ValueError, match="there were 2 callbacks; 1 are given"):
        train(out=out, settings=SETTINGS, resume=True)
    again, seen = keras.callbacks.EarlyStopping("val_loss", mode="max", patience=1), Seen()
    train(out=out, settings=SETTINGS, callbacks=[again, seen], resume=True)
    assert (again.best, again.wait) == (stop.best, stop.wait)
    assert seen.epochs == []  # all epochs were done


def test_tensorboard(run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for name, tags in (
        ("train", {"epoch_loss", "epoch_accuracy", "epoch_learning_rate"}),
        ("validation", {"epoch_loss", "epoch_accuracy"}),
    ):
        events = accumulator.EventAccumulator(str(run[0] / "tensorboard" / name)).Reload()
        assert tags <= set(events.Tags()["tensors"])
        assert [event.step for event in events.Tensors("epoch_loss")] == [0, 1]


def test_without_tensorboard(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    assert main(["train", "--tensorboard", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.endswith("pip install 'keras-resnet-zoo[tensorboard]'\n")
    assert not (tmp_path / "run").exists()
