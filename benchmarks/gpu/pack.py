"""What a GPU without network is given: the finished cascade, its texts, and missing packages.

    adaptive build benchmarks/gpu/clinc150.yaml --set data.source=FOLDER
    python benchmarks/gpu/pack.py --data FOLDER

writes `.gpu/carried.tar.xz` and `.gpu/wheels`. So that few bytes travel, weights are rounded to
bfloat16, in which they are served there, and what stands for tokens of no carried text becomes
zero. The search rows are answered anew by the rounded weights; certification rows are carried as
texts alone, since nothing has looked at them. `.gpu/packed.json` tells how alike the answers are.
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.bundle.layout import LAYOUT
from adaptive.bundle.store import load_bundle, save_bundle
from adaptive.config import load_recipe
from adaptive.engine import answer
from adaptive.measure.recording import outcomes
from adaptive.policy.lookup import tier_alone
from adaptive.text.tokens import select, tokenize
from adaptive.tiers.backbone import Backbone
from adaptive.tiers.tier import Tier
from adaptive.training.prepare import load_splits
from adaptive.types import Tokens

ROOT = Path(__file__).resolve().parent.parent.parent
ARCHIVE, REPORT, WHEELS = "carried.tar.xz", "packed.json", "wheels"
SPLITS = ("search", "certify", "test")
PACKAGES = ("pydantic", "annotated-types", "typing-inspection")
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
COMPARED = 1000  # test texts whose answers are compared
BATCH = 32
# numbers of four bytes, two of them zero
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 2, "pb": 2}]
Texts = Mapping[str, tuple[list[str], list[str]]]  # by split, with the names of their labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that the build read")
    parser.add_argument("--recipe", type=Path, default=ROOT / "benchmarks/gpu/clinc150.yaml")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles/clinc150-gpu")
    parser.add_argument("--out", type=Path, default=ROOT / ".gpu")
    parser.add_argument("--no-wheels", action="store_true", help="they are there already")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.no_wheels:
        download(given.out / WHEELS)
    report = pack(given.bundle, read_splits(given.recipe, given.data), given.out)
    print(json.dumps(report, indent=1))


def download(folder: Path) -> None:
    """Wheels of what the GPU's environment lacks; of the core, the version that is required."""
    shutil.rmtree(folder, ignore_errors=True)
    fetch(folder, *PACKAGES)
    (wheel,) = folder.glob("pydantic-*.whl")
    fetch(folder, required(wheel, "pydantic-core"))


