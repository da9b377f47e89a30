from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.runs import RunBuilder, journal_lines, write_journal

from aibench.api.events import WorkerLost
from aibench.errors import JournalError, RunFolderError
from aibench.journal import GENESIS, Journal, Record, read_journal
from aibench.journal.record import open_line, seal_line

RECORDS = RunBuilder().start().join(t_s=1.0).barrier(t_s=2.0).claim(t_s=3.0).records
LINES = journal_lines(RECORDS)


def read(path: Path, *lines: bytes) -> Journal:
    path.write_bytes(b"".join(lines))
    return read_journal(path)


def rehashed(line: bytes, **changes: Any) -> bytes:
    """The line with other members and a hash that fits them, as a careful forger writes it."""
    body = {**json.loads(line), **changes}
    del body["hash"]
    encoded = json.dumps(body, separators=(",", ":")).encode()
    return encoded[:-1] + b',"hash":"' + hashlib.sha256(encoded).hexdigest().encode() + b'"}\n'


def assert_damage(journal: Journal, *, line: int, problem: str) -> None:
    """Only the records before the line are given, and the error says so."""
    assert journal.damage is not None
    assert str(journal.damage) == (
        f"journal line {line}: {problem}; the {line - 1} record(s) before it are intact"
    )
    assert (journal.damage.line, journal.damage.recoverable) == (line, line - 1)
    assert journal.records == RECORDS[: line - 1]
    assert journal.intact_bytes == sum(map(len, LINES[: line - 1]))
    with pytest.raises(JournalError) as refusal:
        journal.require_intact()
    assert refusal.value is journal.damage


def test_a_line_is_its_body_and_the_sha_256_of_its_body() -> None:
    event = WorkerLost(worker="w0", incarnation="a", reason="silent")
    record, line = seal_line(seq=1, t_s=2.5, prev=GENESIS, event=event)
    digest = "d63419f633248f30386095881466c4413ae34c79b52125e2715862a377bc7375"
    assert line == (
        b'{"event":{"event":"worker_lost","incarnation":"a","reason":"silent","worker":"w0"},'
        b'"prev":"0000000000000000000000000000000000000000000000000000000000000000",'
        b'"seq":1,"t_s":2.5,"hash":"' + digest.encode() + b'"}\n'
    )
    assert record == Record(seq=1, t_s=2.5, prev=GENESIS, event=event, hash=digest)
    assert open_line(line[:-1]) == record


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    journal = read_journal(write_journal(tmp_path / "journal", RECORDS))
    assert journal.require_intact() == RECORDS
    assert (journal.damage, journal.is_cut_off) == (None, False)
    assert journal.intact_bytes == (tmp_path / "journal").stat().st_size


def test_every_record_names_the_hash_of_the_one_before() -> None:
    assert [record.prev for record in RECORDS] == [GENESIS, *(record.hash for record in RECORDS[:-1])]
    assert [record.seq for record in RECORDS] == [1, 2, 3, 4]


def test_no_single_changed_byte_goes_unnoticed(tmp_path: Path) -> None:
    data = b"".join(LINES[:3])
    first_byte_of_line = [0, len(LINES[0]), len(LINES[0]) + len(LINES[1])]
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        journal = read(tmp_path / "journal", bytes(changed))
        line = sum(place >= first for first in first_byte_of_line)
        assert journal.damage is not None
        assert (journal.damage.line, journal.damage.recoverable) == (line, line - 1)
        assert journal.records == RECORDS[: line - 1]


def test_a_changed_value_is_named_by_its_line(tmp_path: Path) -> None:
    edited = LINES[2].replace(b'"workers":1', b'"workers":2')
    journal = read(tmp_path / "journal", *LINES[:2], edited, LINES[3])
    assert_damage(journal, line=3, problem="its hash does not match its content")
    assert not journal.is_cut_off


def test_a_valid_record_with_another_hash_is_refused(tmp_path: Path) -> None:
    forged = LINES[1].replace(RECORDS[1].hash.encode(), RECORDS[2].hash.encode())
    journal = read(tmp_path / "journal", LINES[0], forged, *LINES[2:])
    assert_damage(journal, line=2, problem="its hash does not match its content")


def test_white_space_that_json_allows_is_refused(tmp_path: Path) -> None:
    padded = LINES[1].replace(b"}\n", b"} \n")
    journal = read(tmp_path / "journal", LINES[0], padded)
    assert_damage(journal, line=2, problem="its hash does not match its content")


def test_a_record_has_one_spelling(tmp_path: Path) -> None:
    body = LINES[1][: -len(',"hash":""}\n') - 64] + b",}"
    respelt = body[:-1] + b' "hash":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
    assert len(respelt) == len(LINES[1]) + 1
    assert json.loads(respelt)["seq"] == 2
    journal = read(tmp_path / "journal", LINES[0], respelt)
    assert_damage(journal, line=2, problem="its hash does not match its content")


@pytest.mark.parametrize(
    ("order", "line", "problem"),
    [
        pytest.param((0, 2, 3), 2, "record 3 stands where 2 belongs", id="removed"),
        pytest.param((1, 2, 3), 1, "record 2 stands where 1 belongs", id="first removed"),
        pytest.param((0, 2, 1, 3), 2, "record 3 stands where 2 belongs", id="swapped"),
        pytest.param((0, 1, 1, 2, 3), 3, "record 2 stands where 3 belongs", id="doubled"),
    ],
)
def test_lines_keep_their_places(tmp_path: Path, order: tuple[int, ...], line: int, problem: str) -> None:
    journal = read(tmp_path / "journal", *(LINES[place] for place in order))
    assert_damage(journal, line=line, problem=problem)


