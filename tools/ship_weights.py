"""Put the weights of a finished run into the package, with their record:

    python tools/ship_weights.py runs/my-run --data-dir FOLDER

They are rounded to float16; the accuracy in the record is that of the rounded weights, on the test
split of the data on which they were trained.
"""

import argparse
import hashlib
import json
from pathlib import Path

from keras_resnet.inference.artifacts import (
    from_weights,
    open_model,
    read_config,
)
from keras_resnet.inference.convert import save_as
from keras_resnet.inference.evaluate import evaluate
from keras_resnet.weights.records import DATASETS, PACKAGED
from keras_resnet.weights.transforms import IMAGENET_MEAN, IMAGENET_STD

HOME = Path(__file__).resolve().parent.parent / "keras_resnet/weights"


def main():
    """Write both, and print the row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--data-dir")
    options = parser.parse_args()
    config, artifact = read_config(options.run), open_model(options.run)
    variant, data = config["model"], config["data"]
    if data not in DATASETS:
        parser.error(f"{options.run} was trained on {data}; there are records for {', '.join(DATASETS)}.")
    file = HOME / f"{variant}.{data}.safetensors"
    save_as(artifact.model, file, "keras_resnet", float16=True)
    known = {key: config[key] for key in ("crop_fraction", "interpolation")}
    rounded = from_weights(variant, str(file)).model
    tested = evaluate(rounded, data, "test", data_dir=options.data_dir, **known)
    row = {
        "name": f"keras_resnet/{variant}.{data}",
        "variant": variant,
        "url": f"{PACKAGED}{file.name}",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "layout": "keras_resnet",
        "transform": {
            "size": config["image_size"], **known, "antialias": True,
            "mean": IMAGENET_MEAN, "std": IMAGENET_STD,
        },
        "num_classes": len(artifact.class_names),
        "licence": "apache-2.0",
        "commercial": True,
        "top1": round(100 * tested.top1, 2),
        "top1_source": f"keras-resnet evaluate, {tested.count} images",
        "data": data,
        "class_names": artifact.class_names,
    }  # fmt: skip
    records = json.loads((HOME / "records.json").read_text())
    rows = [old for old in records if old["name"] != row["name"]] + [row]
    lines = ",\n".join(map(json.dumps, rows))
    (HOME / "records.json").write_text(f"[\n{lines}\n]\n")
    print(json.dumps(row, indent=2))


if __name__ == "__main__":
    main()
