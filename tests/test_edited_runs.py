"""Run folders that were edited by hand or damaged: the right answer, or one line that names the file."""

import random
import re
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from keras_resnet import evaluate, make_dataset, predict, train, write_report
from keras_resnet.cli import main
from keras_resnet.data.identity import digest
from keras_resnet.data.mixing import mix_dataset
from keras_resnet.report.collect import read_run
from keras_resnet.report.compare_page import compare_page
from keras_resnet.report.run_page import run_page
from keras_resnet.training import fit
from keras_resnet.training.resume import as_begun

SETTINGS = {
    "epochs": 2, "warmup_epochs": 0, "steps_per_epoch": 2, "batch_size": 16, "learning_rate": 0.01,
    "architecture": {"stages": ((1, 8), (1, 8)), "stem_filters": 8},
}  # fmt: skip
POOL = [
    None, True, 0, -1, 1, 3, 10**9, 10**30, 0.5, 1e308, float("nan"), float("inf"), "", "x", "1e-4", "digits",
    [], [1], [[1, 8]], [[10**9, 8]], [[1, 10**9]], {}, {"a": 1}, [[[[]]]],
]  # fmt: skip
TEXTS = ("config.yaml", "classes.txt", "history.csv", "env.json")


class Reached(Exception):
    """The run would train now."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(out=tmp_path_factory.mktemp("runs") / "whole", settings=SETTINGS).folder


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    Image.new("L", (8, 8), 100).save(tmp_path / "image.png")
    return tmp_path / "run"


@pytest.fixture
def no_training(monkeypatch):
    def reached(*_, **__):
        raise Reached

    monkeypatch.setattr(fit, "_fit", reached)


def mutated_text(text: bytes, rng) -> bytes:
    """The text with a few bytes or lines removed, repeated, moved or replaced."""
    lines = text.splitlines(keepends=True)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            text = text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]
        elif kind == 1:
            text = text[:at]
        elif kind == 2:
            text = text[:at] + rng.choice([b"\0", b"\r", b":", b"[", b"{", b"- ", b"\xff", b"&a ", b"!!int "])
            text += b"" if rng.random() < 0.5 else b"".join(lines[-3:])
        elif kind == 3 and lines:
            rng.shuffle(lines)
            text = b"".join(lines)
        elif kind == 4 and lines:
            text = text.replace(rng.choice(lines), b"", 1)
        elif kind == 5:
            text = text.replace(
                rng.choice([b"0", b"1", b"8", b"2"]), rng.choice([b"nan", b"-9", b"1e999", b"9" * 30])
            )
        else:
            text += b"".join(lines[rng.randrange(max(len(lines), 1)) :])
    return text


def mutated_config(config, rng):
    """The configuration with one value, at any depth, replaced or removed."""
    config = yaml.safe_load(yaml.safe_dump(config))
    inner = config
    while True:
        key = rng.choice(list(inner))
        if isinstance(inner[key], dict) and inner[key] and rng.random() < 0.8:
            inner = inner[key]
            continue
        if rng.random() < 0.2:
            del inner[key]
        else:
            inner[key] = rng.choice(POOL)
        return config


def mutate(run, rng):
    name = rng.choice(TEXTS)
    path = run / name
    if name == "config.yaml" and rng.random() < 0.6:
        path.write_text(yaml.safe_dump(mutated_config(yaml.safe_load(path.read_text()), rng)))
    else:
        path.write_bytes(mutated_text(path.read_bytes(), rng))
    return path


def attempt(call, folder, path):
    """Run it; what it raises must be a ValueError that names the run, or what the run names."""
    try:
        call()
    except Reached:
        pass
    except ValueError as error:
        text = str(error)
        # Data that are not there are named as the configuration names them.
        assert str(folder) in text or str(yaml.safe_load(path.read_text())["data"]) in text, text
        assert len(text) < 2000


def page_of(run):
    """Both pages of a report, without what the model says."""
    record = replace(read_run(run), missing=dict.fromkeys(("model", "findings", "heat"), "not looked at"))
    run_page(record)
    compare_page([record, record])


@pytest.mark.parametrize("seed", range(200))
def test_reading_a_mutated_run(run, seed):
    path = mutate(run, random.Random(seed))
    attempt(lambda: page_of(run), run, path)
    attempt(lambda: as_begun(run), run, path)


def resume(run):
    begun = as_begun(run)
    train(**begun, out=run, resume=True, download=False)


def check_mutants(run, whole, seeds, call):
    for seed in seeds:
        path = mutate(run, random.Random(seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt(lambda: call(run), run, path)
        shutil.copy(whole / path.name, path)


def test_resuming_a_mutated_run(run, whole, no_training):
    check_mutants(run, whole, range(10), resume)


@pytest.mark.slow
def test_resuming_many_mutated_runs(run, whole, no_training):
    check_mutants(run, whole, range(10, 400), resume)


def answer(run):
    """What `predict`, `evaluate` and `report` say."""
    predict(run, run.parent / "image.png")
    evaluate(run, "digits")
    write_report([run])


def test_answers_of_a_mutated_run(run, whole):
    check_mutants(run, whole, range(5), answer)


@pytest.mark.slow
def test_answers_of_many_mutated_runs(run, whole):
    check_mutants(run, whole, range(5, 60), answer)


FEW = {
    "epochs": 2, "warmup_epochs": 0, "steps_per_epoch": 1, "batch_size": 4, "image_size": 8,
    "architecture": {"stages": ((1, 8),), "stem_filters": 8},
}  # fmt: skip


def photographs(root):
    """Two classes in two splits, eight images in each."""
    rng = random.Random(0)
    for split in ("train", "val"):
        for name in ("apple", "lime"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(8):
                size = (rng.randint(8, 40), 20)
                Image.new("RGB", size, (rng.randint(0, 255), 90, 9)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    photographs(root / "data")
    train(data=str(root / "data"), recipe="small", settings=FEW, out=root / "run")
    return root


def rename(data):
    for split in ("train", "val"):
        (data / split / "lime").rename(data / split / "lemon")


def add(data):
    shutil.copy(data / "train/apple/0.png", data / "train/apple/new.png")


def replace_one(data):
    Image.effect_noise((33, 33), 50).convert("RGB").save(data / "val/lime/3.png")


def swap_names(data):
    for split in ("train", "val"):
        (data / split / "apple").rename(data / split / "x")
        (data / split / "lime").rename(data / split / "apple")
        (data / split / "x").rename(data / split / "lime")


@pytest.mark.parametrize(
    "change, told",
    [
        (None, None),
        (rename, "classes.txt: the run has the classes apple, lime; its data have apple, lemon now"),
        (add, "data_digest.train was 16 images, .* and is 17 images"),
        (lambda data: (data / "train/lime/7.png").unlink(), "data_digest.train was 16 images, .* and is 15"),
        (replace_one, "data_digest.held_out was 16 images, .* and is 16 images"),
        (swap_names, "data_digest.train was 16 images, .* and is 16 images"),
    ],
    ids=["same", "renamed", "added", "removed", "replaced", "swapped"],
)
def test_resuming_with_other_data(folder_run, tmp_path, change, told, monkeypatch, no_training):
    shutil.copytree(folder_run, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    config = yaml.safe_load((tmp_path / "copy/run/config.yaml").read_text())
    data = tmp_path / "copy/data"
    # Names below the folder decide: the data may have been moved.
    (tmp_path / "copy/run/config.yaml").write_text(yaml.safe_dump(config | {"data": str(data)}))
    shutil.rmtree(tmp_path / "copy/run/snapshots")
    if change is None:
        with pytest.raises(Reached):
            resume(tmp_path / "copy/run")
        return
    change(data)
    with pytest.raises(ValueError, match=told):
        resume(tmp_path / "copy/run")


def test_a_snapshot_knows_its_data(folder_run, tmp_path, no_training):
    """Whoever edits config.yaml and classes.txt to fit other data is still told."""
    shutil.copytree(folder_run, tmp_path / "copy")
    data = folder_run / "data"
    rename(data)
    try:
        names = tmp_path / "copy/run/classes.txt"
        names.write_text(names.read_text().replace("lime", "lemon"))
        with pytest.raises(ValueError, match="data_digest.train was") as caught:
            resume(tmp_path / "copy/run")
        config = tmp_path / "copy/run/config.yaml"
        changes = re.findall(r"was 16 images, (\w+) and is 16 images, (\w+)", str(caught.value))
        assert len(changes) == 2
        for before, after in changes:
            config.write_text(config.read_text().replace(before, after))
        with pytest.raises(ValueError, match="step_.* was made with another configuration: data_digest"):
            resume(tmp_path / "copy/run")
    finally:
        for split in ("train", "val"):
            (data / split / "lemon").rename(data / split / "lime")


def test_what_digests_tell_apart():
    images, labels = np.zeros((8, 4, 4, 3), np.uint8), np.arange(8) % 2

    def of(images, labels, **options):
        return digest(make_dataset((images, labels), batch_size=2, **options))

    first = of(images, labels)
    assert first.startswith("8 images, ")
    assert of(images.copy(), labels.astype(np.int32), seed=3, flip=True) == first
    assert of(images, labels[::-1].copy()) != first
    images[7, 3, 3, 2] = 1
    assert of(images, labels) != first
    soft = mix_dataset(make_dataset((images, labels), batch_size=2), mixup=0.2)
    assert digest(soft) == of(images, labels)
    assert digest(make_dataset("digits")) != digest(make_dataset("digits", "held_out"))


@pytest.mark.parametrize(
    "name, content, told",
    [
        ("config.yaml", "", "config.yaml is not the configuration of a run"),
        ("config.yaml", "x", "config.yaml is not the configuration of a run"),
        ("config.yaml", {"image_size": 1_000_000}, "config.yaml: image_size is 1000000; it must be"),
        ("config.yaml", {"crop_fraction": -1}, "config.yaml: crop_fraction is -1; it must be"),
        ("classes.txt", "0\n1\n", "classes.txt names 2 classes, and the model has 10 outputs"),
        ("classes.txt", "a\n" + "".join(f"{i}\n" for i in range(10)), "classes.txt names 11 classes"),
        ("classes.txt", "9\n" + "".join(f"{i}\n" for i in range(9)), "classes.txt says 9, 0, 1"),
        ("history.csv", "epoch,loss\ninf,1\n", "history.csv: epoch in row 1 is inf"),
        ("env.json", "[" * 10**5, "env.json is damaged"),
    ],
)
def test_commands_on_an_edited_run(run, name, content, told, capsys):
    if isinstance(content, dict):
        content = yaml.safe_dump(yaml.safe_load((run / name).read_text()) | content)
    (run / name).write_text(content)
    commands = {
        "report": ["report", str(run)],
        "resume": ["train", "--resume", str(run)],
        "predict": ["predict", str(run), str(run.parent / "image.png")],
        "evaluate": ["evaluate", str(run), "--data", "digits"],
    }
    # What a command does not read, it need not refuse.
    reads = {
        "config.yaml": ("report", "resume"), "classes.txt": ("report", "predict", "evaluate"),
        "history.csv": ("report",), "env.json": ("report",),
    }[name]  # fmt: skip
    for command in reads:
        status = main(commands[command])
        found = capsys.readouterr().err
        assert told in found, command
        # The report shows what can be shown, and says what is missing.
        assert status == (0 if (command, name) == ("report", "classes.txt") else 2)
        assert "defect" not in found


@pytest.mark.parametrize("key", ["model", "data", "seed", "recipe"])
def test_resuming_without_a_field(run, key, capsys):
    config = yaml.safe_load((run / "config.yaml").read_text())
    for value, told in ((..., f"{key} must be there"), (None, f"{key} is None"), ([1], f"{key} is [1]")):
        changed = {k: v for k, v in config.items() if k != key} | ({} if value is ... else {key: value})
        (run / "config.yaml").write_text(yaml.safe_dump(changed))
        assert main(["train", "--resume", str(run)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"config.yaml: {told}" in line


@pytest.mark.parametrize(
    "change, told",
    [
        ({"model": "resnet21_cifar"}, "config.yaml: model: there is no variant 'resnet21_cifar'"),
        ({"data": "arrays"}, "config.yaml: the run had arrays in memory"),
        ({"finetune": {}}, "config.yaml is of a run of finetune, which cannot be resumed"),
        ({"recipe": {"epochs": 3}}, "config.yaml: recipe: a recipe needs batch_size, learning_rate too"),
        ({"recipe": {"epochs": "many"}}, "config.yaml: recipe: a recipe needs"),
    ],
)
def test_what_cannot_be_resumed(run, change, told, capsys):
    config = yaml.safe_load((run / "config.yaml").read_text()) | change
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", "--resume", str(run)]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "field, value, told",
    [
        ("epochs", 0, "config.yaml: recipe: epochs=0"),
        ("epochs", "many", "config.yaml: recipe: epochs='many'"),
        ("image_size", 10**6, "config.yaml: recipe: image_size=1000000"),
        ("architecture", [], "config.yaml: recipe: architecture=[]"),
        ("architecture", {"stages": 3}, "config.yaml: recipe: stages=3"),
        ("architecture", {"stages": [[1, 10**9]]}, "config.yaml: recipe.architecture: "),
        ("architecture", {"zero_init_last": "no"}, "config.yaml: recipe: zero_init_last='no'"),
        ("epochs", 5, "recipe.epochs was 5 and is 2"),
    ],
)
def test_resuming_with_another_recipe(run, field, value, told, capsys):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["recipe"][field] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--epochs", "2"] if told.startswith("recipe.") else []
    assert main(["train", "--resume", str(run), *arguments]) == 2
    assert told in capsys.readouterr().err


def test_other_epochs_are_named_with_both_numbers(run, capsys):
    assert main(["train", "--resume", str(run), "--epochs", "5"]) == 2
    assert "recipe.epochs was 2 and is 5" in capsys.readouterr().err
