"""SGD and LAMB beside torch's and timm's, and the schedules."""

import json
import math

import keras
import numpy as np
import pytest
from conftest import ROOT

from keras_resnet.training.optimizers import BIASES_AND_NORMS, SGD, Lamb
from keras_resnet.training.schedules import Schedule

# Of tools/make_optimizer_golden.py, with torch 2.13 and timm 1.0.31.
GOLDEN = json.loads((ROOT / "tests/golden/optimizers.json").read_text())


def optimizer_of(case, rate):
    words = case.split()
    options = {"weight_decay": {"sgd": 0.01, "lamb": 0.02}[words[0]] if "decay" in words else 0.0}
    options["global_clipnorm"] = 1.0 if "clip" in words else None
    if words[0] == "lamb":
        return Lamb(rate, **options)
    moving = "momentum" in words or "nesterov" in words
    return SGD(rate, momentum=0.9 if moving else 0.0, nesterov="nesterov" in words, **options)


@pytest.mark.parametrize("case", GOLDEN)
def test_twenty_steps_as_in_torch(case):
    rng = np.random.default_rng(0)
    kernel, bias = (
        keras.Variable(rng.normal(size=n).astype(np.float32), name=name)
        for n, name in ((6, "kernel"), (3, "bias"))
    )
    highest = 0.02 if case.startswith("lamb") else 0.1
    optimizer = optimizer_of(case, Schedule("step", highest, 20, boundaries=[10]))
    optimizer.exclude_from_weight_decay(var_names=BIASES_AND_NORMS)
    for _ in range(20):
        gradients = [0.5 * v.numpy() + rng.normal(size=v.shape).astype(np.float32) for v in (kernel, bias)]
        optimizer.apply(gradients, [kernel, bias])
    for ours, theirs in zip((kernel, bias), GOLDEN[case], strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [SGD, Lamb])
def test_accumulation_is_one_step_with_the_mean_gradient(kind):
    rng = np.random.default_rng(1)
    gradients = rng.normal(size=(6, 4)).astype(np.float32)
    values = []
    for together in (1, 3):
        kernel = keras.Variable(np.ones(4, np.float32), name="kernel")
        optimizer = kind(
            0.1,
            weight_decay=0.1,
            global_clipnorm=0.5,
            gradient_accumulation_steps=None if together == 1 else 3,
        )
        for g in gradients.reshape(-1, 3, 4).mean(axis=1) if together == 1 else gradients:
            optimizer.apply([g], [kernel])
        values.append(kernel.numpy())
    np.testing.assert_allclose(*values, atol=1e-6)


@pytest.mark.parametrize("optimizer", [SGD(0.1, 0.9, True, weight_decay=1e-4), Lamb(0.1, weight_decay=0.02)])
def test_configuration_comes_back(optimizer):
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    "options, rates",
    [
        (dict(kind="cosine"), {0: 0.4, 20: 0.2, 30: 0.2 * (1 + math.cos(0.75 * math.pi)), 40: 0.0, 50: 0.0}),
        (dict(kind="cosine", warmup=10), {0: 0.0, 5: 0.2, 10: 0.4, 25: 0.2, 40: 0.0}),
        (dict(kind="constant", warmup=4), {0: 0.0, 1: 0.1, 4: 0.4, 99: 0.4}),
        (dict(kind="polynomial", warmup=20, power=2.0), {10: 0.2, 20: 0.4, 30: 0.1, 40: 0.0}),
        (dict(kind="step", boundaries=[10, 30]), {0: 0.4, 9: 0.4, 10: 0.04, 29: 0.04, 30: 0.004, 99: 0.004}),
        (dict(kind="step", warmup=5, boundaries=[10], factor=0.5), {1: 0.08, 5: 0.4, 10: 0.2}),
        (dict(kind="one_cycle", warmup=20), {0: 0.016, 10: 0.208, 20: 0.4, 30: 0.2, 40: 0.0}),
    ],
)
def test_schedules(options, rates):
    schedule = Schedule(peak=0.4, steps=40, **options)
    assert {step: float(schedule(step)) for step in rates} == pytest.approx(rates, abs=1e-7)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert again.get_config() == schedule.get_config()