def test_a_line_that_was_changed_and_hashed_again_breaks_the_next(tmp_path: Path) -> None:
    forged = rehashed(LINES[2], t_s=1.5)
    journal = read(tmp_path / "journal", *LINES[:2], forged, LINES[3])
    assert journal.damage is not None
    assert (journal.damage.line, journal.damage.recoverable) == (4, 3)
    assert journal.damage.problem == "it does not follow the line before it"


def test_the_first_record_follows_nothing(tmp_path: Path) -> None:
    journal = read(tmp_path / "journal", rehashed(LINES[0], prev="1" * 64))
    assert_damage(journal, line=1, problem="it does not follow the line before it")


def test_time_does_not_go_back(tmp_path: Path) -> None:
    journal = read(tmp_path / "journal", *LINES[:2], rehashed(LINES[2], t_s=0.5), LINES[3])
    assert_damage(journal, line=3, problem="time goes back from 1.0 s to 0.5 s")


def test_time_does_not_begin_before_zero(tmp_path: Path) -> None:
    journal = read(tmp_path / "journal", rehashed(LINES[0], t_s=-0.5))
    assert_damage(journal, line=1, problem="time goes back from 0.0 s to -0.5 s")


def test_two_records_may_have_one_time(tmp_path: Path) -> None:
    records = RunBuilder().start(t_s=5.0).join(t_s=5.0).records
    assert read_journal(write_journal(tmp_path / "journal", records)).require_intact() == records


def test_a_gap_in_the_numbers_is_refused(tmp_path: Path) -> None:
    journal = read(tmp_path / "journal", *LINES[:2], rehashed(LINES[2], seq=4))
    assert_damage(journal, line=3, problem="record 4 stands where 3 belongs")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param(b"\0" * 64, "JSON is malformed: invalid character (byte 0)", id="zeros"),
        pytest.param(b"", "Input data was truncated", id="blank"),
        pytest.param(b"{}", "Object missing required field `seq`", id="no record"),
    ],
)
def test_lines_that_are_no_records_are_refused(tmp_path: Path, line: bytes, problem: str) -> None:
    journal = read(tmp_path / "journal", *LINES[:2], line + b"\n", LINES[2])
    assert_damage(journal, line=3, problem=f"not a journal record: {problem}")
    assert not journal.is_cut_off


def test_a_line_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    journal = read(tmp_path / "journal", LINES[0], LINES[1].replace(b"node", b"n\xffde"))
    assert_damage(journal, line=2, problem="not UTF-8")


def test_a_line_nested_without_end_is_refused(tmp_path: Path) -> None:
    deep = LINES[0].replace(b'"seed":1}', b'"seed":' + b"[" * 200_000 + b"]" * 200_000 + b"}", 1)
    journal = read(tmp_path / "journal", deep)
    assert journal.damage is not None
    assert journal.damage.problem.startswith("not a journal record: maximum recursion depth")


def test_a_member_that_no_record_has_is_refused(tmp_path: Path) -> None:
    journal = read(tmp_path / "journal", LINES[0], rehashed(LINES[1], note="hello"))
    assert journal.damage is not None
    assert journal.damage.problem == "not a journal record: Object contains unknown field `note`"


@pytest.mark.parametrize("num_bytes", [1, len(LINES[2]) // 2, len(LINES[2]) - 1])
def test_a_cut_off_last_line_is_told_from_other_damage(tmp_path: Path, num_bytes: int) -> None:
    journal = read(tmp_path / "journal", *LINES[:2], LINES[2][:num_bytes])
    assert_damage(journal, line=3, problem="cut off in the middle of a line")
    assert journal.is_cut_off


def test_zeros_after_the_last_line_count_as_cut_off(tmp_path: Path) -> None:
    journal = read(tmp_path / "journal", *LINES[:2], b"\0" * 4096)
    assert_damage(journal, line=3, problem="cut off in the middle of a line")
    assert journal.is_cut_off


def test_an_empty_file_is_no_run(tmp_path: Path) -> None:
    journal = read(tmp_path / "journal")
    assert journal == Journal(records=(), intact_bytes=0, damage=None, is_cut_off=False)
    with pytest.raises(JournalError) as refusal:
        journal.require_intact()
    assert str(refusal.value) == (
        "journal line 1: the journal is empty; the 0 record(s) before it are intact"
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError) as missing:
        read_journal(tmp_path / "absent")
    assert str(missing.value) == (f"{tmp_path}/absent: not a readable journal (No such file or directory)")
    with pytest.raises(RunFolderError, match=r"not a readable journal \(Is a directory\)"):
        read_journal(tmp_path)


def test_figures_survive_to_the_last_digit(tmp_path: Path) -> None:
    builder = RunBuilder().start().join().barrier().claim(train_ops=2**62 + 1, t_s=0.1 + 0.2)
    (*_, claimed) = read_journal(write_journal(tmp_path / "journal", builder.records)).require_intact()
    assert claimed.t_s == 0.30000000000000004
    assert msgspec.to_builtins(claimed.event)["train_ops"] == 4611686018427387905
