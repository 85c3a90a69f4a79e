"""`report.html`: one self-contained page for people."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

from stan_ct.ct.filters import RadialFilter
from stan_ct.dicom.series import Series
from stan_ct.reconstruction.fidelity import residual

WINDOWS = {"lung": (-600.0, 1500.0), "soft tissue": (40.0, 400.0)}
"""Display window: centre and width, HU."""
DIFFERENCE = 300.0
"""The difference picture spans -DIFFERENCE (black) to +DIFFERENCE (white) HU."""
UNEXPLAINED = 60.0
"""So does the picture of what a change of kernel does not explain."""
SHOWN = (0.25, 0.5, 0.75)
"""Which slices are shown, as fractions of the series."""


@dataclass(frozen=True)
class Panel:
    """Source | output | difference | what a change of kernel does not explain, of one slice in one window, as a JPEG."""

    caption: str
    jpeg: bytes


def panels(series: Series, volume: np.ndarray, explained: RadialFilter) -> list[Panel]:
    """Pictures of a few slices of a series in every window.

    Args:
        series: The source.
        volume: (Z, H, W) HU, the output.
        explained: The filter that explains it best.
    """
    made = []
    for z in sorted({int(fraction * len(volume)) for fraction in SHOWN}):
        source, output = series.volume[z], volume[z]
        difference = to_gray(output - source, 0.0, 2 * DIFFERENCE)
        rest, judged = residual(source, output, series.padding[z], series.files.pixel_spacing, explained)
        unexplained = to_gray(np.where(judged, rest, -UNEXPLAINED), 0.0, 2 * UNEXPLAINED)
        for name, (center, width) in WINDOWS.items():
            row = [to_gray(source, center, width), to_gray(output, center, width), difference, unexplained]
            caption = f"slice {z + 1} of {len(volume)}, {series.instances[z].location:g} mm, {name} window"
            ok, jpeg = cv2.imencode(".jpg", np.hstack(row), [cv2.IMWRITE_JPEG_QUALITY, 90])
            if not ok:
                raise RuntimeError("OpenCV could not encode a JPEG")
            made.append(Panel(caption, jpeg.tobytes()))
    return made


def to_gray(hu: np.ndarray, center: float, width: float) -> np.ndarray:
    """HU -> 0..255 uint8 by a display window."""
    return np.clip(np.rint((hu - center + width / 2) * (255 / width)), 0, 255).astype(np.uint8)


STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1300px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2em;border-top:1px solid #ccc;padding-top:1em}
table{border-collapse:collapse;margin:.6em 0}td,th{padding:.2em .8em .2em 0;text-align:left;vertical-align:top}
th{font-weight:600;color:#555}figure{margin:.8em 0}img{width:100%;background:#000}
figcaption{color:#555;font-size:.9em}.good{color:#176b2c}.bad{color:#a11}code{font-size:.9em}
.columns{display:flex;font-weight:600;color:#555;font-size:.9em}.columns span{flex:1}
"""


