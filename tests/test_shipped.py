"""The weights that come with the package: there, small, right, and used without a network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_resnet import build_model, evaluate, load_weights, make_dataset
from keras_resnet.cli import main
from keras_resnet.inference.artifacts import from_weights
from keras_resnet.weights import download as module
from keras_resnet.weights.download import download
from keras_resnet.weights.fetch import DownloadError
from keras_resnet.weights.records import DATASETS, best_record, get_record, list_records

SHIPPED = [name for name in list_records() if get_record(name).source == "keras_resnet"]


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_RESNET_OFFLINE", "1")
    monkeypatch.setenv("KERAS_RESNET_HOME", str(tmp_path / "nothing"))


@pytest.mark.parametrize("name", SHIPPED)
def test_files_are_small_and_as_recorded(name):
    record = get_record(name)
    file = download(record)
    assert file == Path(module.__file__).with_name(record.url.removeprefix("package:"))
    assert file.stat().st_size < 2e6
    assert len(record.sha256) == 64
    assert record.data in DATASETS
    assert len(record.class_names) == record.num_classes
    assert best_record(record.variant, record.data) is record
    # As the README promises: this is what a paper reports for the network.
    assert record.top1 >= {"resnet20_cifar": 91.25}[record.variant]


@pytest.mark.parametrize("name", SHIPPED)
def test_they_load_by_the_name_of_their_data(name):
    record = get_record(name)
    by_data = build_model(record.variant, weights=record.data)
    for source in (name, record.data):
        later = load_weights(build_model(record.variant), source)
        for one, other in zip(by_data.weights, later.weights, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="variant='resnet18' has no CIFAR-10 weights"):
        build_model("resnet18", weights="cifar10")


def test_other_heads_are_new_and_say_so():
    with pytest.warns(UserWarning, match=r"keras_resnet/resnet20_cifar\.cifar10 has no head of 3 classes"):
        model = build_model("resnet20_cifar", weights="cifar10", num_classes=3)
    assert model.output_shape == (None, 3)


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_damaged_files_are_refused(damage, tmp_path, monkeypatch):
    record = replace(get_record(SHIPPED[0]), url="package:net.safetensors")
    content = bytearray(download(get_record(SHIPPED[0])).read_bytes())
    content[5000] ^= 1
    if damage == "flipped":
        (tmp_path / "net.safetensors").write_bytes(content)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "download.py"))
    with pytest.raises(DownloadError, match=r"net\.safetensors: is missing or damaged; install"):
        download(record)


def test_predictions_name_the_classes(shared, capsys):
    photo = str(shared / "data/photos/n01644900_tailed_frog.JPEG")
    assert main(["predict", "resnet20_cifar", photo, "--weights", "cifar10", "--top-k", "1"]) == 0
    assert capsys.readouterr().out.split()[-1] == "frog"


@pytest.mark.parametrize("name", SHIPPED)
def test_some_test_images_are_recognised(name, shared):
    artifact = from_weights(get_record(name).variant, name)
    tests = make_dataset("cifar10", "test", batch_size=500, data_dir=shared / "data/tfds", download=False)
    images, labels = next(tests.as_numpy_iterator())
    assert artifact.class_names == tests.class_names
    assert (artifact.model.predict_on_batch(images).argmax(1) == labels).mean() > 0.88


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_accuracy_is_as_recorded(name, shared):
    record = get_record(name)
    model = from_weights(record.variant, name).model
    result = evaluate(model, "cifar10", "test", data_dir=shared / "data/tfds", download=False)
    assert (result.count, round(100 * result.top1, 2)) == (10_000, record.top1)
