"""`finetune`: a trained network on other classes, with few images."""

from __future__ import annotations

import sys
from pathlib import Path

import keras

from keras_resnet import arguments
from keras_resnet.arguments import flag, fraction, real, whole
from keras_resnet.data.errors import clear_errors
from keras_resnet.data.labels import checked_labels
from keras_resnet.data.pipeline import make_dataset
from keras_resnet.graphs import functional_model
from keras_resnet.inference.forward import check_one_device
from keras_resnet.inference.pixels import check_takes_pixels
from keras_resnet.metadata import attach_metadata
from keras_resnet.preprocessing import find_front
from keras_resnet.printing import show
from keras_resnet.report.examine import examine
from keras_resnet.report.write import report_run
from keras_resnet.training import runs
from keras_resnet.training.callbacks import check_callbacks, save_as
from keras_resnet.training.datasets import held_out_crop
from keras_resnet.training.freezing import freeze, parts, recalibrate_bn, stage_of, unfreeze
from keras_resnet.training.guards import FiniteLoss, checked_fit
from keras_resnet.training.losses import Accuracy, softmax_cross_entropy
from keras_resnet.training.new_head import with_new_head
from keras_resnet.training.optimizers import BIASES_AND_NORMS, SGD
from keras_resnet.training.recipes import RECIPES, choose_recipe
from keras_resnet.training.schedules import Schedule
from keras_resnet.training.tensorboard import check_tensorboard, curves_writer
from keras_resnet.training.tuning_data import check_pixels, common_names, endless
from keras_resnet.transform import Geometry

# Enough for statistics, whatever the size of the data (arXiv:2105.07576, section 3).
CALIBRATION_STEPS = 200
# Part of the steps over which the rate rises, while the new head finds its first weights.
WARMUP = 0.1
EPOCHS = 30


def finetune(
    model: keras.Model,
    train,
    validation=None,
    *,
    epochs: int = EPOCHS,
    learning_rate: float = 0.05,
    weight_decay: float = 5e-4,
    layer_decay: float = 1.0,
    down_to: str = "stem",
    unfreeze_every: int = 0,
    norms: bool = True,
    patience: int | None = None,
    head: str | None = None,
    callbacks=(),
) -> keras.Model:
    """Train a network's copy on other images and classes.

    The copy has a new head, which starts at zero, in place of the last dense layer and what follows
    it; what is replaced is printed. SGD with Nesterov's momentum; the rate rises
    over a tenth of the steps and falls to zero along half cosines. The copy holds the last weights.

    Args:
        model: A model of this package that takes pixels. It is left as it is.
        train: A dataset of `make_dataset`, for training. Grey images are given to a network that
            takes three channels in all three, by a layer of the copy.
        validation: A finite one, evaluated after each epoch. Only `patience` chooses by it.
        epochs: How long; at most, with `patience`.
        learning_rate: The highest, of the head.
        weight_decay: Of kernels; not of biases and normalisations. See
            `keras_resnet.training.optimizers.SGD`.
        layer_decay: The rate of each part is this much of that after it (arXiv:1801.06146,
            section 3.2, by layers).
        down_to: The first part to train: ``"head"`` trains nothing else, ``"stem"`` all.
        unfreeze_every: Epochs until the next part joins, from the head down (arXiv:1801.06146,
            section 3.3); 0 trains all from the start.
        norms: Train normalisations and their statistics with their part. Otherwise none is
            trained: statistics are estimated once, from an epoch of `train` or 200 steps, and stay.
        patience: End after so many epochs in which the loss on `validation` did not fall, with
            the weights of the lowest. It is a poor guide where `validation` is small, or while
            the rate is high.
        head: Name of the layer with which the head begins that is replaced; needed only if the graph
            of `model` does not tell, see `keras_resnet.heads.find_head`.
        callbacks: Further ones for `fit`.

    Returns:
        The copy: pixels of the size and channels of `train` in, probabilities out.

    Raises:
        ValueError: the model does not take pixels, or has no such part or head; a number is out of range.
        DataError: the images or labels do not fit the model or the classes, or the two datasets differ.
        FloatingPointError: the loss became NaN or infinite.
    """
    check_one_device("finetune")
    arguments.model("model", model)
    epochs, unfreeze_every = whole("epochs", epochs), whole("unfreeze_every", unfreeze_every, least=0)
    learning_rate, layer_decay = (
        real("learning_rate", learning_rate, above=0),
        fraction("layer_decay", layer_decay),
    )
    weight_decay, norms = real("weight_decay", weight_decay, least=0), flag("norms", norms)
    patience = _checked_patience(patience, validation)
    callbacks = check_callbacks(callbacks, "finetune")
    check_takes_pixels(model)
    check_pixels(model, train, validation)
    names = common_names(train, validation)
    train, steps = endless(train)
    network = with_new_head(model, len(names), tuple(train.element_spec[0].shape[1:]), head)
    geometry = Geometry(crop_fraction=getattr(validation, "crop_fraction", None))
    attach_metadata(network, class_names=names, geometry=geometry)
    if not norms:
        recalibrate_bn(network, train, min(steps, CALIBRATION_STEPS))
    logits = functional_model(network.input, network.get_layer("head").output)
    save_as(logits, network)
    order = parts(logits)
    joining = order[order.index(down_to) :] if down_to in order else [down_to]
    unfreeze(freeze(logits), joining[-1 if unfreeze_every else 0], norms=norms)
    logits.compile(
        _optimizer(epochs * steps, learning_rate, weight_decay, layer_decay, len(order) - 2),
        softmax_cross_entropy,
        metrics=[Accuracy()],
    )
    later = _joining_later(joining, unfreeze_every, epochs)
    ours = [_Unfreezing({(i + 1) * unfreeze_every: part for i, part in enumerate(later)}, norms)]
    if patience:
        ours.append(keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True))
    with clear_errors():
        checked_fit(
            logits, checked_labels(train, len(names), "train"), steps_per_epoch=steps, epochs=epochs,
            validation_data=checked_labels(validation, len(names), "validation"),
            callbacks=[FiniteLoss(), *callbacks, *ours], verbose=int(sys.stdout.isatty()),
        )  # fmt: skip
    return network


