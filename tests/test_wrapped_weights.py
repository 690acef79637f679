"""Networks behind prefixes, in other models and in fine-tuned files: found and whole, or refused by name."""

import warnings

import h5py
import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from test_load_weights import assert_refused, assert_same, randomized, save, tiny

from keras_resnet import VARIANTS, load_weights, to_state_dict
from keras_resnet.inference import convert
from keras_resnet.inference.convert import save_as
from keras_resnet.resnet import build_variant
from keras_resnet.weights.claims import variant_of
from keras_resnet.weights.tensors import WeightsError

PREFIXES = [
    "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.", "backbone.",
    "encoder.", "model.backbone.", "module.encoder.model.", "anything.at.all.",
]  # fmt: skip


@pytest.fixture(scope="module")
def source():
    return randomized(tiny())


@pytest.mark.parametrize("layout", ["timm", "keras_resnet"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_found(tmp_path, source, prefix, layout):
    state = {f"{prefix}{key}": value for key, value in to_state_dict(source, layout).items()}
    state |= {"n_averaged": np.int64(3), f"{prefix}bn1.num_batches_tracked": np.int64(5)}
    save_file({key: np.asarray(value) for key, value in state.items()}, tmp_path / "a.safetensors")
    assert_same(load_weights(tiny(), tmp_path / "a.safetensors"), source)


def test_what_is_not_of_the_network_is_left_out_for_features_only(tmp_path, source):
    state = {f"backbone.{key}": value for key, value in to_state_dict(source).items()}
    state |= {"projector.0.weight": np.zeros((4, 8), np.float32), "projector.0.bias": np.zeros(4, np.float32)}
    save_file(state, tmp_path / "a.safetensors")
    assert_same(load_weights(tiny(include_top=False), tmp_path / "a.safetensors"), source)
    assert_refused(tiny(), tmp_path / "a.safetensors", r"unused: projector\.0\.weight")
    # Kernels of another network are not left out.
    save_file(state | {"neck.weight": np.zeros((4, 8, 3, 3), np.float32)}, tmp_path / "a.safetensors")
    assert_refused(tiny(include_top=False), tmp_path / "a.safetensors", r"unused: neck\.weight")


def test_two_networks_in_one_file_are_refused_unless_one_is_chosen(tmp_path, source):
    other = randomized(tiny(), seed=2)
    state = {f"encoder_q.{key}": value for key, value in to_state_dict(source).items()}
    state |= {f"encoder_k.{key}": value for key, value in to_state_dict(other).items()}
    file = tmp_path / "moco.safetensors"
    save_file(state, file)
    message = assert_refused(tiny(), file, r"several networks .* behind 'encoder_k\.', 'encoder_q\.'")
    assert "which=" in message
    assert "There are encoder_k.bn1.bias" in message
    features = tiny(include_top=False)
    with pytest.raises(WeightsError, match="unused: encoder_k"):
        load_weights(features, file, which="encoder_q")
    assert_refused(tiny(), file, r"nothing behind which='encoder_x'; there are encoder_k", which="encoder_x")


@pytest.mark.parametrize("form", ["sequential", "functional", "twice", "subclass"])
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_the_backbone_of_a_fine_tuned_file(tmp_path, source, form, suffix):
    base = tiny(include_top=False, name="backbone")
    base.set_weights(source.get_weights()[: len(base.get_weights())])
    model = wrapped(base, form)
    model.compile("adam", "sparse_categorical_crossentropy")
    file = save(model, tmp_path / f"tuned{suffix}")
    assert_same(load_weights(tiny(include_top=False), file), source)
    # Its head has another name.
    assert_refused(tiny(num_classes=3), file, "missing: head/kernel")
    if form != "subclass":
        again = wrapped(tiny(include_top=False, name="backbone"), form)
        assert_same_weights(load_weights(again, file), model)


@keras.saving.register_keras_serializable("test_wrapped")
class Subclass(keras.Model):
    def __init__(self, base, **options):
        super().__init__(**options)
        self.base, self.pool = base, keras.layers.GlobalAveragePooling2D()
        self.top = keras.layers.Dense(3)

    def call(self, x):
        return self.top(self.pool(self.base(x)))

    def get_config(self):
        return super().get_config() | {"base": keras.saving.serialize_keras_object(self.base)}


def wrapped(base, form):
    pool, top = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, name="top")
    if form == "subclass":
        model = Subclass(base)
        model(np.zeros((1, 8, 8, 3), np.float32))
        return model
    if form == "sequential":
        return keras.Sequential(
            [keras.Input((8, 8, 3)), base, pool, keras.layers.BatchNormalization(name="norm"), top]
        )
    inputs = keras.Input((8, 8, 3))
    inner = keras.Model(inputs, base(inputs), name="inner") if form == "twice" else base
    x = keras.Input((8, 8, 3))
    return keras.Model(x, top(pool(inner(x))))


def assert_same_weights(model, other):
    assert len(model.weights) == len(other.weights)
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("form", ["sequential", "functional", "twice"])
def test_weights_of_nested_models_are_all_there_or_refused(tmp_path, source, form):
    base = tiny(include_top=False, name="backbone")
    model = wrapped(base, form)
    assert len(to_state_dict(model, "keras_resnet")) == len(model.weights)
    with pytest.raises(ValueError, match=r"the layout 'timm' has no name for '(top|norm)'"):
        to_state_dict(model)
    with pytest.raises(ValueError, match="has no name for"):
        save_as(model, tmp_path / "a.safetensors")
    save_as(model, tmp_path / "a.safetensors", "keras_resnet")
    assert len(load_file(tmp_path / "a.safetensors")) == len(model.weights)
    again = wrapped(tiny(include_top=False, name="backbone"), form)
    # A head called as ours is, is ours.
    headed = keras.Sequential([keras.Input((8, 8, 3)), base, keras.layers.GlobalAveragePooling2D()])
    headed.add(keras.layers.Dense(4, name="head"))
    state = to_state_dict(headed)
    assert len(state) == len(headed.weights)
    save_file(state, tmp_path / "b.safetensors")
    assert_same_weights(load_weights(tiny(), tmp_path / "b.safetensors"), headed)
    assert_same_weights(load_weights(again, tmp_path / "a.safetensors"), model)


def test_what_has_no_name_of_its_own_is_refused():
    x = keras.Input((8, 8, 3))
    twice = keras.Model(x, [tiny(name="a")(x), tiny(name="b")(x)], name="pair")
    with pytest.raises(ValueError, match=r"'pair' has more than one 'conv1\.weight' \(layer 'stem_conv'\)"):
        to_state_dict(twice)
    frames = keras.Input((2, 8, 8, 3))
    video = keras.Model(frames, keras.layers.TimeDistributed(tiny(), name="frames")(frames))
    with pytest.raises(ValueError, match="frames"):
        to_state_dict(video, "keras_resnet")
    model = Subclass(tiny(include_top=False))
    model.add_weight(shape=(3,), name="extra")
    model(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(ValueError, match="extra', which is in no layer of its graph"):
        to_state_dict(model, "keras_resnet")


# Writing.


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5", "a.safetensors"])
def test_what_was_written_is_counted(tmp_path, monkeypatch, name):
    model = tiny()
    save_as(model, tmp_path / name, "timm")
    complete = convert.to_state_dict

    def forgetful(model, layout):
        return dict(list(complete(model, layout).items())[:-1])

    monkeypatch.setattr(convert, "to_state_dict", forgetful)
    monkeypatch.setattr(convert, "count_tensors", lambda path: 3)
    with pytest.raises(
        ValueError, match=rf"{name}: \d+ tensors were written for {len(model.weights)} weights"
    ):
        save_as(model, tmp_path / name, "timm")
    assert_same(load_weights(tiny(), tmp_path / name), model)


def test_models_with_layers_of_their_own_kind_are_written_all_the_same(tmp_path):
    model = tiny()
    model.get_layer("head").enable_lora(2)
    outer = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Normalization(mean=0, variance=1), model])
    for name in ("a.keras", "a.weights.h5"):
        save_as(outer, tmp_path / name)
        assert (tmp_path / name).is_file()


