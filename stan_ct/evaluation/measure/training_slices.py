"""Slices that a model was trained on: they are left out of comparisons, or the report says that they are not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from stan_ct.dicom.series import Instance
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.pairs import Headers
from stan_ct.evaluation.measure.series import SeriesSettings
from stan_ct.models.folder import find_model, read_training_slices
from stan_ct.patches.record_index import read_index
from stan_ct.patches.training_slices import TRAINING, Seen
from stan_ct.reconstruction.accounts import MANIFEST

INCLUDE = "--include_training_slices measures them too"

SeenBy = Callable[[Instance], Seen]
"""What a model has seen of a slice."""


def without_training_slices(
    series: SeriesSettings, source: Headers, models: Mapping[str, Path], include: bool = False
) -> tuple[SeriesSettings, list[str]]:
    """Leaves out the source slices that a model was trained on, of those whose models are known.

    What made a synthesized series is read in the manifest of its run, which lies in its folder or above it.

    Args:
        series: Series to compare. Slices that `only_instances` lists are all compared, with a warning.
        source: Headers of the source.
        models: Name -> folder of models whose output is compared beside the synthesized series.
        include: Whether slices of the training are compared too, with a warning.
    Returns:
        The series without these slices, and what must be read before the results.
    Raises:
        NotComparable: If no slice is left.
        InvalidModel: If a model is damaged.
    """
    only, instances = series.only_instances, source.instances
    wanted = [instance for instance in instances if only is None or instance.uid in only]
    kept = include or only is not None
    warnings, trained = [], set()
    for name, seen_by in _makers(series.synthesized, models).items():
        seen = {instance.uid: seen_by(instance) for instance in wanted}
        trained |= {uid for uid, what in seen.items() if what in TRAINING}
        warnings += _warnings(name, Counter(seen.values()), kept)
    if kept or not trained:
        return series, warnings
    left = frozenset(instance.uid for instance in wanted) - trained
    if not left:
        raise NotComparable(f"no source slice is left to compare. {' '.join(warnings)}")
    return replace(series, only_instances=left), warnings


def _makers(synthesized: Mapping[str, Path], models: Mapping[str, Path]) -> dict[str, SeenBy]:
    """Name of a synthesized series, or of a model -> what its model has seen; those alone of which it is known."""
    found: dict[str, SeenBy] = {name: read_training_slices(find_model(folder)).of for name, folder in models.items()}
    for name, folder in synthesized.items():
        found[name] = partial(_listed, {uid: what for run in _manifests(folder) for uid, what in _seen_slices(run)})
    return found


def _listed(slices: Mapping[str, Seen], instance: Instance) -> Seen:
    return slices.get(instance.uid, "")


def _manifests(folder: Path) -> Iterator[dict[str, Any]]:
    """Manifests of the runs that wrote a folder, or folders in it."""
    above = [parent / MANIFEST for parent in (folder.absolute(), *folder.absolute().parents)]
    nearest = next((path for path in above if path.is_file()), None)
    for path in [nearest] if nearest else sorted(folder.glob(f"*/{MANIFEST}")):
        try:
            manifest = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(manifest, dict) and "stan_ct" in manifest:
            yield manifest


def _seen_slices(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Seen]]:
    """SOP Instance UID of each source slice of a run, and what the model had seen of it."""
    for series in _objects(manifest.get("series")):
        for entry in _objects(series.get("slices")):
            if what := entry.get("seen_in_training"):
                yield str(entry.get("source_uid")), what


def _objects(values: object) -> list[Mapping[str, Any]]:
    """The objects of a JSON list; none if it is no list."""
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []


def _warnings(name: str, counts: Mapping[Seen, int], kept: bool) -> list[str]:
    """What is to be said of a model, and of the number of slices that it has seen."""
    total, trained, chosen = sum(counts.values()), counts.get("train", 0), counts.get("validation", 0)
    found = []
    if trained or chosen:
        what = f"{name}: of {total} source slices its model was trained on {trained} and chosen on {chosen}"
        found.append(f"{what}; they are measured all the same" if kept else f"{what}; these are left out, {INCLUDE}")
    if series := counts.get("series", 0):
        found.append(
            f"{name}: {series} of {total} source slices are of series that its model was trained on; on which of their slices "
            "is not known, so all are measured"
        )
    if study := counts.get("study", 0):
        found.append(
            f"{name}: {study} of {total} source slices are others of studies that its model was trained on: it may do better "
            "here than on other patients"
        )
    return found


def patch_warnings(folder: Path, split: str, models: Mapping[str, Path]) -> list[str]:
    """Warnings where models were trained on slices from which the patches of some records were cut.

    Args:
        folder: Folder of records.
        split: Part of the records that is measured.
        models: Name -> folder of the models.
    Raises:
        InvalidModel: If a model is damaged.
    """
    slices = frozenset(read_index(folder).get("instances", {}).get(split, "").split())
    seen = {name: read_training_slices(find_model(model)) for name, model in models.items()}
    return [
        f"the {split} patches in {folder} are cut from {len(slices)} slices, of source and target: {name} was trained on "
        f"{len(slices & known.train)} of them and chosen on {len(slices & known.validation - known.train)}"
        for name, known in seen.items()
        if slices & (known.train | known.validation)
    ]
