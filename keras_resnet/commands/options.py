"""Options that several commands share."""

from __future__ import annotations

import argparse
import sys

from keras_resnet.data.layout import LAYOUTS
from keras_resnet.nearest import suggest
from keras_resnet.variants import VARIANTS


def add_data_options(add):
    """How the data are found; see `data_options`."""
    add_layout(add)
    add("--data-dir", metavar="FOLDER", help="where the datasets of tensorflow-datasets are")
    add("--no-download", action="store_true", help="do not fetch a dataset that is missing")


def add_layout(add):
    """What the folders of a folder of images are."""
    add("--layout", choices=LAYOUTS, help="what the folders in a folder of images are (default: decided)")


def add_max_pixels(add):
    """The limit of pixels of an image."""
    add("--max-pixels", type=positive, metavar="N", help="refuse larger images (default: 2**26, 64 million)")


def max_pixels(options) -> dict:
    """The argument for the option of `add_max_pixels`, if it was given."""
    return {} if options.max_pixels is None else {"max_pixels": options.max_pixels}


def data_options(options) -> dict:
    """The arguments of `make_dataset` for the options of `add_data_options`."""
    return {"data_dir": options.data_dir, "download": not options.no_download, "layout": options.layout}


def add_which(add):
    """The choice between sets of weights in one file."""
    add("--which", metavar="SET", help="of several sets of weights in a file: ema (default), raw or its name")


def add_model(add):
    """The model, which may be a variant with weights."""
    add("model", metavar="RUN_OR_MODEL", help="a run folder, a .keras file, or a variant with --weights")
    add("--weights", metavar="SOURCE", help="a record or a file of weights for a variant")
    add_which(add)


def add_outputs(add):
    """What a model returns, whose graph does not tell."""
    add(
        "--outputs",
        choices=("probabilities", "logits", "sigmoid"),
        help="what the model returns; needed only if its last layers are its own",
    )


def open_chosen(options):
    """What the options of `add_model` name, opened."""
    from keras_resnet.inference.artifacts import open_model

    if not options.weights:
        return open_model(options.model)
    return open_weights(options.model, options.weights, options.which)


def open_weights(variant, source, which):
    """A variant with weights, and what was supposed about them on stderr."""
    from keras_resnet.inference.artifacts import from_weights

    artifact = from_weights(variant, source, which)
    if artifact.note:
        print(f"note: {artifact.note}", file=sys.stderr)
    return artifact


def add_json(add):
    """One JSON document on stdout, by `print_json`, instead of text."""
    add("--json", action="store_true", help="print one JSON document, for programs")


def print_json(options, document) -> None:
    """Print the document of a command with --json; NaN and infinity, which JSON lacks, become null."""
    import json

    # Dumped once to turn keys and arrays' numbers into JSON's own, which is then read back.
    text = json.dumps(document, default=_plain)
    plain = json.loads(text, parse_constant=lambda name: None)
    print(json.dumps(plain, indent=2), file=options.stdout)


def _plain(value):
    return value.tolist() if hasattr(value, "tolist") else str(value)


def variant(name: str) -> str:
    """The type of an argument that names a variant: a mistake is found before TensorFlow is imported."""
    if name not in VARIANTS:
        hint = suggest(name, VARIANTS, "'keras-resnet list' prints them all.")
        raise argparse.ArgumentTypeError(f"there is no variant {name!r}; {hint}")
    return name


def positive(text: str) -> int:
    """The type of a number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)
