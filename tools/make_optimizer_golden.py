"""Write tests/golden/optimizers.json: 20 steps of torch's SGD and of timm's LAMB.

Needs torch and timm. The problem is the one of tests/test_optimizers.py: a kernel and a bias, whose
gradients are half of the values plus noise, and a rate that drops to a tenth after ten steps.
"""

import json
from pathlib import Path

import numpy as np
import torch

from keras_resnet.inference.references import import_library

OUT = Path(__file__).resolve().parent.parent / "tests/golden/optimizers.json"
CASES = {
    "sgd": dict(),
    "sgd momentum": dict(momentum=0.9),
    "sgd nesterov": dict(momentum=0.9, nesterov=True),
    "sgd decay": dict(weight_decay=0.01),
    "sgd momentum decay": dict(momentum=0.9, weight_decay=0.01),
    "sgd nesterov decay": dict(momentum=0.9, nesterov=True, weight_decay=0.01),
    "sgd nesterov decay clip": dict(momentum=0.9, nesterov=True, weight_decay=0.01, clip=1.0),
    "lamb": dict(weight_decay=0.0, max_grad_norm=None),
    "lamb decay": dict(weight_decay=0.02, max_grad_norm=None),
    "lamb decay clip": dict(weight_decay=0.02, max_grad_norm=1.0),
}


def run(name, options):
    """Kernel and bias after the last step."""
    options = dict(options)
    clip, decay = options.pop("clip", None), options.pop("weight_decay", 0.0)
    rng = np.random.default_rng(0)
    kernel, bias = (torch.tensor(rng.normal(size=n).astype(np.float32), requires_grad=True) for n in (6, 3))
    groups = [{"params": [kernel], "weight_decay": decay}, {"params": [bias], "weight_decay": 0.0}]
    kind, rate = (
        (torch.optim.SGD, 0.1) if name.startswith("sgd") else (import_library("timm.optim").Lamb, 0.02)
    )
    optimizer = kind(groups, lr=rate, **options)
    for step in range(20):
        for group in optimizer.param_groups:
            group["lr"] = rate if step < 10 else rate / 10
        for value in (kernel, bias):
            noise = torch.tensor(rng.normal(size=len(value)).astype(np.float32))
            value.grad = 0.5 * value.detach() + noise
        if clip:
            torch.nn.utils.clip_grad_norm_([kernel, bias], clip)
        optimizer.step()
    return [[float(x) for x in value.detach()] for value in (kernel, bias)]


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(run(name, options))}" for name, options in CASES.items()]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
