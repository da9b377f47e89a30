import os
import shutil
from pathlib import Path

import pytest

from aibench.api.stage import MANIFEST_NAME, Parcel, StageOrder
from aibench.errors import StageError
from aibench.staging.listing import listing_of
from aibench.staging.pack import pack, read_parcel
from aibench.staging.unpack import is_unpacked, report, unpack

PART_BYTES = 10_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "train" / "a b").mkdir(parents=True)
    (folder / "empty").mkdir()
    for number in range(5):
        (folder / "train" / "a b" / f"{number}\nü.bin").write_bytes(bytes([number]) * 7_000)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "inside").symlink_to("run.sh")
    (folder / "outside").symlink_to("/usr/bin/env")
    return folder


def packed(source: Path, folder: Path) -> tuple[Parcel, list[str]]:
    said: list[str] = []
    parcel = pack(source, folder, name="data", say=said.append, part_bytes=PART_BYTES)
    return parcel, said


def test_a_folder_arrives_as_it_was(source: Path, tmp_path: Path) -> None:
    parcel, _ = packed(source, tmp_path / "archive")
    target = tmp_path / "local" / "data"
    assert unpack(parcel, target, tmp_path / "archive")
    assert listing_of(target) == listing_of(source)
    for path in source.rglob("*"):
        twin = target / path.relative_to(source)
        assert twin.is_symlink() == path.is_symlink()
        if path.is_file() and not path.is_symlink():
            assert twin.read_bytes() == path.read_bytes()
    assert os.readlink(target / "outside") == "/usr/bin/env"
    assert os.access(target / "run.sh", os.X_OK)


def test_parts_are_bounded_and_described(source: Path, tmp_path: Path) -> None:
    parcel, _ = packed(source, tmp_path / "archive")
    assert len(parcel.parts) > 3
    assert [p.size_bytes for p in parcel.parts[:-1]] == [PART_BYTES] * (len(parcel.parts) - 1)
    files = {path.name: path.stat().st_size for path in (tmp_path / "archive").glob("part-*")}
    assert {part.name: part.size_bytes for part in parcel.parts} == {n: s for n, s in files.items() if s}
    assert read_parcel(tmp_path / "archive" / MANIFEST_NAME) == parcel


def test_what_is_packed_and_unchanged_is_not_packed_again(source: Path, tmp_path: Path) -> None:
    first, _ = packed(source, tmp_path / "archive")
    before = (tmp_path / "archive" / "part-00000").stat().st_mtime_ns
    again, said = packed(source, tmp_path / "archive")
    assert again == first
    assert "packed before" in said[0]
    assert (tmp_path / "archive" / "part-00000").stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["add", "grow", "remove", "truncate part"])
def test_what_changed_is_packed_again(source: Path, tmp_path: Path, change: str) -> None:
    first, _ = packed(source, tmp_path / "archive")
    if change == "add":
        (source / "new").touch()
    elif change == "grow":
        (source / "run.sh").write_text("#!/bin/sh\nexit 1\n")
    elif change == "remove":
        (source / "run.sh").unlink()
    else:
        os.truncate(tmp_path / "archive" / "part-00001", 10)
    again, said = packed(source, tmp_path / "archive")
    assert "packed, all" in said[-1]
    assert (again.listing == first.listing) == (change == "truncate part")
    assert unpack(again, tmp_path / "local" / "data", tmp_path / "archive")


def test_what_is_unpacked_and_unchanged_is_not_unpacked_again(source: Path, tmp_path: Path) -> None:
    parcel, _ = packed(source, tmp_path / "archive")
    target = tmp_path / "local" / "data"
    assert unpack(parcel, target, tmp_path / "archive")
    shutil.rmtree(tmp_path / "archive")
    assert not unpack(parcel, target, tmp_path / "archive")
    assert report(parcel, target, tmp_path / "none").is_complete


@pytest.mark.parametrize("damage", ["remove", "grow", "add", "marker"])
def test_a_damaged_copy_is_noticed_and_replaced(source: Path, tmp_path: Path, damage: str) -> None:
    parcel, _ = packed(source, tmp_path / "archive")
    target = tmp_path / "local" / "data"
    unpack(parcel, target, tmp_path / "archive")
    if damage == "remove":
        (target / "run.sh").unlink()
    elif damage == "grow":
        (target / "run.sh").write_text("something else")
    elif damage == "add":
        (target / "more").touch()
    else:
        (target / ".aibench-stage.json").write_text("another")
    assert not is_unpacked(parcel, target)
    assert unpack(parcel, target, tmp_path / "archive")
    assert is_unpacked(parcel, target)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_part_is_named_and_leaves_nothing(source: Path, tmp_path: Path, damage: str) -> None:
    parcel, _ = packed(source, tmp_path / "archive")
    part = tmp_path / "archive" / "part-00001"
    if damage == "flip":
        data = bytearray(part.read_bytes())
        data[5000] ^= 1
        part.write_bytes(data)
    elif damage == "truncate":
        os.truncate(part, 5000)
    else:
        part.unlink()
    with pytest.raises(StageError) as refused:
        unpack(parcel, tmp_path / "local" / "data", tmp_path / "archive")
    assert "part-00001" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert [path.name for path in (tmp_path / "local").iterdir()] == ["data.lock"]
    assert report(parcel, tmp_path / "local" / "data", tmp_path / "archive").missing == ("part-00001",)


def test_a_node_tells_which_parts_it_still_needs(source: Path, tmp_path: Path) -> None:
    parcel, _ = packed(source, tmp_path / "archive")
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    shutil.copy(tmp_path / "archive" / "part-00000", incoming)
    (incoming / "part-00001").write_bytes(b"half")
    found = report(parcel, tmp_path / "local" / "data", incoming)
    assert not found.is_complete
    assert found.missing == tuple(part.name for part in parcel.parts[1:])


def test_a_source_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"nowhere: cannot be packed"):
        packed(tmp_path / "nowhere", tmp_path / "archive")


def test_the_destination_is_named_by_its_content(source: Path, tmp_path: Path) -> None:
    first, _ = packed(source, tmp_path / "archive")
    (source / "run.sh").write_text("#!/bin/sh\nexit 2\n")
    second, _ = packed(source, tmp_path / "archive")
    destinations = {
        StageOrder(parcel=parcel, source=tmp_path, directory=tmp_path / "local").destination
        for parcel in (first, second)
    }
    assert len(destinations) == 2