def fetch(folder: Path, *names: str) -> None:
    """Wheels of packages, without what these require."""
    options = ["--no-deps", "--only-binary=:all:", "--implementation", "cp"]
    options += ["--python-version", PYTHON, "-d", str(folder)]
    options += [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", *options, *names], check=True)


def required(wheel: Path, package: str) -> str:
    """What a wheel requires of a package, such as `pydantic-core==2.50.5`."""
    with zipfile.ZipFile(wheel) as files:
        (name,) = (each for each in files.namelist() if each.endswith(".dist-info/METADATA"))
        told = HeaderParser().parsestr(files.read(name).decode("utf-8"))
    for line in told.get_all("Requires-Dist", []):
        found = re.match(r"[\w.-]+", line)
        if found and found[0].lower().replace("_", "-") == package:
            return line.partition(";")[0].replace(" ", "")
    raise SystemExit(f"{wheel.name} requires no {package}")


def read_splits(recipe: Path, data: Path) -> Texts:
    """The texts of the build's splits, with their labels."""
    told = load_recipe(recipe, overrides=[f"data.source={data}"])
    dataset, splits = load_splits(told)
    assert dataset.labels is not None
    found = {}
    for name in SPLITS:
        rows = getattr(splits, name)
        labels = [dataset.label_names[dataset.labels[row]] for row in rows]
        found[name] = ([dataset.texts[row] for row in rows], labels)
    return found


def pack(source: Path, texts: Texts, out: Path) -> dict[str, Any]:
    """Write the archive; what is told of it.

    Raises:
        SystemExit: the texts are not those that the bundle was searched and is certified on.
    """
    original, bundle = load_bundle(source), load_bundle(source)
    tokens = {name: rows_of(bundle, own) for name, (own, _) in texts.items()}
    check_rows(bundle, texts, tokens)
    carry(bundle.tiers, tokens.values())
    bundle = replace(
        bundle,
        outcomes={
            "search": outcomes(bundle, tokens["search"], labels_of(bundle, texts["search"]), BATCH)
        },
        info=told_of(bundle.info),
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        recipe = (source / LAYOUT.recipe).read_text(encoding="utf-8")
        save_bundle(bundle, folder / "bundle", card=render_card(bundle), recipe=recipe)
        report = compare(original, load_bundle(folder / "bundle"), tokens["test"])
        for name, own in texts.items():
            write_texts(folder / f"{name}.csv", *own)
        archive(folder, out / ARCHIVE)
    report |= {"rows": {name: len(own) for name, (own, _) in texts.items()}}
    report |= {"archive_megabytes": round((out / ARCHIVE).stat().st_size / 2**20, 2)}
    (out / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def check_rows(bundle: Bundle, texts: Texts, tokens: Mapping[str, Tokens]) -> None:
    """Compare texts with the bundle's outcomes on them, by length and label."""
    for name, table in bundle.outcomes.items():
        alike = np.array_equal(table.tokens, tokens[name].lengths)
        if not (alike and np.array_equal(table.labels, labels_of(bundle, texts[name]))):
            raise SystemExit(f"{name}: these are not the rows that the bundle was built with")


def rows_of(bundle: Bundle, texts: list[str]) -> Tokens:
    """Token rows of texts, cut to the bundle's length."""
    return tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)


def labels_of(bundle: Bundle, own: tuple[list[str], list[str]]) -> Any:
    """Places [n] of labels."""
    place = {label: index for index, label in enumerate(bundle.labels)}
    return np.array([place[name] for name in own[1]], np.int32)


def told_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """What the model card says, and what was done to the weights."""
    step = "Rounded to bfloat16 and cut to the tokens of some texts, to be measured elsewhere."
    return {**info, "steps": [*info.get("steps", []), step]}


@torch.no_grad()
def carry(tiers: Iterable[Tier], tokens: Iterable[Tokens]) -> None:
    """Round weights to bfloat16, and put zeros where no token of these rows looks."""
    met = torch.from_numpy(np.unique(np.concatenate([each.ids for each in tokens])).astype(int))
    longest = max(int(each.lengths.max()) for each in tokens)
    for tier in tiers:
        for weight in tier.parameters():
            weight.copy_(weight.bfloat16())
        unseen = torch.ones(len(tier.backbone.embedding_table), dtype=torch.bool)
        unseen[met] = False
        tier.backbone.embedding_table[unseen] = 0.0
        if not isinstance(tier.backbone, Backbone):
            continue
        places = getattr(tier.backbone.body.embeddings, "position_embeddings", None)
        if places is not None:
            places.weight[longest + 2 :] = 0.0  # some families count from 2


def compare(one: Bundle, other: Bundle, tokens: Tokens) -> dict[str, Any]:
    """How often two bundles' policies, and their full tiers, answer alike."""
    few = select(tokens, np.arange(min(COMPARED, len(tokens))))
    found: dict[str, Any] = {"compared": len(few)}
    ways = {"policy": one.policy, "full": tier_alone(one.stages, len(one.tiers) - 1)}
    for name, policy in ways.items():
        given, expected = (answer(each, few, policy, BATCH) for each in (other, one))
        difference = np.abs(given.probabilities - expected.probabilities)
        label = given.probabilities.argmax(1) == expected.probabilities.argmax(1)
        found[name] = {
            "stages_alike": round(float((given.stage == expected.stage).mean()), 4),
            "labels_alike": round(float(label.mean()), 4),
            "greatest": round(float(difference.max()), 4),
        }
    return found


def write_texts(file: Path, texts: list[str], labels: list[str]) -> None:
    """A CSV file with the columns text and label."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([("text", "label"), *zip(texts, labels, strict=True)])


def archive(folder: Path, file: Path) -> None:
    """Everything in a folder, compressed; the same bytes for the same content."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with (
        lzma.open(file, "wb", filters=FILTERS) as stream,
        tarfile.open(fileobj=stream, mode="w") as files,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                files.add(path, path.relative_to(folder).as_posix(), filter=plain)


if __name__ == "__main__":
    main()
