"""`evaluate`, `predict` and `export`."""

from __future__ import annotations

import sys

from keras_resnet.commands.options import (
    add_data_options,
    add_json,
    add_model,
    add_outputs,
    data_options,
    open_chosen,
    positive,
    print_json,
)
from keras_resnet.printing import show

FORMATS = ("savedmodel", "onnx", "litert", "openvino")
PRECISIONS = ("float32", "bfloat16", "float16", "int8")


def register(command):
    """Add the commands."""
    add = command(
        "evaluate",
        _evaluate,
        "Print top-1, top-5, loss and the number of images.",
        "evaluate runs/my-run --data cifar10",
        "evaluate resnet50 --weights torchvision/resnet50.imagenet1k_v2 --data imagenet2012 --json",
    ).add_argument
    add_model(add)
    add("--data", required=True, help="digits, a name of tensorflow-datasets, a folder or an .npz")
    add("--split", default="held_out", help="(default: %(default)s)")
    add("--batch-size", type=positive, default=128, help="(default: %(default)s)")
    add_outputs(add)
    add_data_options(add)
    add_json(add)

    add = command(
        "predict",
        _predict,
        "Name the likeliest classes of images.",
        "predict resnet20_cifar photo.jpg --weights cifar10",
        "predict resnet50 photo.jpg --weights imagenet --top-k 1 --json",
        "predict runs/my-run folder/ --out predictions.csv --features features.npy",
    ).add_argument
    add_model(add)
    add("images", nargs="+", metavar="IMAGE", help="files or folders")
    add("--out", metavar="FILE", help="write a CSV file, or go on with it; otherwise print")
    add("--features", metavar="FILE", help="with --out, a .npy file of what the head is given")
    add("--top-k", type=positive, default=5, metavar="K", help="how many classes (default: %(default)s)")
    add("--batch-size", type=positive, default=32, help="(default: %(default)s)")
    add("--precision", default="float32", choices=["float32", "bfloat16"])
    add_outputs(add)
    add("--ignore-errors", action="store_true", help="exit with 0 though images could not be read")
    add_json(add)

    add = command(
        "export",
        _export,
        "Write a model for another runtime, and compare it there.",
        "export runs/my-run --format onnx",
        "export runs/my-run --format litert --precision int8 --calibration cifar10",
        "export resnet50 --weights imagenet --format savedmodel --out served/resnet/1",
    ).add_argument
    add_model(add)
    add("--format", default="savedmodel", choices=FORMATS, help="(default: %(default)s)")
    add("--precision", default="float32", choices=PRECISIONS, help="(default: %(default)s)")
    add("--calibration", metavar="DATA", help="real images: for the ranges of int8, and to compare on")
    add("--images", type=positive, metavar="N", help="compare at most N (default: 32; 1000 of --calibration)")
    add_outputs(add)
    add("--out", metavar="PATH", help="the file, or the folder of a SavedModel (default: beside the model)")
    add_data_options(add)
    add_json(add)


def _export(options):
    from keras_resnet.inference.export import export

    done = export(
        # The path of a run says where the file goes, and what the run had right.
        open_chosen(options) if options.weights else options.model, options.out,
        options.format, precision=options.precision, calibration=options.calibration, images=options.images,
        outputs=options.outputs,
        **data_options(options),
    )  # fmt: skip
    if options.json:
        print_json(options, {"path": done.path, **done.card})
    else:
        print(f"{show(done.path)}: {done.size:,} bytes; in its runtime: {done.comparison}")


def _evaluate(options):
    from keras_resnet.inference.evaluate import evaluate

    artifact = open_chosen(options)
    evaluation = evaluate(
        artifact, options.data, options.split, outputs=options.outputs, batch_size=options.batch_size,
        **data_options(options),
    )  # fmt: skip
    if options.json:
        figures = {key: getattr(evaluation, key) for key in ("top1", "top5", "loss")}
        asked = {"model": options.model, "data": options.data, "split": options.split}
        print_json(options, {**asked, "images": evaluation.count, **figures, "note": evaluation.note})
    else:
        print(evaluation)


def _predict(options):
    from dataclasses import asdict

    from keras_resnet.inference.predict import stream_predictions
    from keras_resnet.inference.predict_csv import predict_to_csv

    how = {
        "top": options.top_k,
        "batch_size": options.batch_size,
        "precision": options.precision,
        "outputs": options.outputs,
    }
    if options.out is None and options.features is not None:
        raise ValueError("--features needs --out, which says whose they are.")
    model = open_chosen(options)
    if options.out is None:
        predictions = stream_predictions(model, options.images, **how)
        errors = _print_json(options, predictions) if options.json else _print(predictions)
    else:
        report = predict_to_csv(model, options.images, options.out, features=options.features, **how)
        there = f"; {report.known} were there" if report.known else ""
        print(f"{show(options.out)}: {report.written} images{there}")
        if options.json:
            print_json(options, {"out": options.out, **asdict(report)})
        errors = report.errors
    for error in errors:
        print(show(error), file=sys.stderr)
    if errors:
        print(f"{len(errors)} files could not be read", file=sys.stderr)
    return 1 if errors and not options.ignore_errors else 0


def _print_json(options, predictions):
    predictions = list(predictions)
    errors = [prediction.error for prediction in predictions if prediction.error is not None]
    images = [
        {"path": found.path, "classes": [{"name": name, "probability": p} for name, p in found.classes]}
        for found in predictions
        if found.error is None
    ]
    print_json(options, {"images": images, "errors": errors})
    return errors


def _print(predictions):
    errors = []
    for prediction in predictions:
        if prediction.error is not None:
            errors.append(prediction.error)
            continue
        print(show(prediction.path))
        for name, probability in prediction.classes:
            print(f"  {probability:7.2%}  {show(name)}")
    return errors