def finetune_run(
    model: keras.Model, data, *, train_split="train", validation_split="held_out", image_size=None,
    batch_size=32, seed=0, out=None, layout=None, data_dir=None, download=True, tensorboard=False, **options,
) -> runs.Run:  # fmt: skip
    """`finetune` into a run folder, with the augmentation that `train` chooses for images of this size.

    Args:
        model: See `finetune`.
        data: Anything that `make_dataset` takes.
        train_split: A split of it.
        validation_split: Another one, evaluated after each epoch.
        image_size: Side in pixels; by default what the model was built for.
        batch_size: Images in a step.
        seed: Decides order, augmentation and dropout.
        out: The folder, which must not exist or be empty; by default a new one in "runs".
        layout: See `make_dataset`.
        data_dir: See `make_dataset`.
        download: See `make_dataset`.
        tensorboard: See `train`.
        **options: Those of `finetune`.
    """
    # They go into config.yaml, which holds Python's own numbers only.
    seed, batch_size = arguments.seed("seed", seed), arguments.whole("batch_size", batch_size)
    options = {name: arguments.plain(value) for name, value in options.items()}
    if tensorboard:
        check_tensorboard()
    where = {"data_dir": data_dir, "download": download, "layout": layout}
    front = find_front(model)
    where["image_size"] = image_size or (model.input_shape[1] if front is None else front.size)
    validation = make_dataset(data, validation_split, training=False, batch_size=256, **where)
    size, channels = validation.element_spec[0].shape[2:]
    recipe = RECIPES[choose_recipe(data, size)]
    if (crop_fraction := held_out_crop(recipe)) is not None and validation.crop_fraction is None:
        validation = make_dataset(
            data, validation_split, training=False, batch_size=256, crop_fraction=crop_fraction, **where
        )
    augmentation = {key: getattr(recipe, key) for key in ("crop", "crop_padding", "flip")}
    train = make_dataset(
        data, train_split, training=True, batch_size=batch_size, seed=seed, **augmentation, **where
    )
    keras.utils.set_random_seed(seed)
    config = {
        "model": model.name, "data": runs.name_of(data), "train_split": train_split,
        "validation_split": validation_split, "image_size": size, "channels": channels,
        "crop_fraction": validation.crop_fraction, "interpolation": "bilinear", "batch_size": batch_size,
        "seed": seed, "finetune": options, **({"layout": layout} if layout else {}),
    }  # fmt: skip
    folder = runs.create(out, config, train.class_names)
    print(
        f"{show(config['model'])}, {train.num_examples} images, on {runs.device()}: {show(folder)}",
        flush=True,
    )
    log = runs.EpochLog(
        Path(folder, "history.csv"), train.steps_per_epoch * batch_size, options.get("epochs", EPOCHS)
    )
    callbacks = [log, curves_writer(folder)] if tensorboard else [log]
    tuned = finetune(model, train, validation, callbacks=callbacks, **options)
    runs.save_model(tuned, folder)
    findings = examine(tuned, validation)
    report_run(folder, tuned, findings)
    print(f"{show(validation_split)}: {findings.evaluation}", flush=True)
    return runs.Run(folder, tuned, log.history, findings.evaluation)


