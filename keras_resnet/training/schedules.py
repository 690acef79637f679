"""How the learning rate changes, at every step. Keras has a warmup for the cosine only."""

from __future__ import annotations

import math

import keras
from keras import ops

# Where one_cycle begins, as a part of the highest rate.
_FIRST = 1 / 25


def tell(recipe) -> str:
    """What the schedule of a recipe does, in words: where the learning rate rises, falls and ends."""
    first = f"from {recipe.learning_rate * _FIRST:g} to " if recipe.schedule == "one_cycle" else ""
    warmup = f", rising in the first {recipe.warmup_epochs:g}" if recipe.warmup_epochs else ""
    falls = {
        "step": "times {:g} after epochs {}".format(
            recipe.factor, ", ".join(f"{boundary:g}" for boundary in recipe.boundaries)
        ),
        "constant": "constant",
        "polynomial": f"falling to 0 with power {recipe.power:g}",
        "cosine": "falling to 0 along half a cosine",
        "one_cycle": "falling to 0 along half a cosine",
    }[recipe.schedule]
    epochs = f"{recipe.epochs} epoch{'s' * (recipe.epochs != 1)}"
    return f"{epochs}: learning rate {first}{recipe.learning_rate:g}{warmup}, {falls}"


@keras.saving.register_keras_serializable("keras_resnet")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A rise over `warmup` steps to `peak`, and what `kind` says from there to step `steps`.

    Args:
        kind: ``"cosine"`` (arXiv:1608.03983), ``"polynomial"``, ``"step"``, ``"constant"`` or
            ``"one_cycle"`` (arXiv:1708.07120); see `keras_resnet.Recipe`.
        peak: The highest rate.
        steps: Steps of the whole training; after it the last rate stays.
        warmup: Steps of the rise, which are part of `steps`.
        boundaries: For ``"step"``: the steps, counted from the first, at which the rate is
            multiplied by `factor`.
        factor: See `boundaries`.
        power: For ``"polynomial"``: its degree.
    """

    def __init__(self, kind, peak, steps, warmup=0, boundaries=(), factor=0.1, power=1.0):
        super().__init__()
        self.kind, self.peak, self.steps, self.warmup = kind, peak, steps, warmup
        self.boundaries, self.factor, self.power = list(boundaries), factor, power

    def __call__(self, step):
        """The rate of a step, a scalar float32."""
        step = ops.cast(step, "float32")
        rise = ops.clip(step / max(self.warmup, 1), 0.0, 1.0)
        if self.kind == "one_cycle":
            rise = _FIRST + (1 - _FIRST) * (1 - ops.cos(math.pi * rise)) / 2
        progress = ops.clip((step - self.warmup) / max(self.steps - self.warmup, 1), 0.0, 1.0)
        return self.peak * ops.where(step < self.warmup, rise, self._after(step, progress))

    def _after(self, step, progress):
        """The part of `peak` after the warmup."""
        if self.kind == "polynomial":
            return (1 - progress) ** self.power
        if self.kind == "step":
            passed = sum((ops.cast(step >= b, "float32") for b in self.boundaries), ops.zeros(()))
            return ops.power(self.factor, passed)
        if self.kind == "constant":
            return ops.ones(())
        return (1 + ops.cos(math.pi * progress)) / 2

    def get_config(self):
        """What `from_config` needs."""
        names = ("kind", "peak", "steps", "warmup", "boundaries", "factor", "power")
        return {name: getattr(self, name) for name in names}
