"""One pass over the held-out images: figures, calibration, and the images that tell most."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from keras_resnet.inference.evaluate import Evaluation, evaluate

# As many bins as in arXiv:1706.04599, section 5.
BINS = 15
EXAMPLES = 12


@dataclass(frozen=True)
class Example:
    """An image and its answer; `image` is uint8 ``(height, width, channels)``."""

    image: np.ndarray
    position: int
    label: int
    predicted: int
    confidence: float


@dataclass(frozen=True)
class Calibration:
    """Answers by the probability of the likeliest class, in bins of equal width.

    Attributes:
        counts: Images of each bin.
        confidences: Sums of their probabilities.
        hits: How many of them are right.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    confidences: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    hits: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def error(self) -> float:
        """The expected calibration error (arXiv:1706.04599, equation 3)."""
        return float(np.abs(self.hits - self.confidences).sum() / max(self.counts.sum(), 1))

    @property
    def overconfidence(self) -> float:
        """The mean probability minus the accuracy."""
        return float((self.confidences - self.hits).sum() / max(self.counts.sum(), 1))


@dataclass(frozen=True)
class Findings:
    """What a model answers.

    Attributes:
        evaluation: The figures.
        calibration: See there.
        mistakes: Those with the highest confidence, the highest first.
        hits: Right answers with the lowest confidence, the lowest first.
    """

    evaluation: Evaluation
    calibration: Calibration
    mistakes: list[Example]
    hits: list[Example]


def examine(model, data, split: str = "held_out", **options) -> Findings:
    """`evaluate`, and what a report shows besides; one batch of images in memory at a time.

    The arguments and the errors are those of `evaluate`.
    """
    calibration, mistakes, hits = Calibration(), [], []

    def add(images, labels, probabilities):
        # NaN counts as a guess: the pass goes on, and the loss shows it.
        confidence = np.nan_to_num(probabilities.max(axis=1))
        start = int(calibration.counts.sum())
        predicted = np.argsort(-probabilities, axis=1, kind="stable")[:, 0]
        right = predicted == labels
        at = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        np.add.at(calibration.counts, at, 1)
        np.add.at(calibration.confidences, at, confidence)
        np.add.at(calibration.hits, at, right)
        for best, chosen, order in ((mistakes, ~right, -confidence), (hits, right, confidence)):
            candidates = np.flatnonzero(chosen)
            candidates = candidates[np.argsort(order[candidates], kind="stable")][:EXAMPLES]
            best += [
                Example(
                    images[i].copy(), start + int(i), int(labels[i]), int(predicted[i]), float(confidence[i])
                )
                for i in candidates
            ]
        mistakes.sort(key=lambda example: -example.confidence)
        hits.sort(key=lambda example: example.confidence)
        del mistakes[EXAMPLES:], hits[EXAMPLES:]

    evaluation = evaluate(model, data, split, on_batch=add, **options)
    return Findings(evaluation, calibration, mistakes, hits)
