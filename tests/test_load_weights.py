"""Weights fit as a whole, or nothing changes: the files and records that `load_weights` takes."""

import contextlib
import hashlib
import http.server
import threading
import warnings
import zipfile
from dataclasses import replace
from functools import partial

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from test_table import shallow

from keras_resnet import build_model, build_resnet, build_resnet18, evaluate, load_weights, make_dataset
from keras_resnet.resnet import build_variant
from keras_resnet.weights import load as module
from keras_resnet.weights.convert import to_state_dict
from keras_resnet.weights.records import best_record, get_record

OPTIONS = dict(
    stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, stem_filters=8, input_shape=(8, 8, 3)
)
SUFFIXES = [".keras", ".weights.h5", ".safetensors"]
CIFAR10 = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
AKAMASTER = {20: "akamaster-resnet20-12fca82f.th", 32: "akamaster-resnet32-d509ac18.th"}


def tiny(num_classes=4, **options):
    return build_resnet(num_classes=num_classes, **OPTIONS | options)


def randomized(model, seed=1):
    """`model` with other values everywhere; variances stay positive."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        low = 0.5 if variable.name in ("gamma", "moving_variance") else -0.5
        variable.assign(rng.uniform(low, low + 1, variable.shape) * (0.2 if variable.name == "kernel" else 1))
    return model


def save(model, file):
    if file.name.endswith(".safetensors"):
        save_file(to_state_dict(model, "keras_resnet"), file)
    else:
        model.save(file) if file.suffix == ".keras" else model.save_weights(file)
    return file


def assert_same(model, other, but=()):
    theirs = {v.path: v.numpy() for v in other.weights}
    for variable in model.weights:
        same = np.array_equal(variable.numpy(), theirs[variable.path])
        assert same == (variable.path not in but), variable.path


def assert_refused(model, file, match, **options):
    """Nothing changes."""
    before = [v.numpy() for v in model.weights]
    with pytest.raises(ValueError, match=match) as caught:
        load_weights(model, file, **options)
    assert all(np.array_equal(b, v.numpy()) for b, v in zip(before, model.weights, strict=True))
    return str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_round_trip_of_our_own_formats(tmp_path, suffix, norm):
    options = dict(norm=norm, stages=((2, 32),), stem_filters=32, conv_bias="all")
    model = randomized(tiny(**options))
    model.get_layer("stem_conv").trainable = False
    model.compile("adam", "categorical_crossentropy")
    file = save(model, tmp_path / f"whole{suffix}")
    assert_same(tiny(weights=file, dropout=0.1, drop_path=0.1, normalization=(0.5, 0.5), **options), model)
    assert_same(tiny(weights=str(file), include_top=False, **options), model)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_head_of_other_classes_and_a_stem_of_other_channels(tmp_path, suffix):
    source = randomized(tiny(num_classes=10))
    file = save(source, tmp_path / f"ten{suffix}")
    model = tiny(input_shape=(8, 8, 1))
    message = assert_refused(model, file, rf"ten{suffix} does not fit .*, 3 differences")
    assert "head/kernel: (8, 10) in the file, (8, 4) in the model" in message
    assert "stem_conv/kernel: (3, 3, 3, 8) in the file, (3, 3, 1, 8) in the model" in message
    assert "adapt=True would load it" in message
    head = [v.numpy() for v in model.get_layer("head").weights]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert load_weights(model, file, adapt=True) is model
    assert {warning.filename for warning in caught} == {__file__}
    stem, new_head = (str(warning.message) for warning in caught)
    assert "stem of 3 channels; stem_conv/kernel was summed for the 1 of" in stem
    assert "no head of 4 classes" in new_head
    assert "without head/kernel, head/bias" in new_head
    assert all(
        np.array_equal(h, v.numpy()) for h, v in zip(head, model.get_layer("head").weights, strict=True)
    )
    kernel = source.get_layer("stem_conv").kernel.numpy()
    np.testing.assert_array_equal(model.get_layer("stem_conv").kernel, kernel.sum(2, keepdims=True))
    assert_same(model, source, but=("head/kernel", "head/bias", "stem_conv/kernel"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_missing_and_what_is_unused_is_listed(tmp_path, suffix):
    file = save(tiny(stages=((2, 8),)), tmp_path / f"a{suffix}")
    message = assert_refused(tiny(stages=((4, 8),)), file, r"20 differences")
    assert "missing: stage1_block4_bn2/beta (8,)" in message
    message = assert_refused(tiny(stages=((1, 8), (2, 16))), file, r"missing: stage2_block1_conv1/kernel")
    assert "unused: stage1_block2_conv1/kernel (3, 3, 8, 8)" in message
    assert "head/kernel: (8, 4) in the file, (16, 4) in the model" in message
    assert "adapt=True" not in message
    message = assert_refused(tiny(stages=((9, 8),)), file, r"70 differences")
    assert message.count("missing: ") == 20
    assert "... and 50 more" in message


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, suffix, value):
    source = tiny()
    source.get_layer("head").bias.assign([0, 0, value, 0])
    file = save(source, tmp_path / f"diverged{suffix}")
    assert_refused(tiny(), file, rf"diverged{suffix}: .* holds NaN or infinity", adapt=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_named(tmp_path, suffix):
    file = save(tiny(), tmp_path / f"damaged{suffix}")
    content = file.read_bytes()
    for part in (content[: len(content) // 2], content[:20], b"hello", b""):
        file.write_bytes(part)
        assert_refused(tiny(), file, rf"damaged{suffix}")


def test_a_keras_file_is_read_without_its_config(tmp_path):
    """So nothing that it names is run; only its weights count."""
    source = randomized(tiny())
    save(source, tmp_path / "good.keras")
    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(tmp_path / "a.keras", "w") as out:
        out.writestr("config.json", "{")
        out.writestr("model.weights.h5", good.read("model.weights.h5"))
    assert_same(tiny(weights=tmp_path / "a.keras"), source)
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("model.weights.h5", bytes(1 << 20))
    assert_refused(tiny(), tmp_path / "bomb.keras", r"bomb\.keras: .*compressed")
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as other:
        other.writestr("config.json", "{}")
    assert_refused(tiny(), tmp_path / "b.keras", r"b\.keras: .*model\.weights\.h5")


def test_hostile_weights_of_keras_are_refused(tmp_path):
    save(tiny(), tmp_path / "secret.weights.h5")
    cases = {
        "link": lambda f: f.__setitem__("layers", h5py.ExternalLink("secret.weights.h5", "/layers")),
        "nameless": lambda f: f.create_group("layers/conv2d/vars").__setitem__("0", np.zeros(3)),
        "empty": lambda f: f.create_group("layers"),
        "other": lambda f: f.create_group("other"),
        "flat": lambda f: f.create_group("layers").__setitem__("conv2d", np.zeros(3)),
    }
    for name, write in cases.items():
        with h5py.File(tmp_path / f"{name}.weights.h5", "w") as file:
            write(file)
        assert_refused(tiny(), tmp_path / f"{name}.weights.h5", rf"{name}\.weights\.h5")


def test_missing_and_unknown_files(tmp_path):
    assert_refused(tiny(), "nowhere.keras", r"nowhere\.keras.*no such file, and no record")
    (tmp_path / "weights.txt").write_text("hello")
    assert_refused(tiny(), tmp_path / "weights.txt", r"weights\.txt")
    assert_refused(tiny(), tmp_path, r"is a folder")
    assert_refused(tiny(), "timm/resnet50d.ra3_in1k", r"did you mean .*timm/resnet50d\.ra2_in1k")
    assert_refused(tiny(), 5, r"weights=5: expected a path")
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    assert_refused(
        tiny(), tmp_path / "a.safetensors", r"a\.safetensors: none of the tensors .*there are a \.\.\."
    )


def test_integers_are_no_weights(tmp_path):
    state = to_state_dict(tiny(), "timm")
    state["fc.bias"] = np.zeros(4, np.int8)
    save_file(state, tmp_path / "a.safetensors")
    assert_refused(tiny(), tmp_path / "a.safetensors", r"fc\.bias: int8 in the file, floats")


# Records.


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Instead of downloading, take the file that is written: ``published(state)``; names what was asked."""
    asked = []

    def fake(record):
        asked.append(record.name)
        return tmp_path / "published"

    monkeypatch.setattr(module, "download", fake)

    def publish(state):
        save_file({key: np.ascontiguousarray(value) for key, value in state.items()}, tmp_path / "published")
        return asked

    return publish


