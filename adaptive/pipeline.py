"""From texts to answers: check, tokenise, run the cascade, put back in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch

from adaptive import inputs as items
from adaptive import tokens as token_rows
from adaptive.answers import answer_dicts, join_windows
from adaptive.bundle.contents import Bundle
from adaptive.bundle.hub import resolve
from adaptive.bundle.store import load_bundle
from adaptive.cascade import answer
from adaptive.config import Preset, load_preset
from adaptive.errors import InputError, TargetError
from adaptive.explain import Explanation, explain
from adaptive.types import Policy, Tokens
from adaptive.work import work_of

CHUNK = 4096  # texts taken through the cascade together; bounds memory
Overflow = Literal["truncate", "error", "windows"]


class AdaptivePipeline:
    """A bundle, ready to answer. Calls are independent of each other and thread-safe.

    Attributes:
        bundle: what answers.
        preset: how it is served.
        policy: what decides.
    """

    def __init__(self, bundle: Bundle, preset: Preset | None = None) -> None:
        """Serve a bundle that is already loaded.

        Raises:
            TargetError: the preset names a policy that is not on the bundle's ladder.
        """
        self.bundle = bundle
        self.preset = preset or Preset(bundle=bundle.name)
        self.policy: Policy = _policy(bundle, self.preset.policy)
        self.costs = bundle.costs or work_of(bundle.tiers, bundle.router)

    @classmethod
    def from_config(
        cls,
        source: str | Path | Mapping[str, Any],
        *,
        device: str | int | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> AdaptivePipeline:
        """Open a preset (a YAML file or a mapping), a bundle's folder, or a hub id.

        Args:
            device: as in transformers: "cpu", "cuda:0", "mps", a number, or "auto"; None for
                the preset's.
            dtype: of the tiers' weights, as in transformers; None for the preset's.

        Raises:
            ConfigError: the preset is wrong; every fault is listed.
            BundleError: the bundle is damaged, foreign or unsafe; the file is named.
        """
        preset = _preset(source)
        folder = resolve(preset.bundle, preset.revision)
        chosen = preset.dtype if dtype is None else dtype
        bundle = load_bundle(
            folder,
            device=_device(preset.device if device is None else device),
            dtype=_dtype(chosen),
        )
        return cls(bundle, preset)

    def __call__(
        self,
        inputs: Any,
        *,
        top_k: int | None = 1,
        batch_size: int | None = None,
        truncation: bool | Overflow | None = None,
        errors: Literal["raise", "return"] | None = None,
    ) -> Any:
        """Answer texts, in order, as transformers' text-classification pipeline does.

        Args:
            inputs: a text; a mapping with "text" and "text_pair"; a list, a dataset's column
                or a data frame's of texts, pairs (tuples) or such mappings; or an iterator,
                which is answered lazily.
            top_k: labels wanted, best first; None for all. With 1, each answer is a dict,
                else a list of dicts.
            batch_size: rows that a transformer tier runs at once; no answer depends on it.
            truncation: what happens to texts of too many tokens. "truncate" or True, "error"
                or False, "windows" (the mean over overlapping windows); None for the preset's.
            errors: "raise" answers everything that can be answered, then raises; "return" puts
                {"error": ...} in the place of a refused item. None for the preset's.

        Returns:
            Dicts with "label", "score" and "routing": the tier, exit and depth that answered,
            its reliability, the tier entered, the cost and its unit, whether the text was
            truncated, and of how many windows.

        Raises:
            InputError: items were refused. `faults` names them by index, `answers` holds what
                the others were answered.
        """
        options = _Options(
            top_k,
            batch_size or self.preset.batch_size,
            _overflow(truncation, self.preset.overflow),
            errors or self.preset.errors,
        )
        if isinstance(inputs, str):
            answers = self._answer([inputs], 0, options)
            return answers if top_k == 1 else answers[0]
        if isinstance(inputs, Mapping):
            return self._answer([inputs], 0, options)[0]
        if isinstance(inputs, Iterator):
            return self._stream(inputs, options)
        if not isinstance(inputs, Iterable) or isinstance(inputs, bytes):
            raise InputError({0: items.fault(inputs) or "expected texts"})
        return self._all(inputs, options)

    def explain(self, text: str | Mapping[str, str] | tuple[str, str]) -> Explanation:
        """What the router saw of a text, each stage's confidence, and why it stopped there."""
        texts, pairs, faults = items.check([text])
        if faults:
            raise InputError(faults)
        tokens = token_rows.tokenize(
            self.bundle.tokenizer, texts, pairs, max_length=self.bundle.max_length
        )
        return explain(self.bundle, self.policy, self.costs, tokens)

    def tokenize(self, texts: list[str], pairs: list[str] | None = None) -> Tokens:
        """Token rows of texts, one each, cut to the bundle's length."""
        return token_rows.tokenize(
            self.bundle.tokenizer, texts, pairs, max_length=self.bundle.max_length
        )

    def _all(self, inputs: Iterable[Any], options: _Options) -> list[Any]:
        answers: list[Any] = []
        faults: dict[int, str] = {}
        stream = iter(inputs)
        while chunk := list(islice(stream, CHUNK)):
            try:
                answers += self._answer(chunk, len(answers), options)
            except InputError as error:
                faults |= error.faults
                answers += error.answers or []
        if faults:
            raise InputError(faults, answers)
        return answers

    def _stream(self, inputs: Iterator[Any], options: _Options) -> Iterator[Any]:
        first = 0
        while chunk := list(islice(inputs, options.batch_size * 8)):
            yield from self._answer(chunk, first, options)
            first += len(chunk)

    def _answer(self, chunk: list[Any], first: int, options: _Options) -> list[Any]:
        """One chunk, whose items are counted from `first`."""
        texts, pairs, faults = items.check(chunk)
        tokens = self._rows(texts, pairs, options.overflow, faults)
        rows = answer(self.bundle, tokens, self.policy, options.batch_size)
        joined = join_windows(self.bundle, self.policy, self.costs, tokens, rows)
        answers: list[Any] = answer_dicts(self.bundle, joined, options.top_k)
        for index, why in faults.items():
            answers[index] = {"error": why} if options.errors == "return" else None
        if faults and options.errors == "raise":
            raise InputError({first + index: why for index, why in faults.items()}, answers)
        return answers

    def _rows(
        self, texts: list[str], pairs: list[str] | None, overflow: Overflow, faults: dict[int, str]
    ) -> Tokens:
        """Token rows; texts too long under "error" join the faults and become empty."""
        while True:
            try:
                return token_rows.tokenize(
                    self.bundle.tokenizer,
                    texts,
                    pairs,
                    max_length=self.bundle.max_length,
                    overflow=overflow,
                    stride=min(self.preset.stride, self.bundle.max_length // 4),
                )
            except InputError as error:
                faults |= error.faults
                for index in error.faults:
                    texts[index] = ""
                    if pairs is not None:
                        pairs[index] = ""


class _Options:
    """One call's options, settled."""

    __slots__ = ("batch_size", "errors", "overflow", "top_k")

    def __init__(self, top_k: int | None, batch_size: int, overflow: Overflow, errors: str) -> None:
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}; expected 1 or more, or None for all labels")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected 1 or more")
        self.top_k, self.batch_size, self.overflow, self.errors = (
            top_k,
            batch_size,
            overflow,
            errors,
        )


