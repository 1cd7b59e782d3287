"""The parts of a bundle, each with the function that writes it and the one that reads it.

Reading happens after `manifest.verify`, so files are whole; what they say is checked here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from adaptive.bundle.contents import LadderEntry
from adaptive.bundle.files import finite, read_json, read_numpy, read_torch, write_json, write_numpy
from adaptive.bundle.layout import LAYOUT
from adaptive.bundle.manifest import sha256
from adaptive.bundle.policies import policy_from_json, policy_to_json
from adaptive.errors import BundleError
from adaptive.exits.reliability import Reliability
from adaptive.policy.costs import CostTable
from adaptive.tasks import SINGLE_LABEL, Task, task_from_json
from adaptive.text.redact import KINDS, Kinds, lacking
from adaptive.tiers.store import load_tier

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from adaptive.routers import Router
    from adaptive.tiers.tier import Tier
    from adaptive.types import Policy, Stage

# All that a fast tokenizer needs. Chat templates, which some save too, are programs.
_TOKENIZER_FILES = frozenset({"tokenizer.json", "tokenizer_config.json"})


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a fast tokenizer; BundleError if it is not one."""
    goal = folder / LAYOUT.tokenizer
    tokenizer.save_pretrained(goal)
    for path in goal.iterdir():
        if path.name not in _TOKENIZER_FILES:
            path.unlink()
    if not (goal / "tokenizer.json").is_file():
        raise BundleError(f"{LAYOUT.tokenizer}/tokenizer.json: only fast tokenizers can be saved")


def read_tokenizer(folder: Path, names: Collection[str]) -> PreTrainedTokenizerBase:
    """Construct the tokenizer, from this folder alone."""
    from transformers import AutoTokenizer

    for name in sorted(_TOKENIZER_FILES):
        _require(f"{LAYOUT.tokenizer}/{name}", names)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder / LAYOUT.tokenizer, local_files_only=True
        )
    except Exception as error:  # the tokenizers library raises bare Exception
        raise BundleError(f"{LAYOUT.tokenizer}/tokenizer.json: {error}") from error
    return tokenizer


def read_tier(
    folder: Path, name: str, labels: tuple[str, ...], device: str, dtype: torch.dtype | None
) -> Tier:
    """Construct one tier; its name and the order of its labels must be the bundle's."""
    where = LAYOUT.tier(name)
    if not (folder / where).is_dir():
        raise BundleError(f"{where}/tier.json: the file is missing")
    own = read_json(folder / where / "tier.json", f"{where}/tier.json")
    if own.get("labels") != list(labels):
        raise BundleError(
            f"{where}/tier.json: its labels are {own.get('labels')}, the bundle's are "
            f"{list(labels)}; names and order must be the same"
        )
    if own.get("name") != name:
        raise BundleError(f"{where}/tier.json: is of a tier called {own.get('name')!r}")
    try:
        return load_tier(folder / where, device=device, dtype=dtype)
    except BundleError as error:  # its messages begin with the file's name
        raise BundleError(f"{where}/{error}") from error


def write_task(task: Task, folder: Path) -> None:
    """Write what belongs to a task, but for `single_label`, which has nothing."""
    if task != SINGLE_LABEL:
        write_json(folder / LAYOUT.task, task.to_json())


def read_task(folder: Path, name: str, names: Collection[str]) -> Task:
    """The task of a bundle whose header names it."""
    if name == SINGLE_LABEL.name:
        return SINGLE_LABEL
    _require(LAYOUT.task, names)
    try:
        return task_from_json(name, read_json(folder / LAYOUT.task, LAYOUT.task))
    except ValueError as error:
        raise BundleError(f"{LAYOUT.task}: {error}") from error


def write_redact(kinds: Kinds, folder: Path) -> None:
    """Write which personal data texts lose, where they lose any."""
    if kinds:
        write_json(folder / LAYOUT.redact, {"kinds": list(kinds)})


def read_redact(folder: Path, names: Collection[str]) -> Kinds:
    """Which personal data texts lose; BundleError where it is not installed that finds them."""
    if LAYOUT.redact not in names:
        return ()
    found = read_json(folder / LAYOUT.redact, LAYOUT.redact).get("kinds")
    if not isinstance(found, list) or not found or not all(each in KINDS for each in found):
        raise BundleError(f"{LAYOUT.redact}: `kinds` must be a list of some of {', '.join(KINDS)}")
    if why := lacking():
        raise BundleError(
            f"{LAYOUT.redact}: texts lose personal data before this bundle reads them, and {why}"
        )
    return tuple(found)


def write_reliability(
    reliability: Reliability, folder: Path, tiers: Sequence[str], task: Task = SINGLE_LABEL
) -> None:
    """Write the reliability model, naming the features and the heads it was fitted on."""
    metadata = {
        "features": json.dumps(list(task.features)),
        "heads": json.dumps(_heads(folder, tiers)),
    }
    save_file(reliability.to_tensors(), folder / LAYOUT.reliability, metadata=metadata)