@pytest.mark.parametrize(
    "variant, name, asked",
    [
        ("resnet18", "torchvision/resnet18.imagenet1k_v1", None),
        ("resnet18", "imagenet", best_record("resnet18").name),
        ("resnetv2_50x1_bit", "timm/resnetv2_50x1_bit.goog_in21k", None),
        ("resnet50_gn", "imagenet", best_record("resnet50_gn").name),
        ("resnet50v2_keras", "keras/resnet50v2", "keras/resnet50v2_keras"),
    ],
)
def test_records_by_name(published, tmp_path, monkeypatch, variant, name, asked):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()  # a data set, say
    row = shallow(variant)
    source = randomized(build_variant(row, num_classes=5, input_shape=(32, 32, 3)))
    layout = get_record(asked or name).layout
    log = published(to_state_dict(source, layout))
    model = build_variant(row, num_classes=5, input_shape=(32, 32, 3), name=variant)
    load_weights(model, name)
    assert log == [asked or name]
    assert_same(model, source)
    # Records are adapted by themselves, unless adapt=False.
    other = build_variant(row, num_classes=3, input_shape=(32, 32, 4), name=variant)
    assert_refused(other, name, r"adapt=True", adapt=False)
    with (
        pytest.warns(UserWarning, match=rf"{asked or name} has no head of 3 classes"),
        pytest.warns(UserWarning, match=r"stem of 3 channels.* repeated and scaled for the 4 of"),
    ):
        load_weights(other, name)


