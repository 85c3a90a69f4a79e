"""The blinded page: what it shows equals the HU, it hides who is who, and its answers come back unblinded."""

import csv
import html
import json
import re
import shutil
import subprocess
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from stan_ct.evaluation.readers.page import CHOICES, COLUMNS, TEMPLATE, WINDOWS, Case, deal, read_answers, write_reader_study

BROWSER = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
SPACING = (0.5, 0.8)
SHAPE = (3, 20, 24)


def cases(number=4, seed=0):
    """Noise that reaches from -32768 to 32767 HU, so that differences of neighbours exceed 16 bits."""
    rng, made = np.random.default_rng(seed), []
    for i in range(number):
        images = {kind: rng.normal(0, 500, SHAPE).round().astype(np.float32) for kind in ("synthesized", "target")}
        images["target"][0, 0, :4] = -32768, 32767, -32768, 0
        made.append(Case(f"Zwetschge-{i}", images, SPACING))
    return made


def gray(hu, width, level):
    return np.floor(np.clip((hu.astype(np.float64) - level) / width + 0.5, 0, 1) * 255 + 0.5)


def browse(page, folder):
    """The report of the page's self test, run in a browser that keeps its storage in `folder`."""
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
    command += ["--window-size=1280,800", "--virtual-time-budget=60000", "--dump-dom", f"file://{page}#selftest"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
    return json.loads(html.unescape(re.search(r'<pre id="report">(.*?)</pre>', dom, re.DOTALL)[1]))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = cases()
    page, key = write_reader_study(made, tmp_path_factory.mktemp("study"), repeats=2, catch_trials=1, seed=3)
    return made, page, key, json.loads(key.read_text())


@pytest.fixture(scope="module")
def reports(study, tmp_path_factory):
    """Two visits of one reader."""
    if BROWSER is None:
        pytest.skip("no chromium or google-chrome on the PATH")
    folder = tmp_path_factory.mktemp("profile")
    return [browse(study[1], folder) for _ in range(2)]


def test_canvases_show_the_hu(study, reports):
    """Every pixel of every case, slice, side and window preset has on the canvas the gray value that its HU has."""
    made, _, _, key = study
    by_name = {case.name: case for case in made}
    assert [image["slice"] for image in reports[0]["images"][:9]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]  # the wheel turns downwards
    shown = Counter()
    for image in reports[0]["images"]:
        hidden = key["cases"][image["case"]]
        for kind, seen in zip(hidden["kinds"], image["gray"], strict=True):
            _, width, level = WINDOWS[int(image["key"]) - 1]
            hu = by_name[hidden["name"]].images[kind][image["slice"]]
            np.testing.assert_array_equal(seen, gray(hu, width, level))
        shown[image["case"], image["slice"], image["key"]] += 1
    assert shown == {(case, z, key_): 1 for case in key["cases"] for z in range(SHAPE[0]) for key_ in "123"}


def test_dragging_sets_the_window(study, reports):
    """10 pixels to the right widen by 20 HU, 5 up raise the level by 10; both sides follow."""
    made, _, _, key = study
    state = reports[0]["states"]["window"]
    assert (state["width"], state["level"], state["slice"]) == (420, 50, 1)
    hidden = next(iter(key["cases"].values()))
    images = next(case.images for case in made if case.name == hidden["name"])
    for kind, seen in zip(hidden["kinds"], state["gray"], strict=True):
        np.testing.assert_array_equal(seen, gray(images[kind][1], 420, 50))


def test_zoom_pan_and_reset(reports):
    """The image fits in mm, moves with the mouse, grows about the mouse, and reset undoes it all."""
    states = reports[0]["states"]
    (width, height), (x, y, w, h) = states["window"]["canvas"], states["window"]["place"]
    scale = min(width / (SHAPE[2] * SPACING[1]), height / (SHAPE[1] * SPACING[0]))
    assert (w, h) == pytest.approx((SHAPE[2] * SPACING[1] * scale, SHAPE[1] * SPACING[0] * scale), rel=2e-3)
    assert (2 * x + w, 2 * y + h) == pytest.approx((width, height))
    assert states["window"]["ruler"][1] == "2 mm"
    assert float(states["window"]["ruler"][0][:-2]) == pytest.approx(2 * scale, rel=2e-3)
    assert states["pan"]["place"] == pytest.approx([x + 3, y + 4, w, h])
    assert (states["pan"]["width"], states["pan"]["level"]) == (420, 50)
    zoom = states["zoom"]["zoom"]
    assert zoom == pytest.approx(np.e)
    assert states["zoom"]["place"][2:] == pytest.approx([w * zoom, h * zoom])
    corner = (states["zoom"]["place"][0] - states["pan"]["place"][0] * zoom) / (1 - zoom)
    assert corner < -width  # the page's corner, left of the right canvas
    reset = states["reset"]
    assert [reset[k] for k in ("width", "level", "zoom", "x", "y")] == [*WINDOWS[1][1:], 1, 0, 0]


def test_answers_come_back_unblinded(study, reports, tmp_path):
    """The page's own CSV is read: every choice of every question, and a comment with quotes and line breaks."""
    _, page, key_path, key = study
    path = tmp_path / "a.csv"
    path.write_text("\ufeff" + reports[0]["csv"], encoding="utf-8", newline="")
    answers = read_answers([path], key_path)
    assert [a.case for a in answers] == list(key["cases"])
    for index, answer in enumerate(answers):
        expected = {q: choices[(index + i) % len(choices)] for i, (q, choices) in enumerate(CHOICES.items())}
        hidden = key["cases"][answer.case]
        assert answer.said == expected
        assert (answer.reader, answer.comment) == ("TEST", f'case "{index + 1}", fine\nsecond line')
        assert (answer.name, answer.role, list(answer.kinds)) == (hidden["name"], hidden["role"], hidden["kinds"])
    assert {page.name, key_path.name} == {f"reader-study-{key['study']}.html", f"reader-study-{key['study']}-key.json"}


def test_a_closed_page_goes_on(reports):
    """The second visit of a reader finds the answers of the first; an incomplete case is not passed without a word."""
    assert [report["resumed"] for report in reports] == [0, 7]
    assert reports[0]["refused"] == {"at": 0, "text": "7 questions are open. Press Next again to leave them so."}
    assert reports[1]["refused"]["at"] == 1
    assert reports[0]["progress"] == "Case 1 of 7 · 7 complete"


def test_the_page_does_not_tell(study):
    """Neither names nor kinds nor roles nor the network: the page holds them nowhere, in any case."""
    made, page, _, key = study
    text = re.sub(
        r'(<script type="text/plain" id="[0-9a-f]{6}-(?:left|right)">)[A-Za-z0-9+/=]+', r"\1", page.read_text()
    ).lower()
    assert len(text) < 1.2 * len(TEMPLATE.read_text())
    words = ["zwetschge", "synthesi", "target", "source", "trial", '"repeat"', '"catch"', "://", "src=", "seed"]
    assert [word for word in words if word in text] == []
    assert re.findall(r'"id": "([0-9a-f]+)"', text) == list(key["cases"])
    assert "connect-src" not in text
    assert "default-src 'none'" in text
    assert len(made) == 4


def test_dealing():
    """Each case once, half with the first kind on the left; repeats swapped, catch trials alike; none after itself."""
    made = cases(8)
    orders = set()
    for seed in range(20):
        trials = deal(made, 3, 2, np.random.default_rng(seed))
        assert Counter(t.role for t in trials) == {"trial": 8, "repeat": 3, "catch": 2}
        first = {t.case: t.kinds for t in trials if t.role == "trial"}
        assert Counter(first.values()) == {("synthesized", "target"): 4, ("target", "synthesized"): 4}
        assert all(t.kinds == first[t.case][::-1] for t in trials if t.role == "repeat")
        assert all(t.kinds[0] == t.kinds[1] for t in trials if t.role == "catch")
        assert all(a.case is not b.case for a, b in pairwise(trials))
        orders.add(tuple((t.case.name, t.kinds) for t in trials))
    assert len(orders) == 20


def test_a_seed_repeats_a_study_and_other_images_do_not(tmp_path):
    """Equal seeds give equal bytes; another seed, other images or no seed give another study."""

    def written(made, seed):
        page, key = write_reader_study(made, tmp_path, seed=seed)
        return page.read_bytes(), key.read_bytes()

    assert written(cases(), 1) == written(cases(), 1)
    others = [
        written(cases(), 1),
        written(cases(), 2),
        written(cases(seed=9), 1),
        written(cases(), None),
        written(cases(), None),
    ]
    assert len({json.loads(key)["study"] for _, key in others}) == 5


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"a": np.zeros((1, 2, 2))}, "two images"),
        ({"a": np.zeros((1, 2, 2)), "b": np.zeros((1, 2, 3))}, "one shape"),
        ({"a": np.zeros((2, 2)), "b": np.zeros((2, 2))}, "one shape"),
        ({"a": np.zeros((1, 2, 2)), "b": np.full((1, 2, 2), np.nan)}, "b holds values that are no HU, such as nan"),
        ({"a": np.full((1, 2, 2), 32768.0), "b": np.zeros((1, 2, 2))}, "a holds values that are no HU, such as 32768"),
    ],
)
def test_images_that_cannot_be_compared(images, message):
    """Images of two grids or without HU are refused by the case's name."""
    with pytest.raises(ValueError, match=f"'c'.*{message}"):
        Case("c", images, SPACING)


