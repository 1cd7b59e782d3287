"""What a user would run instead: the full tier of a bundle, its very weights, in other runtimes.

All get the runtime's own token rows (the same fast tokenizer) in padded batches of texts alike in
length, longest first; transformers' pipeline alone tokenises by itself and takes texts as they
come. For encoders whose batches have no token types but 0.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import TextClassificationPipeline
from transformers.modeling_outputs import SequenceClassifierOutput

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.text.tokens import batches, pack, tokenize
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.store import in_torch
from adaptive.tiers.tier import Tier

Ids = NDArray[np.int64]
Serve = Callable[[list[str], int], Ids]  # texts and rows of a batch to label numbers
Logits = Callable[[Ids, Ids], NDArray[np.floating]]  # ids and mask [b, t] to [b, c]
POLICY, FULL, SMALL, SINGLE = "policy", "full only", "full only, int8", "single tier"  # ours
ALONE = 64  # texts at most where a batch is one
OPSET = 18
CALIBRATION = 32  # texts that fix the ranges of static int8


@dataclass(frozen=True, slots=True)
class Shop:
    """What peers are made of."""

    bundle: Bundle
    folder: Path  # for exported files
    sample: list[str]  # texts for calibration, none of which is measured
    threads: int
    fresh: bool = True  # copies of the tier: peers of one process must not change each other's

    @property
    def full(self) -> Tier:
        """The full tier in float32, though the bundle may serve it in int8."""
        return in_torch(self.bundle.tiers[-1])

    @property
    def plain(self) -> Plain:
        """The full tier, a copy where it should be fresh."""
        tier = self.full
        return Plain(copy.deepcopy(tier) if self.fresh else tier).eval()


class Plain(nn.Module):
    """A tier without exits: ids and mask [b, t] of padded rows to logits [b, c].

    It takes the tier's model over, whose attention is then another.
    """

    def __init__(self, tier: Tier) -> None:
        super().__init__()
        assert isinstance(tier.backbone, Backbone)
        self.model = tier.backbone.model
        self.model.set_attn_implementation("sdpa")
        self.head = None if tier.own_head else tier.heads[-1]
        if self.head is not None and getattr(self.model.base_model, "pooler", None) is not None:
            self.model.base_model.pooler = None  # nobody would run what nothing reads

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if self.head is None:
            own: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
            return own
        hidden = self.model.base_model(input_ids=input_ids, attention_mask=attention_mask)[0]
        weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
        logits: torch.Tensor = self.head((hidden * weight).sum(1) / weight.sum(1))
        return logits


def in_batches(bundle: Bundle, logits: Logits) -> Serve:
    """Texts tokenised, sorted by length, padded to the longest of a batch."""

    def serve(texts: list[str], batch: int) -> Ids:
        rows = tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)
        found = np.empty(len(texts), np.int64)
        for part in batches(rows.lengths, batch):
            lengths = rows.lengths[part]
            real = np.arange(lengths.max()) < lengths[:, None]
            ids = np.full(real.shape, bundle.pad_id, np.int64)
            ids[real] = pack(rows, part).ids.numpy()
            found[part] = logits(ids, real.astype(np.int64)).argmax(1)
        return found

    return serve


def serve_pipeline(pipeline: AdaptivePipeline) -> Serve:
    """A bundle in our runtime; a text that nobody answers gets -1."""
    number = {label: index for index, label in enumerate(pipeline.bundle.labels)}

    def serve(texts: list[str], batch: int) -> Ids:
        found = pipeline(texts, batch_size=batch)
        return np.array([number.get(each["label"], -1) for each in found])

    return serve


def texts_of(texts: list[str], batch: int) -> list[str]:
    """Those that are served in batches of this size."""
    return texts[:ALONE] if batch == 1 else texts


def by_torch(model: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Logits:
    """A torch model on arrays."""

    @torch.inference_mode()
    def logits(ids: Ids, mask: Ids) -> NDArray[np.floating]:
        found: NDArray[np.floating] = (
            model(torch.from_numpy(ids), torch.from_numpy(mask)).float().numpy()
        )
        return found

    return logits


def pipeline(shop: Shop) -> Serve:
    """transformers' own, batches as they come."""
    plain, bundle = shop.plain, shop.bundle
    if plain.head is not None:
        plain.model.forward = lambda input_ids, attention_mask, **others: SequenceClassifierOutput(
            logits=plain(input_ids, attention_mask)
        )
    # its calls change the tokenizer's settings
    run = TextClassificationPipeline(
        model=plain.model, tokenizer=copy.deepcopy(bundle.tokenizer), device="cpu"
    )
    number = {label: index for index, label in plain.model.config.id2label.items()}

    def serve(texts: list[str], batch: int) -> Ids:
        found = run(texts, batch_size=batch, truncation=True, max_length=bundle.max_length)
        return np.array([int(number[each["label"]]) for each in found])

    return serve


def eager(shop: Shop, dtype: torch.dtype = torch.float32) -> Serve:
    return in_batches(shop.bundle, by_torch(shop.plain.to(dtype)))


def compiled(shop: Shop) -> Serve:
    torch._dynamo.reset()
    return in_batches(shop.bundle, by_torch(torch.compile(shop.plain, dynamic=True)))


def torch_int8(shop: Shop) -> Serve:
    """Weights int8, activations quantised as they come."""
    from torch.ao.quantization import quantize_dynamic

    small = quantize_dynamic(shop.plain, {nn.Linear}, dtype=torch.qint8)
    return in_batches(shop.bundle, by_torch(small))


