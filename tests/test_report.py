"""The report of a run: what it shows, what it does without, and that nothing in it is taken for markup."""

import html.parser
import itertools
import json
import os
import re

import numpy as np
import pytest
import yaml
from exporting import network

from keras_resnet import evaluate, make_dataset, write_report
from keras_resnet.cli import main
from keras_resnet.report import figures, write
from keras_resnet.report.collect import open_run, read_run
from keras_resnet.report.examine import EXAMPLES, Calibration, examine
from keras_resnet.report.html import tag
from keras_resnet.training import fit

HOSTILE = [
    "<script>window.hacked=1</script>",
    'a & "b" onload="window.hacked=1"',
    "</style><img src=x onerror=window.hacked=1>",
]
CLASSES = [*HOSTILE, "an unusually long name of a class, longer than any margin", "emu", "fox"]
HEADINGS = [
    "Summary", "Training", "Confusion", "Classes", "Mistakes", "Unsure hits", "Calibration", "Network",
    "Configuration",
]  # fmt: skip


def make_run(folder, model, data, epochs=3):
    folder.mkdir(parents=True)
    config = {
        "model": HOSTILE[0], "data": str(data), "image_size": 8, "channels": 3, "crop_fraction": 1.0,
        "interpolation": "bilinear", "seed": epochs, "recipe": {"epochs": epochs, "crop": HOSTILE[2]},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "env.json").write_text(json.dumps({"keras": "3", "device": HOSTILE[2]}))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    header = "epoch,loss,train_accuracy,test_loss,test_accuracy,learning_rate,seconds,images_per_second"
    accuracy = [
        f"{min(0.2 * i, 1)},{1.5 / i if i > 1 else 'nan'},{min(0.15 * i, 1)}" for i in range(epochs + 1)
    ]
    rows = [f"{i},{2 / i},{accuracy[i]},{0.1 / i},50,{100 + i}" for i in range(1, epochs + 1)]
    (folder / "history.csv").write_text("\n".join([header, *rows, ""]))
    if model is not None:
        model.save(folder / "model.keras")
    return folder


@pytest.fixture(scope="module")
def model():
    return network("basic")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (80, 8, 8, 3), np.uint8), np.arange(80) % 6
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, model, data):
    return make_run(tmp_path_factory.mktemp("runs") / "<b>run & co", model, data)


@pytest.fixture(scope="module")
def report(run):
    return write_report(run)


