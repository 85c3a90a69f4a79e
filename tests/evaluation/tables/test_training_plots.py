"""Logs of a training are read as they were written, and their figures show them (Figs. 3 and 5)."""

import ast
import csv
import doctest
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

import stan_ct
from stan_ct.evaluation.measure.training_logs import History, VersionErrors, read_history, read_validation
from stan_ct.evaluation.tables import training_plots
from stan_ct.evaluation.tables.training_plots import errors_by_version, latent_loss, moving_mean, phase_starts
from stan_ct.report.plots import COLOURS

PACKAGE = Path(stan_ct.__file__).parent
NAN = float("nan")
FEATURES = ("dissimilarity", "contrast", "homogeneity", "energy", "correlation")


def history_columns(*numbers):
    """The function of this name in `training.history`, without importing TensorFlow."""
    tree = ast.parse((PACKAGE / "training/history.py").read_text())
    kept = [
        node
        for node in tree.body
        if (isinstance(node, ast.Assign) and node.targets[0].id == "TERMS") or getattr(node, "name", "") == "history_columns"
    ]
    names = {}
    exec(compile(ast.Module(kept, []), "history.py", "exec"), names)
    return names["history_columns"](*numbers)


def write(path, columns, rows):
    """A CSV file as training writes it: what a row lacks is empty."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def lines(ax):
    """What is drawn by `plot`: x and y of each line."""
    return [(line.get_xdata(), line.get_ydata()) for line in ax.get_lines()]


# What a training left behind


def test_validation_of_several_copies(tmp_path):
    """The best copy of each version, in the order of versions; the source apart; an undefined error is NaN."""
    columns = ["version", "step", "g", "error", *FEATURES]
    table = [
        [0, 0, "source", 0.3, 0.1, 0.2, 0.3, 0.4, 0.5],
        [2, 90, 0, "inf", 0.1, 0.1, 0.1, 0.1, "nan"],
        [1, 40, 0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2],
        [1, 40, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
    ]
    read = read_validation(write(tmp_path / "v.csv", columns, [dict(zip(columns, row, strict=True)) for row in table]))
    assert (read.versions.tolist(), read.steps.tolist()) == ([1, 2], [40, 90])
    assert tuple(read.errors) == FEATURES
    assert read.errors["contrast"].tolist() == [0.1, 0.1]
    np.testing.assert_equal(read.errors["correlation"], [0.1, NAN])
    assert read.source == dict(zip(FEATURES, [0.1, 0.2, 0.3, 0.4, 0.5], strict=True))


def test_history_as_training_writes_it(tmp_path):
    """All columns of training are accepted; empty ones are NaN."""
    columns = history_columns(2, 2)
    rows = [
        {"step": 0, "phase": "d", "phases": 0, "attempt": 0, "version": 0, "total_d": 1.5, "latent_validation": 0.04},
        {"step": 1, "phase": "g", "phases": 1, "attempt": 2, "version": 3, "latent": 0.03},
    ]
    read = read_history(write(tmp_path / "h.csv", columns, rows))
    assert read.phase.tolist() == ["d", "g"]
    assert [getattr(read, name).tolist() for name in ("phases", "attempt", "version")] == [[0, 1], [0, 2], [0, 3]]
    np.testing.assert_equal([read.latent, read.latent_validation], [[NAN, 0.03], [0.04, NAN]])


def test_a_line_that_is_still_being_written_is_left_out(tmp_path):
    """A training can be looked at while it goes on."""
    path = write(tmp_path / "h.csv", history_columns(1, 1), [{"phase": "d", "phases": 0, "attempt": 0, "version": 0}])
    path.write_text(path.read_text() + "0,d,0,0")
    assert read_history(path).phase.tolist() == ["d"]


def test_files_of_another_kind_are_refused(tmp_path):
    """With the columns that are missing, or that nothing was measured yet."""
    path = write(tmp_path / "x.csv", ["version", "step"], [])
    with pytest.raises(ValueError, match="g, error missing"):
        read_validation(path)
    with pytest.raises(ValueError, match="phase, phases, attempt, latent, latent_validation missing"):
        read_history(path)
    with pytest.raises(ValueError, match="no batch was trained yet"):
        read_history(write(tmp_path / "h.csv", history_columns(1, 1), []))
    source = {"version": 0, "step": 0, "g": "source", "error": 0.1}
    with pytest.raises(ValueError, match="no version of G was measured yet"):
        read_validation(write(tmp_path / "v.csv", ["version", "step", "g", "error"], [source]))


# Figure 3


def versions(scale, source=(0.8, 0.4)):
    """Three versions of two features."""
    errors = {"contrast": scale * np.array([4.0, 2.0, 1.0]), "energy": scale * np.array([2.0, 2.0, NAN])}
    return VersionErrors(np.array([1, 2, 4]), np.array([10, 20, 40]), errors, dict(zip(errors, source, strict=False)))


def test_errors_by_version_are_drawn():
    """A panel per feature and their mean; a line per method, dashed the source's level; undefined stays undefined."""
    figure = errors_by_version({"a": versions(1), "b": versions(0.5)})
    assert [ax.get_title() for ax in figure.axes] == ["contrast", "energy", "mean"]
    contrast, energy, mean = (lines(ax) for ax in figure.axes)
    assert contrast[0][0].tolist() == [1, 2, 4]
    assert [contrast[0][1].tolist(), contrast[1][1].tolist()] == [[4, 2, 1], [2, 1, 0.5]]
    np.testing.assert_equal(energy[0][1], [2, 2, NAN])
    np.testing.assert_equal(mean[1][1], [1.5, 1, NAN])
    assert [panel[2][1] for panel in (contrast, energy, mean)] == [[0.8, 0.8], [0.4, 0.4], pytest.approx([0.6, 0.6])]
    assert figure.axes[0].get_lines()[2].get_linestyle() == "--"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "source"]
    assert [ax.get_ylim()[0] for ax in figure.axes] == [0, 0, 0]
    assert [ax.get_ylim()[1] > top for ax, top in zip(figure.axes, (4.1, 2.05, 3.05), strict=True)] == [True] * 3


