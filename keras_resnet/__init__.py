"""The ResNet model zoo for Keras 3 on TensorFlow."""

from importlib import import_module as _import_module

from keras_resnet.variant import Variant
from keras_resnet.variants import VARIANTS

__version__ = "0.1.0"

# Where each public name lives. They are imported at first use, so that `keras-resnet list`
# answers without TensorFlow and `import keras_resnet` costs nothing.
_HOMES = {
    "resnet": ["build_resnet", "build_variant"],
    "builders": ["build_model", "list_models", *(f"build_{name}" for name in VARIANTS)],
    "blocks": ["identity_block", "projection_block"],
    "summary": ["features", "shape_table"],
    "kernels": ["accelerate"],
    "metadata": ["attach_metadata"],
    "transform": ["Geometry"],
    "weights.load": ["load_weights"],
    "weights.convert": ["to_state_dict"],
    "weights.records": ["get_record", "list_records"],
    "weights.tensors": ["WeightsError"],
    "data.pipeline": ["make_dataset"],
    "data.check": ["check_data"],
    "data.prepare": ["prepare_tfrecords"],
    "data.errors": ["DataError"],
    "training.recipe": ["Recipe"],
    "training.recipes": ["RECIPES"],
    "training.checkpoint": ["Checkpoint", "Position"],
    "training.snapshots": ["SnapshotError"],
    "training.fit": ["train"],
    "training.finetune": ["finetune"],
    "training.freezing": ["freeze", "recalibrate_bn", "unfreeze"],
    "inference.artifacts": ["open_model"],
    "inference.evaluate": ["evaluate"],
    "inference.fuse": ["fuse"],
    "inference.predict": ["predict"],
    "inference.predict_csv": ["predict_to_csv"],
    "inference.export": ["export"],
    "inference.check": ["ExportError"],
    "inference.formats": ["open_export"],
    "report.gradcam": ["gradcam"],
    "report.write": ["write_report"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["VARIANTS", "Variant", *_HOME_OF]


def __getattr__(name):
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__():
    return sorted([*globals(), *_HOME_OF])
