"""Training throughput on a GPU: images in a second, the share of what the hardware allows, peak memory.

    python benchmarks/gpu.py resnet50 --batch-size 256
    KERAS_BACKEND=jax python benchmarks/gpu.py resnet18 resnet50 --batch-size 512

Runs on Keras's TensorFlow or JAX backend, compiled by XLA. The images are uint8 noise that is
normalised in the step: "cached" ones lie on the device, "host" ones are copied to it for each step.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import keras
import numpy as np

from keras_resnet import build_model, shape_table
from keras_resnet.kernels import accelerate

# Of a step by XLA, of the time that the traffic model allows (NVIDIA's TensorFlow 1 with XLA against
# its MLPerf entry on an A100: 2,375 of 3,575 images a second).
XLA_SHARE = 0.66
# Each value that a convolution gives is read or written so often by a step: 6 times forward, 9 back.
PASSES = 15
CONV_SHARE = 0.6  # of the peak FLOP/s that convolutions reach


def roofline(model: keras.Model, tflops: float, bandwidth: float) -> float:
    """Images in a second that XLA could train in 16 bits: arithmetic, then memory traffic."""
    macs = shape_table(model)[-1].macs
    values = sum(
        np.prod(layer.output.shape[1:]) for layer in model.layers if isinstance(layer, keras.layers.Conv2D)
    )
    seconds = 6 * macs / (CONV_SHARE * tflops * 1e12) + PASSES * 2 * values / (bandwidth * 1e12)
    return XLA_SHARE / seconds


def throughput(model, batch_size, steps, rounds, cached):
    """The median of the rounds, in images a second."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, *model.input_shape[1:]), np.uint8)
    labels = rng.integers(0, model.output_shape[-1], batch_size)
    if cached:
        images, labels = keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(labels)

    def batches():
        while True:
            yield images, labels

    seconds = []
    for _ in range(rounds + 1):  # the first compiles
        start = time.perf_counter()
        model.fit(batches(), steps_per_epoch=steps, verbose=0, shuffle=False)
        seconds.append(time.perf_counter() - start)
    return batch_size * steps / statistics.median(seconds[1:])


def peak_memory() -> str:
    """Of the device, or of the process where there is none."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return f"{tf.config.experimental.get_memory_info('GPU:0')['peak'] / 2**30:.1f} GiB"
    if keras.config.backend() == "jax":
        import jax

        if stats := jax.devices()[0].memory_stats():
            return f"{stats['peak_bytes_in_use'] / 2**30:.1f} GiB"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB of the process"


def main():
    """Print a line for each network and kind of data."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="VARIANT")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--image-size", type=int, help="default: the variant's")
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--steps", type=int, default=20, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tflops", type=float, default=790, help="dense 16-bit peak (default: an H200's)")
    parser.add_argument("--bandwidth", type=float, default=4.3, help="TB/s (default: an H200's)")
    options = parser.parse_args()
    keras.config.set_dtype_policy(options.precision)
    print(f"Keras {keras.__version__} on {keras.config.backend()}, {options.precision}")
    for name in options.models:
        size = {} if options.image_size is None else {"input_shape": (options.image_size,) * 2 + (3,)}
        model = accelerate(build_model(name, normalization=(0.5, 0.25), **size))
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
        model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=True)
        limit = roofline(model, options.tflops, options.bandwidth)
        for cached in (True, False):
            rate = throughput(model, options.batch_size, options.steps, options.rounds, cached)
            kind = "cached" if cached else "host"
            share = rate / limit
            print(
                f"{name}  {kind}  {rate:.0f} img/s  {share:.2f} of {limit:.0f}  peak {peak_memory()}",
                flush=True,
            )


if __name__ == "__main__":
    main()
