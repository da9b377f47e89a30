"""What must hold of the journal of a run that was treated badly, told from its lines alone.

None of it uses the suite's own reader, so that a mistake there does not hide one in the writer.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_ACKNOWLEDGED = re.compile(r"trial (\d+): the master has recorded (?:epoch (\d+)|it as (\w+))$", re.MULTILINE)


def problems(journal: bytes, snapshots: Sequence[bytes]) -> list[str]:
    """What is wrong with a sealed journal, in words.

    Args:
        snapshots: The file as it stood at earlier moments.
    """
    records = [json.loads(line) for line in journal.splitlines()]
    return [
        *_rewritten(journal, snapshots),
        *_unchained(journal.splitlines(), records),
        *_miscounted_epochs(records),
        *_misclosed_trials(records),
        *_outlived_lives(records),
    ]


def missing_acknowledged(journal: bytes, worker_dirs: Path) -> list[str]:
    """What the workers noted as acknowledged and the journal does not have."""
    events = [json.loads(line)["event"] for line in journal.splitlines()]
    epochs = {(e["trial"], e["result"]["epoch"]) for e in events if e["event"] == "epoch_finished"}
    outcomes = {e["trial"]: e["outcome"] for e in events if e["event"] == "trial_closed"}
    found = []
    for path in sorted(worker_dirs.glob("*/output.log")):
        for trial, epoch, outcome in _ACKNOWLEDGED.findall(path.read_text(errors="replace")):
            if epoch and (int(trial), int(epoch)) not in epochs:
                found.append(
                    f"{path.parent.name}: epoch {epoch} of trial {trial} was acknowledged, is not there"
                )
            if outcome and outcomes.get(int(trial)) != outcome:
                is_now = outcomes.get(int(trial))
                found.append(f"{path.parent.name}: trial {trial} was acknowledged as {outcome}, is {is_now}")
    return found


def num_acknowledged(worker_dirs: Path) -> int:
    """How many acknowledgements the workers noted."""
    return sum(
        len(_ACKNOWLEDGED.findall(path.read_text(errors="replace")))
        for path in worker_dirs.glob("*/output.log")
    )


def last_incarnations(journal: bytes) -> dict[str, str]:
    """The life of every worker that joined last; a half-written last line is left out."""
    events = [json.loads(line)["event"] for line in journal.rpartition(b"\n")[0].splitlines()]
    return {e["worker"]: e["incarnation"] for e in events if e["event"] == "worker_joined"}


def _rewritten(journal: bytes, snapshots: Sequence[bytes]) -> Iterator[str]:
    for number, snapshot in enumerate(snapshots, start=1):
        complete = snapshot[: snapshot.rfind(b"\n") + 1]
        if not journal.startswith(complete):
            yield f"the journal does not begin with what it was at kill {number}"


def _unchained(lines: Sequence[bytes], records: Sequence[dict[str, Any]]) -> Iterator[str]:
    prev, last_s = "0" * 64, 0.0
    for number, (line, record) in enumerate(zip(lines, records, strict=True), start=1):
        sealed, _, digest = line.rpartition(b',"hash":')
        if record["seq"] != number or record["prev"] != prev:
            yield f"record {number} does not follow the one before it"
        if hashlib.sha256(sealed + b"}").hexdigest() != json.loads(digest[:-1]):
            yield f"record {number} is not what was hashed"
        if record["t_s"] < last_s:
            yield f"time goes back at record {number}"
        prev, last_s = record["hash"], record["t_s"]


def _miscounted_epochs(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    done: Counter[int] = Counter()
    for record in records:
        event = record["event"]
        if event["event"] == "epoch_finished":
            done[event["trial"]] += 1
            if event["result"]["epoch"] != done[event["trial"]]:
                yield f"record {record['seq']}: not epoch {done[event['trial']]} of trial {event['trial']}"


def _misclosed_trials(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Every trial is claimed once, then has its epochs, then is closed once, as what is true of it."""
    due: dict[int, int] = {}
    done: Counter[int] = Counter()
    num_claimed = 0
    for record in records:
        event, where = record["event"], f"record {record['seq']}"
        match event["event"]:
            case "trial_claimed":
                num_claimed += 1
                due[event["spec"]["trial"]] = event["spec"]["epochs"]
                if event["spec"]["trial"] != num_claimed:
                    yield f"{where}: trial {event['spec']['trial']} claimed where {num_claimed} is due"
            case "epoch_finished" | "trial_closed" if event["trial"] not in due:
                yield f"{where}: {event['event']} of trial {event['trial']}, which is not open"
            case "epoch_finished":
                done[event["trial"]] += 1
            case "trial_closed":
                epochs = due.pop(event["trial"])
                if event["outcome"] not in ("completed", "lost", "interrupted"):
                    yield f"{where}: {event['outcome']}, though only kills happened: {event['reason']}"
                if event["outcome"] == "completed" and done[event["trial"]] != epochs:
                    yield f"{where}: completed with {done[event['trial']]} of {epochs} epochs"
    if records[-1]["event"]["event"] != "run_ended":
        yield "the last record is not the end of the run"
    yield from (f"trial {number} was never closed" for number in sorted(due))


def _outlived_lives(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A trial does not outlive the life of the worker that claimed it."""
    holders: dict[int, str] = {}
    lives: dict[str, str] = {}
    for record in records:
        event, where = record["event"], f"record {record['seq']}"
        match event["event"]:
            case "trial_claimed":
                holders[event["spec"]["trial"]] = event["worker"]
                if lives.get(event["worker"]) != event["incarnation"]:
                    yield f"{where}: claimed by a life of {event['worker']} that is not the present one"
            case "trial_closed":
                holders.pop(event["trial"], None)
            case "worker_joined" | "worker_lost":
                held = [trial for trial, worker in holders.items() if worker == event["worker"]]
                if held:
                    yield f"{where}: {event['event']} of {event['worker']} with trials {held} open"
                if event["event"] == "worker_joined":
                    lives[event["worker"]] = event["incarnation"]