def test_a_file_of_ours_says_which_variant_it_is_of(tmp_path):
    assert variant_of(tiny()) is None
    model = build_variant(VARIANTS["resnetaa50"], input_shape=(32, 32, 3), num_classes=3, include_top=False)
    assert variant_of(model) == "resnetaa50"
    save_as(model, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt", "architecture": "resnetaa50"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_weights(model, tmp_path / "a.safetensors")
    other = build_variant(VARIANTS["resnet50"], input_shape=(32, 32, 3), include_top=False, name="resnet50")
    assert_refused(
        other, tmp_path / "a.safetensors", r"of 'resnetaa50' \(metadata\.architecture\); 'resnet50' is"
    )


# Damage.


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".safetensors", ".pth", ".h5"])
def test_damage_of_any_kind_is_named(tmp_path, suffix, source, rng):
    file = tmp_path / f"damaged{suffix}"
    if suffix == ".pth":
        torch = pytest.importorskip("torch")
        torch.save({key: torch.from_numpy(value) for key, value in to_state_dict(source).items()}, file)
    elif suffix == ".h5":
        with h5py.File(file, "w") as h5:
            h5.attrs["layer_names"] = []
            for key, value in to_state_dict(source, "keras_v1").items():
                h5[f"{key.split('/')[0]}/{key}:0"] = value
    else:
        save(source, file)
    content = np.frombuffer(file.read_bytes(), np.uint8)
    model, refused = tiny(), 0
    for number in range(120):
        mutant = content.copy()
        places = rng.integers(0, len(content) if number % 2 else min(len(content), 4096), 1 + number % 7)
        mutant[places] = rng.integers(0, 256, len(places))
        file.write_bytes(mutant.tobytes())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load_weights(model, file)
        except WeightsError as error:
            refused += 1
            assert f"damaged{suffix}" in str(error)
    assert refused > 10


@pytest.mark.parametrize("place, value", [(16, b"\0\0"), (24, b"\xff" * 7), (8, b"\1"), (8, b"\xff" * 8)])
def test_a_damaged_heap_is_refused_before_hdf5_reads_it(tmp_path, source, place, value):
    """On an object of index 0 and no size it would run forever."""
    file = save(source, tmp_path / "a.weights.h5")
    content = bytearray(file.read_bytes())
    start = content.index(b"GCOL")
    content[start + place : start + place + len(value)] = value
    file.write_bytes(content)
    assert_refused(tiny(), file, rf"a\.weights\.h5: damaged HDF5 file: the heap at byte {start} is not whole")
