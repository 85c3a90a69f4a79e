"""The thorax phantom: reproducible, and built like a chest."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from stan_ct.simulation.phantom.thorax import FIELD_OF_VIEW, ThoraxPhantom
from stan_ct.simulation.phantom.vessels import LEAF_RADIUS, MURRAY, grow, murray_radii

SEED = 5
LEVELS = (-85.0, -60.0, -25.0, 0.0, 35.0)
PIXELS = 512
CENTRES = (np.arange(PIXELS) + 0.5) * FIELD_OF_VIEW / PIXELS - FIELD_OF_VIEW / 2
X, Y = np.meshgrid(CENTRES, CENTRES)  # mm, to the patient's left and to the back


@pytest.fixture(scope="module")
def phantoms() -> list[ThoraxPhantom]:
    """Two patients, the second with contrast medium."""
    return [ThoraxPhantom(seed) for seed in (SEED, 6)]


@pytest.fixture(scope="module")
def sections(phantoms) -> dict[tuple[int, float], np.ndarray]:
    """Sections of all patients at all LEVELS."""
    return {(n, z): p.slice(z, PIXELS) for n, p in enumerate(phantoms) for z in LEVELS}


def chest(hu: np.ndarray) -> np.ndarray:
    """Lungs: low density inside the body, away from the table and the outer air."""
    return (hu > -990) & (hu < -650) & (np.abs(X) < 130) & (Y > -95) & (Y < 80)


def test_a_section_depends_on_seed_and_level_alone(phantoms, sections):
    """Any order of levels, any instance, any process: the same bits."""
    for z in reversed(LEVELS):
        assert np.array_equal(phantoms[0].slice(z, PIXELS), sections[0, z])
    code = (
        "import sys, hashlib; from stan_ct.simulation.phantom.thorax import ThoraxPhantom;"
        f"print(hashlib.sha256(ThoraxPhantom({SEED}).slice(-60.0, 256).tobytes()).hexdigest())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert elsewhere == hashlib.sha256(phantoms[0].slice(-60.0, 256).tobytes()).hexdigest()


def test_patients_differ(phantoms, sections):
    """Another seed is another patient: in build, nodules and every section."""
    first, second = phantoms[0].description, phantoms[1].description
    assert first["width"] != second["width"]
    assert first["nodules"][0]["centre"] != second["nodules"][0]["centre"]
    assert np.mean(np.abs(sections[0, 0.0] - sections[1, 0.0]) > 50) > 0.05


def test_a_section_is_float32_hu(sections):
    """HU are finite float32 from air to cortical bone."""
    for hu in sections.values():
        assert hu.dtype == np.float32
        assert hu.shape == (PIXELS, PIXELS)
        assert -1100 <= hu.min() <= -1000
        assert 500 < hu.max() < 1300


def test_air_outside_is_exactly_minus_1000(sections):
    """From the front, every pixel up to 3 pixels before the skin is air, with no interpolation left over."""
    for hu in sections.values():
        near = ndimage.binary_dilation(hu > -990, iterations=3)
        outside = ~np.logical_or.accumulate(near, axis=0) & (Y < 60)
        assert np.all(hu[outside] == -1000.0)
        assert 0.25 < np.mean(hu == -1000.0) < 0.75


def test_tissues_have_their_densities(phantoms, sections):
    """Medians of lung, fat, muscle and bone lie where they do in patients."""
    for (n, z), hu in sections.items():
        assert -915 < np.median(hu[chest(hu)]) < -800, (n, z)
        assert np.mean(chest(hu)) * FIELD_OF_VIEW**2 > 10_000  # mm^2 of lung
        fat, muscle = hu[(hu > -140) & (hu < -60)], hu[(hu > 25) & (hu < 80) & (Y > 70)]
        assert -110 < np.median(fat) < -95
        assert 45 < np.median(muscle) < 62
        assert np.mean(hu > 300) * FIELD_OF_VIEW**2 > 600  # mm^2 of bone


def test_blood_is_that_of_the_description(phantoms, sections):
    """The heart holds blood of the HU that the description gives."""
    for n, phantom in enumerate(phantoms):
        hu = sections[n, -60.0]
        heart = hu[(np.abs(X) < 25) & (Y > -50) & (Y < 0)]
        assert abs(np.median(heart) - phantom.description["blood"]) < 12


def test_the_heart_lies_on_the_left(sections):
    """Soft tissue between the lungs reaches farther to the patient's left, which is the right of the image."""
    for n in range(2):
        hu = sections[n, -60.0]
        between = (hu > 0) & (hu < 300) & (np.abs(X) < 85) & (Y > -70) & (Y < 10)
        assert X[between].mean() > 4


def test_anatomy_changes_with_level(sections):
    """One airway above the carina, none of that size at the heart; the chest narrows towards the head."""
    for n in range(2):
        trachea = (sections[n, 35.0] < -960) & (np.abs(X) < 15) & (np.abs(Y - 5) < 25)
        assert 120 < trachea.mean() * FIELD_OF_VIEW**2 < 500  # mm^2
        low, high = (chest(sections[n, z]) for z in (-60.0, 35.0))
        assert np.percentile(Y[low], 2) < np.percentile(Y[high], 2) - 10  # mm
        assert np.ptp(np.percentile(X[low], (2, 98))) > np.ptp(np.percentile(X[high], (2, 98))) + 10  # mm


