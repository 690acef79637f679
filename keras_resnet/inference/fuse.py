"""A trained model as one frozen graph that TensorFlow computes several times faster."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.arguments import whole
from keras_resnet.inference.convolutions import fastest_with_groups, with_add
from keras_resnet.inference.lowering import Lowering, is_graph
from keras_resnet.inference.pixels import check_images, takes_pixels
from keras_resnet.inference.store import Store
from keras_resnet.kernels import computes_bfloat16

PRECISIONS = ("float32", "bfloat16")
BATCH_SIZE = 32


def fuse(model: keras.Model, precision: str = "float32") -> FusedModel:
    """Make a model fast, for inference.

    Batch normalisation is folded into the convolution before it wherever there is one, and is
    one multiply-add elsewhere; standardised filters are computed once; dropout is gone; the
    weights are constants; the operations are those that TensorFlow fuses with each other. What
    is computed stays the same: probabilities move by less than 1e-5 in float32.

    Args:
        model: A Functional or Sequential model of one input, channels last; any variant, with
            or without its head, built or loaded, of any dtype policy. It stays as it is, and
            what happens to it later does not reach the fused model.
        precision: ``"float32"``, or ``"bfloat16"`` for convolutions in 16 bits (logits and
            probabilities stay float32), which is faster on a GPU and on CPUs with units for
            it, with oneDNN on. Elsewhere it would be slower: a warning says so, and the
            precision stays float32.

    Raises:
        ValueError: an unknown precision, or a model that is no graph of layers from one image.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} is unknown; choose one of {', '.join(PRECISIONS)}.")
    if not is_graph(model):
        raise ValueError(f"{model!r} cannot be fused: it is neither a Functional nor a Sequential model.")
    if len(model.inputs) != 1 or len(model.input_shape) != 4:
        raise ValueError(f"{model.name!r} cannot be fused: it does not take one batch of images.")
    if precision == "bfloat16" and not computes_bfloat16():
        warnings.warn(
            "neither a GPU nor a CPU with bfloat16 units (avx512_bf16, amx_bf16): "
            "the precision stays float32, which is faster here.",
            stacklevel=2,
        )
        precision = "float32"
    return FusedModel(model, precision)


class FusedModel(tf.Module):
    """What `fuse` returns: a function of images, and no more than that.

    It is no Keras model, because it has no weights to train, no layers and no policy: nothing
    of ``fit`` or ``save`` would apply. It is a `tf.Module`, so that a SavedModel can hold it.

    Attributes:
        model_name: Name of the model that it was.
        precision: ``"float32"`` or ``"bfloat16"``.
        input_shape: ``(None, height, width, channels)``, as the model's.
        output_shape: As the model's.
        function: The frozen graph, a concrete function of float32 images. It checks nothing.
    """

    def __init__(self, model: keras.Model, precision: str):
        super().__init__(name="fused")
        self.model_name, self.precision = model.name, precision
        self.input_shape, self.output_shape = tuple(model.input_shape), model.output_shape
        self._takes_pixels = takes_pixels(model)
        self.store = Store(model, precision)
        here = Lowering(model, self.store, fastest_with_groups())
        spec = tf.TensorSpec(self.input_shape, tf.float32, name="image")
        self.function = tf.function(
            lambda image: here(image), [spec], autograph=False
        ).get_concrete_function()
        # In a closure, which a SavedModel does not look into: it would store the model's weights too.
        anywhere = Lowering(model, self.store, with_add)
        self.forward = lambda images: anywhere(images)

    def __call__(self, images):
        """Compute the outputs of a batch.

        Args:
            images: ``(batch, height, width, channels)``, an array or a tensor. A model with a
                normalisation of its own takes pixels of 0 to 255, uint8 or float; others take
                floats that were normalised outside.

        Returns:
            What the model returns, as float32 tensors.

        Raises:
            ValueError: images of another shape, dtype or range than the model takes.
        """
        return self.function(tf.cast(self._checked(images), tf.float32))

    def predict(self, images, batch_size: int = BATCH_SIZE):
        """Compute the outputs of any number of images, as arrays.

        Args:
            images: An array, or a dataset of batches of images or of ``(images, labels)``.
            batch_size: How many images of an array to compute at a time.

        Raises:
            ValueError: no images, or such as `__call__` does not take.
        """
        if isinstance(images, tf.data.Dataset):
            batches = (batch[0] if isinstance(batch, tuple) else batch for batch in images)
        else:
            images, batch_size = np.asarray(images), whole("batch_size", batch_size)
            batches = (images[i : i + batch_size] for i in range(0, max(len(images), 1), batch_size))
        outputs = [keras.tree.map_structure(np.asarray, self(batch)) for batch in batches]
        if not outputs:
            raise ValueError(f"there are no images: {images}.")
        return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *outputs)

    def _checked(self, images):
        images = images if isinstance(images, tf.Tensor) else np.asarray(images)
        check_images(images, self.input_shape, self._takes_pixels, self.model_name)
        return images