@keras.saving.register_keras_serializable("keras_resnet")
class LayerwiseSGD(SGD):
    """SGD whose rate falls from the head to the stem, by `layer_decay` from part to part.

    Args:
        learning_rate: That of the head.
        momentum: See `SGD`.
        nesterov: See `SGD`.
        layer_decay: In (0, 1].
        stages: How many the network has.
        **options: Those of `SGD`.
    """

    def __init__(
        self, learning_rate=0.01, momentum=0.0, nesterov=False, layer_decay=1.0, stages=4, name="sgd",
        **options,
    ):  # fmt: skip
        super().__init__(learning_rate, momentum, nesterov, name=name, **options)
        self.layer_decay, self.stages = layer_decay, stages

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable."""
        # TensorFlow's own variable, which does not know its layer.
        stage = stage_of(self._trainable_variables[self._get_variable_index(variable)].path)
        below = 0 if stage is None else self.stages + 1 - stage
        super().update_step(gradient, variable, learning_rate * self.layer_decay**below)

    def get_config(self):
        """What `from_config` needs."""
        return super().get_config() | {"layer_decay": self.layer_decay, "stages": self.stages}


class _Unfreezing(keras.callbacks.Callback):
    """Let a part join at the beginning of its epoch."""

    def __init__(self, joins: dict[int, str], norms: bool):
        super().__init__()
        self._joins, self._norms = joins, norms

    def on_epoch_begin(self, epoch, logs=None):
        if epoch in self._joins:
            unfreeze(self.model, self._joins[epoch], norms=self._norms)
            self.model.make_train_function()  # `fit` makes it once, at its start


def _joining_later(joining, unfreeze_every, epochs):
    """The parts that join one after another, of which each must have an epoch to train in."""
    later = joining[-2::-1] if unfreeze_every else []
    if len(later) * unfreeze_every >= epochs:
        raise ValueError(
            f"unfreeze_every={unfreeze_every}: {later[-1]!r} would join after epoch "
            f"{len(later) * unfreeze_every} of epochs={epochs} and never train; give more epochs, a smaller "
            "unfreeze_every or a down_to nearer to the head."
        )
    return later


def _optimizer(steps, learning_rate, weight_decay, layer_decay, stages):
    schedule = Schedule("one_cycle", learning_rate, steps, round(WARMUP * steps))
    optimizer = LayerwiseSGD(
        schedule, 0.9, nesterov=True, weight_decay=weight_decay, layer_decay=layer_decay, stages=stages
    )
    optimizer.exclude_from_weight_decay(var_names=BIASES_AND_NORMS)
    return optimizer


def _checked_patience(patience, validation):
    if patience is not None and validation is None:
        raise ValueError(f"patience={patience!r} needs a validation dataset.")
    return None if patience is None else whole("patience", patience)