def _preset(source: str | Path | Mapping[str, Any]) -> Preset:
    if isinstance(source, Mapping) or str(source).endswith((".yaml", ".yml")):
        return load_preset(source)
    return Preset(bundle=str(source))


def _policy(bundle: Bundle, name: str | None) -> Policy:
    if name is None:
        return bundle.policy
    ladder = {entry.name: entry.policy for entry in bundle.ladder}
    if name not in ladder:
        raise TargetError(f"policy {name!r} is not on the bundle's ladder: {', '.join(ladder)}")
    return ladder[name]


def _overflow(truncation: bool | Overflow | None, default: Overflow) -> Overflow:
    if truncation is None:
        return default
    if isinstance(truncation, bool):
        return "truncate" if truncation else "error"
    if truncation not in ("truncate", "error", "windows"):
        raise ValueError(
            f"truncation is {truncation!r}; expected True, False, 'truncate', 'error' or 'windows'"
        )
    return truncation


def _device(device: str | int | torch.device) -> torch.device:
    """transformers' ways to name a device: a number is a GPU, -1 the CPU."""
    if isinstance(device, int):
        return torch.device("cpu") if device < 0 else torch.device("cuda", device)
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(dtype: str | torch.dtype) -> torch.dtype | None:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return None
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype is {dtype!r}; expected auto, float32, float16 or bfloat16")
    return found
