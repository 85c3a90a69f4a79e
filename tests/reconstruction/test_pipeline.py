"""Steps 1 - 3 of a slice with synthesizers whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthesizers import Scripted

from stan_ct.ct.hounsfield import soft_tissue_mask
from stan_ct.ct.source_slice import SourceSlice
from stan_ct.patches.fusion import extract
from stan_ct.patches.sampling import Patch
from stan_ct.reconstruction.layout import patch_layout
from stan_ct.reconstruction.pipeline import standardize_slice
from stan_ct.reconstruction.qualification import RejectedPatch
from stan_ct.reconstruction.settings import PipelineSettings, method_settings

SPACING = (0.7, 0.7)


def slice_of(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A body in air with lung, bone and values outside every window, whole HU."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    hu = np.where(x**2 + y**2 < 0.8, 40.0, -1000.0) + rng.normal(0, 20, shape)
    hu[(x + 0.4) ** 2 + y**2 < 0.1] -= 850
    hu[(x - 0.4) ** 2 + y**2 < 0.02] += 1800
    hu[0, 0], hu[-1, -1], hu[0, -1] = -3024, 3071, 30000
    return np.rint(hu).astype(np.float32)


def run(hu: np.ndarray, synthesizer: object, padding: np.ndarray | None = None, **switches: object):
    """Standardizes one slice with `switches`."""
    chosen = method_settings(switches.pop("fusion", "stan_ct"), **switches)
    padding = np.zeros(hu.shape, bool) if padding is None else padding
    return standardize_slice(SourceSlice(hu, padding, SPACING), synthesizer, chosen, np.random.default_rng(0))


@pytest.mark.parametrize("fusion", ["straightforward", "overlap", "realfake", "stan_ct"])
@pytest.mark.parametrize("layout", ["random", "grid", "slice"])
@pytest.mark.parametrize("weights", ["hann", "mean"])
def test_the_identity_gives_the_source_back_exactly(fusion, layout, weights):
    """Every method, layout and weighting; values outside the HU window too."""
    hu = slice_of((300, 410))
    result = run(hu, Scripted(), fusion=fusion, patch_layout=layout, fusion_weights=weights, hu_rescale="window")
    np.testing.assert_array_equal(result.hu, hu)
    assert result.findings == ()


@settings(max_examples=25)
@given(
    height=st.integers(2, 530),
    width=st.integers(2, 530),
    layout=st.sampled_from(["grid", "slice", "random"]),
    seed=st.integers(0, 9),
)
def test_the_identity_is_exact_for_every_size(height, width, layout, seed):
    """Smaller than a patch, odd, not square, larger: bit for bit."""
    hu = slice_of((height, width), seed)
    np.testing.assert_array_equal(run(hu, Scripted(), patch_layout=layout).hu, hu)


@pytest.mark.parametrize("layout", ["random", "grid", "slice"])
@pytest.mark.parametrize("weights", ["hann", "mean"])
def test_a_constant_change_arrives_unchanged_in_soft_tissue_and_nowhere_else(layout, weights):
    """+25 HU on every patch is +25 HU on every soft-tissue pixel; other pixels are the source's, padding too."""
    hu = slice_of((300, 300))
    padding = np.zeros(hu.shape, bool)
    padding[100:110] = True
    result = run(hu, Scripted(25.0), padding, patch_layout=layout, fusion_weights=weights, mask="pixel")
    mask = soft_tissue_mask(hu, padding)
    np.testing.assert_allclose(result.hu[mask], hu[mask] + 25, atol=1e-3)
    np.testing.assert_array_equal(result.hu[~mask], hu[~mask])
    assert result.findings == ()


def test_the_closed_mask_fills_what_noise_tears_and_nothing_else():
    """Of holes within tissue, pixels below air change as those around them do; spots above 900 HU and padding do not."""
    hu, padding = np.full((300, 300), 40.0, np.float32), np.zeros((300, 300), bool)
    hu[100, 100], hu[100, 110], hu[100, 120], padding[100, 120] = -1010.0, 1200.0, -2000.0, True
    changed = run(hu, Scripted(25.0), padding, mask="closed").hu - hu
    assert {p: float(changed[p]) for p in [(100, 100), (100, 110), (100, 120), (50, 50)]} == pytest.approx(
        {(100, 100): 25.0, (100, 110): 0.0, (100, 120): 0.0, (50, 50): 25.0}, abs=1e-3
    )
    assert float((run(hu, Scripted(25.0), padding, mask="pixel").hu - hu)[100, 100]) == 0


