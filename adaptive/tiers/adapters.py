"""Adapter folders of peft: what they are for, and the model with one merged into it.

Such a folder holds adapter_config.json and adapter_model.safetensors: small matrices beside those
of a base model, which is elsewhere, and mostly a whole new head (`modules_to_save`). peft loads
it and adds the matrices up (Hu et al. 2021, arXiv:2106.09685, section 4.1), so that a model
without adapters is left.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from adaptive.errors import BuildError
from adaptive.tiers.find import ADAPTER, find_source

ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Kinds that are added to weights, and what the names of their own tensors contain.
_MERGED = {"LORA": "lora_", "ADALORA": "lora_", "LOHA": "hada_", "LOKR": "lokr_", "IA3": "ia3_"}
_INSIDE = "base_model.model."  # before every name of the model that was adapted
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model of its own."""
    whole = any((folder / name).is_file() for name in _WEIGHTS)
    return (folder / ADAPTER).is_file() and not whole


def find_base(folder: Path) -> Path:
    """The folder of the model that an adapter is for; any other folder itself.

    Raises:
        BuildError: the base is not there, or an adapter itself, or the adapter names none.
    """
    if not is_adapter(folder):
        return folder
    found = _settings(folder)
    name, revision = found.get("base_model_name_or_path"), found.get("revision")
    if not isinstance(name, str) or not name:
        raise BuildError(
            f"{ADAPTER}: base_model_name_or_path does not name the model that the adapter is for"
        )
    beside = folder / name
    local = not Path(name).is_dir() and beside.is_dir()
    try:
        base = find_source(str(beside) if local else name, revision)
    except BuildError as error:
        raise BuildError(
            f"{ADAPTER}: the adapter's base model is not there: {error}. Put it there, or let "
            "base_model_name_or_path name a folder that holds it"
        ) from error
    if is_adapter(base):
        raise BuildError(f"{ADAPTER}: the base model {name!r} is an adapter itself; merge it first")
    return base


def tokenizer_folder(folder: Path) -> Path:
    """Where a model's tokenizer is: beside an adapter, or else with its base."""
    own = any((folder / name).is_file() for name in _TOKENIZER)
    return folder if own else find_base(folder)


def kept_shapes(folder: Path) -> dict[str, list[int]]:
    """Shapes of the model's own tensors that an adapter brings whole, by their names in the model.

    Raises:
        BuildError: there are no weights in safetensors, or they are damaged.
    """
    prefix = _prefix(folder)
    with _open(folder) as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    return {n.removeprefix(_INSIDE): shape for n, shape in shapes.items() if prefix not in n}


def head_rows(folder: Path, head: Sequence[str]) -> int | None:
    """Classes of the head that an adapter brings; None where it brings none.

    Args:
        head: the modules of the family's head; the last one gives the logits.
    """
    weights = {
        name: shape
        for name, shape in kept_shapes(folder).items()
        if name.startswith(f"{head[-1]}.") and name.endswith("weight") and len(shape) == 2
    }
    last = [shape[0] for name, shape in weights.items() if "dense" not in name]
    return last[0] if last else None


def merge(model: Any, folder: Path) -> Any:
    """The model with an adapter's matrices added to its own and its head in place.

    Raises:
        BuildError: the adapter does not fit the model, or is of a kind that cannot be merged.
    """
    from peft import PeftModel, get_peft_model_state_dict

    prefix = _prefix(folder)
    with _open(folder) as file:
        wanted = {name for name in file.keys() if prefix in name}  # noqa: SIM118
    try:
        with warnings.catch_warnings():
            # peft names a base by its path, asks transformers in deprecated ways, and only warns
            # of matrices that find no place, which is checked here
            warnings.simplefilter("ignore")
            adapted = PeftModel.from_pretrained(model, folder)
            state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise BuildError(f"{ADAPTER_WEIGHTS} does not fit its base model: {error}") from error
    strange = wanted ^ {name for name in state if prefix in name}
    if strange:
        raise BuildError(
            f"{ADAPTER_WEIGHTS} does not fit its base model: {len(strange)} of its tensors have no "
            f"place there or none of theirs is here, as {min(strange)}"
        )
    return adapted.merge_and_unload()


def _prefix(folder: Path) -> str:
    """What the names of an adapter's own tensors contain.

    Raises:
        BuildError: the adapter is of a kind that is not added to weights.
    """
    kind = _settings(folder).get("peft_type")
    if kind not in _MERGED:
        raise BuildError(
            f"{ADAPTER}: an adapter of kind {kind!r} cannot be merged into its model; expected one "
            f"of {', '.join(_MERGED)}"
        )
    return _MERGED[kind]


def _settings(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"{ADAPTER} cannot be read as JSON") from error
    if not isinstance(found, dict):
        raise BuildError(f"{ADAPTER} holds no JSON object")
    return found


def _open(folder: Path) -> Any:
    try:
        return safe_open(folder / ADAPTER_WEIGHTS, framework="pt")
    except (SafetensorError, OSError) as error:
        raise BuildError(
            f"{ADAPTER_WEIGHTS} is missing or damaged; an adapter saved otherwise is not loaded, "
            "save it with safetensors"
        ) from error
