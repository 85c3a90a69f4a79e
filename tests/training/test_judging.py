"""A judge for a model that has none: fitted to the records' validation patches, written beside its networks."""

from __future__ import annotations

import numpy as np
import pytest

from stan_ct.cli.main import main
from stan_ct.ct.filters import FrontEnd, RadialFilter
from stan_ct.models import judge as judge_module
from stan_ct.models.checksums import SHIPPED
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import check_model, load_judge, model_hash, read_config, save_model
from stan_ct.models.judge import THRESHOLD, Judge
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig
from stan_ct.training.judging import SAME_GAIN, same_filters
from stan_ct.training.validation import Validation

CONFIG = ModelConfig(
    "m",
    "stan_ct",
    "SOFT",
    "SHARP",
    True,
    qc_threshold=0.99,
    generator=GeneratorConfig(base_filters=1, residual=True),
    discriminator=DiscriminatorConfig(base_filters=1),
)


@pytest.fixture
def model(tmp_path):
    """A model that changes nothing, and has a discriminator."""
    save_model(tmp_path / "model", CONFIG, CONFIG.build_generator(), CONFIG.build_discriminator())
    return tmp_path / "model"


def test_a_judge_is_added_to_a_model(model, records, tmp_path, capsys, monkeypatch):
    """It is the one that training would fit, judges from then on, and is in the sums; the networks are the same bytes."""
    monkeypatch.setattr(judge_module, "MIN_PATCHES", 4)
    assert main(["fit-judge", str(model), str(records), f"--output_dir={tmp_path / 'judged'}"]) == 0
    printed = capsys.readouterr().out
    assert "judge fitted; of the validation patches it lets 100.0% of the targets and 100.0% of the outputs pass" in printed
    assert load_judge(model) is None
    found, config = load_judge(tmp_path / "judged"), check_model(tmp_path / "judged")
    assert (config.qc_threshold, read_config(model).qc_threshold) == (THRESHOLD, 0.99)
    for name in ("generator.npz", "discriminator.npz"):
        assert (tmp_path / "judged" / name).read_bytes() == (model / name).read_bytes()
    assert "judge.npz" in (tmp_path / "judged" / "SHA256SUMS").read_text()
    source, target = Validation(records, CONFIG.hu_window, 200).hu
    expected = Judge.fit(source, [target, source])  # an untrained residual G changes nothing
    np.testing.assert_allclose(found.limit["rest"], expected.limit["rest"], rtol=1e-3)


def test_a_judge_takes_the_place_of_another(model, records, monkeypatch):
    """In the model's own folder; also of one that this version cannot read."""
    monkeypatch.setattr(judge_module, "MIN_PATCHES", 4)
    np.savez(model / "judge.npz", mean_spectrum=np.zeros(3))
    (model / "SHA256SUMS").unlink()
    assert main(["fit-judge", str(model), str(records)]) == 0
    before = model_hash(model)
    assert check_model(model).qc_threshold == THRESHOLD
    assert main(["fit-judge", f"--model={model}", f"--records_dir={records}", "--validation_patches=0"]) == 0
    assert model_hash(model) == before


def test_what_no_judge_can_be_fitted_to(model, records, tmp_path, capsys):
    """Too few patches, a filter, no records, a model that ships: one line each, and nothing is written."""
    save_model(tmp_path / "filter", ModelConfig("f", "histogram", "SOFT", "SHARP", True, histogram=(0.0, 1.0)))
    before = model_hash(model)
    for arguments, words in (
        ([model, records], "needs 40 validation patches at least, not 4"),
        ([tmp_path / "filter", records], "has no network: a histogram needs no judge"),
        ([SHIPPED / "default", records, f"--output_dir={tmp_path / 'out'}"], "was made with another front end than"),
        ([model, tmp_path], "make patch records with stan-ct make-patches first"),
        ([SHIPPED / "default", records], "ships with STAN-CT and stays as it is: give an --output_dir"),
    ):
        assert main(["fit-judge", *map(str, arguments)]) == 1
        assert words in capsys.readouterr().err
    assert model_hash(model) == before


@pytest.mark.parametrize(("factor", "same"), [(1.0, True), (1 + 0.99 * SAME_GAIN, True), (1 + 1.01 * SAME_GAIN, False)])
def test_filters_of_records_may_be_rounded(factor, same):
    """Gains that differ by less than a percent count as equal, by more not; other kernels and floors never do."""
    known = FrontEnd({"SOFT": RadialFilter((0.0, 5.0), (1.0, 2.0), floor=-1024.0)})
    made = FrontEnd({"SOFT": RadialFilter((0.0, 5.0), (1.0, 2.0 * factor), floor=-1024.0)})
    assert same_filters(made, known) == same
    assert not same_filters(None, known)
    assert not same_filters(FrontEnd({"B": made.filters["SOFT"]}), known)
    assert not same_filters(FrontEnd({"SOFT": RadialFilter((0.0, 5.0), (1.0, 2.0))}), known)
