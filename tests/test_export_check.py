"""What the comparison of an export with its model counts."""

import numpy as np
import pytest

from keras_resnet import ExportError
from keras_resnet.inference.check import BARS, check, compare


@pytest.mark.parametrize(
    "lost, drop, allowed",
    [(0, 0, True), (1, 0.005, True), (2, 0.01, False)],
)
def test_top1_may_drop_by_half_a_point(lost, drop, allowed):
    reference = np.tile([0.6, 0.4], (200, 1))
    found = reference.copy()
    found[:lost] = found[:lost, ::-1]
    comparison = compare(reference, found, np.zeros(200, int))
    assert comparison.top1 == (1, 1 - lost / 200)
    assert comparison.drop == drop
    if allowed:
        check(comparison, BARS["int8"])
    else:
        with pytest.raises(ExportError, match=r"a loss of at most 0\.50% is allowed"):
            check(comparison, BARS["int8"])


def test_ties_are_nobodys_loss_and_nonsense_is_an_error():
    reference = np.tile([0.501, 0.499], (200, 1))
    assert compare(reference, reference[:, ::-1], None).drop == 0
    assert compare(reference, reference[:, ::-1], None).agreement == 0
    with pytest.raises(ExportError, match="not finite"):
        compare(reference, reference * np.nan, None)
    with pytest.raises(ExportError, match=r"shape \(200, 1\)"):
        compare(reference, reference[:, :1], None)
