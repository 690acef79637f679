"""Whether this installation works, and what is missing in it and how to get it."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path

import keras_resnet
from keras_resnet.processor import processor

DISTRIBUTION = "keras-resnet-zoo"
LIBRARIES = (
    "keras",
    "tensorflow",
    "tensorflow-datasets",
    "numpy",
    "h5py",
    "ml_dtypes",
    "matplotlib",
    "pillow",
)
# For those who work on this package.
INNER_EXTRAS = {"test", "docs"}
# What makes convolutions on a CPU fast, as Linux calls it.
CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
# Of the largest output; GPUs round the factors of float32 to 10 bits.
CONVOLUTION_BAR = 1e-2


def examine() -> dict:
    """Look at everything that matters for this package.

    Returns:
        What JSON holds, always with the same keys: ``"ok"``, ``"problems"`` (what is broken and
        what to do about it; without any, ``"ok"`` is true), ``"advice"`` (what could be better),
        ``"versions"``, ``"platform"``, ``"backend"``, ``"devices"``, ``"cpu"``, ``"onednn"``,
        ``"bfloat16"``, ``"dtype_policy"``, ``"xla"``, ``"convolution"``, ``"folders"`` and ``"extras"``.
        What cannot be found out is None.
    """
    problems: list[str] = []
    advice: list[str] = []
    extras = _extras(problems)
    framework = dict.fromkeys(
        ("backend", "devices", "onednn", "bfloat16", "dtype_policy", "xla", "convolution")
    )
    try:
        framework |= _framework(problems, advice)
    # Whatever a broken installation raises is what is looked for.
    except Exception as error:
        problems.append(
            f"TensorFlow or Keras cannot be used: {type(error).__name__}: {' '.join(str(error).split())}; "
            f"install anew: pip install --force-reinstall {DISTRIBUTION}"
        )
    folders = _folders(advice)
    return {
        "ok": not problems, "problems": problems, "advice": advice, "versions": _versions(),
        "platform": platform.platform(), "cpu": _cpu(), **framework, "folders": folders, "extras": extras,
    }  # fmt: skip


def _versions():
    found = {"python": platform.python_version(), "keras_resnet": keras_resnet.__version__}
    return found | {name: _version(name) for name in LIBRARIES}


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _extras(problems):
    """For each extra what is missing of it; what is missing that is no extra is a problem."""
    from packaging.requirements import Requirement

    try:
        requirements = list(map(Requirement, metadata.requires(DISTRIBUTION) or ()))
    except metadata.PackageNotFoundError:
        problems.append(f"{DISTRIBUTION} is not installed, only its source is here: pip install -e .")
        return {}
    unmet = [
        _unmet(need, "")
        for need in requirements
        if need.marker is None or need.marker.evaluate({"extra": ""})
    ]
    if missing := [text for text in unmet if text]:
        problems.append(f"{', '.join(missing)}: pip install --upgrade {DISTRIBUTION}")
    names = set(metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ()) - INNER_EXTRAS
    return {name: _extra(name, requirements) for name in sorted(names)}


def _extra(name, requirements):
    inside = [need for need in requirements if need.marker and need.marker.evaluate({"extra": name})]
    unmet = [_unmet(need, name) for need in inside if not need.marker.evaluate({"extra": ""})]
    missing = [text for text in unmet if text]
    return {"missing": missing, "install": f'pip install "{DISTRIBUTION}[{name}]"' if missing else None}


def _unmet(need, extra):
    """What is wrong with a required package, or an empty text."""
    version = _version(need.name)
    if version is None:
        return f"{need.name} is not installed"
    if not need.specifier.contains(version, prereleases=True):
        return f"{need.name} is {version}, not {need.specifier}"
    if not need.extras:
        return ""
    inner = [
        line for line in metadata.requires(need.name) or () if any(f'"{e}"' in line for e in need.extras)
    ]
    absent = [name for line in inner if _version(name := re.match(r"[\w.-]+", line)[0]) is None]
    wanted = f"{need.name}[{','.join(sorted(need.extras))}]"
    return f"{wanted} is not installed" if absent else ""


def _framework(problems, advice):
    import keras
    import tensorflow as tf

    from keras_resnet.kernels import computes_bfloat16, has_vendor_kernels

    found = {"backend": keras.config.backend(), "dtype_policy": keras.config.dtype_policy().name}
    if found["backend"] != "tensorflow":
        problems.append(
            f"the backend of Keras is {found['backend']!r}; training, data and export need TensorFlow: set "
            "KERAS_BACKEND=tensorflow, or the backend in ~/.keras/keras.json"
        )
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    found["devices"] = [f"CPU, {os.cpu_count()} cores", *(f"GPU, {name}" for name in details)]
    if not gpus and os.path.exists("/proc/driver/nvidia/version"):
        hidden = (
            "CUDA_VISIBLE_DEVICES hides them" if "CUDA_VISIBLE_DEVICES" in os.environ else "CUDA is missing"
        )
        advice.append(
            "there is an NVIDIA driver, but TensorFlow sees no GPU: see whether "
            f'{hidden}, or pip install "{DISTRIBUTION}[gpu]"; TF_CPP_MIN_LOG_LEVEL=0 says more'
        )
    flag = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    # On a GPU the kernels that are asked after are cuDNN's.
    found["onednn"] = {"on": None if gpus else has_vendor_kernels(), "TF_ENABLE_ONEDNN_OPTS": flag}
    if not gpus and not found["onednn"]["on"]:
        advice.append("oneDNN is off, which halves the speed: set TF_ENABLE_ONEDNN_OPTS=1")
    found["bfloat16"] = computes_bfloat16()
    found["convolution"] = {
        name: _convolution(jit, problems) for name, jit in (("plain", False), ("xla", True))
    }
    found["xla"] = {"works": found["convolution"]["xla"] is not None, "jit_compile": _jit_compile()}
    return found


def _jit_compile():
    """What Keras makes of ``jit_compile="auto"`` here."""
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return bool(model.jit_compile)


def _convolution(jit, problems):
    """The largest difference from numpy, as a part of the largest output; None where it fails."""
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    image, kernel = rng.normal(size=(1, 16, 16, 8)), rng.normal(size=(3, 3, 8, 16))
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(1, 2))
    expected = np.einsum("nhwcij,ijco->nhwo", windows, kernel)
    what = "a convolution compiled by XLA" if jit else "a convolution"
    try:
        run = tf.function(lambda x, k: tf.nn.conv2d(x, k, 1, "VALID"), jit_compile=jit)
        found = run(image.astype(np.float32), kernel.astype(np.float32)).numpy()
    except (tf.errors.OpError, RuntimeError) as error:
        remedy = "train with --set jit_compile=false" if jit else "hide the GPU by CUDA_VISIBLE_DEVICES=-1"
        problems.append(f"{what} fails: {' '.join(str(error).split())[:300]}; update the driver, or {remedy}")
        return None
    difference = float(abs(found - expected).max() / abs(expected).max())
    if not difference < CONVOLUTION_BAR:
        problems.append(f"{what} is wrong by {difference:.0e}; memory, driver or processor are faulty")
    return difference


def _cpu():
    name, features = processor()
    known = None if features is None else [each for each in CPU_FEATURES if each in features]
    return {"name": name, "features": known}


def _folders(advice):
    """Where datasets and weights are looked for."""
    from keras_resnet.weights.download import weights_folder

    data = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    places = {"data": (data, "TFDS_DATA_DIR"), "weights": (weights_folder(), "KERAS_RESNET_HOME")}
    found = {}
    for what, (folder, variable) in places.items():
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
        found[what] = {
            "folder": str(folder),
            "exists": folder.is_dir(),
            "writable": writable,
            "variable": variable,
        }
        if not writable:
            advice.append(f"{folder} for {what} cannot be written: set {variable} to a folder that can")
    return found


def format_report(report: dict) -> str:
    """What `examine` found as text."""
    versions = report["versions"]
    lines = {name: version or "not installed" for name, version in versions.items()}
    lines |= {"platform": report["platform"], "CPU": report["cpu"]["name"]}
    lines["CPU features"] = " ".join(report["cpu"]["features"] or ()) or "unknown"
    if report["devices"]:
        lines |= _framework_lines(report)
    for what, place in report["folders"].items():
        state = ("" if place["exists"] else ", not there yet") + (
            "" if place["writable"] else ", NOT WRITABLE"
        )
        lines[what] = f"{place['folder']}{state} ({place['variable']})"
    for name, extra in report["extras"].items():
        missing = f"{', '.join(extra['missing'])}: {extra['install']}" if extra["missing"] else "installed"
        lines[f"extra {name}"] = missing
    width = max(map(len, lines))
    text = [f"{name:{width}}  {value}" for name, value in lines.items()]
    text += [f"advice: {line}." for line in report["advice"]] + [
        f"BROKEN: {line}." for line in report["problems"]
    ]
    return "\n".join([*text, "all is well" if report["ok"] else f"{len(report['problems'])} problems"])


def _framework_lines(report):
    onednn = {True: "on", False: "off", None: "not needed with a GPU"}[report["onednn"]["on"]]
    xla = report["xla"]
    return {
        "backend": report["backend"],
        "devices": "; ".join(report["devices"]),
        "oneDNN": f"{onednn} (TF_ENABLE_ONEDNN_OPTS={report['onednn']['TF_ENABLE_ONEDNN_OPTS']})",
        "bfloat16 units": "yes" if report["bfloat16"] else "no",
        "dtype policy": report["dtype_policy"],
        "XLA": f"{'works' if xla['works'] else 'FAILS'}; jit_compile='auto' means {xla['jit_compile']}",
        "convolution": ", ".join(
            f"{name} {'fails' if error is None else f'within {error:.0e} of numpy'}"
            for name, error in report["convolution"].items()
        ),
    }
