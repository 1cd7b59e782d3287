"""Bundles on a hub: bring one here, put one there.

Access tokens, endpoints, offline mode and caches are huggingface_hub's own business, set by its
environment variables.
"""

from __future__ import annotations

import re
from pathlib import Path

from adaptive.bundle.layout import LAYOUT, SUFFIXES
from adaptive.bundle.manifest import verify
from adaptive.errors import BundleError

PATTERNS = tuple(f"*{suffix}" for suffix in SUFFIXES)
# a value of a recipe that is a place on a machine, as bundles of former versions hold
_PLACE = re.compile(r"^[\s-]*(id|source|output): *['\"]?(/|~|[A-Za-z]:[\\/]|\\\\)", re.MULTILINE)
_REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]*/[\w.-]+", re.ASCII)


def resolve(source: str | Path, revision: str | None = None) -> Path:
    """The local folder of a bundle, downloaded first where `source` is a hub id.

    A folder that exists is taken as it is. Only files of the kinds that bundles hold are
    downloaded. Nothing is verified here: `load_bundle` does that.

    Args:
        source: a folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; None is the main branch.

    Raises:
        BundleError: no such folder and no hub id, a revision of a local folder, or the hub
            does not have it or cannot be reached.
    """
    local = Path(source).expanduser()
    if str(source) and local.is_dir():  # Path("") is the current folder
        if revision is not None:
            raise BundleError(f"{source}: is a local folder, which has no revision {revision!r}")
        return local
    if isinstance(source, Path) or not _REPOSITORY.fullmatch(source):
        raise BundleError(f"{source}: no such folder, and not a hub id like `owner/name` either")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(source, revision=revision, allow_patterns=list(PATTERNS))
    except (OSError, ValueError) as error:  # all of the hub's errors derive from these
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BundleError(
            f"{source}: no such folder here, and not to be had from the hub ({told}); where a "
            "folder is meant, look at its path"
        ) from error
    folder = Path(found)
    if not (folder / LAYOUT.manifest).is_file():
        raise BundleError(f"{source}: this hub repository has no {LAYOUT.manifest}, so no bundle")
    return folder


def push(
    folder: str | Path,
    repository: str,
    *,
    private: bool = True,
    revision: str | None = None,
    message: str = "Upload bundle",
) -> str:
    """Put a bundle on the hub, in place of what the repository held; returns its URL.

    Args:
        folder: a bundle; it is verified first.
        repository: `owner/name`; created if there is none.
        private: whether a repository created here is private.
        revision: branch to write to, which must exist; None is the main branch.
        message: of the commit.

    Raises:
        BundleError: the bundle is damaged, names folders of the machine that built it, or the
            hub refused.
    """
    from huggingface_hub import HfApi

    root = Path(folder).resolve()
    verify(root)
    if _PLACE.search((root / LAYOUT.recipe).read_text(encoding="utf-8")):
        raise BundleError(
            f"{LAYOUT.recipe}: names folders of the machine that built the bundle, and so may "
            f"{LAYOUT.header} and {LAYOUT.card}; run `adaptive build` with its recipe again, which "
            "leaves them out"
        )
    api = HfApi()
    try:
        url = api.create_repo(repository, private=private, exist_ok=True)
        # Files of an earlier bundle would be unlisted in this one, and so refused at load
        api.upload_folder(
            repo_id=repository,
            folder_path=root,
            revision=revision,
            commit_message=message,
            allow_patterns=list(PATTERNS),
            delete_patterns=list(PATTERNS),
        )
    except (OSError, ValueError) as error:
        raise BundleError(f"{repository}: the hub refused the bundle: {error}") from error
    return str(url)
