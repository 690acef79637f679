"""`predict` on many files: a table of whole rows, gone on with, whatever happens."""

import csv
import os
import resource
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_resnet import build_resnet, open_model, predict, predict_to_csv
from keras_resnet.cli import main
from keras_resnet.inference.outputs import CsvRows, NpyRows, text_of

NAMES = ["ant", "bee, or wasp", 'the "cat"']


def classifier(seed, **options):
    keras.utils.set_random_seed(seed)
    return build_resnet(
        stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, stem_filters=8, num_classes=3,
        **dict(input_shape=(8, 8, 3), normalization=(0.5, 0.25)) | options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    classifier(1).save(folder / "model.keras")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return folder


@pytest.fixture(scope="module")
def artifact(run):
    return open_model(run)


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_rows_are_what_predict_says(artifact, folder, tmp_path):
    report = predict_to_csv(artifact, folder, tmp_path / "out.csv", top=2, batch_size=5)
    assert (report.known, report.written, report.errors) == (0, 12, [])
    header, *found = rows(tmp_path / "out.csv")
    assert header == ["path", "class_1", "probability_1", "class_2", "probability_2"]
    expected = predict(artifact, [folder / "cat", folder / "dog"], top=2)
    assert [row[0] for row in found] == [p.path for p in expected]
    for row, prediction in zip(found, expected, strict=True):
        assert row[1::2] == [name for name, _ in prediction.classes]
        np.testing.assert_allclose(
            [float(p) for p in row[2::2]], [p for _, p in prediction.classes], rtol=1e-4
        )


@pytest.fixture
def bad(folder):
    """A folder with files that cannot be read, and a strange name."""
    (folder / "cat/1.png").write_bytes(b"")
    (folder / "dog/3.png").write_bytes((folder / "dog/3.png").read_bytes()[:200])
    (folder / "dog/scan.tiff").write_bytes(b"II*\0")
    (folder / "dog/4.png").rename(folder / "dog/4\n,é.png")
    return folder


def test_unreadable_files_are_passed_over_and_tried_again(artifact, bad, tmp_path):
    out, features = tmp_path / "out.csv", tmp_path / "features.npy"
    report = predict_to_csv(artifact, bad, out, features=features, batch_size=5)
    assert (report.known, report.written) == (0, 10)
    assert [error.rpartition("/")[2].partition(":")[0] for error in report.errors] == [
        "1.png",
        "3.png",
        "scan.tiff",
    ]
    assert len(rows(out)) == 11
    (bad / "cat/1.png").write_bytes((bad / "cat/0.png").read_bytes())
    report = predict_to_csv(artifact, bad, out, features=features, batch_size=5)
    assert (report.known, report.written, len(report.errors)) == (10, 1, 2)
    table, arrays = rows(out)[1:], np.load(features)
    assert table[-1][0].endswith("cat/1.png")
    assert arrays.shape == (11, 8)
    np.testing.assert_allclose(arrays[-1], arrays[0], rtol=1e-5)  # the same image as cat/0.png
    head = artifact.model.get_layer("head")
    logits = arrays @ head.kernel.numpy() + head.bias.numpy()
    assert [row[1] for row in table] == [NAMES[i] for i in logits.argmax(axis=1)]


@pytest.mark.parametrize("removed", [1, 30, 200])
def test_an_interrupted_run_goes_on(artifact, folder, tmp_path, removed):
    out, features = tmp_path / "out.csv", tmp_path / "features.npy"
    predict_to_csv(artifact, folder, out, features=features)
    whole, arrays = rows(out), np.load(features)
    out.write_bytes(out.read_bytes()[:-removed])
    with features.open("ab") as file:
        file.write(b"torn")
    left = len(out.read_bytes().splitlines()) - 2  # the last line is torn
    report = predict_to_csv(artifact, folder, out, features=features)
    assert (report.known, report.written) == (left, 12 - left)
    assert [row[:2] for row in rows(out)] == [row[:2] for row in whole]
    np.testing.assert_allclose(np.load(features), arrays, rtol=1e-4, atol=1e-6)
    assert predict_to_csv(artifact, folder, out, features=features).written == 0


def test_tables_of_other_models_and_options_are_left_alone(artifact, folder, tmp_path):
    out = tmp_path / "out.csv"
    predict_to_csv(artifact, folder / "cat", out)
    before = out.read_bytes()
    with pytest.raises(ValueError, match=r"out\.csv begins with 'path,class_1.*where .* belongs"):
        predict_to_csv(artifact, folder, out, top=2)
    other = type(artifact)(classifier(7), artifact.class_names, artifact.geometry)
    with pytest.raises(ValueError, match=r"out\.csv has .* where this model has .*another model made it"):
        predict_to_csv(other, folder, out)
    with pytest.raises(ValueError, match=r"features\.npy: there is no such file, but 6 rows belong into it"):
        predict_to_csv(artifact, folder, out, features=tmp_path / "features.npy")
    assert out.read_bytes() == before


def test_paths_that_cannot_be_written(artifact, folder, tmp_path):
    with pytest.raises(ValueError, match="cannot be written: Is a directory"):
        predict_to_csv(artifact, folder, tmp_path)
    with pytest.raises(ValueError, match=r"nowhere/out\.csv cannot be written: No such file"):
        predict_to_csv(artifact, folder, tmp_path / "nowhere/out.csv")


@pytest.fixture
def limited():
    """Files end at 300 bytes, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_whole_rows(tmp_path, limited):
    with CsvRows(tmp_path / "out.csv", ["path", "x"]) as table, NpyRows(tmp_path / "a.npy", 10, 0) as arrays:
        limited()
        table.append([["first", 1]])
        with pytest.raises(ValueError, match=r"out\.csv cannot be written: File too large"):
            table.append([["second", "x" * 400]])
        arrays.append(np.ones((2, 10)))
        with pytest.raises(ValueError, match=r"a\.npy cannot be written"):
            arrays.append(np.ones((5, 10)))
    assert rows(tmp_path / "out.csv") == [["path", "x"], ["first", "1"]]
    assert np.load(tmp_path / "a.npy").tolist() == np.ones((2, 10)).tolist()


def test_arrays_that_do_not_fit_the_table(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"a\.npy is no array of rows"):
        NpyRows(path, 3, 1)
    np.save(path, np.ones((2, 4), "float32"))
    with pytest.raises(ValueError, match="does not hold 2 rows of 3 numbers"):
        NpyRows(path, 3, 2)
    with pytest.raises(ValueError, match="does not hold 3 rows of 4 numbers"):
        NpyRows(path, 4, 3)


def test_models_that_cannot_name_an_image(artifact, folder, tmp_path):
    bare = type(artifact)(classifier(1, include_top=False), artifact.class_names, {})
    with pytest.raises(ValueError, match="has no head to classify with"):
        predict(bare, folder)
    with pytest.raises(ValueError, match="takes 5 channels"):
        predict(type(artifact)(classifier(1, input_shape=(8, 8, 5)), artifact.class_names, {}), folder)
    with pytest.raises(ValueError, match="top=0"):
        predict(artifact, folder, top=0)


def test_a_model_that_resizes_gets_whole_images(save_image, tmp_path):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Resizing(8, 8, crop_to_aspect_ratio=True)(inputs, training=False)
    network = keras.Model(inputs, classifier(1)(x))
    paths = [save_image("a.png", size=(16, 9)), save_image("b.png", size=(11, 20))]
    network.save(tmp_path / "model.keras")
    artifact = open_model(tmp_path / "model.keras")
    from keras_resnet.data.decode import read_image

    for path, prediction in zip(paths, predict(artifact, paths), strict=True):
        expected = network.predict(read_image(path)[None].astype("float32"), verbose=0)[0].max()
        assert prediction.classes[0][1] == pytest.approx(expected, abs=1e-5)


def test_the_command(run, bad, tmp_path, capsys):
    arguments = ["predict", str(run), str(bad), "--top-k", "1"]
    out = tmp_path / "out.csv"
    assert main([*arguments, "--out", str(out), "--features", str(tmp_path / "f.npy")]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{out}: 10 images\n"
    assert printed.err.splitlines()[-1] == "3 files could not be read"
    assert "dog/3.png: damaged image" in printed.err
    assert "dog/scan.tiff: TIFF is not supported" in printed.err
    assert main([*arguments, "--out", str(out), "--ignore-errors"]) == 0
    assert capsys.readouterr().out == f"{out}: 0 images; 10 were there\n"
    assert main(arguments) == 1
    assert len(capsys.readouterr().out.splitlines()) == 20
    assert main([*arguments, "--features", "f.npy"]) == 2
    assert "--features needs --out" in capsys.readouterr().err


STRANGE = [
    "a\rb.png", "a\nb.png", "a\r\nb.png", '"a".png', "a,b.png", "=1+1.png", "+1.png", "-1.png", "@x.png",
    "\tx.png",
    "'quoted'.png", "'=1.png", " a .png", "é.png", "\uff1d1.png", "x\x1b.png", "\r.png", "\n.png",
    '"\n=1"\r.png',
]  # fmt: skip


def test_names_come_back_as_they_were(tmp_path):
    with CsvRows(tmp_path / "out.csv", ["path", "class"]) as table:
        table.append([[name, name] for name in STRANGE])
    found = rows(tmp_path / "out.csv")[1:]
    assert [[text_of(cell) for cell in row] for row in found] == [[name, name] for name in STRANGE]
    assert not [cell for row in found for cell in row if cell[0] in "=+-@\t\r\n\uff1d"]
    before = (tmp_path / "out.csv").read_bytes()
    with CsvRows(tmp_path / "out.csv", ["path", "class"]) as table:
        assert table.known == set(STRANGE)
        assert table.last == [STRANGE[-1]] * 2
    assert (tmp_path / "out.csv").read_bytes() == before


def test_images_of_strange_names_are_predicted_once(artifact, tmp_path, save_image, monkeypatch):
    monkeypatch.chdir(tmp_path)  # so that formulas are at the beginning
    names = [*STRANGE, os.fsdecode(b"\xff.png")]
    for name in names:
        save_image(name)
    assert predict_to_csv(artifact, names, "out.csv").written == len(names)
    assert predict_to_csv(artifact, names, "out.csv").known == len(names)
    assert predict_to_csv(artifact, names, "out.csv").written == 0
    assert [text_of(row[0]) for row in rows("out.csv")[1:]] == [*STRANGE, r"\udcff.png"]


@pytest.mark.parametrize("cut", range(1, 36, 3))
def test_a_row_with_a_line_break_that_was_cut_off_is_removed(tmp_path, cut):
    with CsvRows(tmp_path / "out.csv", ["path", "class"]) as table:
        table.append([["a", "b"]])
        table.append([["c\nd\n\ne\n" * 4, "x\n"]])
    whole = (tmp_path / "out.csv").read_bytes()
    (tmp_path / "out.csv").write_bytes(whole[:-cut])
    with CsvRows(tmp_path / "out.csv", ["path", "class"]) as table:
        assert table.known == {"a"}
    assert (tmp_path / "out.csv").read_bytes() == b"path,class\na,b\n"


@pytest.mark.parametrize(
    "damage, message",
    [
        (b"a,b\nc\n", "row 2 has not the 2 cells"),
        (b'a,b"\n"c,d\n', "row 1 has not the 2 cells"),
        (b"a,b\n\n", "row 2 has not the 2 cells"),
        (b"\xff,b\n", "row 1 has not the 2 cells"),
        (b'"' + b"x\n" * 600_000, "is not a CSV file that this command wrote"),
    ],
)
def test_a_damaged_table_is_left_alone(tmp_path, damage, message):
    (tmp_path / "out.csv").write_bytes(b"path,class\n" + damage)
    with pytest.raises(ValueError, match=message):
        CsvRows(tmp_path / "out.csv", ["path", "class"])
    assert (tmp_path / "out.csv").read_bytes() == b"path,class\n" + damage


HOLD = """
import sys
from keras_resnet.inference.outputs import CsvRows, NpyRows
with CsvRows(sys.argv[1] + "/out.csv", ["path"]), NpyRows(sys.argv[1] + "/a.npy", 4, 0):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_write_one_file(tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "held\n"
    for opened in (
        lambda: CsvRows(tmp_path / "out.csv", ["path"]),
        lambda: NpyRows(tmp_path / "a.npy", 4, 0),
    ):
        with pytest.raises(ValueError, match=r"(out\.csv|a\.npy) is being written by another process; wait"):
            opened()
    writer.kill()  # the lock of a process that is gone holds nobody up
    writer.communicate()
    with CsvRows(tmp_path / "out.csv", ["path"]), NpyRows(tmp_path / "a.npy", 4, 0):
        pass


def test_a_table_is_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match=r"pipe\.csv cannot be written: it is not a regular file"):
        CsvRows(tmp_path / "pipe.csv", ["path"])
