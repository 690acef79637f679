"""A saved model is a plain Keras model: it loads where this package cannot be imported."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from test_table import shallow

from keras_resnet import VARIANTS
from keras_resnet.resnet import build_variant

# The warning that setup.cfg passes over for the other tests: numpy 2.1 gives it, later ones do not.
PYTHON = [sys.executable, "-W", "error", "-W", "ignore:__array__ implementation:DeprecationWarning"]
LOADER = """
import json, pathlib, sys
if sys.argv[2] == "stock":
    sys.modules["keras_resnet"] = None
else:
    import keras_resnet.layers
import keras, numpy as np
folder = pathlib.Path(sys.argv[1])
difference = {}
for file in (folder / sys.argv[2]).glob("*.keras"):
    model = keras.models.load_model(file)
    images, expected = (np.load(file.with_suffix(s)) for s in (".x.npy", ".y.npy"))
    difference[file.stem] = float(abs(np.array(model(images)) - expected).max())
(folder / f"{sys.argv[2]}.json").write_text(json.dumps(difference))
"""


def _thin(row):
    """One block a stage, two in the last: a projection each, and an identity shortcut."""
    *others, (reps, filters) = row.stages
    return replace(row, stages=(*((1, width) for _, width in others), (reps, filters)))


@pytest.fixture(scope="module")
def differences(tmp_path_factory):
    """The largest difference of the probabilities for each variant; one process for each kind of file."""
    folder, rng = tmp_path_factory.mktemp("saved"), np.random.default_rng(0)
    for kind in ("stock", "registered"):
        (folder / kind).mkdir()
    twins = {}  # many variants differ in depth only and share a twin
    for name in VARIANTS:
        twins.setdefault(_thin(shallow(name, zero_init_last=False)), []).append(name)
    for small, (name, *_) in twins.items():
        registered = small.standardize_weights or small.downsample == "blur"
        file = folder / ("registered" if registered else "stock") / name
        model = build_variant(small, num_classes=5, input_shape=(None, None, 3), dropout=0.1, drop_path=0.1)
        images = rng.normal(size=(2, *(2 * small.total_stride,) * 2, 3)).astype("float32")
        np.save(f"{file}.x.npy", images)
        np.save(f"{file}.y.npy", np.array(model(images)))
        model.save(f"{file}.keras")
    results = {}
    for kind in ("stock", "registered"):
        subprocess.run([*PYTHON, "-c", LOADER, folder, kind], check=True)
        results |= json.loads((folder / f"{kind}.json").read_text())
    return {name: results[names[0]] for names in twins.values() for name in names}


@pytest.mark.parametrize("name", VARIANTS)
def test_saved_model_loads_in_plain_keras(name, differences):
    """Without this package, but for the few rows with a registered layer."""
    assert differences[name] < 1e-5
