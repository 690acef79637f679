"""`evaluate` and `predict`."""

from __future__ import annotations

from keras_resnet.commands.options import add_data_dir


def register(command):
    """Add the commands."""
    add = command("evaluate", _evaluate, "Print top-1, top-5, loss and the number of images.").add_argument
    add("model", metavar="RUN_OR_MODEL", help="a run folder, a .keras file, or a variant with --weights")
    add("--weights", metavar="SOURCE", help="a record or a file of weights for a variant")
    add("--data", required=True)
    add("--split", default="held_out", help="(default: %(default)s)")
    add("--batch-size", type=int, default=128)
    add_data_dir(add)

    add = command("predict", _predict, "Print the five likeliest classes of images.").add_argument
    add("model", metavar="RUN_OR_MODEL", help="a run folder or a .keras file")
    add("images", nargs="+", metavar="IMAGE", help="files or folders")


def _evaluate(options):
    from keras_resnet.inference.artifacts import from_weights, open_model
    from keras_resnet.inference.evaluate import evaluate

    artifact = from_weights(options.model, options.weights) if options.weights else open_model(options.model)
    evaluation = evaluate(
        artifact.model, options.data, options.split, batch_size=options.batch_size,
        data_dir=options.data_dir, download=not options.no_download, **artifact.options,
    )  # fmt: skip
    print(evaluation)


def _predict(options):
    from keras_resnet.inference.predict import predict

    for prediction in predict(options.model, options.images):
        print(prediction.path)
        for name, probability in prediction.classes:
            print(f"  {probability:7.2%}  {name}")