def test_the_air_mask_leaves_what_is_no_air():
    """Air changes, whether its noise lies below -1000 or -1024 HU; -2000 HU around the field of view, bone, padding do not."""
    hu, padding = np.full((300, 300), 40.0, np.float32), np.zeros((300, 300), bool)
    hu[:60], hu[-60:], hu[30, 100], hu[150, 150], padding[10, 10] = -1010.0, -2000.0, -1030.0, 1200.0, True
    changed = {kind: run(hu, Scripted(25.0), padding, mask=kind).hu - hu for kind in ("air", "closed")}
    places = {
        "air": (20, 200),
        "noise": (30, 100),
        "tissue": (100, 100),
        "outside": (280, 100),
        "bone": (150, 150),
        "pad": (10, 10),
    }
    found = {kind: {name: round(float(image[p])) for name, p in places.items()} for kind, image in changed.items()}
    assert found["air"] == {"air": 25, "noise": 25, "tissue": 25, "outside": 0, "bone": 0, "pad": 0}
    assert found["closed"] == {"air": 0, "noise": 0, "tissue": 25, "outside": 0, "bone": 0, "pad": 0}


def test_the_whole_mask_filters_bone_and_lets_no_network_at_it():
    """By default bone passes the whole-slice step, +7 HU, tissue and air the patches too, +25; with `air` bone stays."""
    hu, padding = np.full((300, 300), 40.0, np.float32), np.zeros((300, 300), bool)
    hu[150, 150], hu[160, 160], hu[20:40], padding[170, 170] = 901.0, 2900.0, -2000.0, True
    hu[200:] = -1010 + np.indices((100, 300)).sum(0) % 2  # air with noise; of one value alone it would be no CT number
    scripted = Scripted(25.0)
    scripted.prepare = lambda image, spacing, kernel="": image + np.float32(7)
    places = [(100, 100), (250, 100), (150, 150), (160, 160), (30, 100), (170, 170)]
    for chosen, bone in (({}, 7), ({"mask": "whole"}, 7), ({"mask": "air"}, 0)):
        changed = run(hu, scripted, padding, **chosen).hu - hu
        assert [round(float(changed[place])) for place in places] == [32, 32, bone, bone, 0, 0]


def test_networks_never_see_padding():
    """Padding of -2000 HU reaches the synthesizer as what lies beside it: neither it nor a step."""
    hu, padding = np.full((256, 256), 40.0, np.float32), np.zeros((256, 256), bool)
    hu[:50], padding[:50] = -2000, True
    synthesizer = Scripted()
    run(hu, synthesizer, padding)
    assert {(p.min(), p.max()) for p in synthesizer.seen} == {(40.0, 40.0)}


def test_rejected_patches_leave_no_trace_where_others_cover():
    """Patches that hold the marked pixel are rejected; their change does not reach the slice, holes are sampled anew."""
    hu = np.full((512, 512), 40.0, np.float32)
    hu[0, 0] = 100  # only the first patch of the grid holds it
    bad = lambda patches: patches.max((1, 2)) == 100  # noqa: E731
    synthesizer = Scripted(lambda p: np.where(bad(p), 500.0, 5.0)[:, None, None], lambda p: np.where(bad(p), 0.1, 0.9))
    result = run(hu, synthesizer, qc_threshold=0.5)
    far = result.hu[130:, 130:] - 40
    np.testing.assert_allclose(far, 5, atol=1e-3)
    assert result.qualified < result.patches
    near = result.hu[:100, :100] - hu[:100, :100]
    assert np.mean(np.abs(near - 5) < 1e-3) > 0.9, "the hole was sampled anew"
    unqualified = [f for f in result.findings if f.name == "unqualified_patches"]
    assert [f.value for f in unqualified] == [round(result.unqualified, 4)]
    assert 0 < result.unqualified < 0.05, "the marked pixel's surroundings cannot be covered by a qualified patch"


