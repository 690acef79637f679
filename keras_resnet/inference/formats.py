"""The formats of `export`: how each is written, and how its own runtime opens it.

Every `write` gets a model of `rebuild` and an `Order`; every `open` gives a function from
pixels of 0 to 255, ``(batch, height, width, channels)``, to probabilities ``(batch, classes)``.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_resnet.inference.check import BARS
from keras_resnet.inference.preparation import Preparation
from keras_resnet.inference.saved_model import open_saved_model, write_saved_model
from keras_resnet.printing import show
from keras_resnet.run_files import parse_json, read_text

# The newest that tf2onnx 1.17 writes.
ONNX_OPSET = 18
# In which precision OpenVINO is to compute: on CPUs with bfloat16 units it takes those by
# itself, unless told otherwise. For int8 it chooses for what is left in floating point.
OPENVINO_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


@dataclass(frozen=True)
class Order:
    """What is to be written.

    Attributes:
        path: The file or folder.
        precision: One of the format's.
        preparation: How images become its input.
        class_names: The names of the classes.
        calibration: For int8, prepared images, uint8 ``(images, height, width, channels)``.
    """

    path: str
    precision: str
    preparation: Preparation
    class_names: tuple[str, ...]
    calibration: np.ndarray | None


@dataclass(frozen=True)
class Format:
    """A file format for models.

    Attributes:
        suffix: How its files end; a format without one is a folder.
        precisions: In which it can be written.
        packages: What must be installed, by the names under which Python imports them.
        write: From ``(model, order)`` to facts for the card.
        open: From ``(path, precision)`` to a function from pixels to probabilities.
        parts: Endings of all its files; the one that is opened comes last.
    """

    suffix: str
    precisions: tuple[str, ...]
    packages: tuple[str, ...]
    write: Callable
    open: Callable
    parts: tuple[str, ...]


def _write_saved_model(model, order):
    write_saved_model(model, order.path, order.preparation, order.class_names)
    return {"signatures": {"serving_default": "image_bytes", "pixels": "image"}}


def _open_saved_model(path, precision):
    return open_saved_model(path)


def _write_onnx(model, order):
    import onnx

    # Keras exports only what was called before; building a Functional model does not count.
    model(np.zeros((1, *(side or order.preparation.size for side in model.input.shape[1:])), np.float32))
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Keras looks for an attribute that numpy will define again one day.
        warnings.simplefilter("ignore", FutureWarning)
        model.export(order.path, format="onnx", opset_version=ONNX_OPSET, verbose=False)
    network = onnx.load(order.path)
    _name_onnx(network.graph)
    _keep_zeros_before_pools(network.graph)
    onnx.checker.check_model(network, full_check=True)
    onnx.save(network, order.path)
    return {"opset": network.opset_import[0].version, "onnx_ir_version": network.ir_version}


def _name_onnx(graph):
    """Call the output "probabilities", and the sizes that are free "batch", "height" and "width"."""
    (output,) = graph.output
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = ["probabilities" if name == output.name else name for name in names]
    output.name = "probabilities"
    for tensor in (*graph.input, output):
        for name, size in zip(("batch", "height", "width"), tensor.type.tensor_type.shape.dim, strict=False):
            if not size.HasField("dim_value"):
                size.dim_param = name


def _keep_zeros_before_pools(graph):
    """Pad with what is not quite zero before a maximum.

    ONNX Runtime makes zeros part of the pooling after them, which then pads with minus infinity
    (1.31; microsoft/onnxruntime#18136): wrong where features are negative, as in Big Transfer's stem.
    """
    from onnx import numpy_helper

    pooled = {node.input[0] for node in graph.node if node.op_type == "MaxPool"}
    for node in graph.node:
        if node.op_type == "Pad" and len(node.input) == 2 and node.output[0] in pooled:
            value = f"{node.name}/value"
            graph.initializer.append(numpy_helper.from_array(np.float32(1e-30), value))
            node.input.append(value)


def _open_onnx(path, precision):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images.astype(np.float32)})[0]


def _write_litert(model, order):
    import tensorflow as tf

    # Operators of TensorFlow itself are not allowed: no LiteRT runtime has them.
    operators, options = tf.lite.OpsSet.TFLITE_BUILTINS, {}
    if order.precision == "float16":
        options = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if order.precision == "int8":
        operators = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        options = {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": lambda: (
                [image[None].astype(np.float32)] for image in order.calibration
            ),
        }
    target = {"supported_ops": [operators]}
    if order.precision == "float16":
        target["supported_types"] = [tf.float16]
    model.export(order.path, format="litert", target_spec=target, verbose=False, **options)
    return {"input_and_output": "float32"}


def _open_litert(path, precision):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=path, num_threads=os.cpu_count()).get_signature_runner()
    (name,) = runner.get_input_details()
    return lambda images: next(iter(runner(**{name: images.astype(np.float32)}).values()))


def _write_openvino(model, order):
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        # Not openvino.convert_model: it reports what is converted to its makers.
        model.export(folder, verbose=False)
        network = openvino.Core().read_model(folder)
        for port, name in ((network.input(0), "image"), (network.output(0), "probabilities")):
            port.get_tensor().set_names({name})
        if order.precision == "int8":
            network = _quantize(network, order.calibration)
        hint = _openvino_hint(order.precision)
        for key, value in hint.items():
            network.set_rt_info(value, ["runtime_options", key])
        openvino.save_model(network, order.path, compress_to_fp16=order.precision == "float16")
    return {"compile_with": hint}


def _quantize(network, images):
    os.environ.setdefault("NNCF_CI", "1")  # it reports to its makers too, but not from here
    import nncf

    nncf.set_log_level(logging.ERROR)
    dataset = nncf.Dataset(list(images), lambda image: image[None].astype(np.float32))
    return nncf.quantize(network, dataset, subset_size=len(images), preset=nncf.QuantizationPreset.MIXED)


def _open_openvino(path, precision):
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", _openvino_hint(precision))
    return lambda images: compiled(images.astype(np.float32))[0]


def _openvino_hint(precision):
    return {"INFERENCE_PRECISION_HINT": OPENVINO_HINTS[precision]} if precision in OPENVINO_HINTS else {}


FORMATS = {
    "savedmodel": Format("", ("float32",), (), _write_saved_model, _open_saved_model, ("",)),
    "onnx": Format(
        ".onnx", ("float32",), ("onnx", "tf2onnx", "onnxruntime"), _write_onnx, _open_onnx, (".onnx",)
    ),
    "litert": Format(
        ".tflite", ("float32", "float16", "int8"), ("ai_edge_litert",),
        _write_litert, _open_litert, (".tflite",),
    ),
    "openvino": Format(
        ".xml", ("float32", "bfloat16", "float16", "int8"), ("openvino", "nncf"),
        _write_openvino, _open_openvino, (".bin", ".xml"),
    ),
}  # fmt: skip


def open_export(path):
    """Open a file of `export` in its own runtime.

    Args:
        path: A file that ends in ``.onnx``, ``.tflite`` or ``.xml``, or the folder of a SavedModel.
            A SavedModel is code, which this runs: open only those whose origin you trust.

    Returns:
        Function from prepared pixels of 0 to 255, ``(batch, height, width, channels)``, to
        probabilities ``(batch, classes)``.

    Raises:
        ValueError: `path` is neither, or its runtime cannot read it.
    """
    path = Path(path)
    if (path / "saved_model.pb").is_file():
        warnings.warn(f"{path} is a SavedModel: opening it runs the code that it holds.", stacklevel=2)
        return open_saved_model(str(path))
    kind = next((kind for kind in FORMATS.values() if kind.suffix and kind.suffix == path.suffix), None)
    if kind is None or not path.is_file():
        endings = ", ".join(kind.suffix for kind in FORMATS.values() if kind.suffix)
        raise ValueError(f"{path}: expected a file that ends in {endings}, or the folder of a SavedModel.")
    card = path.with_name(f"{path.name}.card.json")
    precision = _precision(card) if card.is_file() else None
    try:
        return kind.open(str(path), precision)
    except ImportError:
        raise
    # What a runtime raises on a damaged file is everything.
    except Exception as error:
        reason = " ".join(str(error).split())[:500]
        raise ValueError(f"{show(path)} cannot be opened: {type(error).__name__}: {reason}") from error


def _precision(card):
    found = parse_json(read_text(card), card)
    precision = found.get("precision") if isinstance(found, dict) else None
    if precision not in BARS:
        raise ValueError(f"{card}: precision is {precision!r}; it must be one of {tuple(BARS)}.")
    return precision