def test_methods_with_different_sources_have_a_level_each():
    """As with and without a filter in front: each level in its method's colour."""
    figure = errors_by_version({"a": versions(1), "b": versions(1, source=(0.1, 0.2)), "c": versions(1, source=())})
    levels = [line for line in figure.axes[0].get_lines() if line.get_label() == "source"]
    assert [(line.get_ydata()[0], to_hex(line.get_color()).upper()) for line in levels] == [
        (0.8, COLOURS[0]),
        (0.1, COLOURS[1]),
    ]


def test_curves_of_different_features_are_refused():
    """They cannot share panels."""
    other = VersionErrors(np.array([1]), np.array([1]), {"mae": np.array([1.0])}, {})
    with pytest.raises(ValueError, match="same features"):
        errors_by_version({"a": versions(1), "b": other})
    with pytest.raises(ValueError, match="same features"):
        errors_by_version({})


# Figure 5


def history():
    """D-phase 0-2, G-phase 3-6 (rolled back at 5), D-phase 7-8."""
    return History(
        phase=np.array(list("dddggggdd")),
        phases=np.array([0, 0, 0, 1, 1, 1, 1, 2, 2]),
        attempt=np.array([0, 0, 0, 0, 0, 1, 1, 0, 0]),
        version=np.array([0, 0, 0, 0, 0, 0, 0, 1, 1]),
        latent=np.array([NAN, NAN, NAN, 4, 2, 3, 1, NAN, NAN]),
        latent_validation=np.array([5, NAN, NAN, 5, NAN, NAN, 2, NAN, 2.0]),
    )