class Placed(Scripted):
    """Judges places of a slice that it synthesizes at once."""

    def whole(self, image: np.ndarray, places: list[Patch]) -> tuple[np.ndarray, np.ndarray]:
        """What it makes of the slice, and P(real) of what lies at the places."""
        made, _ = self(image[None])
        judged = np.ones(len(places)) if self.p_real is None else self.p_real(extract(image, places, None))
        return made[0], judged


def test_a_slice_at_once_is_one_call_and_no_fusion():
    """Nothing is rejected: the slice is what the synthesizer made of it; each place of the grid has its verdict."""
    hu = slice_of((512, 512))
    synthesizer = Placed(5.0)
    result = run(hu, synthesizer, patch_layout="slice", mask="air")
    assert [image.shape for image in synthesizer.seen] == [(1, 512, 512)]
    assert (result.patches, result.qualified, result.findings) == (9, 9, ())
    changed = soft_tissue_mask(hu)
    np.testing.assert_array_equal(result.hu[changed], hu[changed] + 5)


def test_patches_are_made_only_where_a_place_of_the_slice_is_rejected():
    """A mark in the first place alone: what was made at once stays where other places hold, patches fill the hole."""
    hu = np.full((512, 512), 40.0, np.float32)
    hu[0, 0] = 100
    bad = lambda patches: patches.max((1, 2)) == 100  # noqa: E731
    whole = lambda p: p.shape[1] == 512  # noqa: E731
    change = lambda p: np.where(bad(p) & (not whole(p)), 500.0, 5.0 if whole(p) else 7.0)[:, None, None]  # noqa: E731
    synthesizer = Placed(change, lambda p: np.where(bad(p), 0.1, 0.9))
    result = run(hu, synthesizer, patch_layout="slice", qc_threshold=0.5)
    assert {image.shape[1:] for image in synthesizer.seen[1:]} == {(256, 256)}
    np.testing.assert_allclose(result.hu[384:, 384:] - hu[384:, 384:], 5, atol=1e-3)
    assert np.mean(np.abs(result.hu[:100, :100] - hu[:100, :100] - 7) < 1e-3) > 0.9, "the hole was filled by patches"
    assert result.patches - result.qualified == len(result.rejected) > 0
    assert result.rejected[0].patch == Patch(0, 0, 256, 256)


def test_a_slice_that_is_rejected_as_a_whole_is_made_of_patches():
    """A synthesizer that judges no places: what it says of the slice holds for each; patches of the right HU replace it."""
    hu = np.full((512, 512), 40.0, np.float32)
    whole = lambda p: p.shape[1] == 512  # noqa: E731
    scripted = Scripted(lambda p: np.float32(9 if whole(p) else 3), lambda p: np.full(len(p), 0.1 if whole(p) else 0.9))
    result = run(hu, scripted, patch_layout="slice", qc_threshold=0.5)
    np.testing.assert_allclose(result.hu, hu + 3, atol=1e-3)
    assert (result.unqualified, result.findings) == (0.0, ())


class Explained(Scripted):
    """Says what the strongest pixel of a rejected patch was."""

    def explain(self, patches: np.ndarray, outputs: np.ndarray) -> list[str]:
        """Largest HU before and after."""
        return [f"{source.max():.0f} -> {output.max():.0f}" for source, output in zip(patches, outputs, strict=True)]


@pytest.mark.parametrize("synthesizer", [Scripted, Explained])
def test_rejected_patches_are_named_with_the_reason(synthesizer):
    """Where they lie, how plausible they are, and what is wrong with them, where the synthesizer can say so."""
    hu = np.full((384, 256), 40.0, np.float32)
    hu[300, 0] = 100  # in the second of two patches alone
    bad = lambda patches: patches.max((1, 2)) == 100  # noqa: E731
    result = run(hu, synthesizer(7.0, lambda p: np.where(bad(p), 0.25, 0.75)), qc_threshold=0.5, patch_layout="grid")
    assert result.rejected[0] == RejectedPatch(Patch(128, 0, 256, 256), 0.25, "100 -> 107" if synthesizer is Explained else "")
    assert len(result.rejected) == result.patches - result.qualified
    assert run(hu, synthesizer(7.0), qc_threshold=0.5).rejected == ()


