"""Programs that end while a pipeline is at work: how long the interpreter takes to end, after each.

As a script, with a folder of images, the path of a model and the names of endings: prints for each a
line of JSON: the name, seconds from the error to the end of the process (null if it was killed), and
its status. Each is a fork of one process that has TensorFlow imported.
"""

import json
import os
import sys
import threading
import time

import keras_resnet
from keras_resnet.inference import predict

LIMIT = 60
KEPT = []


def dataset(folder, **options):
    """Batches that are made until the end: no buffer is ever full, as it soon is on a busy machine."""
    options = {"image_size": 32, "batch_size": 4} | options
    return keras_resnet.make_dataset(folder, "train", **options).prefetch(10_000).repeat()


def uncaught(folder, _):
    iterator = iter(dataset(folder))
    next(iterator)
    raise RuntimeError(str(type(iterator)))  # the traceback keeps the iterator


def bad_file(folder, _):
    for _ in keras_resnet.make_dataset(folder + "-bad", image_size=32, batch_size=4, color_jitter=0.1):
        pass


def system_exit(folder, _):
    iterator = iter(dataset(folder, crop_fraction=0.5, augment="randaugment"))
    next(iterator)
    sys.exit(3)


def interrupt(folder, _):
    iterator = dataset(folder).as_numpy_iterator()
    next(iterator)
    raise KeyboardInterrupt


def in_generator(folder, _):
    def batches():
        yield from dataset(folder)

    generator = batches()
    next(generator)
    raise RuntimeError(str(generator))


def in_global(folder, _):
    KEPT.append(iter(dataset(folder, training=False)))
    next(KEPT[0])


def two_maps(folder, _):
    KEPT.append(iter(dataset(folder).map(lambda x, y: x).unbatch().batch(3).prefetch(4)))
    next(KEPT[0])
    raise RuntimeError


def in_threads(folder, _):
    def run(batches):
        for _ in batches:
            pass

    for batches in (dataset(folder), dataset(folder, crop="pad")):
        threading.Thread(target=run, args=[batches], daemon=True).start()
    time.sleep(0.5)
    raise RuntimeError


def shards(folder, _):
    iterator = iter(dataset(folder + "-shards"))
    next(iterator)
    raise RuntimeError(str(iterator))


def predictions(folder, model):
    KEPT.append(predict.stream_predictions(model, [folder] * 900, batch_size=200))
    next(KEPT[0])
    raise RuntimeError


def nothing(*_):
    raise RuntimeError


ENDINGS = {
    function.__name__: function
    for function in (
        uncaught, bad_file, system_exit, interrupt, in_generator, in_global, two_maps, in_threads, shards,
        predictions, nothing,
    )
}  # fmt: skip


def begin(names):
    """Fork for each name; the fork returns its name and the pipe by which it tells of its error."""
    for name in names:
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            return name, writer
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        start = time.monotonic()
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < start + LIMIT:
            time.sleep(0.01)
        seconds = time.monotonic() - start if ended[0] else None
        if seconds is None:
            os.kill(child, 9)
            ended = os.waitpid(child, 0)
        print(json.dumps([name, seconds, os.waitstatus_to_exitcode(ended[1])]), flush=True)
    return None, None


if __name__ == "__main__":
    ending, pipe = begin(sys.argv[3:])
    if ending:
        try:
            ENDINGS[ending](*sys.argv[1:3])
        finally:
            os.write(pipe, b"x")
