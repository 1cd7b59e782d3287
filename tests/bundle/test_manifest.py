"""A folder that is not what its manifest says is refused, and the file at fault is named."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from adaptive.bundle.layout import FORMAT, LAYOUT, checked_name, checked_path
from adaptive.bundle.manifest import seal, verify
from adaptive.errors import BundleError

WEIGHTS = "tiers/full/model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder with every file that verification asks for."""
    root = tmp_path / "bundle"
    (root / "tiers" / "full").mkdir(parents=True)
    for name in (LAYOUT.header, LAYOUT.policy):
        (root / name).write_text("{}")
    for name in (LAYOUT.reliability, LAYOUT.frequency, WEIGHTS):
        save_file({"values": np.arange(8, dtype=np.float32)}, root / name)
    (root / LAYOUT.card).write_text("# card\n")
    (root / LAYOUT.recipe).write_text("a: 1\n")
    seal(root)
    return root


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / LAYOUT.manifest
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def entries(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / LAYOUT.manifest).read_text())["files"])


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        verify(folder)
    return str(caught.value)


def test_a_sealed_folder_passes_and_all_files_are_listed(folder: Path) -> None:
    listed = verify(folder)
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert listed.keys() == found - {LAYOUT.manifest}


@pytest.mark.parametrize("name", [WEIGHTS, LAYOUT.policy, LAYOUT.card, LAYOUT.recipe])
def test_one_flipped_bit_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    assert name in refusal(folder)
    assert "SHA-256" in refusal(folder)


def test_a_cut_file_is_refused_with_both_sizes(folder: Path) -> None:
    size = (folder / WEIGHTS).stat().st_size
    os.truncate(folder / WEIGHTS, size - 4)
    message = refusal(folder)
    assert WEIGHTS in message
    assert str(size) in message
    assert str(size - 4) in message


@pytest.mark.parametrize("name", [WEIGHTS, LAYOUT.header, LAYOUT.card, LAYOUT.manifest])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in refusal(folder)
    assert "missing" in refusal(folder)


@pytest.mark.parametrize("name", LAYOUT.required)
def test_a_required_file_that_is_not_even_listed_is_missed(folder: Path, name: str) -> None:
    (folder / name).unlink()
    seal(folder)
    assert refusal(folder).startswith(f"{name}: the file is missing")


@pytest.mark.parametrize("name", ["extra.json", "tiers/full/extra.json", ".hidden.json", "run.py"])
def test_an_unlisted_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    assert refusal(folder).startswith(f"{name}: is not listed")


