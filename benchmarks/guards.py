"""Numbers behind two guards: `python benchmarks/guards.py CT` (CT: the folder with the real series).

1. Strength of the strongest border line per slice (`stan_ct.reconstruction.checks`): the straightforward fusion of untouched
   slices, and the shipped model's fusion by layout. The limit `BOX_SIGMAS` lies between.
2. Change by the shipped radial filter in the middle slice of each series, with and without its ceiling.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from stan_ct.ct.hounsfield import soft_tissue_mask
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import Series, load_series
from stan_ct.patches.fusion import extract, fuse, pad_to
from stan_ct.patches.sampling import PATCH_SIZE, grid_patches, random_patches
from stan_ct.quiet import quiet_start
from stan_ct.reconstruction import checks as quality
from stan_ct.reconstruction.pipeline import standardize_slice
from stan_ct.reconstruction.settings import method_settings

with quiet_start():
    from stan_ct.models.folder import read_config
    from stan_ct.reconstruction.synthesis import load_synthesizer

    MODEL = Path(__file__).resolve().parents[1] / "stan_ct" / "models" / "philips_b_l"
    CONFIG, NETWORK = read_config(MODEL), load_synthesizer(MODEL)
    ((KERNEL, FILTER),) = CONFIG.front_end.filters.items()


class Identity:
    """Changes nothing."""

    def prepare(self, hu, pixel_spacing, kernel=""):
        """(H, W) HU -> the same."""
        return hu

    def __call__(self, patches):
        """(N, h, w) HU -> the same, and P(real) = 1."""
        return patches, np.ones(len(patches), np.float32)


def strongest(fused, source, mask, patches) -> float:
    """Strength of the strongest border line."""
    return max((a.strength for a in quality.box_artefacts(fused, source, mask, patches)), default=0.0)


def of_straightforward(series: Series, z: int) -> float:
    """After the straightforward fusion of the untouched slice."""
    source = series.volume[z]
    naive = standardize_slice(series.slice(z), Identity(), method_settings("straightforward"), np.random.default_rng(0))
    size = tuple(-(-n // PATCH_SIZE) * PATCH_SIZE for n in source.shape)
    images = (pad_to(image, *size) for image in (naive.hu, source, series.soft_tissue(z)))
    return strongest(*images, grid_patches(size, PATCH_SIZE, PATCH_SIZE))


def of_network(series: Series, z: int, layout: str) -> float:
    """After the shipped model, before any crop."""
    source, mask = series.volume[z], series.soft_tissue(z)
    prepared = NETWORK.prepare(source, series.files.pixel_spacing, KERNEL)
    patches = random_patches(mask, np.random.default_rng(0)) if layout == "random" else grid_patches(source.shape)
    cut = extract(prepared, patches, PATCH_SIZE)
    return strongest(fuse(prepared, patches, NETWORK(cut)[0] - cut)[0], source, mask, patches)


def main(folder: str) -> None:
    """Prints the two tables."""
    limit, quality.BOX_SIGMAS = quality.BOX_SIGMAS, -np.inf
    print(
        f"limit {limit}\n{'series':32} straightforward (least..most)  grid (most)  random (most)   filter: HU rms free, limited"
    )
    for files in find_series(folder).series:
        series = load_series(files)
        if min(files.shape[1:]) < PATCH_SIZE:
            continue
        shown = range(0, len(series.volume), max(1, len(series.volume) // 4))
        naive = [of_straightforward(series, z) for z in shown]
        network = [max(of_network(series, z, layout) for z in shown) for layout in ("grid", "random")]
        middle = series.volume[len(series.volume) // 2]
        mask, filters = soft_tissue_mask(middle), (replace(FILTER, ceiling=()), FILTER)
        rms = [np.sqrt(np.mean((f(middle, files.pixel_spacing) - middle)[mask] ** 2)) for f in filters]
        print(
            f"{files.name[:20]:20} {files.kernel[:11]:11} {min(naive):14.1f} ..{max(naive):6.1f} "
            f"{network[0]:12.1f} {network[1]:14.1f} {rms[0]:18.0f}, {rms[1]:.0f}"
        )


if __name__ == "__main__":
    main(sys.argv[1])