def read_reliability(
    folder: Path, tiers: Sequence[str], device: str, task: Task = SINGLE_LABEL
) -> Reliability:
    """Construct the reliability model on a device; it must have been fitted on these heads."""
    name = LAYOUT.reliability
    tensors, metadata = read_torch(folder / name, name)
    if metadata.get("heads") != json.dumps(_heads(folder, tiers)):
        raise BundleError(f"{name}: was fitted on other heads than those of {', '.join(tiers)}")
    try:
        features = json.loads(metadata.get("features", "[]"))
        return Reliability.from_tensors(tensors, features, task.features).to(device)
    except ValueError as error:
        raise BundleError(f"{name}: {error}") from error


def write_router(router: Router, folder: Path) -> None:
    """Write the router's two files."""
    from adaptive.routers import to_state

    state, tensors = to_state(router)
    write_json(folder / LAYOUT.router, state)
    save_file(tensors, folder / LAYOUT.router_tensors)


def read_router(folder: Path, names: Collection[str], device: str) -> Router | None:
    """Construct the router, None where the bundle has none."""
    from adaptive.routers import from_state

    if LAYOUT.router not in names and LAYOUT.router_tensors not in names:
        return None
    _require(LAYOUT.router, names)
    _require(LAYOUT.router_tensors, names)
    state = read_json(folder / LAYOUT.router, LAYOUT.router)
    tensors, _ = read_torch(folder / LAYOUT.router_tensors, LAYOUT.router_tensors)
    try:
        return from_state(state, tensors).to(device)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{LAYOUT.router_tensors}: {error}") from error


def write_frequency(log_frequency: NDArray[np.floating], folder: Path) -> None:
    """Write the tokens' log frequencies [V]."""
    write_numpy(folder / LAYOUT.frequency, {"log_frequency": log_frequency})


def read_frequency(folder: Path) -> NDArray[np.floating]:
    """The tokens' log frequencies [V]."""
    arrays, _ = read_numpy(folder / LAYOUT.frequency, LAYOUT.frequency)
    found = arrays.get("log_frequency")
    if found is None or len(arrays) > 1 or not np.issubdtype(found.dtype, np.floating):
        raise BundleError(f"{LAYOUT.frequency}: expected `log_frequency` alone, of real numbers")
    return found


def write_seen(seen: NDArray[np.uint64], folder: Path) -> None:
    """Write the hashes of the rows that training, fit and search used."""
    write_numpy(folder / LAYOUT.seen, {"rows": seen})


def read_seen(folder: Path, names: Collection[str]) -> NDArray[np.uint64] | None:
    """The hashes of the rows that were used, None where the bundle does not tell."""
    if LAYOUT.seen not in names:
        return None
    arrays, _ = read_numpy(folder / LAYOUT.seen, LAYOUT.seen)
    found = arrays.get("rows")
    if found is None or len(arrays) > 1 or found.dtype != np.uint64 or found.ndim != 1:
        raise BundleError(f"{LAYOUT.seen}: expected `rows` alone, a list of 64-bit hashes")
    return found


def write_policies(policy: Policy, ladder: tuple[LadderEntry, ...], folder: Path) -> None:
    """Write the chosen policy and the family it comes from."""
    entries = [
        {
            "name": entry.name,
            "policy": policy_to_json(entry.policy),
            "figures": dict(entry.figures),
        }
        for entry in ladder
    ]
    write_json(folder / LAYOUT.policy, {"chosen": policy_to_json(policy), "ladder": entries})


def read_policies(
    folder: Path, stages: tuple[Stage, ...]
) -> tuple[Policy, tuple[LadderEntry, ...]]:
    """The chosen policy and its family, each checked against the stages."""
    name = LAYOUT.policy
    document = read_json(folder / name, name)
    entries = document.get("ladder")
    if document.keys() != {"chosen", "ladder"} or not isinstance(entries, list):
        raise BundleError(f"{name}: expected `chosen` and a list `ladder`")
    chosen = policy_from_json(document["chosen"], stages, f"{name}: chosen")
    ladder = [
        _ladder_entry(entry, stages, f"{name}: ladder[{i}]") for i, entry in enumerate(entries)
    ]
    return chosen, tuple(ladder)


def read_costs(folder: Path, names: Collection[str]) -> CostTable | None:
    """The cost table, None where the bundle has none."""
    if LAYOUT.costs not in names:
        return None
    document = read_json(folder / LAYOUT.costs, LAYOUT.costs)
    try:
        return CostTable.from_json(document)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{LAYOUT.costs}: {type(error).__name__}: {error}") from error


def _heads(folder: Path, tiers: Sequence[str]) -> list[str]:
    """SHA-256 of each tier's heads; that file in turn names the backbone they belong to."""
    return [sha256(folder / LAYOUT.tier(name) / "heads.safetensors") for name in tiers]


def _ladder_entry(found: Any, stages: tuple[Stage, ...], where: str) -> LadderEntry:
    if not isinstance(found, Mapping) or found.keys() != {"name", "policy", "figures"}:
        raise BundleError(f"{where}: expected `name`, `policy` and `figures`")
    name, figures = found["name"], found["figures"]
    if not isinstance(name, str) or not isinstance(figures, dict):
        raise BundleError(f"{where}: `name` must be text and `figures` an object")
    if not all(finite(value) for value in figures.values()):
        raise BundleError(f"{where}: `figures` must be numbers")
    return LadderEntry(name, policy_from_json(found["policy"], stages, where), figures)


def _require(name: str, names: Collection[str]) -> None:
    if name not in names:
        raise BundleError(f"{name}: the file is missing")