def write_report(manifest: dict, pictures: list[list[Panel]]) -> str:
    """The page.

    Args:
        manifest: As written to `manifest.json`.
        pictures: Panels of each series of the manifest.
    Returns:
        HTML; no file or network beside it is needed.
    """
    model, settings = manifest["model"], manifest["settings"]
    written = [s for s in manifest["series"] if s["status"] == "written"]
    parts = [
        "<h1>STAN-CT: standardized CT</h1>",
        "<p>Research use only. Not for diagnosis.</p>",
        _table(
            {
                "Series": f"{len(written)} of {len(manifest['series'])} written",
                "Model": f"{model['name']} {model['sha256'][:8]}, kernel {model['source_kernel']} → {model['target_kernel']}",
                "Method": f"{settings['fusion']}, layout {settings['patch_layout']}, weights {settings['fusion_weights']}, "
                f"HU {settings['hu_rescale']}, mask {settings['mask']}, {settings['precision']}",
                "Made": f"{manifest['created']} by STAN-CT {manifest['stan_ct']}",
                "Passed over": ", ".join(f"{n} x {kind}" for kind, n in manifest["passed_over"].items()) or "nothing",
            }
        ),
        _refusals("Refused", manifest["refusals"]),
    ]
    if manifest["not_yet_done"]:
        parts.append(f'<p class="bad">Not yet done: {escape(", ".join(manifest["not_yet_done"]))}</p>')
    for entry, shown in zip(manifest["series"], pictures, strict=True):
        parts += [f"<h2>{escape(entry['name'])}</h2>", _series(entry), *_figures(shown)]
    head = f'<meta charset="utf-8"><title>STAN-CT report</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _series(entry: dict) -> str:
    thickness = f"{entry['slice_thickness']:g} mm" if entry["slice_thickness"] is not None else "not stated"
    rows = {
        "Source": f"kernel {entry['kernel']}, slice thickness {thickness}, {' x '.join(map(str, entry['shape']))}",
        "Source series": entry["source_series_uid"],
    }
    if entry["status"] == "left_alone":
        return _table(rows) + '<p class="good">Left alone: it has the standard protocol already.</p>'
    if entry["status"] != "written":
        return _table(rows) + _refusals(entry["status"].capitalize(), [entry["refusal"]])
    kept = f"{entry['kept_fraction']:.1%}" if entry["kept_fraction"] is not None else "none needed"
    rows |= {
        "Derived series": entry["derived_series_uid"],
        "Series number": entry["series_number"],
        "Patches": f"{entry['patches']}, qualified: {kept}; soft tissue not covered: {entry['uncovered']:.2%}",
        "Change in soft tissue": f"mean {entry['mean_hu_change']:+.1f} HU, root mean square {entry['rms_hu_change']:.1f} HU",
        "Change of means": ", ".join(f"{tissue} {change:+.1f} HU" for tissue, change in entry["tissue_hu_change"].items()),
        "Not explained by a change of kernel": f"{entry['structure_hu']:.1f} HU at the scale of a nodule, the strongest "
        f"{entry['strongest_structure']:.1f} standard deviations",
        "Time": f"{entry['seconds']:.1f} s",
    }
    caution = "; ".join(entry["out_of_protocol"])
    warning = f'<p class="bad">Out of protocol: {escape(caution)}.</p>' if caution else ""
    return _table(rows) + warning + _findings(entry) + _refusals("Slices left out", entry["refused_slices"])


def _findings(entry: dict) -> str:
    rows = [("all", "", f["name"], f"{f['value']:g}", f"{f['limit']:g}") for f in entry["series_findings"]]
    rows += [
        (f"{number}", f"{s['location']:g}", f["name"], f"{f['value']:g}", f"{f['limit']:g}")
        for number, s in enumerate(entry["slices"], 1)
        for f in s["findings"]
    ]
    if not rows:
        return '<p class="good">Quality control: no findings.</p>'
    head = "".join(f"<th>{h}</th>" for h in ("slice", "mm", "finding", "value", "limit"))
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows[:40])
    more = f"<p>and {len(rows) - 40} more: see manifest.json.</p>" if len(rows) > 40 else ""
    return f'<p class="bad">Quality control: {len(rows)} findings.</p><table><tr>{head}</tr>{body}</table>{more}'


def _refusals(title: str, refusals: list[dict]) -> str:
    if not refusals:
        return ""
    rows = "".join(
        f"<tr><td>{escape(r['reason'])}</td><td>{escape(r['found'])}<br>{escape(r['advice'])}<br>"
        f"<code>{escape(', '.join(r['files'][:3]))}{' …' if len(r['files']) > 3 else ''}</code></td></tr>"
        for r in refusals
    )
    return f'<p class="bad">{escape(title)}: {len(refusals)}</p><table>{rows}</table>'


def _figures(shown: list[Panel]) -> list[str]:
    columns = f'<div class="columns"><span>source</span><span>output</span><span>difference, ±{DIFFERENCE:g} HU</span>'
    columns += f"<span>not explained by a change of kernel, at the scale of a nodule, ±{UNEXPLAINED:g} HU</span></div>"
    figures = [
        f'<figure><img alt="{escape(p.caption)}" src="data:image/jpeg;base64,{base64.b64encode(p.jpeg).decode()}">'
        f"<figcaption>{escape(p.caption)}</figcaption></figure>"
        for p in shown
    ]
    return [columns, *figures] if figures else []


def _table(rows: dict) -> str:
    cells = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in rows.items())
    return f"<table>{cells}</table>"
