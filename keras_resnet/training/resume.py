"""From a run folder back to the call of `train` that resumes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from keras_resnet.data.names import canonical, listed
from keras_resnet.run_files import CLASSES, CONFIG, read_classes, read_config
from keras_resnet.training.recipe import recipe_of
from keras_resnet.training.states import differences
from keras_resnet.variants import VARIANTS


def as_begun(folder) -> dict:
    """The arguments of `train` with which the run in `folder` was begun.

    Raises:
        ValueError: config.yaml does not have them; the message names the file and the key.
    """
    path, config = Path(folder, CONFIG), read_config(folder)
    if "finetune" in config:
        raise ValueError(f"{path} is of a run of finetune, which cannot be resumed; begin another run.")
    if config.get("data") == "arrays":
        raise ValueError(
            f"{path}: the run had arrays in memory; resume it in Python, by train(..., out={str(folder)!r}, "
            "resume=True) with the same arrays."
        )
    config = read_config(folder, needed=("model", "data", "seed", "recipe"))
    if (model := config["model"]) not in VARIANTS:
        raise ValueError(f"{path}: model: there is no variant {model!r}.")
    recipe = recipe_of(config["recipe"], f"{path}: recipe")
    try:
        replace(VARIANTS[model], **recipe.architecture)
    except ValueError as error:
        raise ValueError(f"{path}: recipe.architecture: {error}") from error
    begun = {key: config[key] for key in ("model", "data", "seed", "layout") if key in config}
    return begun | {"recipe": recipe}


def reopen(folder, config: dict, class_names) -> Path:
    """The folder of a run that was stopped, if `config` and the classes are those of the run.

    Raises:
        ValueError: there is no such run, or something differs; the message names what.
    """
    if folder is None:
        raise ValueError("resume=True needs the folder of the run as out.")
    known, found = Path(folder, CLASSES), tuple(map(canonical, class_names))
    if known.is_file() and (before := tuple(map(canonical, read_classes(known)))) != found:
        raise ValueError(
            f"{known}: the run has the classes {listed(before)}; its data have {listed(found)} now. The "
            "labels would mean other classes: put the data back, or begin another run."
        )
    if changed := differences(read_config(folder), json.loads(json.dumps(config))):
        raise ValueError(
            f"{folder} cannot go on with another configuration: {'; '.join(changed)}. "
            "Give the former values, or begin another run."
        )
    return Path(folder)