@pytest.mark.parametrize(("choice", "change"), [("best", 7.0), ("source", 0.0)])
def test_what_no_qualified_patch_covers_is_filled_as_asked_and_flagged(choice, change):
    """All patches rejected: the best of them, or the source; either way a finding says that it is the whole slice."""
    hu = np.full((300, 300), 40.0, np.float32)
    synthesizer = Scripted(7.0, lambda p: np.zeros(len(p)))
    result = run(hu, synthesizer, qc_threshold=0.5, on_unqualified=choice)
    np.testing.assert_allclose(result.hu, hu + change, atol=1e-3)
    assert result.qualified == 0
    assert [(f.name, f.value) for f in result.findings] == [("unqualified_patches", 1.0)]


def test_the_best_rejected_patches_fill_the_hole():
    """All patches are rejected; the two of higher P(real), at top and bottom, fill the slice alone."""
    hu = np.full((512, 256), 40.0, np.float32)
    hu[0, 0], hu[511, 0] = 100, 100  # marks the two
    good = lambda patches: patches.max((1, 2)) == 100  # noqa: E731
    synthesizer = Scripted(lambda p: np.where(good(p), 9.0, 1.0)[:, None, None], lambda p: np.where(good(p), 0.4, 0.1))
    result = run(hu, synthesizer, qc_threshold=0.5)
    np.testing.assert_allclose(result.hu, hu + 9, atol=1e-3)


def test_the_overlap_method_does_not_judge_patches():
    """`overlap` has check 1 alone: P(real) = 0 changes nothing."""
    hu = np.full((300, 300), 40.0, np.float32)
    result = run(hu, Scripted(7.0, lambda p: np.zeros(len(p))), fusion="overlap", qc_threshold=0.5)
    np.testing.assert_allclose(result.hu, hu + 7, atol=1e-3)
    assert result.findings == ()


def test_straightforward_stretches_each_tile_to_the_range_of_the_slice():
    """Eq. 7 by hand: a tile of 0..100 HU in a slice of -1000..600 HU becomes -1000..600; seams follow, unchecked."""
    hu = np.zeros((512, 512), np.float32)
    hu[:256, :256] = np.linspace(0, 100, 256)[:, None]
    hu[256:, 256:] = np.linspace(-1000, 600, 256)[:, None]
    result = run(hu, Scripted(), fusion="straightforward")
    np.testing.assert_allclose(result.hu[:256, :256], np.linspace(-1000, 600, 256)[:, None] * np.ones(256), atol=0.01)
    np.testing.assert_allclose(result.hu[256:, 256:], hu[256:, 256:], atol=0.01)
    np.testing.assert_array_equal(result.hu[:256, 256:], 0, "a flat tile is left alone")
    assert result.findings == ()


def test_box_artefacts_are_found_in_what_stan_ct_fuses_badly_and_hann_avoids_them():
    """Each patch is shifted by its own mean: `mean` weights make steps, `hann` weights do not."""
    rng = np.random.default_rng(0)
    hu = (rng.normal(0, 5, (512, 512)) + np.linspace(-300, 300, 512)).astype(np.float32)
    synthesizer = Scripted(lambda p: p.mean((1, 2), keepdims=True) / 2)
    assert [f.name for f in run(hu, synthesizer, patch_layout="grid", fusion_weights="mean").findings] == ["box_artefact"]
    assert run(hu, synthesizer, patch_layout="grid").findings == ()


def test_cropping_removes_borders_that_are_bad_only_at_the_rim():
    """A synthesizer that spoils the outer 6 pixels: crop-and-reintegrate leaves them out where patches overlap."""
    rim = np.zeros((256, 256), np.float32)
    rim[:6], rim[-6:], rim[:, :6], rim[:, -6:] = 80, -80, 80, -80
    hu = np.random.default_rng(0).normal(0, 5, (512, 512)).astype(np.float32)
    spoiled = run(hu, Scripted(lambda p: rim), fusion="realfake", patch_layout="grid", fusion_weights="mean").hu - hu
    mended = run(hu, Scripted(lambda p: rim), fusion="stan_ct", patch_layout="grid", fusion_weights="mean")
    inside = (slice(20, 492), slice(20, 492))
    assert np.abs(spoiled[inside]).max() > 15
    assert np.abs((mended.hu - hu)[inside]).max() < 0.01
    assert mended.findings == ()


