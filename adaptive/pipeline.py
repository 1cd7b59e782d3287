"""From texts to answers: check, tokenise, run the cascade, put back in order."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adaptive.answers import Prices, answer_dicts, applied, join_windows
from adaptive.bundle.contents import Bundle
from adaptive.bundle.hub import resolve
from adaptive.bundle.store import load_bundle
from adaptive.certifying.coverage import Coverage, Use
from adaptive.config import Preset
from adaptive.engine import Engine, answer, answer_by
from adaptive.engine.ahead import has_spare_core, one_ahead
from adaptive.errors import InputError
from adaptive.measure.work import work_of
from adaptive.options import (
    OnFault,
    Options,
    TopK,
    call_options,
    choose_device,
    choose_dtype,
    choose_length,
    choose_policy,
    choose_promise,
    choose_stride,
    open_preset,
    own_model,
    stride_within,
)
from adaptive.text import inputs as items
from adaptive.text import streams
from adaptive.text import tokens as token_rows
from adaptive.types import Answers, Policy, Target, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from adaptive.measure.explain import Explanation

CHUNK = 4096  # texts taken through the cascade together; bounds memory
AHEAD = 8  # batches of a piece that an iterator is read by
ENGINES = 8  # that are kept for further calls of few rows
Faults = dict[int, str]
# the last: whether they are pairs of texts, None where none is one
Ready = tuple[Tokens, Faults, bool | None]


class AdaptivePipeline:
    """A bundle, ready to answer. Calls are independent of each other and thread-safe.

    A pipeline that was opened by `from_config` pickles as what it was opened from, and is opened
    again where it is unpickled: in processes that are spawned, by joblib, on other machines that
    have the bundle at the same place. `copy.deepcopy` copies the weights.

    Attributes:
        bundle: what answers.
        preset: how it is served.
        policy: what decides.
        costs: what `cost` in an answer's routing is read from.
        promises: the certificate's targets that hold here, for calls with the preset's options.
            Those about milliseconds do not on another processor, with other threads or in batches
            of another size; a warning says so.
    """

    def __init__(self, bundle: Bundle, preset: Preset | None = None) -> None:
        """Serve a bundle that is already loaded.

        Raises:
            TargetError: the preset names a target that the bundle's certificate does not prove,
                or a policy that is not on the ladder or not covered.
            ConfigError: the preset's windows overlap by more than they hold.
        """
        self.preset = preset or Preset(bundle=bundle.name)
        self.bundle = bundle = choose_promise(bundle, self.preset.target)
        self.policy: Policy = choose_policy(bundle, self.preset.policy)
        self.costs = bundle.costs or work_of(bundle.tiers, bundle.router)
        self._prices = Prices.of(bundle, self.policy, self.costs)
        self._coverage = Coverage(bundle.certificate, bundle.device)
        use = Use(self.preset.batch_size, bundle.max_length, self.preset.overflow == "truncate")
        self.promises: tuple[Target, ...] = self._coverage(self.policy, use)
        self._stride = choose_stride(bundle, self.preset)
        self._chosen = self.policy
        self._origin: dict[str, Any] | None = None  # arguments of `from_config`
        self._engines = _no_engines()

    @classmethod
    def from_config(
        cls,
        source: str | Path | Mapping[str, Any] | Preset,
        *,
        device: str | int | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        target: Target | Mapping[str, Any] | str | None = None,
        uncertified: bool = False,
    ) -> AdaptivePipeline:
        """Open a preset (a YAML file or a mapping), a bundle's folder, or a hub id.

        Args:
            device: as in transformers: "cpu", "cuda:0", "mps", a number, or "auto"; None for
                the preset's.
            dtype: of the tiers' weights, as in transformers; None for the preset's.
            target: another promise of the bundle's certificate, whose policy then answers: a
                `Target`, its fields `metric` and `level`, or text such as "accuracy_drop=0.02";
                None for the preset's.
            uncertified: whether to open a bundle that is not what its certificate is about, as
                on another device or in another dtype, or to choose a policy that is not
                certified. All answers are then marked `covered: False`.

        Raises:
            ConfigError: the preset is wrong, every fault is listed; or the device is not there.
            BundleError: the bundle is damaged, foreign or unsafe, or not what its certificate
                is about; the file is named.
            TargetError: the target is none that the bundle is certified for, those that are
                are listed; or the preset names a policy that is not on the ladder or not covered.
        """
        preset = open_preset(source, target)
        place = choose_device(preset.device if device is None else device)
        kind = choose_dtype(preset.dtype if dtype is None else dtype)
        folder = resolve(preset.bundle, preset.revision)
        bundle = load_bundle(folder, device=place, dtype=kind, uncertified=uncertified)
        pipeline = cls(bundle, preset)
        if Path(preset.bundle).expanduser().is_dir():  # a hub id stays one
            preset = preset.model_copy(update={"bundle": str(folder.resolve())})
        pipeline._origin = {
            "source": preset,
            "device": device,
            "dtype": dtype,
            "uncertified": uncertified,
        }
        return pipeline

    def __reduce__(self) -> tuple[Any, ...]:
        """What it was opened from, and the policy if it was changed since.

        Raises:
            TypeError: the bundle was made in memory and lies nowhere.
        """
        if self._origin is None:
            raise TypeError(
                "a pipeline of a bundle in memory cannot be pickled; save the bundle with "
                "adaptive.bundle.store.save_bundle and open its folder by `from_config`"
            )
        changed = {} if self.policy == self._chosen else {"policy": self.policy}
        return partial(type(self).from_config, **self._origin), (), changed

    def __copy__(self) -> AdaptivePipeline:
        """Another pipeline of the same bundle."""
        return self._with(self._lasting())

    def __deepcopy__(self, memo: dict[int, Any]) -> AdaptivePipeline:
        """Another pipeline with a bundle of its own."""
        return self._with(copy.deepcopy(self._lasting(), memo))

    def _lasting(self) -> dict[str, Any]:
        """All attributes but the engines, which each pipeline makes for itself."""
        return {name: each for name, each in self.__dict__.items() if name != "_engines"}

    def _with(self, attributes: Mapping[str, Any]) -> AdaptivePipeline:
        other = object.__new__(type(self))
        other.__dict__.update(attributes, _engines=_no_engines())
        return other

    def __repr__(self) -> str:
        """What answers, and whether anything is promised here."""
        tiers, certificate = ", ".join(t.name for t in self.bundle.tiers), self.bundle.certificate
        told = "no certificate" if certificate is None else certificate.headline
        covered = "" if self.promises or certificate is None else ", not covered here"
        return f"<AdaptivePipeline {self.bundle.name}: {tiers}; {told}{covered}; {self.device}>"

    def _repr_html_(self) -> str:
        """As notebooks show it: what answers, by which exits, and what is promised."""
        from adaptive.bundle.page import policy_line, promises
        from adaptive.display import card

        bundle = self.bundle
        places = [f"{bundle.tiers[s.tier].name}@{s.depth}" for s in bundle.stages]
        certificate = bundle.certificate
        rows = [
            ("labels", f"{len(bundle.labels)}: {', '.join(bundle.labels[:6])}"),
            ("tiers", ", ".join(f"{t.name} ({t.depths[-1]} layers)" for t in bundle.tiers)),
            ("policy", policy_line(self.policy, places)),
            ("promise", promises(bundle.targets)),
            ("certificate", "none" if certificate is None else certificate.headline),
            ("covered here", "yes" if self.promises else "no"),
            ("runs", f"{bundle.device}, {bundle.dtype}"),
        ]
        return card(f"AdaptivePipeline {bundle.name}", rows)

    @property
    def device(self) -> torch.device:
        """Where the tiers are."""
        return self.bundle.device

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The one that all tiers share."""
        return self.bundle.tokenizer

    @property
    def model(self) -> PreTrainedModel:
        """The full tier's transformers model, which answers as the full tier alone does.

        It is one model of several: what it is called for runs no cascade and keeps no promise.

        Raises:
            AttributeError: the full tier answers by a head that is no part of such a model, or
                ONNX Runtime runs its layers.
        """
        return own_model(self.bundle)

    def __call__(
        self,
        inputs: Any,
        *,
        top_k: TopK = "",
        batch_size: int | None = None,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        padding: Any = None,
        function_to_apply: str | None = None,
        errors: OnFault | None = None,
    ) -> Any:
        """Answer texts, in order, as transformers' text-classification pipeline does.

        Args:
            inputs: a text; a mapping with "text" and, for a pair, "text_pair"; a sequence, a
                dataset's column or a data frame's of texts, pairs (tuples) or such mappings;
                or a generator or torch dataset, which is answered lazily, in pieces of `AHEAD`
                batches. It is read by one piece, or two where a core or a GPU allows to
                tokenise the next piece meanwhile, further than the answers were taken.
            top_k: labels wanted, best first; None for all. Each item's answer is then a list
                of dicts; left out, it is the best label's dict alone.
            batch_size: rows that a transformer's layers run at once; no answer depends on it.
            truncation: what happens to texts of too many tokens. "truncate" or True, "error"
                or False, "windows" (the mean over overlapping windows); None for the preset's.
            max_length: tokens of a row at most, special ones included, up to the bundle's; None
                for the bundle's. The certificate is about texts cut where the bundle cuts them,
                so with fewer all answers are marked `covered: False`. Windows then overlap by
                a quarter of it at most.
            padding: what transformers takes here; nothing depends on it, since no row is padded.
            function_to_apply: "softmax" for probabilities, as None; "none" for their natural
                logarithms, which are the answering exit's logits over its temperature but for a
                constant of each text: their softmax are the probabilities. "sigmoid" is refused.
            errors: "raise" answers everything that can be answered, then raises; "return" puts
                {"error": ...} in the place of a refused item. None for the preset's.

        Returns:
            A list for a text or a sequence, the one answer for a mapping, an iterator for a
            generator. Dicts have "label", "score" (calibrated: the softmax of the answering
            exit's logits over its fitted temperature, where transformers' has none) and
            "routing": the tier, exit and depth that
            answered, its reliability (None where the policy asks for none), the tier entered,
            the cost and its unit, whether the policy `abstained` (then "label" is None), whether
            the text was truncated, of how many windows, whether it is `covered` by the bundle's
            certificate, and what the `promise` is then about: "mean", the mean over texts, not
            this text.

        Raises:
            InputError: items were refused. `faults` names them by index, `answers` holds what
                the others were answered. An iterator raises at its first refused item; what
                its batch-mates from there on were answered is in `answers`. Pairs among single
                texts are refused, or the other way round: in a list the fewer, in an iterator
                those unlike the first.
            ValueError: an option has a value it cannot have.
        """
        options = call_options(
            self.preset,
            top_k=top_k,
            batch_size=batch_size,
            truncation=truncation,
            errors=errors,
            function_to_apply=function_to_apply,
            padding=padding,
            length=choose_length(self.bundle, max_length),
            task=self.bundle.task,
        )
        if isinstance(inputs, Mapping):
            return self._all([inputs], options)[0]
        if streams.is_stream(inputs):
            return self._stream(streams.each(inputs), options)
        if hasattr(inputs, "columns"):  # its iterator gives the columns' names
            raise InputError(
                {0: f"expected texts, found a {type(inputs).__name__}; give one of its columns"}
            )
        if streams.is_many(inputs):
            return self._all(inputs, options)
        answers = self._all([inputs], options)
        return answers[0] if options.nested else answers

    def warm_up(self, texts: Sequence[Any], *, batch_size: int | None = None) -> None:
        """Answer typical texts, so that the first callers do not wait for what is done only once.

        On a GPU CUDA graphs are captured, for batches of the sizes that these texts make. Sizes
        that come later are captured when they are met the second time.

        Raises:
            InputError: as a call does.
        """
        for _ in range(2):
            self(texts, batch_size=batch_size)

    def explain(
        self, text: str | Mapping[str, str] | tuple[str, str], *, attributions: bool = False
    ) -> Explanation:
        """What the router saw of a text, each stage's confidence, and why it stopped there.

        A text of too many tokens is cut, whatever the preset says.

        Args:
            attributions: also what each token did for the answer, by captum.

        Raises:
            InputError: the item is no text and no pair.
            ImportError: attributions are wanted and the extra `explain` is not installed.
        """
        from adaptive.measure.explain import explain

        return explain(self.bundle, self.policy, self.costs, self.row(text), attributions)

    def row(self, text: str | Mapping[str, str] | tuple[str, str]) -> Tokens:
        """The token row of one text or pair, cut to the bundle's length.

        Raises:
            InputError: the item is no text and no pair.
        """
        texts, pairs, faults = items.check([text])
        if faults:
            raise InputError(faults)
        return self.tokenize(texts, pairs)

    def tokenize(self, texts: list[str], pairs: list[str] | None = None) -> Tokens:
        """Token rows of texts, one each, cut to the bundle's length."""
        bundle = self.bundle
        return token_rows.tokenize(
            bundle.tokenizer, texts, pairs, max_length=bundle.max_length, redact=bundle.redact
        )

    def _all(self, inputs: Iterable[Any], options: Options) -> list[Any]:
        texts, pairs, faults = items.check(inputs)
        starts = range(0, len(texts), CHUNK)
        parts: Iterator[items.Checked] = (
            (texts[i : i + CHUNK], pairs and pairs[i : i + CHUNK], {}) for i in starts
        )
        answers: list[Any] = []
        with self._rows_of(parts, options, several=len(starts) > 1) as ready:
            for tokens, long, paired in ready:
                faults |= {len(answers) + index: why for index, why in long.items()}
                answers += self._answer(tokens, options, paired=paired)
        _mark(answers, faults, options)
        if faults and options.errors == "raise":
            raise InputError(dict(sorted(faults.items())), answers)
        return answers

    def _stream(self, inputs: Iterator[Any], options: Options) -> Iterator[Any]:
        first = 0
        parts = streams.checked(inputs, options.batch_size * AHEAD)
        with self._rows_of(parts, options, several=True) as ready:
            for tokens, faults, paired in ready:
                answers = self._answer(tokens, options, paired=paired)
                _mark(answers, faults, options)
                if faults and options.errors == "raise":
                    bad = min(faults)
                    yield from answers[:bad]
                    raise InputError(
                        {first + index: faults[index] for index in sorted(faults)}, answers[bad:]
                    )
                yield from answers
                first += len(answers)

    def _rows_of(
        self, parts: Iterable[items.Checked], options: Options, *, several: bool
    ) -> AbstractContextManager[Iterator[Ready]]:
        """Token rows and faults of each part, the next ones made while these are computed."""

        def make(part: items.Checked) -> Ready:
            texts, pairs, faults = part
            tokens, long = self._rows(texts, pairs, options)
            paired = None if len(faults) == len(texts) else pairs is not None
            return tokens, faults | long, paired

        if several and has_spare_core(self.bundle.device):
            return closing(one_ahead(make, parts))  # a traceback would keep its thread alive
        return nullcontext(map(make, parts))

    def _answer(self, tokens: Tokens, options: Options, *, paired: bool | None) -> list[Any]:
        """Answers of the texts [n], or pairs of texts, that the token rows are of."""
        top_k = 1 if options.top_k == "" else options.top_k
        # windows are averaged
        whole = self.bundle.task.whole or top_k != 1 or len(tokens) != len(tokens.truncated)
        rows = self._by_engine(tokens, options.batch_size, whole)
        cuts = options.overflow == "truncate"
        use = Use(options.batch_size, options.length, cuts, paired)
        prices = replace(self._prices, covered=bool(self._coverage(self.policy, use)))
        joined = join_windows(self.bundle, self.policy, prices, tokens, rows)
        answers = answer_dicts(self.bundle, applied(joined, options.function), joined, top_k)
        return answers if options.nested else [own[0] for own in answers]

    def _by_engine(self, tokens: Tokens, batch_size: int, whole: bool) -> Answers:
        """What an engine answers; of few rows on a CPU one that was used before.

        A new one takes a tenth of a single short text's time. Threads find engines that no other
        one uses, since a call takes its own out.
        """
        few = len(tokens) <= batch_size and self.bundle.device.type == "cpu"
        if not few:
            return answer(self.bundle, tokens, self.policy, batch_size, whole=whole)
        wanted = (self.policy, batch_size, whole)
        try:
            made_for, engine = self._engines.pop()
        except IndexError:
            made_for = engine = None
        if engine is None or made_for != wanted or engine.bundle is not self.bundle:
            engine = Engine(self.bundle, self.policy, batch_size, whole=whole)
        found = answer_by(engine, tokens)
        self._engines.append((wanted, engine))
        return found

    def _rows(
        self, texts: list[str], pairs: list[str] | None, options: Options
    ) -> tuple[Tokens, Faults]:
        """Token rows, and which texts cannot be cut as wanted; these become empty."""
        return token_rows.tokenize_each(
            self.bundle.tokenizer,
            texts,
            pairs,
            max_length=options.length,
            overflow=options.overflow,
            stride=stride_within(self._stride, options.length, self.bundle),
            redact=self.bundle.redact,
        )


def _no_engines() -> deque[tuple[Any, Engine]]:
    """Room for engines without rows, with what each was made for."""
    return deque(maxlen=ENGINES)


def _mark(answers: list[Any], faults: Faults, options: Options) -> None:
    """Puts what a refused item gets in its place."""
    for index, why in faults.items():
        answers[index] = {"error": why} if options.errors == "return" else None
