"""A copy of a network with a new head."""

from __future__ import annotations

import keras

from keras_resnet.copying import copy_model
from keras_resnet.data.errors import DataError
from keras_resnet.graphs import functional_model
from keras_resnet.heads import find_head
from keras_resnet.kernels import accelerate
from keras_resnet.preprocessing import find_front
from keras_resnet.tails import output_of


def with_new_head(
    model: keras.Model, num_classes: int, input_shape: tuple[int, int, int], head: str | None = None
) -> keras.Model:
    """A copy for other images and classes, with the weights of `model` up to its head.

    The new head starts at zero, so that the first gradients change nothing before it. What it replaces is
    printed.

    Raises:
        ValueError: the graph does not tell where the head begins, or has no layer called `head`.
        DataError: the images have other channels, and are not grey where the model takes three.
    """
    channels, wanted = input_shape[-1], model.input_shape[-1]
    if channels != wanted and (channels, wanted) != (1, 3):
        raise DataError(f"the images have {channels} channels; {model.name!r} takes {wanted}.")
    image = keras.Input(input_shape, name="image")
    pixels = image if channels == wanted else keras.layers.Concatenate(name="grey_to_rgb")([image] * wanted)

    def call(layer, *tensors, **options):
        tensors = [pixels if tensor is image else tensor for tensor in tensors]
        return layer(*tensors, **options)

    old = find_head(model, head)
    front = find_front(model)
    # The images of a dataset are resized and cropped: a model that does so itself would do it twice.
    start = model.inputs[0] if front is None else front.output
    features = functional_model(start, output_of(model) if old is None else old.features)
    _check_names(model, features, old)
    print(
        f"{model.name}: a head of {num_classes} classes "
        + (f"instead of {old}" if old else "on its features")
    )
    inputs = keras.tree.pack_sequence_as(features.input, [image])
    x = copy_model(features, inputs=inputs, call=call).output
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name="head_pool", dtype="float32")(x)
    elif len(x.shape) > 2:
        x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(num_classes, kernel_initializer="zeros", dtype="float32", name="head")(x)
    x = keras.layers.Activation("softmax", dtype="float32", name="predictions")(x)
    return accelerate(functional_model(image, x, name=model.name))


def _check_names(model, features, old):
    """The names of the new layers, by which a training finds them, must be free."""
    wanted = {"image", "head", "predictions"} | ({"head_pool"} if len(features.output.shape) == 4 else set())
    # The first layer is the input, which the copy has of its own.
    for layer in features.layers[1:]:
        if layer.name in wanted:
            raise ValueError(
                f"{model.name!r} has a layer {layer.name!r} before its head ({old}), whose name the new head "
                f"needs: say head={layer.name!r} to replace all from there on, or rename it."
            )
