"""SGD and LAMB as the recipes mean them. Keras's differ, and no recipe carries over.

Keras 3.15 takes `weight_decay` off the weights beside the gradient, outside of momentum and
trust ratio, and scales what goes into the momentum by the rate of that step, so that a drop of
the rate reaches the weights steps later.
"""

from __future__ import annotations

import math

import keras
from keras import ops

# Parts of the names of what is not decayed.
BIASES_AND_NORMS = ("bias", "beta", "gamma")


@keras.saving.register_keras_serializable("keras_resnet")
class SGD(keras.optimizers.Optimizer):
    """Stochastic gradient descent as in torch: with ``g = gradient + weight_decay * weight``,

    ``velocity = momentum * velocity + g`` and ``weight -= learning_rate * velocity``, or with
    Nesterov's ``weight -= learning_rate * (g + momentum * velocity)``.

    Args:
        learning_rate: A number or a schedule.
        momentum: In [0, 1).
        nesterov: See above.
        weight_decay: Coefficient of the L2 term, in the gradient. Use
            `exclude_from_weight_decay` for what has none.
        **options: Those of `keras.optimizers.Optimizer`.
    """

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, name="sgd", **options):
        super().__init__(learning_rate, name=name, **options)
        self.momentum, self.nesterov = momentum, nesterov

    def build(self, variables):
        """Create the velocities."""
        if self.built:
            return
        super().build(variables)
        self._velocities = self.add_optimizer_variables(variables, "velocity") if self.momentum else []

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable."""
        gradient = ops.cast(gradient, variable.dtype)
        if self.weight_decay and self._use_weight_decay(variable):
            gradient = gradient + self.weight_decay * variable
        if self.momentum:
            velocity = self._velocities[self._get_variable_index(variable)]
            self.assign(velocity, self.momentum * velocity + gradient)
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * gradient)

    def _apply_weight_decay(self, variables):
        """Nothing beside the gradient: it is in there."""

    def get_config(self):
        """What `from_config` needs."""
        return super().get_config() | {"momentum": self.momentum, "nesterov": self.nesterov}


@keras.saving.register_keras_serializable("keras_resnet")
class Lamb(keras.optimizers.Lamb):
    """LAMB (arXiv:1904.00962, algorithm 2) as in timm.

    The decay is part of the update that the trust ratio scales; Keras takes it off outside.
    Variables without decay get the plain step of Adam: Keras scales biases and normalisation
    by their norms too. `epsilon` is 1e-6 by default.
    """

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-6, name="lamb", **options):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name=name, **options)

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable."""
        dtype = variable.dtype
        gradient, rate = ops.cast(gradient, dtype), ops.cast(learning_rate, dtype)
        step = ops.cast(self.iterations + 1, dtype)
        index = self._get_variable_index(variable)
        mean, square = self._momentums[index], self._velocities[index]
        self.assign_add(mean, (gradient - mean) * (1 - self.beta_1))
        self.assign_add(square, (ops.square(gradient) - square) * (1 - self.beta_2))
        # 1 - beta ** step, without the difference of two numbers that are nearly the same.
        mean = mean / -ops.expm1(step * math.log(self.beta_1))
        square = square / -ops.expm1(step * math.log(self.beta_2))
        update = mean / (ops.sqrt(square) + self.epsilon)
        if self.weight_decay and self._use_weight_decay(variable):
            update = update + self.weight_decay * variable
            update = update * _trust_ratio(variable, update)
        self.assign_sub(variable, rate * update)

    def _apply_weight_decay(self, variables):
        """Nothing beside the update: it is in there."""


def _trust_ratio(variable, update):
    """Norm of the weights over that of the update, or one where either is zero."""
    weights, change = (ops.sqrt(ops.sum(ops.square(x))) for x in (variable, update))
    return ops.where(ops.logical_and(weights > 0, change > 0), weights / change, 1.0)