def test_what_git_and_the_hub_leave_at_the_top_is_passed_over(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    (folder / ".gitattributes").write_text("x")
    verify(folder)
    (folder / "tiers" / ".git").mkdir()
    (folder / "tiers" / ".git" / "config").write_text("x")
    assert "tiers/.git/config" in refusal(folder)


@pytest.mark.parametrize(
    "path",
    [
        "../outside.json",
        "/etc/outside.json",
        "tiers/../../outside.json",
        "tiers//full.json",
        "./bundle.json",
        "C:/outside.json",
        "tiers\\full.json",
        "",
        "a\0.json",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(folder: Path, path: str) -> None:
    (folder.parent / "outside.json").write_text("{}")
    files = entries(folder)
    edit_manifest(folder, files={**files, path: files[LAYOUT.header]})
    message = refusal(folder)
    assert message.startswith(LAYOUT.manifest)
    assert repr(path) in message


@pytest.mark.parametrize("name", ["run.py", "model.bin", "model.pkl", "model.pt", "model"])
def test_kinds_of_file_that_bundles_do_not_hold_are_neither_sealed_nor_read(
    folder: Path, name: str
) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.raises(BundleError, match=name):
        seal(folder)
    files = entries(folder)
    edit_manifest(folder, files={**files, name: files[LAYOUT.header]})
    assert name in refusal(folder)


class Bomb:
    """Would create a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", [WEIGHTS, LAYOUT.policy, LAYOUT.card, LAYOUT.recipe])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_in_disguise_is_refused_even_where_the_hash_is_right(
    folder: Path, name: str, protocol: int
) -> None:
    exploded = folder.parent / "exploded"
    (folder / name).write_bytes(pickle.dumps(Bomb(exploded), protocol=protocol))
    forge_entry(folder, name)
    assert refusal(folder).startswith(f"{name}: is a pickle")
    assert not exploded.exists()


@pytest.mark.parametrize("name", [WEIGHTS, LAYOUT.policy, LAYOUT.card])
def test_a_torch_archive_in_disguise_is_refused(folder: Path, name: str) -> None:
    torch.save({"weight": torch.zeros(2)}, folder / name)
    forge_entry(folder, name)
    assert refusal(folder).startswith(f"{name}: is a zip archive")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (WEIGHTS, b"\x08\0\0\0\0\0\0\0notjson!", "is not safetensors"),
        (WEIGHTS, b"\xff" * 64, "is not safetensors"),
        (WEIGHTS, pickle.dumps([1, 2], protocol=0), "is not safetensors"),
        (LAYOUT.policy, b"{", "JSON"),
        (LAYOUT.policy, b"[1]", "expected a JSON object"),
        (LAYOUT.policy, b'{"a": 1, "a": 2}', "a key stands twice"),
        (LAYOUT.policy, b'{"a": NaN}', "NaN"),
        (LAYOUT.policy, b'{"a":' * 100_000, "nested too deeply"),
        (LAYOUT.policy, b'{"auto_map": {"AutoModel": "evil.Model"}}', "auto_map"),
        (LAYOUT.card, b"\xc3\x28", "not UTF-8"),
        (LAYOUT.recipe, b"a\0b", "zero byte"),
    ],
)
def test_a_file_that_is_not_what_its_suffix_says_is_refused(
    folder: Path, name: str, content: bytes, why: str
) -> None:
    (folder / name).write_bytes(content)
    forge_entry(folder, name)
    message = refusal(folder)
    assert message.startswith(name)
    assert why in message


def forge_entry(folder: Path, name: str) -> None:
    """Make the manifest agree with a file as it is now, as an attacker would."""
    from adaptive.bundle.manifest import sha256

    path = folder / name
    entry = {"sha256": sha256(path), "size": path.stat().st_size}
    edit_manifest(folder, files={**entries(folder), name: entry})


@pytest.mark.parametrize("name", [WEIGHTS, LAYOUT.header, LAYOUT.manifest])
def test_a_link_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    assert refusal(folder) == f"{name}: is a link that leaves the folder"


def test_a_linked_folder_is_refused(folder: Path) -> None:
    (folder / "tiers").rename(folder.parent / "tiers")
    (folder / "tiers").symlink_to(folder.parent / "tiers")
    assert refusal(folder) == "tiers: is a link"


def test_links_into_the_hub_caches_own_blobs_are_followed(folder: Path) -> None:
    repository = folder.parent / "models--owner--name"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / "abc"
    snapshot.parent.mkdir()
    folder.rename(snapshot)
    (snapshot / WEIGHTS).rename(repository / "blobs" / "w")
    (snapshot / WEIGHTS).symlink_to(repository / "blobs" / "w")
    verify(snapshot)
    (repository / "blobs" / "w").rename(folder.parent / "w")
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).symlink_to(folder.parent / "w")
    assert WEIGHTS in refusal(snapshot)


def test_the_bundle_itself_may_be_reached_through_a_link(folder: Path) -> None:
    (folder.parent / "latest").symlink_to(folder)
    verify(folder.parent / "latest")


def test_a_newer_format_says_to_upgrade(folder: Path) -> None:
    edit_manifest(folder, format=FORMAT + 1)
    message = refusal(folder)
    assert message.startswith(LAYOUT.manifest)
    assert f"format {FORMAT + 1}" in message
    assert "upgrade" in message


@pytest.mark.parametrize("found", [0, -1, "1", 1.0, True, None])
def test_a_format_that_is_no_number_is_refused(folder: Path, found: object) -> None:
    edit_manifest(folder, format=found)
    assert "no format number" in refusal(folder)


@pytest.mark.parametrize("files", [None, [], {"bundle.json": 1}, {"bundle.json": {"size": 1}}])
def test_a_manifest_of_another_shape_is_refused(folder: Path, files: object) -> None:
    edit_manifest(folder, files=files)
    assert refusal(folder).startswith(LAYOUT.manifest)


def test_something_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    assert "is not a folder" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", ".", "..", "a.b", "é", "x" * 65, None, 1, "-a"]
)
def test_names_that_cannot_be_folders_are_refused(name: object) -> None:
    with pytest.raises(BundleError, match=r"^bundle\.json"):
        checked_name(name, "bundle.json")


def test_plain_names_and_paths_pass() -> None:
    assert checked_name("tiny_2-b", "bundle.json") == "tiny_2-b"
    assert checked_path("tiers/full/model-00001-of-00002.safetensors", "manifest.json")