def test_missing_values_are_replaced_by_the_source_and_reported():
    """A NaN from a network never reaches the image."""
    hu = np.full((256, 256), 40.0, np.float32)

    def broken(patches):
        change = np.full(patches.shape, 3.0)
        change[:, 10, 10] = np.nan
        return change

    result = run(hu, Scripted(broken))
    assert result.hu[10, 10] == 40
    assert result.hu[100, 100] == 43
    assert [(f.name, f.value) for f in result.findings] == [("missing_values", 1)]


def test_a_slice_without_soft_tissue_is_returned_as_it_is():
    """Nothing to standardize: no patch is made."""
    hu = np.full((300, 300), -1024.0, np.float32)
    synthesizer = Scripted(99.0)
    result = run(hu, synthesizer)
    np.testing.assert_array_equal(result.hu, hu)
    assert (result.patches, synthesizer.seen) == (0, [])


def test_methods_are_the_rows_of_table_2():
    """The four methods and their checks; tiles cannot overlap."""
    assert [method_settings(m).checks for m in ("straightforward", "overlap", "realfake", "stan_ct")] == [0, 1, 2, 3]
    plain = method_settings("straightforward")
    assert (plain.patch_layout, plain.hu_rescale, plain.fusion_weights) == ("tiles", "patch", "mean")
    assert method_settings("straightforward", hu_rescale="window").hu_rescale == "window"
    assert method_settings("stan_ct") == PipelineSettings()
    with pytest.raises(ValueError, match="tiles does not overlap"):
        method_settings("stan_ct", patch_layout="tiles")


def test_the_random_layout_repeats_with_its_seed_and_keeps_the_overlap_rule():
    """Same generator, same patches; the rule of Step 1 holds without a finding."""
    hu = slice_of((512, 512))
    synthesizer = Scripted(lambda p: p.std((1, 2), keepdims=True))
    first, second = (run(hu, synthesizer, patch_layout="random", fusion="overlap") for _ in range(2))
    np.testing.assert_array_equal(first.hu, second.hu)
    assert first.findings == ()
    assert first.patches > 10


@pytest.mark.parametrize(("p_real", "kept"), [(0.7, 1), (np.nextafter(np.float32(0.7), np.float32(0)), 0)])
def test_check_2_rejects_just_below_the_threshold(p_real, kept):
    """A patch is qualified at the threshold, and not below it by the smallest step."""
    hu = np.random.default_rng(0).normal(40, 10, (256, 256)).astype(np.float32)
    scripted = Scripted(5.0, lambda patches: np.full(len(patches), p_real, np.float32))
    settings = method_settings("stan_ct", qc_threshold=float(np.float32(0.7)))
    given = SourceSlice(hu, np.zeros(hu.shape, bool), (0.7, 0.7))
    result = standardize_slice(given, scripted, settings, np.random.default_rng(0))
    assert (result.qualified > 0) == bool(kept)
    assert ("unqualified_patches" in [f.name for f in result.findings]) == (not kept)


def test_the_papers_threshold_is_the_default():
    """P(real) > 0.99, as the paper has it, where a model states none of its own."""
    assert PipelineSettings().qc_threshold == 0.99


@pytest.mark.parametrize(
    ("layout", "corners"),
    [("tiles", [(0, 0), (256, 0)]), ("grid", [(0, 0), (44, 0)]), ("slice", [(0, 0), (128, 0), (256, 0)])],
)
def test_the_layout_of_a_slice(layout, corners):
    """300 x 256 px: two tiles, the second extends beyond the slice; two patches at the borders; or places of what is padded."""
    chosen = PipelineSettings("straightforward", patch_layout=layout)
    patches = patch_layout(np.ones((300, 256), bool), chosen, np.random.default_rng(0))
    assert [(p.row, p.column) for p in patches] == corners
    assert {(p.height, p.width) for p in patches} == {(256, 256)}


def test_patches_without_anything_to_standardize_are_not_laid_out():
    """A mask in the last tile alone."""
    mask = np.zeros((512, 512), bool)
    mask[-1, -1] = True
    patches = patch_layout(mask, PipelineSettings("straightforward", patch_layout="tiles"), np.random.default_rng(0))
    assert [(p.row, p.column) for p in patches] == [(256, 256)]