def exported(shop: Shop) -> Path:
    """The full tier as ONNX, of any number of rows and tokens; written once."""
    file = shop.folder / "full.onnx"
    if not file.is_file():
        # a mask of ones alone would be left out of the graph
        ids, mask = torch.ones(2, 3, 11, dtype=torch.int64)
        mask[0, 7:] = 0
        rows, length = torch.export.Dim("rows"), torch.export.Dim("length", max=512)
        shape = {0: rows, 1: length}
        torch.onnx.export(
            shop.plain,
            (ids, mask),
            file,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            # the exporter by tracing was silently wrong at lengths it had not seen
            dynamo=True,
            dynamic_shapes=(shape, shape),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    return file


def onnxruntime(shop: Shop, *, int8: bool = False) -> Serve:
    import onnxruntime as ort

    file = exported(shop)
    if int8:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        small = file.with_name("int8.onnx")
        if not small.is_file():
            quantize_dynamic(file, small, weight_type=QuantType.QInt8, per_channel=True)
        file = small
    options = ort.SessionOptions()
    options.intra_op_num_threads = shop.threads
    options.log_severity_level = 3
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def logits(ids: Ids, mask: Ids) -> NDArray[np.floating]:
        found: NDArray[np.floating] = session.run(None, {"input_ids": ids, "attention_mask": mask})[
            0
        ]
        return found

    return in_batches(shop.bundle, logits)


def openvino(shop: Shop, precision: str = "f32", *, int8: bool = False) -> Serve:
    import openvino as ov

    core, file = ov.Core(), exported(shop)
    if int8:
        small = file.with_name("int8.xml")
        if not small.is_file():
            ov.save_model(_static_int8(shop, core.read_model(file)), small)
        file = small
    model = core.read_model(file)
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": shop.threads}
    request = core.compile_model(model, "CPU", options).create_infer_request()

    def logits(ids: Ids, mask: Ids) -> NDArray[np.floating]:
        found: NDArray[np.floating] = request.infer([ids, mask])[0]
        return found

    return in_batches(shop.bundle, logits)


def _static_int8(shop: Shop, model: Any) -> Any:
    """Weights and activations int8, ranges from a few texts."""
    import nncf

    seen: list[tuple[Ids, Ids]] = []

    def watch(ids: Ids, mask: Ids) -> NDArray[np.floating]:
        seen.append((ids, mask))
        return np.zeros((len(ids), 1))

    in_batches(shop.bundle, watch)(shop.sample[:CALIBRATION], 1)
    rows = nncf.Dataset(seen, lambda pair: list(pair))
    return nncf.quantize(model, rows, subset_size=len(seen), model_type=nncf.ModelType.TRANSFORMER)


def ctranslate2(shop: Shop, kind: str = "float32") -> Serve:
    """The encoder converted, mean and head by torch."""
    import ctranslate2 as ct2
    from ctranslate2.converters import TransformersConverter

    tier = shop.full
    if tier.own_head:
        raise NotImplementedError("a model's own head is not converted")
    source, goal = shop.folder / "checkpoint", shop.folder / "ctranslate2"
    if not goal.is_dir():
        assert isinstance(tier.backbone, Backbone)
        tier.backbone.model.base_model.save_pretrained(source)
        shop.bundle.tokenizer.save_pretrained(source)
        TransformersConverter(str(source)).convert(str(goal))
    encoder = ct2.Encoder(
        str(goal), device="cpu", compute_type=kind, inter_threads=1, intra_threads=shop.threads
    )
    head = copy.deepcopy(tier.heads[-1])

    @torch.inference_mode()
    def logits(ids: Ids, mask: Ids) -> NDArray[np.floating]:
        rows = [row[:count].tolist() for row, count in zip(ids, mask.sum(1), strict=True)]
        hidden = np.asarray(encoder.forward_batch(rows).last_hidden_state)
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        found: NDArray[np.floating] = head(torch.from_numpy(mean.astype(np.float32))).numpy()
        return found

    return in_batches(shop.bundle, logits)


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them."""

    package: str  # whose version counts
    dtype: str
    make: Callable[[Shop], Serve]
    exported: bool = False  # serves a file of its own, and needs no weights of torch's


PEERS: Mapping[str, Peer] = {
    "transformers pipeline": Peer("transformers", "float32", pipeline),
    "torch eager": Peer("torch", "float32", eager),
    "torch eager bfloat16": Peer("torch", "bfloat16", partial(eager, dtype=torch.bfloat16)),
    "torch compiled": Peer("torch", "float32", compiled),
    "torch dynamic int8": Peer("torch", "int8", torch_int8),
    "onnxruntime": Peer("onnxruntime", "float32", onnxruntime, True),
    "onnxruntime int8": Peer("onnxruntime", "int8", partial(onnxruntime, int8=True), True),
    "openvino": Peer("openvino", "float32", openvino, True),
    "openvino bfloat16": Peer("openvino", "bfloat16", partial(openvino, precision="bf16"), True),
    "openvino int8": Peer("openvino", "int8", partial(openvino, int8=True), True),
    "ctranslate2": Peer("ctranslate2", "float32", ctranslate2),
    "ctranslate2 int8": Peer("ctranslate2", "int8", partial(ctranslate2, kind="int8")),
}