class Reader(html.parser.HTMLParser):
    """The elements of a page and the text of each heading's section."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.parts, self._path = [], {}, []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in ("meta", "img"):
            self._path.append(name)

    def handle_endtag(self, name):
        assert self._path.pop() == name, "elements do not match"

    def handle_data(self, text):
        if self._path[-1:] == ["h2"]:
            self.parts[text] = ""
        elif self.parts and self._path[-1:] != ["script"]:
            self.parts[next(reversed(self.parts))] += text + " "

    def count(self, name):
        return sum(name == element for element, _ in self.elements)


def read(path):
    return Reader(path.read_text("utf-8"))


# What is found out.


def test_findings_by_hand(model, data):
    dataset = make_dataset(data, "held_out", batch_size=32)
    findings = examine(model, dataset)
    with np.load(data) as arrays:
        images, labels = arrays["x_test"], arrays["y_test"]
    probabilities = model.predict(images, verbose=0)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = predicted == labels
    assert findings.evaluation.top1 == evaluate(model, dataset).top1 == right.mean()
    edges = np.linspace(0, 1, 16)
    bins = [(confidence > low) & (confidence <= high) for low, high in itertools.pairwise(edges)]
    assert findings.calibration.counts.tolist() == [inside.sum() for inside in bins]
    gaps = [
        abs(right[inside].mean() - confidence[inside].mean()) * inside.mean()
        for inside in bins
        if inside.any()
    ]
    assert findings.calibration.error == pytest.approx(sum(gaps), abs=1e-6)
    assert findings.calibration.overconfidence == pytest.approx(confidence.mean() - right.mean(), abs=1e-6)
    for found, chosen, sign in ((findings.mistakes, ~right, -1), (findings.hits, right, 1)):
        expected = sorted(np.flatnonzero(chosen), key=lambda i: sign * confidence[i])[:EXAMPLES]
        assert [example.position for example in found] == expected
        for example in found:
            assert (example.image == images[example.position]).all()
            assert (example.label, example.predicted) == (
                labels[example.position],
                predicted[example.position],
            )


def test_calibration_of_nothing():
    assert Calibration().error == 0


def test_a_model_that_answers_nan_is_examined(data):
    model = network("basic")
    model.get_layer("head").kernel.assign(model.get_layer("head").kernel * np.nan)
    findings = examine(model, str(data))
    assert findings.evaluation.count == findings.calibration.counts.sum() == 80


# What is shown.


def test_page(report, run):
    path, missing = report
    assert (path, missing) == (run / "report.html", [])
    page = read(path)
    assert list(page.parts) == HEADINGS
    assert all(len(text.split()) > 5 for text in page.parts.values()), page.parts
    for word in ("Top-1, held out", "Calibration error", "Parameters", "Images per second"):
        assert word in page.parts["Summary"]
    assert "102 images per second in the median epoch, 2 min in all" in page.parts["Training"]
    assert "recipe.epochs" in page.parts["Configuration"]
    assert re.search(r"stage2 +4 x 4 x 16", page.parts["Network"])
    # Image and heat maps of two classes, image and one heat map.
    mistakes, hits = (page.parts[name].count(" image ") for name in ("Mistakes", "Unsure hits"))
    assert mistakes == EXAMPLES
    assert page.count("img") == 3 * mistakes + 2 * hits
    assert page.count("svg") == 4 + 1 + 1
    assert [p.name for p in run.iterdir() if "part" in p.name] == []


def test_nothing_is_loaded_and_nothing_is_markup_that_should_be_text(report):
    page, text = read(report[0]), report[0].read_text("utf-8")
    assert page.count("script") == 1
    for name, attributes in page.elements:
        assert not {key for key in attributes if key.startswith("on")}, (name, attributes)
        for key in ("src", "href"):
            assert attributes.get(key, "#").startswith(("#", "data:image/")), (name, attributes)
    assert "http" not in re.sub(r"base64,[\w+/=]+|http-equiv", "", text)
    assert "url(" not in text
    for name in CLASSES:
        assert name in page.parts["Classes"]
    assert "<b>run & co" not in text
    assert "default-src 'none'" in dict(page.elements[3][1])["content"]


def test_tags():
    assert tag("a", "<", tag("b", 1), None, title='"', href=None, data_x=0) == (
        '<a title="&quot;" data-x="0">&lt;<b>1</b></a>'
    )
    assert tag("img", alt="") == '<img alt="">'


def test_several_runs_beside_each_other(run, model, data, tmp_path):
    other = make_run(tmp_path / "longer", model, data, epochs=5)
    bare = make_run(tmp_path / "bare", None, data, epochs=2)
    path, missing = write_report([run, other, bare], tmp_path / "all.html")
    page = read(path)
    assert list(page.parts) == ["Results", "Curves", "Differences", "Classes"]
    assert page.count("svg") == 5
    assert page.count("polyline") == 15
    top1 = f"{evaluate(model, str(data)).top1:.2%}"
    assert page.parts["Results"].count(top1) == 2
    assert " 30.00% " in page.parts["Results"]
    assert re.findall(r"(\S+) 3 +5 +2 ", page.parts["Differences"]) == ["seed", "recipe.epochs"]
    assert "image_size" not in page.parts["Differences"]
    assert CLASSES[1] in page.parts["Classes"]
    assert [
        line for line in missing if f"{bare}: {bare}/model.keras: there is no such model" in line
    ] == missing


# What is not there.


def test_without_a_model_or_data(run, model, data, tmp_path, capsys):
    bare = make_run(tmp_path / "bare", None, data)
    assert main(["report", str(bare)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{bare / 'report.html'}\n"
    assert err.splitlines() == [
        f"{bare}: {bare}/model.keras: there is no such model; give a run folder or a .keras file."
    ]
    page = read(bare / "report.html")
    assert list(page.parts) == HEADINGS
    assert "no such model" in page.parts["Mistakes"]
    assert "Accuracy, last epoch 45.00%" in page.parts["Summary"].replace("  ", " ")
    moved = make_run(tmp_path / "moved", model, tmp_path / "elsewhere.npz")
    assert main(["report", str(moved)]) == 0
    assert "elsewhere.npz" in capsys.readouterr().err
    assert "elsewhere.npz" in read(moved / "report.html").parts["Confusion"]
    assert open_run(moved, data=data, explain=False).findings.evaluation.count == 80
    arrays = make_run(tmp_path / "arrays", model, "arrays")
    assert "name its data by --data" in open_run(arrays).missing["findings"]


def test_without_pooling_there_are_no_heat_maps(run, data, monkeypatch):
    monkeypatch.setattr(
        "keras_resnet.report.collect.gradcam", lambda *a: (_ for _ in ()).throw(ValueError("no"))
    )
    record = open_run(run)
    assert (record.heat, record.missing) == (None, {"heat": "No heat maps: no"})
    assert len(record.findings.mistakes) == EXAMPLES


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("config.yaml", None, "config.yaml: there is no such file; give the folder of a run"),
        ("config.yaml", "a: [", "config.yaml is not readable"),
        ("config.yaml", "- a", "config.yaml is not the configuration of a run"),
        ("history.csv", "epoch,loss\n1,2\n2\n", "history.csv is damaged: a row has not as many values"),
        ("history.csv", "epoch,loss\n1,x\n", "history.csv is damaged: could not convert"),
        ("env.json", "{", "env.json is damaged"),
        ("env.json", "3", "env.json is damaged"),
        ("classes.txt", b"\xff", "classes.txt is damaged"),
    ],
)
def test_damaged_files_are_named(name, content, message, data, tmp_path, capsys):
    folder = make_run(tmp_path / "run", None, data)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["report", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_no_folder_to_write_into(run, tmp_path):
    with pytest.raises(ValueError, match=r"absent: there is no such folder to write a\.html into"):
        write_report(run, tmp_path / "absent" / "a.html")
    with pytest.raises(ValueError, match="no run is given"):
        write_report([])


def test_bare_history(tmp_path, data):
    folder = make_run(tmp_path / "run", None, data)
    for text in ("", "epoch,loss\n", "epoch,loss\n1,inf\n", "loss\n0.5\n"):
        (folder / "history.csv").write_text(text)
        assert read_run(folder).seconds is None
        assert list(read(write_report(folder)[0]).parts) == HEADINGS


def test_a_failed_report_leaves_the_former_one(tmp_path, monkeypatch):
    (tmp_path / "a.html").write_text("former")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write.write_text(tmp_path / "a.html", "new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.html": "former"}


def test_a_failed_report_does_not_fail_the_training(run, model, data, tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise RuntimeError("for any reason")

    monkeypatch.setattr(write, "read_run", fail)
    held_out = make_dataset(data, "held_out")
    history = read_run(run).history
    done = fit._report(model, held_out, tmp_path, history, CLASSES)
    assert done.evaluation.count == 80
    assert capsys.readouterr().err == (
        f"{tmp_path}/report.html could not be written: RuntimeError: for any reason\n"
    )
    assert (tmp_path / "curves.png").exists()


# Figures.


def numbers(svg, *names):
    return [float(n) for name in names for n in re.findall(rf' {name}="([-\d.]+)"', svg)]


@pytest.mark.parametrize(
    "points", [[(1, 0.5)], [(1, 2.0), (2, 2.0)], [(1, -3.0), (2, 1e9)], [(i, i % 7) for i in range(300)]]
)
def test_points_lie_inside_of_the_chart(points):
    svg = figures.chart("a", [figures.Line("b", points)])
    width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
    assert len(numbers(svg, "cx")) == len(points)
    assert 0 < min(numbers(svg, "cx", "x")) <= max(numbers(svg, "cx", "x")) < width
    assert 0 < min(numbers(svg, "cy", "y")) <= max(numbers(svg, "cy", "y")) < height
    assert svg.count('class="tick"') >= 3


def test_points_that_are_not_finite_are_left_out():
    line = figures.Line("b", [(1, float("nan")), (2, 1.0), (3, float("inf"))])
    assert figures.chart("a", [line]).count("<circle") == 1
    assert figures.chart("a", [figures.Line("b", line.points[:1])]) == ""


def test_lines_of_many_runs_can_be_told_apart():
    svg = figures.chart("a", [figures.Line(str(i), [(1, i), (2, i)]) for i in range(12)])
    assert len(set(re.findall(r'class="(line [^"]*)"', svg))) == 12


@pytest.mark.parametrize("classes, texts", [(3, 11), (30, 60), (60, 0)])
def test_confusion_matrix_writes_what_has_room(classes, texts):
    svg = figures.confusion_matrix(
        np.diag(np.full(classes, 2)) + np.eye(classes, k=1, dtype=int), (CLASSES * 10)[:classes]
    )
    assert svg.count("<rect") == 1 + 2 * classes - 1
    # Names down and across, and counts.
    assert svg.count("<text") == texts
