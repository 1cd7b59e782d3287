"""Bundles go to and come from a hub through huggingface_hub, which is played by a folder here."""

from __future__ import annotations

import fnmatch
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from adaptive.bundle.hub import push, resolve
from adaptive.bundle.layout import LAYOUT
from adaptive.bundle.manifest import seal, verify
from adaptive.errors import BundleError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder; what is in the files does not matter to the hub."""
    root = tmp_path / "bundle"
    root.mkdir()
    for name in LAYOUT.required:
        content = b"{}" if name.endswith(".json") else b"# text\n"
        header = b"\x08\0\0\0\0\0\0\0{}      " if name.endswith(".safetensors") else content
        (root / name).write_bytes(header)
    seal(root)
    return root


class FakeHub:
    """One repository as a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.created: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}

    def create_repo(self, repo_id: str, **options: Any) -> str:
        self.created = {"repo_id": repo_id, **options}
        self.root.mkdir(exist_ok=True)
        (self.root / ".gitattributes").write_text("x")
        return f"https://hub.invalid/{repo_id}"

    def upload_folder(
        self,
        *,
        folder_path: Path,
        allow_patterns: list[str],
        delete_patterns: list[str],
        **options: Any,
    ) -> None:
        self.asked = options
        for path in [p for p in self.root.rglob("*") if p.is_file()]:
            if matches(path.relative_to(self.root), delete_patterns):
                path.unlink()
        for path in [p for p in folder_path.rglob("*") if p.is_file()]:
            name = path.relative_to(folder_path)
            if matches(name, allow_patterns):
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, self.root / name)

    def snapshot_download(self, repo_id: str, *, revision: str | None, **options: Any) -> str:
        self.asked = {"repo_id": repo_id, "revision": revision}
        goal = self.root.parent / "models--owner--name" / "snapshots" / "abc"
        for path in [p for p in self.root.rglob("*") if p.is_file()]:
            name = path.relative_to(self.root)
            if matches(name, options["allow_patterns"]):
                (goal / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, goal / name)
        return str(goal)


def matches(name: Path, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(name.as_posix(), pattern) for pattern in patterns)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


def test_what_is_pushed_comes_back_and_verifies(folder: Path, hub: FakeHub) -> None:
    assert push(folder, "owner/name") == "https://hub.invalid/owner/name"
    found = resolve("owner/name", "v1")
    assert verify(found) == verify(folder)
    assert hub.asked == {"repo_id": "owner/name", "revision": "v1"}


def test_a_repository_is_private_unless_asked_otherwise(folder: Path, hub: FakeHub) -> None:
    push(folder, "owner/name")
    assert hub.created["private"] is True
    push(folder, "owner/name", private=False, revision="b", message="m")
    assert hub.created["private"] is False
    assert hub.asked["revision"] == "b"
    assert hub.asked["commit_message"] == "m"


def test_files_of_an_earlier_bundle_do_not_stay_behind(folder: Path, hub: FakeHub) -> None:
    (folder / "outcomes").mkdir()
    (folder / "outcomes" / "old.json").write_text("{}")
    seal(folder)
    push(folder, "owner/name")
    shutil.rmtree(folder / "outcomes")
    seal(folder)
    push(folder, "owner/name")
    verify(resolve("owner/name"))


def test_only_files_of_a_bundles_kinds_are_downloaded(folder: Path, hub: FakeHub) -> None:
    push(folder, "owner/name")
    (hub.root / "evil.py").write_text("x")
    (hub.root / "pytorch_model.bin").write_text("x")
    names = {path.name for path in resolve("owner/name").rglob("*") if path.is_file()}
    assert names == {LAYOUT.manifest, *LAYOUT.required}


def test_a_damaged_bundle_is_not_pushed(folder: Path, hub: FakeHub) -> None:
    (folder / LAYOUT.card).write_text("# other\n")
    with pytest.raises(BundleError, match=LAYOUT.card):
        push(folder, "owner/name")
    assert not hub.created


@pytest.mark.parametrize(
    "line", ["id: /home/someone/model", "- source: ~/data.csv", "output: 'C:\\Users\\someone'"]
)
def test_places_of_the_building_machine_are_not_pushed(
    folder: Path, hub: FakeHub, line: str
) -> None:
    (folder / LAYOUT.recipe).write_text(f"name: a\nmodel:\n  {line}\n")
    seal(folder)
    with pytest.raises(BundleError, match=r"recipe\.yaml: names folders of the machine"):
        push(folder, "owner/name")
    assert not hub.created
    (folder / LAYOUT.recipe).write_text("name: a/b\nmodel: {id: owner/name}\ndata: ./data.csv\n")
    seal(folder)
    push(folder, "owner/name")


def test_a_local_folder_is_taken_before_a_hub_id(
    folder: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "owner" / "name").mkdir(parents=True)
    assert resolve("owner/name") == Path("owner/name")
    assert resolve(folder) == folder
    assert not hub.asked


def test_a_revision_of_a_local_folder_is_refused(folder: Path) -> None:
    with pytest.raises(BundleError, match="no revision 'v1'"):
        resolve(folder, "v1")


@pytest.mark.parametrize("source", ["nowhere", "/a/b/c", "./a/b", "../a", "a/b/c", "-a/b", ""])
def test_what_is_neither_folder_nor_hub_id_is_refused(hub: FakeHub, source: str) -> None:
    with pytest.raises(BundleError, match="no such folder, and not a hub id"):
        resolve(source)
    assert not hub.asked


@pytest.mark.parametrize("error", [LocalEntryNotFoundError, OfflineModeIsEnabled, ValueError])
def test_a_hub_that_cannot_be_reached_is_a_bundle_error(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error("unreachable\nand a page of advice")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(BundleError, match=r"owner/name: .*unreachable\); where a folder") as told:
        resolve("owner/name")
    assert "advice" not in str(told.value)


def test_a_hub_repository_that_is_no_bundle_is_refused(folder: Path, hub: FakeHub) -> None:
    push(folder, "owner/name")
    (hub.root / LAYOUT.manifest).unlink()
    with pytest.raises(BundleError, match=LAYOUT.manifest):
        resolve("owner/name")


def test_a_hub_that_refuses_is_a_bundle_error(
    folder: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("no rights")

    monkeypatch.setattr(hub, "upload_folder", fail)
    with pytest.raises(BundleError, match="no rights"):
        push(folder, "owner/name")
