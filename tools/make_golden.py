"""Write tests/golden/outputs.json: what timm computes in the shallow twin of each of its variants.

Run by hand, a minute or two, whenever `tests/twins.py` or the table gains a row:

    pip install "keras-resnet-zoo[convert,test]"
    python tools/make_golden.py
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import twins  # noqa: E402

from keras_resnet.inference.references import import_library, timm_forward, torch_reference  # noqa: E402


def main():
    """One line of JSON for each variant."""
    lines = []
    for name in twins.NAMES:
        lines.append(f"{json.dumps(name)}: {json.dumps(golden(name), separators=(',', ':'))}")
        print(name, flush=True)
    twins.GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{twins.GOLDEN}: {len(lines)} variants, {twins.GOLDEN.stat().st_size:,} bytes")


def golden(name):
    """``{size: numbers}`` of timm's twin, for the sizes that it takes."""
    reference = torch_reference(timm_twin(name), timm_forward)
    found = {}
    for size in twins.SIZES:
        try:
            outputs = reference.run(twins.images(size))
        except RuntimeError as error:
            # Some shortcuts and branches of timm round odd sizes differently.
            print(f"  timm cannot take {size} px: {str(error).splitlines()[0]}")
            continue
        found[str(size)] = rounded(twins.numbers(outputs))
    return found


def timm_twin(name):
    """The twin as timm builds it: its own variant with other depths and widths."""
    timm, row = import_library("timm"), twins.twin(name)
    name = name.removesuffix("_pruned")  # twins have fewer filters in every block
    options = dict(layers=[reps for reps, _ in row.stages], num_classes=twins.CLASSES)
    stem = row.stem_filters if isinstance(row.stem_filters, tuple) else (row.stem_filters,)
    if not row.preactivation:
        options["channels"] = [filters for _, filters in row.stages]
        if row.stem == "deep":
            options["stem_width"] = stem[1]
        return timm.create_model(name, **options)
    options["channels"] = [row.out_channels(filters) for _, filters in row.stages]
    options["stem_chs"] = stem[-1]
    if not name.endswith("_bit"):
        return timm.create_model(name, **options)
    # Their builders do not let the depth be changed; this is what they call.
    return timm.models.resnetv2._create_resnetv2_bit(name, width_factor=1, **options)


def rounded(found):
    """The same numbers with six significant digits."""
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    return [rounded(item) for item in found] if isinstance(found, list) else float(f"{found:.6g}")


if __name__ == "__main__":
    main()
