"""A saved model is a plain Keras model: it loads where this package cannot be imported."""

import json
import subprocess
import sys

import numpy as np
import pytest
from test_table import shallow

from keras_resnet import VARIANTS
from keras_resnet.resnet import build_variant

pytestmark = pytest.mark.xdist_group("saving")

LOADER = """
import json, pathlib, sys
sys.modules["keras_resnet"] = None
import keras, numpy as np
folder = pathlib.Path(sys.argv[1])
difference = {}
for file in folder.glob("*.keras"):
    model = keras.models.load_model(file)
    images, expected = (np.load(file.with_suffix(s)) for s in (".x.npy", ".y.npy"))
    difference[file.stem] = float(abs(model.predict(images, verbose=0) - expected).max())
(folder / "result.json").write_text(json.dumps(difference))
"""


@pytest.fixture(scope="module")
def differences(tmp_path_factory):
    """The largest difference of the probabilities for each variant, computed in one process."""
    folder, rng = tmp_path_factory.mktemp("saved"), np.random.default_rng(0)
    for name in VARIANTS:
        row = shallow(name, zero_init_last=False)
        model = build_variant(
            row, num_classes=5, input_shape=(None, None, 3), dropout=0.1, drop_path=0.1, name=name
        )
        images = rng.normal(size=(2, *(row.total_stride + 1,) * 2, 3)).astype("float32")
        np.save(folder / f"{name}.x.npy", images)
        np.save(folder / f"{name}.y.npy", model.predict(images, verbose=0))
        model.save(folder / f"{name}.keras")
    subprocess.run([sys.executable, "-W", "error", "-c", LOADER, folder], check=True)
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("name", VARIANTS)
def test_saved_model_loads_in_plain_keras(name, differences):
    assert differences[name] < 1e-5
