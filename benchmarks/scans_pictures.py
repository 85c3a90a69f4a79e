"""The pictures of docs/YOUR_SCANS.md, from the reports that the commands there make.

python benchmarks/scans_pictures.py adapt MODEL     docs/adapt.png, from MODEL/report: gain and noise
python benchmarks/scans_pictures.py sites SITES     docs/sites.png, from the page: noise, AUC and distance of each feature
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parents[1] / "docs"
FIGURES = {"adapt": ("report/figure_filter_*.png",), "sites": ("figure_noise_*.png", "figure_class*.png", "figure_dist*.png")}
"""Picture -> patterns of the figures that it shows, from top to bottom; one figure fits each."""
WIDTH, COLOURS = 1100, 64
"""Width of the picture, px, and number of its colours, which keep it below 150 KB."""


def main() -> None:
    """Draws a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=FIGURES)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    figures = [_narrowed(_only(args.folder, pattern)) for pattern in FIGURES[args.picture]]
    whole = Image.new("RGB", (WIDTH, sum(figure.height for figure in figures)), "white")
    top = 0
    for figure in figures:
        whole.paste(figure, ((WIDTH - figure.width) // 2, top))
        top += figure.height
    path = DOCS / f"{args.picture}.png"
    whole.quantize(COLOURS).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} KB")


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{folder} has {len(found)} figures {pattern}, expected 1: a report of two sites, or of one kernel")
    return found[0]


def _narrowed(path: Path) -> Image.Image:
    """A figure on white, no wider than the picture."""
    figure = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", figure.size, "white")
    white.alpha_composite(figure)
    scale = min(1.0, WIDTH / figure.width)
    return white.convert("RGB").resize((round(figure.width * scale), round(figure.height * scale)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
