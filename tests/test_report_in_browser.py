"""The report as a browser shows it: on a desk and on a phone, in light and dark."""

import pytest
from browser import browse, find
from test_report import HEADINGS, data, make_run, model, report, run  # noqa: F401

from keras_resnet import write_report

DESK, PHONE = 1200, 390
BOXES = """Object.fromEntries([...document.querySelectorAll("section")].map(part => {
  const box = part.getBoundingClientRect();
  return [part.querySelector("h2").textContent,
          [box.left + scrollX, box.top + scrollY, box.right + scrollX, box.bottom + scrollY].map(Math.round)];
}))"""
CELLS = '[...document.querySelectorAll("#classes tbody tr")].map(row => row.cells[%d].textContent)'


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = find()
    if path is None:
        pytest.skip("no browser: install chromium")
    with browse(path, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module", params=[(DESK, False), (DESK, True), (PHONE, False), (PHONE, True)],
                ids=["desk", "desk-dark", "phone", "phone-dark"])  # fmt: skip
def shown(request, page, report):  # noqa: F811
    """The page in a window: ``(page, width, dark, screenshot)``."""
    width, dark = request.param
    page.open(report[0], width, dark=dark)
    return page, width, dark, page.screenshot()


def test_nothing_is_complained_about_or_fetched(shown, report):  # noqa: F811
    page, *_ = shown
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("data:")] == [report[0].resolve().as_uri()]
    assert page.run("window.hacked") is None


def test_images_load(shown):
    page, *_ = shown
    widths = page.run("[...document.images].map(image => image.complete && image.naturalWidth)")
    assert len(widths) > 24
    assert min(widths) > 0


def test_layout(shown):
    page, width, _, shot = shown
    boxes = page.run(BOXES)
    assert list(boxes) == HEADINGS
    assert page.run("document.documentElement.scrollWidth") <= width
    assert shot.shape[1] == width
    for (left, top, right, bottom), after in zip(
        boxes.values(), [*list(boxes.values())[1:], None], strict=True
    ):
        assert 0 <= left < right <= width
        assert after is None or bottom <= after[1]
        # Something is drawn in every part: text, of which few pixels are, in both colours.
        assert shot[top:bottom, left:right].astype(int).std() > 5
        assert bottom - top > 60
    for selector, columns in (
        (".tiles > div", {DESK: 5, PHONE: 2}),
        (".charts > figure", {DESK: 2, PHONE: 1}),
    ):
        lefts = page.run(
            f'[...document.querySelectorAll("{selector}")].map(e => e.getBoundingClientRect().left)'
        )
        assert len(set(lefts)) == columns[width], selector


def test_text_can_be_read(shown):
    page, _, dark, shot = shown
    background = shot[:5].mean()
    assert background < 60 if dark else background > 230
    sizes = page.run("""[...document.querySelectorAll("text, td, p, figcaption")].map(e => {
      const scale = e.getCTM ? Math.hypot(e.getCTM().a, e.getCTM().b) : 1;
      return scale * parseFloat(getComputedStyle(e).fontSize);
    })""")
    assert min(sizes) > 8
    contrast = page.run("""(() => {
      const light = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const ground = light(getComputedStyle(document.body).backgroundColor);
      return [...document.querySelectorAll("td, p, h1, h2, h3, th, dt, dd, figcaption, nav a")].map(e => {
        const ink = light(getComputedStyle(e).color);
        return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
      });
    })()""")
    assert min(contrast) >= 4.5  # WCAG 2.2, 1.4.3


def test_colours_differ_between_light_and_dark(page, report):  # noqa: F811
    shots = []
    for dark in (False, True):
        page.open(report[0], DESK, dark=dark)
        shots.append(page.run('getComputedStyle(document.querySelector("svg .line polyline")).stroke'))
    assert shots[0] != shots[1]


def test_tables_are_sorted_by_a_click(page, report):  # noqa: F811
    page.open(report[0])
    names = page.run(CELLS % 0)
    orders = {}
    for column in (0, 2):
        button = f'document.querySelectorAll("#classes th button")[{column}]'
        for direction in ("ascending", "descending"):
            page.run(f"{button}.click()")
            orders[column, direction] = page.run(CELLS % column)
            assert page.run(f'{button}.parentElement.getAttribute("aria-sort")') == direction
    assert orders[0, "ascending"] != names
    assert orders[0, "ascending"] == orders[0, "descending"][::-1]
    assert sorted(orders[0, "ascending"]) == sorted(names)
    for direction in ("ascending", "descending"):
        shares = [float(text.rstrip("%")) for text in orders[2, direction]]
        assert shares == sorted(shares, reverse=direction == "descending")
        assert len(set(shares)) > 1
    assert page.run('document.querySelectorAll("#classes th[aria-sort]").length') == 1


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_comparison(page, width, run, model, data, tmp_path):  # noqa: F811
    others = [make_run(tmp_path / f"other{i}", None, data, epochs=i) for i in range(2, 11)]
    path, _ = write_report([run, *others], tmp_path / "all.html")
    page.open(path, width)
    shot = page.screenshot()
    assert page.complaints == []
    assert page.run("document.documentElement.scrollWidth") <= width
    for left, top, right, bottom in page.run(BOXES).values():
        assert shot[top:bottom, left:right].astype(int).std() > 5