def test_a_study_that_cannot_be(tmp_path):
    """More repeats than cases, one name twice, no image of the standard protocol."""
    with pytest.raises(ValueError, match="5 repeats and 0 catch trials need as many cases, got 4"):
        write_reader_study(cases(), tmp_path, repeats=5)
    with pytest.raises(ValueError, match="got twice: Zwetschge-0"):
        write_reader_study([*cases(1), *cases(1)], tmp_path)
    with pytest.raises(ValueError, match="standard kind 'L'"):
        write_reader_study(cases(), tmp_path, standard="L")
    assert list(tmp_path.iterdir()) == []


def row(key, case, **changes):
    return (
        dict(zip(COLUMNS, [key["study"], "AB", case, "5", "4", "none", "minor", "left", "same", "none", ""], strict=True))
        | changes
    )


def save(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_unblinding_by_hand(tmp_path):
    """Sides become kinds; the truth is the standard kind's side, and none where both sides are of one kind."""
    _, key_path = write_reader_study(cases(), tmp_path, catch_trials=4, seed=2)
    key = json.loads(key_path.read_text())
    answers = read_answers([save(tmp_path / "a.csv", [row(key, case) for case in key["cases"]])], key_path)
    for a in answers:
        assert a.unblinded("standard") == a.kinds[0]
        assert (a.unblinded("same"), a.unblinded("preference")) == ("same", "none")
        assert a.truth == ("" if a.role == "catch" else ("left", "right")[a.kinds.index("target")])
        if a.role != "catch":
            assert (a.of("quality", a.kinds[1]), a.of("artefacts", a.kinds[0])) == ("4", "none")
    assert {a.truth for a in answers} == {"", "left", "right"}
    assert {a.kinds[0] for a in answers if a.role == "catch"} == {"synthesized", "target"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": "0123456789"}, "row 2: the answers are to study '0123456789', the key is of"),
        ({"case": "zzzzzz"}, "has no case 'zzzzzz'"),
        ({"quality_right": "6"}, "quality_right is '6', expected one of 1, 2, 3, 4, 5"),
        ({"preference": ""}, "preference is '', expected one of left, right, none"),
        ({"reader": ""}, "initials are missing"),
    ],
)
def test_rows_that_are_refused(study, tmp_path, change, message):
    """A wrong row is named with its file, its line and what was expected."""
    _, _, key_path, key = study
    rows = [row(key, case) for case in key["cases"]]
    rows[0] |= change
    with pytest.raises(ValueError, match=re.escape(message)):
        read_answers([save(tmp_path / "a.csv", rows)], key_path)


def test_files_that_are_refused(study, tmp_path):
    """A missing case, one answered twice, other columns, a file that is no key."""
    _, _, key_path, key = study
    rows = [row(key, case) for case in key["cases"]]
    path, short = save(tmp_path / "a.csv", rows), save(tmp_path / "b.csv", rows[1:])
    with pytest.raises(ValueError, match=f"reader AB has no answer to 1 cases: {rows[0]['case']}"):
        read_answers([short], key_path)
    with pytest.raises(ValueError, match=rf"answered twice \(reader, case\): AB {rows[1]['case']}"):
        read_answers([path, short], key_path)
    (tmp_path / "c.csv").write_text("a;b\n1;2\n")
    with pytest.raises(ValueError, match=r"expected the columns study,.*, got a;b"):
        read_answers([tmp_path / "c.csv"], key_path)
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(ValueError, match="is no key of a reader study"):
        read_answers([path], tmp_path / "key.json")
