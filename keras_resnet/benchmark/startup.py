"""What one waits for before anything happens: imports, building, the first step."""

from __future__ import annotations

import subprocess
import sys

from keras_resnet.benchmark.rounds import Row, take_turns

# Each is timed as a process of its own: nothing that another has loaded or traced is there.
_PROGRAMS = {
    "import keras": "import keras",
    "import keras, keras_resnet": "import keras, keras_resnet",
    "keras.applications.ResNet50(weights=None)": "import keras; keras.applications.ResNet50(weights=None)",
    "build_resnet50()": "import keras_resnet; keras_resnet.build_resnet50()",
    "train(), to the end of its first step": """
import os, tempfile
from keras_resnet.training import fit
fit.EpochLog.on_train_batch_end = lambda *arguments, **options: os._exit(0)
with tempfile.TemporaryDirectory() as folder:
    fit.train(out=folder)
""",
}


def run(rounds: int = 5) -> list[Row]:
    """Time fresh processes, start of Python included.

    Returns:
        A row for each program; `rate` is starts in a second, `ratio` that over ``import keras``.
    """
    return take_turns({name: _program(code) for name, code in _PROGRAMS.items()}, rounds)


def _program(code):
    def turn():
        subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
        return 1

    return turn
