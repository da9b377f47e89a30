"""One line of the journal: a JSON object whose last member is the SHA-256 of everything before it.

The line is ``BODY`` without its closing brace, then ``,"hash":"HEX"}``. ``HEX`` is the SHA-256 of ``BODY``:
the object without its hash, as bytes. ``BODY`` carries the hash of the line before it as ``prev``, so that no
line can be changed, removed or moved without breaking all that follow. The digest covers bytes, not values:
checking it needs no rule for writing numbers.
"""

from __future__ import annotations

import hashlib

import msgspec

from aibench.api.events import Event

GENESIS = "0" * 64
_DIGEST_LENGTH = 64
_SUFFIX_LENGTH = len(',"hash":""}') + _DIGEST_LENGTH


class _Body(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    seq: int
    t_s: float
    prev: str
    event: Event


class Record(_Body, frozen=True, kw_only=True):
    """An event in its place.

    Attributes:
        seq: Number of the record, from 1; also its line.
        t_s: Seconds on the run's clock, from 0 at the first record; never goes back.
        prev: Hash of the record before it, `GENESIS` for the first.
        hash: Hash of this one.
    """

    hash: str


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Record)


def seal_line(*, seq: int, t_s: float, prev: str, event: Event) -> tuple[Record, bytes]:
    """Make the record that follows ``prev``, and its line with the newline."""
    body = _encoder.encode(_Body(seq=seq, t_s=t_s, prev=prev, event=event))
    digest = hashlib.sha256(body).hexdigest()
    record = Record(seq=seq, t_s=t_s, prev=prev, event=event, hash=digest)
    return record, body[:-1] + b',"hash":"' + digest.encode() + b'"}\n'


def open_line(line: bytes) -> Record:
    """Read one line without its newline.

    Raises:
        ValueError: Not JSON, not a record, or its hash does not cover its bytes.
    """
    try:
        record = _decoder.decode(line)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a journal record: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error
    body = line[:-_SUFFIX_LENGTH] + b"}"
    if hashlib.sha256(body).hexdigest() != record.hash or not line.endswith(
        f',"hash":"{record.hash}"}}'.encode()
    ):
        raise ValueError("its hash does not match its content")
    return record