def test_latent_loss_marks_phases_versions_and_rollbacks():
    """D-phases are shaded, their starts dashed, those of G-phases solid; v1 is complete where the G-phase ends."""
    figure = latent_loss(history(), window=2)
    ax = figure.axes[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()][1::4] == ["moving mean of 2", "rolled back"]
    shades = [(p.get_x(), p.get_width(), to_hex(p.get_facecolor())) for p in ax.patches]
    assert shades == [(-0.5, 3, "#eceff3"), (2.5, 4, "#ffffff"), (6.5, 2, "#eceff3")]
    starts = {line.get_xdata()[0]: line.get_linestyle() for line in ax.get_lines() if len(set(line.get_xdata())) == 1}
    assert starts == {-0.5: "--", 2.5: "-", 6.5: "--", 4.5: "None"}  # the last is the mark of the rollback
    top = ax.child_axes[0]
    assert [(t, label.get_text()) for t, label in zip(top.get_xticks(), top.get_xticklabels(), strict=True)] == [(6.5, "v1")]


def test_latent_loss_draws_batches_their_mean_and_the_validation_batch():
    """Each at the batch it belongs to."""
    drawn = [(x, y) for x, y in lines(latent_loss(history(), window=2).axes[0]) if len(x) > 2]
    (x, raw), (_, smooth), (measured, validation) = drawn
    assert x.tolist() == list(range(9))
    np.testing.assert_equal(raw, history().latent)
    np.testing.assert_equal(smooth, [NAN, NAN, NAN, 4, 3, 2.5, 2, NAN, NAN])
    assert (measured.tolist(), validation.tolist()) == ([0, 3, 6, 8], [5, 5, 2, 2])


def test_many_phases_hide_no_curve():
    """Shades only where lines would stand too close."""
    phases = np.repeat(np.arange(61), 2)
    long = History(
        np.where(phases % 2, "g", "d"), phases, 0 * phases, phases // 2, np.where(phases % 2, 1.0, NAN), phases * NAN
    )
    ax = latent_loss(long).axes[0]
    assert (len(ax.patches), [line for line in ax.get_lines() if len(line.get_xdata()) == 2]) == (61, [])
    assert len(ax.child_axes[0].get_xticks()) <= 12


def test_what_did_not_happen_is_not_in_the_legend():
    """A new phase starts with its first attempt: no rollback."""
    smooth = replace(history(), attempt=np.array([1, 1, 1, 0, 0, 0, 0, 1, 1]))
    assert "rolled back" not in [text.get_text() for text in latent_loss(smooth).legends[0].get_texts()]


values = st.lists(st.one_of(st.floats(0, 9), st.just(NAN)), min_size=1, max_size=30)


@given(values, st.integers(1, 6), st.data())
def test_moving_mean_is_the_mean_of_the_last_values_of_the_phase(numbers, window, data):
    """Against the definition, batch by batch; undefined ones neither count nor are filled."""
    inner = data.draw(st.sets(st.integers(1, len(numbers) - 1))) if len(numbers) > 1 else set()
    starts = sorted({0} | inner)
    expected = []
    for i, number in enumerate(numbers):
        start = max(s for s in starts if s <= i)
        last = [n for n in numbers[start : i + 1] if not np.isnan(n)][-window:]
        expected.append(NAN if np.isnan(number) else np.mean(last))
    np.testing.assert_allclose(moving_mean(np.array(numbers), starts, window), expected, atol=1e-12)


def test_phases_start_where_their_number_changes():
    """A phase that goes back is still the same phase."""
    assert phase_starts(history()).tolist() == [0, 3, 7]


@pytest.mark.parametrize(("batches", "pixels"), [(4000, False), (4001, True)])
def test_many_batches_become_pixels(batches, pixels):
    """Up to 4000 points an SVG holds as lines."""
    g = np.full(batches, "g")
    zero = np.zeros(batches, int)
    drawn = latent_loss(History(g, zero, zero, zero, np.ones(batches), np.full(batches, NAN))).axes[0].get_lines()
    assert [line.get_rasterized() for line in drawn if len(line.get_xdata()) == batches] == [pixels] * 2


def test_the_settings_of_matplotlib_stay():
    """They are applied only while a figure is made."""
    before = dict(matplotlib.rcParams)
    latent_loss(history())
    errors_by_version({"a": versions(1)})
    assert dict(matplotlib.rcParams) == before


def test_docstrings():
    """The examples hold."""
    result = doctest.testmod(training_plots, extraglobs={"np": np})
    assert (result.failed, result.attempted) == (0, 1)