def test_imagenet_is_the_variant_whatever_the_model_is_called(published):
    published({"a": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match=rf"{best_record('resnet18').name}: none of the tensors"):
        build_resnet18(name="mine", weights="imagenet", input_shape=(32, 32, 3))
    assert_refused(tiny(name="mine"), "imagenet", r"variant='mine' has no ImageNet weights")


@pytest.mark.parametrize("channels", [3, 1, 5])
def test_bgr_records_take_rgb(published, monkeypatch, channels):
    """Exactly, at the border too: the padding of zeros is the mean colour in both."""
    record, row = get_record("keras/resnet50"), shallow("resnet50v1")
    # Another for each channel, so that their order counts.
    record = replace(record, transform=replace(record.transform, std=(0.25, 0.2, 0.3)))
    monkeypatch.setattr(module, "get_record", {"keras/resnet50": record}.__getitem__)
    options = dict(num_classes=5, include_top=False)
    theirs = randomized(build_variant(row, input_shape=(64, 64, 3), **options))
    theirs.get_layer("stem_conv").kernel.assign(theirs.get_layer("stem_conv").kernel / 50)
    published(to_state_dict(theirs, "keras_v1"))
    ours = build_variant(row, input_shape=(64, 64, channels), **options)
    with pytest.warns(match="stem of 3 channels") if channels != 3 else contextlib.nullcontext():
        load_weights(ours, "keras/resnet50")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    mean, std = np.float32(record.transform.mean), np.float32(record.transform.std)
    normalized = (pixels / 255 - mean) / std
    expected = np.array(theirs(keras.applications.resnet.preprocess_input(pixels.copy())))
    assert np.abs(expected).max() > 0.1
    if channels == 3:
        got = np.array(ours(normalized))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    else:
        kernel = theirs.get_layer("stem_conv").kernel.numpy()[:, :, ::-1] * (255 * std[:, None])
        repeated = kernel[:, :, [0, 1, 2, 0, 1]] * np.float32(0.6)
        wanted = repeated if channels == 5 else kernel.sum(2, keepdims=True)
        np.testing.assert_allclose(ours.get_layer("stem_conv").kernel, wanted, rtol=1e-6, atol=1e-6)


def test_a_record_from_a_server(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("KERAS_RESNET_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_RESNET_OFFLINE", raising=False)
    source = randomized(tiny())
    save_file(to_state_dict(source, "torchvision"), tmp_path / "net.pth")
    log = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            log.append(self.path)

    handler = partial(Handler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        record = replace(
            get_record("torchvision/resnet18.imagenet1k_v1"),
            variant="resnet20_cifar",  # the only one whose stem does not pool, as the tiny network's
            url=f"http://127.0.0.1:{server.server_port}/net.pth",
            sha256=hashlib.sha256((tmp_path / "net.pth").read_bytes()).hexdigest(),
        )
        monkeypatch.setattr(module, "get_record", {record.name: record}.__getitem__)
        try:
            for _ in range(2):
                assert_same(load_weights(tiny(), record.name), source)
        finally:
            server.shutdown()
            thread.join()
    assert log == ["/net.pth"]


# Published checkpoints.


@pytest.fixture(scope="module", params=AKAMASTER)
def akamaster(request, shared):
    model = build_model(f"resnet{request.param}_cifar", normalization=CIFAR10)
    return request.param, load_weights(model, shared / "weights" / AKAMASTER[request.param])


def test_published_cifar_weights(akamaster, shared):
    data = make_dataset("cifar10", "held_out", batch_size=200, data_dir=shared / "data" / "tfds")
    images, labels = next(data.as_numpy_iterator())
    assert len(images) == 200
    right = np.array(akamaster[1](images.astype("float32"))).argmax(1) == labels
    assert right.mean() > 0.85


@pytest.mark.slow
def test_published_accuracy(akamaster, shared):
    result = evaluate(akamaster[1], "cifar10", data_dir=shared / "data" / "tfds")
    assert result.count == 10_000
    assert round(100 * result.top1, 2) == {20: 91.73, 32: 92.63}[akamaster[0]]
