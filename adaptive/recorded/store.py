"""The folder that a certificate of recorded outcomes is kept in, and back.

    router.json            layout, policy, how features are made, fingerprints, verdict
    judges.safetensors     idf, directions, and the arrays of every estimator
    certificate.json       what was tested and proved
    VERDICT.md             all of it in plain words
    manifest.json          SHA-256 of every other file

No word of a prompt is kept; of answers those alone that are told apart, such as letters.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from adaptive.bundle.certificates import certificate_from_json, certificate_to_json
from adaptive.bundle.files import read_json, read_numpy, write_json, write_numpy
from adaptive.bundle.manifest import sha256
from adaptive.bundle.policies import policy_from_json, policy_to_json
from adaptive.errors import BundleError
from adaptive.recorded.certifying import Certified
from adaptive.recorded.deciding import Router
from adaptive.recorded.estimators import Estimator
from adaptive.recorded.fingerprints import Fingerprint
from adaptive.recorded.judging import Judge, Judges, Prompts, Spending
from adaptive.recorded.layouts import Layout
from adaptive.recorded.page import render
from adaptive.recorded.scorers import SCORERS, Scorer, scorer_of
from adaptive.recorded.signals import Signals
from adaptive.recorded.texts import Encoder, Texts
from adaptive.recorded.verdicts import headline, verdict

FORMAT = 1
KIND = "recorded outcomes"
ROUTER, JUDGES, CERTIFICATE, PAGE, MANIFEST = FILES = (
    "router.json",
    "judges.safetensors",
    "certificate.json",
    "VERDICT.md",
    "manifest.json",
)
Arrays = dict[str, NDArray[Any]]


def write(found: Certified, folder: str | Path) -> Path:
    """Write a certificate and what decides, as a whole or not at all.

    Raises:
        BundleError: the folder is there and is none that this wrote.
    """
    goal = Path(folder).expanduser()
    if goal.exists() and not is_router(goal):
        raise BundleError(f"{goal}: is there, and holds no certificate of outcomes; name another")
    part = goal.with_name(f".{goal.name}.{uuid.uuid4().hex}.part")
    part.mkdir(parents=True)
    try:
        _fill(found, part)
        if goal.exists():
            shutil.rmtree(goal)
        part.rename(goal)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return goal


def is_router(folder: Path) -> bool:
    """Whether a folder holds a certificate of recorded outcomes."""
    return all((folder / name).is_file() for name in (ROUTER, JUDGES, CERTIFICATE, MANIFEST))


def _fill(found: Certified, folder: Path) -> None:
    judges = found.judges
    content = {
        "format": FORMAT,
        "kind": KIND,
        "verdict": verdict(found.certificate, found.layout, found.figures),
        "headline": headline(found.certificate, found.layout, found.figures),
        "chains": [list(chain) for chain in found.layout.chains],
        "policy": policy_to_json(found.certificate.policy),
        "scorer": found.scorer,
        "prompts": {
            "groups": list(judges.prompts.groups),
            "words": judges.prompts.texts is not None,
            "encoder": judges.prompts.encoder is not None,
        },
        "spending": [judges.spending.base, judges.spending.slope],
        "signals": {model: own.to_json() for model, own in judges.signals.items()},
        "fingerprints": {model: own.to_json() for model, own in found.fingerprints.items()},
    }
    write_json(folder / ROUTER, content)
    write_numpy(folder / JUDGES, _arrays(judges))
    write_json(folder / CERTIFICATE, certificate_to_json(found.certificate))
    (folder / PAGE).write_text(render(found), encoding="utf-8")
    files = {name: sha256(folder / name) for name in FILES if name != MANIFEST}
    write_json(folder / MANIFEST, {"format": FORMAT, "files": files})


def _arrays(judges: Judges) -> Arrays:
    arrays: Arrays = {}
    if judges.prompts.texts is not None:
        arrays["texts/idf"] = judges.prompts.texts.idf
        arrays["texts/directions"] = judges.prompts.texts.directions
    named = {f"entry/{model}": judge for model, judge in judges.entry.items()}
    named |= {f"after/{'>'.join(chain)}": judge for chain, judge in judges.after.items()}
    for name, judge in named.items():
        for kind, estimator in (("worse", judge.worse), ("better", judge.better)):
            if estimator is not None:
                own = estimator.arrays()
                arrays |= {f"{name}/{kind}/{field}": each for field, each in own.items()}
    return arrays


def open(
    folder: str | Path, *, encoder: Encoder | None = None, scorer: Scorer | None = None
) -> Router:
    """Open what `write` wrote.

    Args:
        encoder: the one that it was certified with, where that was not by words.
        scorer: likewise, where it was a function.

    Raises:
        BundleError: a file is missing, changed, or does not say what it must; or the encoder or
            scorer that it needs is not given.
    """
    home = Path(folder).expanduser()
    if not is_router(home):
        raise BundleError(f"{home}: is no folder of a certificate of recorded outcomes")
    listed = read_json(home / MANIFEST, MANIFEST).get("files")
    if not isinstance(listed, dict) or set(listed) != set(FILES) - {MANIFEST}:
        raise BundleError(f"{MANIFEST}: does not list the files of such a folder")
    for name, expected in listed.items():
        if not (home / name).is_file() or sha256(home / name) != expected:
            raise BundleError(f"{name}: is missing or not what the manifest says")
    content = read_json(home / ROUTER, ROUTER)
    if content.get("format") != FORMAT or content.get("kind") != KIND:
        raise BundleError(f"{ROUTER}: expected format {FORMAT} of {KIND}")
    arrays, _ = read_numpy(home / JUDGES, JUDGES)
    try:
        layout = Layout(tuple(tuple(map(str, chain)) for chain in content["chains"]))
        judges = _judges(content, arrays, layout, encoder, scorer)
        prints = {name: Fingerprint.of(own) for name, own in content["fingerprints"].items()}
        certificate = certificate_from_json(
            read_json(home / CERTIFICATE, CERTIFICATE), layout.stages, CERTIFICATE
        )
        return Router(
            layout=layout,
            policy=policy_from_json(content["policy"], layout.stages, ROUTER),
            judges=judges,
            certificate=certificate,
            fingerprints=prints,
            verdict=str(content["verdict"]),
            headline=str(content["headline"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{ROUTER}: a field is missing or wrong ({error})") from None


def _judges(
    content: Mapping[str, Any],
    arrays: Arrays,
    layout: Layout,
    encoder: Encoder | None,
    scorer: Scorer | None,
) -> Judges:
    told = content["prompts"]
    if bool(told["encoder"]) != (encoder is not None):
        needed = "needs its encoder" if told["encoder"] else "was certified without an encoder"
        raise BundleError(f"{ROUTER}: this certificate {needed}")
    named = content["scorer"] in SCORERS
    if named == (scorer is not None):
        needed = "names its scorer itself" if named else "needs the scorer it was certified with"
        raise BundleError(f"{ROUTER}: this certificate {needed}")
    texts = Texts(arrays["texts/idf"], arrays["texts/directions"]) if told["words"] else None
    prompts = Prompts(texts, tuple(map(str, told["groups"])), encoder)
    signals = {
        model: Signals(**{name: _frozen(each) for name, each in own.items()})
        for model, own in content["signals"].items()
    }
    entry = {model: _judge(arrays, f"entry/{model}") for model in signals}
    chains = [prefix for prefix in layout.prefixes if prefix != layout.chains[-1]]
    after = {chain: _judge(arrays, f"after/{'>'.join(chain)}") for chain in chains}
    spending = Spending(*map(float, content["spending"]))
    return Judges(prompts, signals, entry, after, scorer or scorer_of(content["scorer"]), spending)


def _judge(arrays: Arrays, name: str) -> Judge:
    found = []
    for kind in ("worse", "better"):
        start = f"{name}/{kind}/"
        own = {key[len(start) :]: each for key, each in arrays.items() if key.startswith(start)}
        found.append(Estimator.of(own) if own else None)
    worse, better = found
    if worse is None:
        raise KeyError(name)
    return Judge(worse, better)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def read_page(folder: str | Path) -> str:
    """The verdict page of such a folder."""
    return (Path(folder).expanduser() / PAGE).read_text(encoding="utf-8")
