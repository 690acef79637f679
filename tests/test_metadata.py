"""Facts that travel with a model: in memory, in files, and through other people's code."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import keras_resnet as kr
from keras_resnet.metadata import Metadata, attach_metadata, metadata_of, restore_metadata
from keras_resnet.transform import Geometry, crop_fraction_for

NAMES = ("ant", "bée", "cat")
WHOLE = Geometry(crop_fraction=1.0, interpolation="bicubic")


@pytest.fixture(scope="module")
def network():
    model = kr.build_resnet(
        ((1, 8),), block="basic", stem="conv3", stem_filters=8, num_classes=3, input_shape=(16, 16, 3),
        normalization=(0.5, 0.2),
    )  # fmt: skip
    return attach_metadata(model, class_names=NAMES, geometry=WHOLE)


def nested(network):
    return keras.Sequential([keras.Input((16, 16, 3)), network])


def called(network):
    x = keras.Input((16, 16, 3))
    return keras.Model(x, network(x))


def logits(network):
    return keras.Model(network.input, network.get_layer("head").output)


@pytest.mark.parametrize("wrap", [lambda m: m, nested, called, logits])
def test_a_model_around_it_knows_what_it_knows(network, wrap, tmp_path):
    model = wrap(network)
    assert metadata_of(model) == Metadata(class_names=NAMES, geometry=WHOLE)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    restore_metadata(loaded, tmp_path / "m.keras")
    assert metadata_of(loaded) == metadata_of(model)
    loaded.save(tmp_path / "again.keras")
    again = restore_metadata(keras.saving.load_model(tmp_path / "again.keras"), tmp_path / "again.keras")
    assert metadata_of(again) == metadata_of(model)


def test_another_head_has_no_names(network):
    base = keras.Model(network.input, network.get_layer("head_pool").output)
    model = keras.Sequential([keras.Input((16, 16, 3)), base, keras.layers.Dense(3)])
    assert metadata_of(model) == Metadata(geometry=WHOLE)
    assert metadata_of(keras.Sequential([network, keras.layers.Dense(3)])).class_names is None


def test_plain_keras_reads_the_file(network, tmp_path):
    network.save(tmp_path / "m.keras")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    np.save(tmp_path / "x.npy", pixels)
    code = (
        "import sys, keras, numpy as np; m = keras.saving.load_model('m.keras');"
        "assert not [n for n in sys.modules if n.startswith('keras_resnet')];"
        "np.save('y.npy', m.predict(np.load('x.npy'), verbose=0))"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), network.predict(pixels, verbose=0), atol=1e-6)


def test_what_was_not_said_is_not_known(network):
    fresh = kr.build_resnet(((1, 8),), num_classes=3, input_shape=(16, 16, 3), stem="conv3", stem_filters=8)
    assert metadata_of(fresh) == Metadata()
    assert metadata_of(keras.Sequential([keras.layers.Dense(2)])) == Metadata()
    with pytest.raises(ValueError, match="2 class names for the 3 classes"):
        attach_metadata(fresh, class_names=["a", "b"])
    attach_metadata(fresh, geometry=Geometry(size=99))
    assert metadata_of(attach_metadata(fresh, class_names=NAMES)) == Metadata(
        class_names=NAMES, geometry=Geometry(size=99)
    )


@pytest.mark.parametrize(
    "facts", ["text", {"class_names": 3}, {"class_names": [1, 2, 3]}, {"geometry": {"sides": 3}},
              {"geometry": {"crop_fraction": 0}}, {"geometry": {"crop_fraction": "1"}}, {"geometry": [1]}],
)  # fmt: skip
def test_damaged_facts_are_named(network, tmp_path, facts):
    network.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    config["config"]["layers"][0]["build_config"] = {"keras_resnet": facts}
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"m\.keras: the 'keras_resnet' entries of its config\.json"):
        restore_metadata(loaded, tmp_path / "m.keras")


def test_an_unknown_crop_keeps_images_of_the_right_size_whole():
    assert crop_fraction_for(32, 32, 32, None) == 1
    assert crop_fraction_for(33, 32, 32, None) == 0.875
    assert crop_fraction_for(32, 32, 32, 0.9) == 0.9
