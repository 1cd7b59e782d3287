"""Bundles on disk: written as a whole or not at all, verified before anything is constructed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptive.bundle import parts
from adaptive.bundle.certificates import (
    bind,
    certificate_to_json,
    check_bonds,
    check_files,
    read_certificate,
)
from adaptive.bundle.contents import Bundle, check, stages_of
from adaptive.bundle.files import telling_disk_faults, write_json
from adaptive.bundle.header import read_header, write_header
from adaptive.bundle.layout import IGNORED, LAYOUT
from adaptive.bundle.manifest import seal, verify
from adaptive.bundle.outcomes import load_outcomes, save_outcomes
from adaptive.bundle.page import render_certificate
from adaptive.certificate.promises import Certificate
from adaptive.errors import BuildError, BundleError
from adaptive.tiers.store import save_tier, write_runner
from adaptive.types import OutcomeTable, Stage

if TYPE_CHECKING:
    import torch


def save_bundle(bundle: Bundle, folder: Path | str, *, card: str, recipe: str) -> Path:
    """Write a bundle; a bundle that is there already is kept until the new one is complete.

    Args:
        bundle: what to write.
        folder: where. Its parent is made. Anything but a bundle there is left alone.
        card: Markdown of README.md, see `adaptive.bundle.card.render_card`.
        recipe: YAML that the bundle was built from.

    Returns:
        The folder.

    Raises:
        BundleError: the parts do not fit each other.
        BuildError: the folder holds something else.
    """
    check(bundle)
    goal = Path(folder).resolve()
    check_replaceable(goal)
    goal.parent.mkdir(parents=True, exist_ok=True)
    return _replace(goal, lambda part: _write(bundle, part, card, recipe))


def recertify_bundle(
    bundle: Bundle, folder: Path | str, *, card: str, runners: bool = False
) -> Path:
    """Put a bundle's certificate and what it certifies into a folder, whole or not at all.

    Targets, policies, costs, certification rows, card and certificate are written. The tiers and
    all else that answers stay as they are on disk, byte for byte, whatever the dtype they were
    loaded in, unless they have other runners.

    Args:
        bundle: as loaded from the folder, with a new certificate.
        folder: the bundle to change.
        runners: its tiers have others than on disk, and all outcomes are to be written.

    Raises:
        BundleError: the folder is no whole bundle, or there is no certificate.
    """
    certificate = bundle.certificate
    if certificate is None:
        raise BundleError(f"{LAYOUT.certificate}: there is none to write")
    goal = Path(folder).resolve()
    verify(goal)

    def write(part: Path) -> None:
        _copy(goal, part)
        for tier in bundle.tiers if runners else ():
            write_runner(tier, part / LAYOUT.tier(tier.name))
        splits = tuple(bundle.outcomes) if runners else ("certify",)
        _write_promise(bundle, certificate, part, card, splits)

    return _replace(goal, write)


def save_refitted(bundle: Bundle, source: Path | str, folder: Path | str, *, card: str) -> Path:
    """Write a bundle whose reliability, router and promise are new into another folder.

    The tiers and their heads are those of the source, byte for byte.

    Args:
        bundle: as loaded from the source, with a new certificate.
        source: the bundle that it was.

    Raises:
        BundleError: the source is no whole bundle, or there is no certificate.
        BuildError: the folder is the source, or holds something else than a bundle.
    """
    certificate, goal, old = bundle.certificate, Path(folder).resolve(), Path(source).resolve()
    if certificate is None:
        raise BundleError(f"{LAYOUT.certificate}: there is none to write")
    if goal == old:
        raise BuildError(f"{goal.name}: is the bundle that was fitted again; name another folder")
    verify(old)
    check_replaceable(goal)
    goal.parent.mkdir(parents=True, exist_ok=True)

    def write(part: Path) -> None:
        _copy(old, part)
        shutil.rmtree(part / "outcomes", ignore_errors=True)
        names = [tier.name for tier in bundle.tiers]
        parts.write_reliability(bundle.reliability, part, names, bundle.task)
        if bundle.router is not None:
            parts.write_router(bundle.router, part)
        if bundle.seen is not None:
            parts.write_seen(bundle.seen, part)
        _write_promise(bundle, certificate, part, card, tuple(bundle.outcomes))

    return _replace(goal, write)


def load_bundle(
    folder: Path | str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    uncertified: bool = False,
) -> Bundle:
    """Verify a bundle's folder, then construct what it holds.

    Args:
        folder: a local folder; `adaptive.bundle.hub.resolve` brings one from a hub.
        device: where the tiers, reliability and router go.
        dtype: of the tiers' weights; None keeps the stored one.
        uncertified: whether to do without the bundle's certificate, which is then None, as it
            is where the bundle has none.

    Raises:
        BundleError: the bundle is damaged, foreign, unsafe or newer, or not what its
            certificate is about; the message names the file.
    """
    root, place = Path(folder).resolve(), str(device)
    names = verify(root).keys()
    header = read_header(root)
    redact = parts.read_redact(root, names)
    tiers = tuple(parts.read_tier(root, name, header.labels, place, dtype) for name in header.tiers)
    stages = stages_of(tuple(tier.depths for tier in tiers))
    policy, ladder = parts.read_policies(root, stages)
    task = parts.read_task(root, header.task, names)
    bundle = Bundle(
        name=header.name,
        labels=header.labels,
        tokenizer=parts.read_tokenizer(root, names),
        tiers=tiers,
        reliability=parts.read_reliability(root, header.tiers, place, task),
        router=parts.read_router(root, names, place),
        log_frequency=parts.read_frequency(root),
        policy=policy,
        targets=header.targets,
        max_length=header.max_length,
        ladder=ladder,
        costs=parts.read_costs(root, names),
        outcomes=_read_outcomes(root, names, stages),
        info=header.info,
        seen=parts.read_seen(root, names),
        task=task,
        redact=redact,
    )
    check(bundle)
    return bundle if uncertified else _certified(bundle, root, names)


def _certified(bundle: Bundle, folder: Path, names: Collection[str]) -> Bundle:
    """The bundle with its certificate, which it has been checked against."""
    certificate = read_certificate(folder, names, bundle.stages)
    if certificate is None:
        return bundle
    check_files(certificate, folder, names)
    found = {"device": bundle.device.type, "dtype": bundle.dtype}
    check_bonds(certificate, bundle.policy, max_length=bundle.max_length, **found)
    return replace(bundle, certificate=certificate)


def _write(bundle: Bundle, folder: Path, card: str, recipe: str) -> None:
    write_header(bundle, folder)
    parts.write_tokenizer(bundle.tokenizer, folder)
    for tier in bundle.tiers:
        save_tier(tier, folder / LAYOUT.tier(tier.name))
    names = [tier.name for tier in bundle.tiers]
    parts.write_task(bundle.task, folder)
    parts.write_redact(bundle.redact, folder)
    parts.write_reliability(bundle.reliability, folder, names, bundle.task)
    if bundle.router is not None:
        parts.write_router(bundle.router, folder)
    parts.write_frequency(bundle.log_frequency, folder)
    if bundle.seen is not None:
        parts.write_seen(bundle.seen, folder)
    parts.write_policies(bundle.policy, bundle.ladder, folder)
    if bundle.costs is not None:
        write_json(folder / LAYOUT.costs, bundle.costs.to_json())
    for split, table in bundle.outcomes.items():
        path = folder / LAYOUT.outcomes(split)
        path.parent.mkdir(exist_ok=True)
        save_outcomes(table, path)
    if bundle.certificate is not None:
        _write_certificate(bundle, bundle.certificate, folder)
    (folder / LAYOUT.card).write_text(card, encoding="utf-8", newline="\n")
    (folder / LAYOUT.recipe).write_text(recipe, encoding="utf-8", newline="\n")


def _copy(source: Path, part: Path) -> None:
    shutil.copytree(source, part, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*IGNORED))


def _write_promise(
    bundle: Bundle, certificate: Certificate, part: Path, card: str, splits: Collection[str]
) -> None:
    """Targets, policies, costs, these splits' rows, certificate and card."""
    write_header(bundle, part)
    parts.write_policies(bundle.policy, bundle.ladder, part)
    if bundle.costs is not None:
        write_json(part / LAYOUT.costs, bundle.costs.to_json())
    for split in splits:
        rows = part / LAYOUT.outcomes(split)
        rows.parent.mkdir(exist_ok=True)
        save_outcomes(bundle.outcomes[split], rows)
    _write_certificate(bundle, certificate, part)
    (part / LAYOUT.card).write_text(card, encoding="utf-8", newline="\n")


