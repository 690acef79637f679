"""One of two workers on this machine: ``workers.py NUMBER PORT PORT FOLDER [resume] [die STEP]``."""

import json
import os
import signal
import sys

SETTINGS = {
    "epochs": 2, "warmup_epochs": 0.0, "batch_size": 64, "learning_rate": 0.02, "steps_per_epoch": 6,
    "mixup": 0.2, "ema": 0.9, "architecture": {"stages": [[1, 16], [1, 32]]},
}  # fmt: skip


def main(number, first, second, out, *rest):
    """Train, and die at a step if told so."""
    hosts = [f"127.0.0.1:{port}" for port in (first, second)]
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": int(number)}}
    )
    from keras_resnet import train
    from keras_resnet.training import workers

    if "die" in rest:
        real, last = workers.WorkerCheckpoint.on_train_batch_begin, int(rest[-1])

        def on_train_batch_begin(self, batch, logs=None):
            real(self, batch, logs)
            if self._epoch * self._steps + batch == last:
                os.kill(os.getpid(), signal.SIGKILL)

        workers.WorkerCheckpoint.on_train_batch_begin = on_train_batch_begin
    run = train(out=out, strategy="multiworker", save_every=4, settings=SETTINGS, resume="resume" in rest)
    assert (run is None) == (number != "0")


if __name__ == "__main__":
    main(*sys.argv[1:])
