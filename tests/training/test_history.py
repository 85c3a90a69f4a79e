"""The files in which a person follows a run."""

import csv

import numpy as np
import pytest
import tensorflow as tf

from stan_ct.training.history import TERMS, Board, Table, history_columns, image_panel


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_table(tmp_path):
    """Rows as given, numbers with six digits, columns without a value empty."""
    table = Table(tmp_path / "new/t.csv", ["step", "phase", "error"], 0)
    table.write(step=1, phase="d")
    table.write(step=1234567, phase="g", error=0.123456789)
    table.close()
    assert (tmp_path / "new/t.csv").read_text() == "step,phase,error\n1,d,\n1234567,g,0.123457\n"
    assert table.rows == 2


def test_unknown_column(tmp_path):
    """A number that has no column is refused, not dropped."""
    table = Table(tmp_path / "t.csv", ["step"], 0)
    with pytest.raises(ValueError, match="loss"):
        table.write(step=1, loss=2.0)
    table.close()


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_rows_after_the_checkpoint_are_dropped(tmp_path, kept):
    """A run that goes on keeps as many rows as its checkpoint counts, bit for bit, and writes on after them."""
    table = Table(tmp_path / "t.csv", ["step"], 0)
    for step in range(3):
        table.write(step=step)
    table.close()
    table = Table(tmp_path / "t.csv", ["step"], kept)
    assert table.rows == kept
    table.write(step=9)
    table.close()
    assert [row["step"] for row in rows(tmp_path / "t.csv")] == [*map(str, range(kept)), "9"]


def test_half_a_row_is_dropped(tmp_path):
    """A line that a killed run left half-written is after its checkpoint, and goes."""
    (tmp_path / "t.csv").write_text("step\n0\n1\n2")
    Table(tmp_path / "t.csv", ["step"], 2).close()
    assert (tmp_path / "t.csv").read_text() == "step\n0\n1\n"


def test_flush(tmp_path):
    """Flushed rows are on the disk while the file is open."""
    table = Table(tmp_path / "t.csv", ["step"], 0)
    table.write(step=7)
    table.flush()
    assert [row["step"] for row in rows(tmp_path / "t.csv")] == ["7"]
    table.close()


def test_history_columns():
    """One column for every term, P(real) of targets by D, of synthesized patches by D and G, and accuracy by D and G."""
    assert history_columns(2, 1) == [
        *("step", "phase", "phases", "attempt", "version", "ended", *TERMS, "latent_validation"),
        *("p_real_target_d0", "p_real_synthesized_d0_g0", "p_real_synthesized_d0_g1"),
        *("accuracy_d0_g0", "accuracy_d0_g1", "accuracy_d0_source"),
    ]
    assert history_columns(2, 0)[-1] == "latent_validation"


def test_image_panel():
    """Source | output | target | difference; a lung window above a soft-tissue one; difference 0 is mid-gray."""
    source, output, target = (np.full((2, 3), hu, np.float32) for hu in (-600, 40, -60))
    panel = image_panel(source, output, target)
    assert panel.shape == (4, 12)
    lung, tissue = panel[0, ::3], panel[2, ::3]
    np.testing.assert_allclose(lung, [0.5, 1390 / 1500, 1290 / 1500, 0.5 + 100 / 1500])
    np.testing.assert_allclose(tissue, [0, 0.5, 0.25, 0.75])


def test_board(tmp_path):
    """Scalars and panel lie in TensorBoard's files under their names."""
    board = Board(tmp_path)
    board.scalars(3, {"mae": 0.25}, "validation/g0/")
    board.image(3, np.linspace(0, 1, 8).reshape(2, 4))
    board.close()
    (path,) = tmp_path.iterdir()
    events = [tf.compat.v1.Event.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    values = {v.tag: (e.step, v.tensor) for e in events for v in e.summary.value}
    step, tensor = values["validation/g0/mae"]
    assert (step, tf.make_ndarray(tensor)) == (3, 0.25)
    width, height = tf.make_ndarray(values["source | output | target | difference"][1])[:2]
    assert (width, height) == (b"4", b"2")