def _write_certificate(bundle: Bundle, certificate: Certificate, folder: Path) -> None:
    """Write the certificate and its page, bound to the files that are there."""
    found = {"device": bundle.device.type, "dtype": bundle.dtype}
    check_bonds(certificate, bundle.policy, max_length=bundle.max_length, **found)
    bound = bind(certificate, folder)
    write_json(folder / LAYOUT.certificate, certificate_to_json(bound))
    names = [tier.name for tier in bundle.tiers]
    page = render_certificate(bound, bundle.name, names, bundle.stages)
    (folder / LAYOUT.certificate_page).write_text(page, encoding="utf-8", newline="\n")


def _read_outcomes(
    folder: Path, names: Collection[str], stages: tuple[Stage, ...]
) -> dict[str, OutcomeTable]:
    found = sorted(name for name in names if name.startswith("outcomes/"))
    return {Path(name).stem: load_outcomes(folder / name, stages, name) for name in found}


def _replace(goal: Path, write: Callable[[Path], None]) -> Path:
    """Fill a new folder, check it, and put it in the goal's place."""
    # Beside the goal, so that renaming stays on one file system
    part = goal.with_name(f".{goal.name}.{uuid.uuid4().hex}.part")
    try:
        with telling_disk_faults(f"bundle {goal.name}", goal.parent):
            part.mkdir()
            write(part)
            seal(part)
            verify(part)
            _swap(part, goal)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return goal


def check_replaceable(folder: Path) -> None:
    """Check that a bundle may be put in a folder's place: it is one, empty, or not there.

    Raises:
        BuildError: it is a file, or holds something else.
    """
    if not folder.exists():
        return
    if folder.is_dir() and ((folder / LAYOUT.manifest).is_file() or not any(folder.iterdir())):
        return
    raise BuildError(
        f"{folder.name}: exists and is no bundle; it was left as it is. Name another folder for "
        "the bundle, or empty this one"
    )


def check_writable(folder: Path) -> None:
    """Check that files can be put into a folder, which need not be there yet.

    Raises:
        BuildError: it, or the folder it would be made in, is a file or may not be written to.
    """
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise BuildError(f"{folder}: cannot be made, because {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise BuildError(f"{folder}: {place} may not be written to; choose another folder")


def _swap(part: Path, goal: Path) -> None:
    """Put the complete folder in the goal's place; the old one comes back if that fails."""
    if not goal.exists():
        os.replace(part, goal)
        return
    old = part.with_suffix(".old")
    os.replace(goal, old)
    try:
        os.replace(part, goal)
    except BaseException:
        os.replace(old, goal)
        raise
    shutil.rmtree(old, ignore_errors=True)