def test_sections_follow_each_other_smoothly(phantoms, sections):
    """0.5 mm apart is much more alike than 5 mm apart, and not the same."""
    for n, phantom in enumerate(phantoms):
        near, far = (np.sqrt(np.mean((phantom.slice(step, PIXELS) - sections[n, 0.0]) ** 2)) for step in (0.5, 5.0))
        assert 5 < near < 0.6 * far


def test_lung_texture_follows_along_z(phantoms, sections):
    """Parenchyma 0.5 mm on is correlated with this one, parenchyma 5 mm on hardly: texture has a depth."""
    lung = ndimage.binary_erosion(chest(sections[0, 0.0]), iterations=2)
    here = sections[0, 0.0][lung]
    near, far = (np.median(np.abs(phantoms[0].slice(step, PIXELS)[lung] - here)) for step in (0.5, 5.0))
    assert 3 < near < 0.75 * far


def test_pixels_only_change_the_sampling(phantoms, sections):
    """The section on 512 pixels is that on 1024 pixels, averaged 2 x 2."""
    fine = phantoms[1].slice(-25.0, 1024).reshape(PIXELS, 2, PIXELS, 2).mean((1, 3))
    difference = fine - sections[1, -25.0]
    assert abs(difference.mean()) < 2
    assert np.median(np.abs(difference)) < 2
    assert np.corrcoef(fine.ravel(), sections[1, -25.0].ravel())[0, 1] > 0.998


@pytest.mark.parametrize("z", [-1000.0, -160.0, 75.5, 110.0, 1000.0])
def test_any_level_gives_a_body(phantoms, z):
    """Far beyond the chest there is still a body of plausible size, and no level fails."""
    hu = phantoms[1].slice(z, 256)
    assert np.isfinite(hu).all()
    assert 20_000 < np.mean((hu > -200) & (hu < 300)) * FIELD_OF_VIEW**2 < 90_000  # mm^2


def test_pixels_must_be_a_multiple_of_256(phantoms):
    """The message names what was asked for."""
    for pixels in (0, -256, 128, 500):
        with pytest.raises(ValueError, match=f"multiple of 256, got {pixels}"):
            phantoms[0].slice(0.0, pixels)


def test_the_description_is_json(phantoms):
    """It survives JSON unchanged and tells what was drawn."""
    for phantom in phantoms:
        shown = phantom.description
        assert json.loads(json.dumps(shown)) == shown
        assert 2 <= len(shown["nodules"]) <= 6
        assert (shown["blood"] > 100) == shown["contrast"]


def test_nodules_are_where_the_description_says(phantoms):
    """At its centre a nodule is denser than lung, by as much as its kind says; 2.2 radii off, lung returns."""
    inside = {"solid": (-20, 90), "part-solid": (-750, 90), "ground glass": (-750, 260)}
    for phantom in phantoms:
        for nodule in phantom.description["nodules"]:
            x, y, z = nodule["centre"]
            hu = phantom.slice(z, PIXELS)
            middle = np.hypot(X - x, Y - y) < 0.5 * nodule["radius"]
            low, high = inside[nodule["kind"]]
            assert low < np.median(hu[middle]) < high, nodule


def test_radii_obey_murrays_law():
    """At every branching r^k of the parent is the sum of r^k of the children; leaves have the leaf radius."""
    rng = np.random.default_rng(0)
    tree = grow(rng, np.zeros((1, 3)), rng.uniform(10, 60, (200, 3)))
    children = np.zeros(len(tree.parent))
    np.add.at(children, tree.parent[1:], tree.radius[1:] ** MURRAY)
    inner = children > 0
    assert np.allclose(tree.radius[inner] ** MURRAY, children[inner])
    assert np.allclose(tree.radius[~inner], LEAF_RADIUS)
    assert np.isclose(tree.radius[0], LEAF_RADIUS * np.sum(~inner) ** (1 / MURRAY))
    assert 60 < np.sum(~inner) <= 200
    assert np.all(tree.radius[tree.parent[1:]] >= tree.radius[1:])  # thinner outwards
    assert np.all(tree.parent[1:] < np.arange(1, len(tree.parent)))


def test_murray_by_hand():
    """A root with a leaf and a fork of two leaves carries three leaves: 3^(1 / 2.75) = 1.4911 leaf radii."""
    radii = murray_radii(np.array([-1, 0, 0, 2, 2])) / LEAF_RADIUS
    assert np.allclose(radii, [1.4911, 1, 1.2867, 1, 1], atol=1e-4)


def test_every_leaf_is_reached():
    """Each leaf that is not on top of the tree becomes a node of it."""
    rng = np.random.default_rng(1)
    leaves = rng.uniform(-50, 50, (80, 3)).astype(np.float32)
    tree = grow(rng, np.array([[0.0, 0, 0], [5, 0, 0]]), leaves)
    gap = np.linalg.norm(leaves[:, None] - tree.points[None], axis=2).min(1)
    assert gap.max() < 2.0
    assert np.mean(gap == 0) > 0.9
