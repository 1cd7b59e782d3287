"""Where everything lies in a bundle's folder, as one frozen value, and which paths may be there.

A new format is needed where a bundle that is written now could be misread, or is refused for no
reason that helps, by a version that reads `FORMAT`; or where what was written before no longer
reads as it stands. What is added and may be missing needs none. Then, in one change:

1. `FORMAT` grows by 1, and a line here says what is different in it.
2. The code that reads the former layout moves to a function of its own, beside the one that reads
   the new one, and is chosen by the header's number. It makes the same values: nothing behind
   reading knows formats.
3. Before the change, `save_bundle` of the former version writes a small bundle of random weights to
   tests/golden/format<N>, if none is there (under 100 kB; with a router, a certificate, search and
   certification rows). It is never written again.
4. tests/bundle/test_golden.py opens every one, and each answers as it did when it was written.

Format 1: the first. Outcome files of graded answers and of usage came later; they stand beside
those of classes, which are as they were. So did tasks: a bundle of another than `single_label` has
its name in the header, for which a version that knows no tasks refuses it, and a file of its own
with what belongs to the task. A certificate is bound to that file as to all that answers. So is it
with redaction: the kinds of personal data are in a file of their own, and named in the header, too.

Format 2: where ONNX Runtime runs a tier, `layers/` holds a graph of each segment, from one exit to
the next, called by the layers that it runs from and to (`00-02.onnx`). In format 1 it held one of
each layer (`00.onnx`). `adaptive.tiers.graphs` tells them by their names and not by the header's
number, because folders of builds that were begun before hold the former, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from adaptive.errors import BundleError

FORMAT = 2
SUFFIXES = (".json", ".safetensors", ".yaml", ".md", ".txt", ".onnx")
# What git and the hub's client leave beside a download. Nothing in there is ever read.
IGNORED = frozenset({".git", ".gitattributes", ".cache"})
TEXT_LIMIT = 256 * 2**20  # bytes; the largest tokenizer files known are about 40 MiB
FILE_LIMIT = 1024  # files in a bundle

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths inside the folder, with `/`."""

    header: str = "bundle.json"
    manifest: str = "manifest.json"
    tokenizer: str = "tokenizer"
    reliability: str = "reliability.safetensors"
    router: str = "router.json"
    router_tensors: str = "router.safetensors"
    frequency: str = "frequency.safetensors"
    policy: str = "policy.json"
    costs: str = "costs.json"
    seen: str = "seen.safetensors"
    recipe: str = "recipe.yaml"
    card: str = "README.md"
    task: str = "task.json"  # of bundles whose answers are not one class each
    redact: str = "redact.json"  # of bundles before which texts lose personal data
    certificate: str = "certificate.json"
    certificate_page: str = "CERTIFICATE.md"

    @property
    def required(self) -> tuple[str, ...]:
        """What every bundle has, beside its tiers."""
        return (self.header, self.policy, self.reliability, self.frequency, self.card, self.recipe)

    def tier(self, name: str) -> str:
        """Folder of a tier."""
        return f"tiers/{checked_name(name, self.header)}"

    def outcomes(self, split: str) -> str:
        """File of a split's outcome table."""
        return f"outcomes/{checked_name(split, self.header)}.safetensors"


LAYOUT = Layout()


def checked_name(name: object, file: str) -> str:
    """The name of a tier or split, if it can be a file name on any system.

    Raises:
        BundleError: it cannot; `file` is where it stands.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise BundleError(
        f"{file}: {name!r} cannot name a tier or a split; use up to 64 of A-Z a-z 0-9 _ -"
    )


def checked_path(path: str, file: str) -> str:
    """A path inside the folder, if it stays there and is of a kind that bundles hold.

    Raises:
        BundleError: it leaves the folder, or its suffix is not one of `SUFFIXES`; `file` is
            where it stands.
    """
    parts = path.split("/")
    if not all(_PART.fullmatch(part) and not part.endswith(".") for part in parts):
        raise BundleError(f"{file}: the path {path!r} leaves the folder or is not a plain path")
    if PurePosixPath(path).suffix not in SUFFIXES:
        raise BundleError(
            f"{file}: {path!r} is not one of the kinds allowed: {', '.join(SUFFIXES)}"
        )
    return path
