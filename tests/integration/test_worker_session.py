import http.server
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.fake_master import epoch_result, join_request
from support.fake_workload import make_config
from support.served_master import ServedMaster
from support.waiting import WAIT_S, eventually

from aibench.api.events import EndReason, Outcome
from aibench.api.protocol import ClaimReply, ClaimRequest, ControlAddress, JoinReply
from aibench.api.workload import Progress, TrialSpec
from aibench.errors import MasterAwayError, ProtocolError
from aibench.master import coordinator as coordinator_module
from aibench.worker import connection as connection_module
from aibench.worker import session as session_module
from aibench.worker.connection import Connection
from aibench.worker.session import Session

CLAIM = ClaimRequest(worker="w0", incarnation="a", request="r1")


class Stage:
    """Masters that follow each other in one folder, and sessions of workers with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control_file = folder / "control.json"
        self._sessions: list[Session] = []
        self._masters: list[ServedMaster] = []

    def serve(self, **sections: Any) -> ServedMaster:
        control = {"heartbeat_s": 0.05, "lease_s": 60, "master_timeout_s": WAIT_S}
        config = make_config(**{"workers": [{"count": 1}], "control": control, **sections})
        self._masters.append(ServedMaster(self.folder, config))
        return self._masters[-1]

    def session(self, progress: Progress | None = None, **introduction: Any) -> Session:
        session = Session(self.control_file, join_request(**introduction), progress or Progress())
        self._sessions.append(session)
        return session

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        for master in self._masters:
            master.stop()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    def leave(reason: str) -> None:
        raise AssertionError(reason)

    # The real one would end this process' parent.
    monkeypatch.setattr(session_module, "leave", leave)
    monkeypatch.setattr(connection_module, "MAX_RETRY_PAUSE_S", 0.1)
    made = Stage(tmp_path)
    yield made
    made.close()


def claimed(session: Session) -> TrialSpec:
    spec = session.claim().result(WAIT_S).spec
    assert spec is not None
    return spec


def trial_events(master: ServedMaster) -> list[tuple[str, Any]]:
    """What the journal on disk says of trials: the kind, and the trial or epoch."""
    found = []
    for event in master.events():
        if event["event"] == "trial_claimed":
            found.append(("claimed", event["spec"]["trial"]))
        elif event["event"] == "epoch_finished":
            found.append(("epoch", event["result"]["epoch"]))
        elif event["event"] == "trial_closed":
            found.append((event["outcome"], event["trial"]))
    return found


# The connection ---------------------------------------------------------------------------------------


def test_a_call_gets_its_typed_reply(stage: Stage) -> None:
    stage.serve()
    connection = Connection(stage.control_file)
    assert connection.call("/v1/join", join_request(), JoinReply).workload == "fake"
    reply = connection.call("/v1/claim", CLAIM, ClaimReply)
    connection.close()
    assert reply.spec is not None
    assert reply.spec.trial == 1


def test_a_refusal_carries_status_reason_and_whether_to_join(stage: Stage) -> None:
    stage.serve()
    connection = Connection(stage.control_file)
    with pytest.raises(ProtocolError) as refused:
        connection.call("/v1/claim", CLAIM, ClaimReply)
    connection.close()
    assert (refused.value.status, refused.value.must_join) == (409, True)
    assert refused.value.problem == "worker 'w0' has not joined in this incarnation"


def test_proxies_of_the_environment_are_not_used(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    stage.serve()
    connection = Connection(stage.control_file)
    assert connection.call("/v1/join", join_request(), JoinReply).run == "run"
    connection.close()


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"url":"http://127.0.0.1:x","token":"t"}'])
def test_without_a_usable_control_file_the_master_is_away(tmp_path: Path, content: bytes | None) -> None:
    control_file = tmp_path / "control.json"
    if content is not None:
        control_file.write_bytes(content)
    with pytest.raises(MasterAwayError, match=r"^/v1/claim: "):
        Connection(control_file).call("/v1/claim", CLAIM, ClaimReply)


def test_a_wrong_token_means_that_the_address_is_old(stage: Stage) -> None:
    master = stage.serve()
    stage.control_file.write_bytes(msgspec.json.encode(ControlAddress(url=master.url, token="old")))
    with pytest.raises(MasterAwayError, match=r"^/v1/join: HTTP 401$"):
        Connection(stage.control_file).call("/v1/join", join_request(), JoinReply)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (200, b'{"run": 1}'), (404, b"Not Found"), (403, b"{}"), (302, b""), (503, b"busy")],
)
def test_a_stranger_on_the_masters_port_is_not_taken_for_the_master(
    tmp_path: Path, status: int, body: bytes
) -> None:
    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.handle_request).start()
        control_file = tmp_path / "control.json"
        url = f"http://127.0.0.1:{server.server_port}"
        control_file.write_bytes(msgspec.json.encode(ControlAddress(url=url, token="t")))
        with pytest.raises(MasterAwayError, match=f"HTTP {status}"):
            Connection(control_file).call("/v1/claim", CLAIM, ClaimReply)


def test_a_call_is_repeated_until_a_new_master_answers_elsewhere_with_another_token(stage: Stage) -> None:
    first = stage.serve()
    connection = Connection(stage.control_file)
    connection.call("/v1/join", join_request(), JoinReply)
    spec = connection.call("/v1/claim", CLAIM, ClaimReply).spec
    first.stop()
    with pytest.raises(MasterAwayError):
        connection.call("/v1/claim", CLAIM, ClaimReply)

    answer: list[ClaimReply] = []
    waiting = threading.Thread(
        target=lambda: answer.append(connection.call_until("/v1/claim", CLAIM, ClaimReply, timeout_s=WAIT_S))
    )
    waiting.start()
    second = stage.serve()
    waiting.join(WAIT_S)
    connection.close()
    assert (second.url, second.token) != (first.url, first.token)
    assert second.token != first.token
    assert [reply.spec for reply in answer] == [spec]


def test_a_master_that_stays_away_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    with pytest.raises(MasterAwayError):
        Connection(tmp_path / "absent").call_until("/v1/claim", CLAIM, ClaimReply, timeout_s=0.0)


# The session ------------------------------------------------------------------------------------------


def test_a_trial_is_reported_in_order_and_the_next_is_claimed_before_its_end(stage: Stage) -> None:
    master = stage.serve()
    session = stage.session()
    session.join()
    spec = claimed(session)
    session.begin(spec)
    session.report_epoch(spec.trial, epoch_result(1), search_wait_s=0.25)
    ahead = session.claim()
    session.report_epoch(spec.trial, epoch_result(2), search_wait_s=0.0)
    session.report_end(spec.trial, Outcome.COMPLETED).result(WAIT_S)
    following = ahead.result(WAIT_S)
    assert following.spec is not None
    assert (spec.trial, following.spec.trial) == (1, 2)
    assert trial_events(master) == [
        ("claimed", 1),
        ("epoch", 1),
        ("claimed", 2),
        ("epoch", 2),
        ("completed", 1),
    ]
    waits = [e["search_wait_s"] for e in master.events() if e["event"] == "epoch_finished"]
    assert waits == [0.25, 0.0]
    assert session.is_wanted(1)
    assert session.is_wanted(2)


def test_what_the_master_acknowledged_is_noted_and_what_it_did_not_is_not(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=session_module.__name__)
    master = stage.serve(epochs={"warmup": [2]})
    session = stage.session()
    session.join()
    spec = claimed(session)
    session.report_epoch(spec.trial, epoch_result(1), search_wait_s=0.0)
    eventually(lambda: ("epoch", 1) in trial_events(master))
    master.run(lambda: master.coordinator.end(EndReason.SIGNAL))
    session.report_epoch(spec.trial, epoch_result(2), search_wait_s=0.0)
    session.report_end(spec.trial, Outcome.COMPLETED).result(WAIT_S)
    noted = [record.message for record in caplog.records if "has recorded" in record.message]
    assert noted == ["trial 1: the master has recorded epoch 1"]


def test_a_claim_polls_until_the_start_barrier_opens(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    replies: list[ClaimReply] = []
    ask = Session._try_claim

    def try_claim(session: Session, request: ClaimRequest) -> ClaimReply:
        replies.append(ask(session, request))
        return replies[-1]

    monkeypatch.setattr(Session, "_try_claim", try_claim)
    monkeypatch.setattr(coordinator_module, "BARRIER_POLL_S", 0.01)
    stage.serve(workers=[{"count": 2}], start={"timeout_s": 300})
    session, other = stage.session(), stage.session(worker="w1")
    session.join()
    claim = session.claim()
    eventually(lambda: len(replies) >= 2)
    assert not claim.done()
    other.join()
    assert claim.result(WAIT_S).spec is not None


def test_what_happened_while_the_master_was_away_is_delivered_once_and_in_order(stage: Stage) -> None:
    master = stage.serve(epochs={"warmup": [4]})
    session = stage.session()
    session.join()
    spec = claimed(session)
    session.report_epoch(spec.trial, epoch_result(1), search_wait_s=0.0)
    eventually(lambda: ("epoch", 1) in trial_events(master))
    master.stop()
    for epoch in (2, 3, 4):
        session.report_epoch(spec.trial, epoch_result(epoch), search_wait_s=0.0)
    end = session.report_end(spec.trial, Outcome.COMPLETED)
    following = session.claim()
    assert not end.done()
    master = stage.serve(epochs={"warmup": [4]})
    assert following.result(WAIT_S).spec is not None
    assert session.is_wanted(spec.trial)
    assert trial_events(master) == [
        ("claimed", 1),
        *(("epoch", number) for number in (1, 2, 3, 4)),
        ("completed", 1),
        ("claimed", 2),
    ]
    joins = [event for event in master.events() if event["event"] == "worker_joined"]
    assert len(joins) == 1, "the worker kept its lease and had no need to join again"


def test_the_heartbeat_carries_the_images_of_the_epoch_in_progress(stage: Stage) -> None:
    master = stage.serve()
    progress = Progress()
    session = stage.session(progress)
    session.join()
    spec = claimed(session)
    session.begin(spec)
    progress.train_images, progress.validation_images = 64, 3

    def lose_if_heard() -> bool:
        seen = master.coordinator._unfinished.get(spec.trial)
        if seen is None or seen.train_images != 64:
            return False
        master.coordinator.lose("w0", "test")
        return True

    eventually(lambda: master.run(lose_if_heard))
    (closed,) = [e for e in master.history.trials.values() if e.closed]
    assert closed.closed is not None
    assert closed.closed.unfinished_train_images == 64
    assert closed.closed.unfinished_validation_images == 3


def test_a_worker_that_was_given_up_hears_of_it_by_its_heartbeat_and_joins_again(stage: Stage) -> None:
    master = stage.serve()
    session = stage.session()
    session.join()
    spec = claimed(session)
    session.begin(spec)
    master.run(lambda: master.coordinator.lose("w0", "test"))
    eventually(lambda: not session.is_wanted(spec.trial))
    eventually(lambda: master.history.workers["w0"].lost_s is None)
    assert claimed(session).trial == 2


def test_a_heartbeat_refused_before_the_last_join_gives_up_no_trial_claimed_after_it(stage: Stage) -> None:
    stage.serve()
    session = stage.session()
    session.join()
    assert claimed(session).trial == 1
    session._heed(ProtocolError(409, "late", must_join=True), None, num_joins=0)
    assert claimed(session).trial == 2
    assert session.is_wanted(1)
    session._heed(ProtocolError(409, "in time", must_join=True), None, num_joins=1)
    eventually(lambda: not session.is_wanted(1))


def test_a_worker_that_was_given_up_hears_of_it_by_its_next_epoch(stage: Stage) -> None:
    master = stage.serve(control={"heartbeat_s": 1000, "lease_s": 3000})
    session = stage.session()
    session.join()
    spec = claimed(session)
    master.run(lambda: master.coordinator.lose("w0", "test"))
    session.report_epoch(spec.trial, epoch_result(1), search_wait_s=0.0)
    assert claimed(session).trial == 2
    assert not session.is_wanted(spec.trial)
    assert session.is_wanted(2)


def test_a_claim_of_a_worker_that_was_given_up_joins_first(stage: Stage) -> None:
    master = stage.serve(control={"heartbeat_s": 1000, "lease_s": 3000})
    session = stage.session()
    session.join()
    master.run(lambda: master.coordinator.lose("w0", "test"))
    assert claimed(session).trial == 1


def test_a_trial_whose_epoch_is_refused_is_ended_as_failed_and_frees_its_lease(stage: Stage) -> None:
    master = stage.serve()
    session = stage.session()
    session.join()
    for number in (1, 2, 3):
        assert claimed(session).trial == number
        session.report_epoch(number, epoch_result(1, validation_correct=21), search_wait_s=0.0)
    assert claimed(session).trial == 4
    assert not any(session.is_wanted(number) for number in (1, 2, 3))
    closed = [e for e in master.events() if e["event"] == "trial_closed"]
    assert [(e["trial"], e["outcome"]) for e in closed] == [(1, "failed"), (2, "failed"), (3, "failed")]
    assert {e["reason"] for e in closed} == {"the master refused an epoch: 21 of 20 images correct"}


@pytest.mark.parametrize("heartbeat_s", [0.05, 1000])
def test_the_end_of_the_run_reaches_the_worker(stage: Stage, heartbeat_s: float) -> None:
    master = stage.serve(control={"heartbeat_s": heartbeat_s, "lease_s": 3 * heartbeat_s + 60})
    session = stage.session()
    session.join()
    spec = claimed(session)
    master.run(lambda: master.coordinator.end(EndReason.SIGNAL))
    if heartbeat_s > 1:
        session.report_epoch(spec.trial, epoch_result(1), search_wait_s=0.0)
    eventually(lambda: not session.is_wanted(spec.trial))
    assert session.claim().result(WAIT_S).spec is None
    assert trial_events(master) == [("claimed", 1), ("interrupted", 1)]


def test_a_gang_that_joins_after_the_end_trains_nothing(stage: Stage) -> None:
    master = stage.serve()
    master.run(lambda: master.coordinator.end(EndReason.SIGNAL))
    session = stage.session()
    assert session.join().stop
    assert session.claim().result(WAIT_S).spec is None


def test_a_worker_leaves_when_the_master_stays_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []
    monkeypatch.setattr(session_module, "leave", reasons.append)
    master = stage.serve(control={"heartbeat_s": 0.01, "lease_s": 60, "master_timeout_s": 0.05})
    session = stage.session()
    session.join()
    master.stop()
    eventually(lambda: bool(reasons))
    assert reasons[0].startswith("the master stayed away: /v1/heartbeat: ")


def test_a_worker_that_missed_the_end_of_the_run_ends_when_the_address_is_taken_away(stage: Stage) -> None:
    master = stage.serve()
    session = stage.session()
    session.join()
    spec = claimed(session)
    master.stop()
    session.report_epoch(spec.trial, epoch_result(1), search_wait_s=0.0)
    assert session.is_wanted(spec.trial), "a master that is merely away comes back"
    stage.control_file.unlink()
    eventually(lambda: not session.is_wanted(spec.trial))
    assert session.claim().result(WAIT_S).spec is None


def test_ranks_that_do_not_end_with_the_run_are_ended(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []
    monkeypatch.setattr(session_module, "leave", reasons.append)
    monkeypatch.setattr(session_module, "FAREWELL_S", 0.05)
    master = stage.serve()
    session = stage.session()
    session.join()
    stage.control_file.unlink()
    master.stop()
    eventually(lambda: reasons == ["the run is over"])


def test_long_reasons_are_cut_to_what_the_protocol_takes(stage: Stage) -> None:
    master = stage.serve()
    session = stage.session()
    session.join()
    spec = claimed(session)
    session.report_end(spec.trial, Outcome.FAILED, "x" * 5000).result(WAIT_S)
    (closed,) = [event for event in master.events() if event["event"] == "trial_closed"]
    assert closed["reason"] == "x" * 2000


def test_the_word_to_stop_a_trial_reaches_the_worker_which_ends_it_after_the_epoch_in_progress(
    stage: Stage,
) -> None:
    master = stage.serve(epochs={"warmup": [6]}, search={"patience_epochs": 1, "hyper_parameters": "random"})
    session = stage.session()
    session.join()
    spec = claimed(session)
    session.report_epoch(spec.trial, epoch_result(1, validation_correct=10), search_wait_s=0.0)
    session.report_epoch(spec.trial, epoch_result(2, validation_correct=11), search_wait_s=0.0)
    eventually(lambda: ("epoch", 2) in trial_events(master))
    assert not session.is_to_stop(spec.trial)
    session.report_epoch(spec.trial, epoch_result(3, validation_correct=11), search_wait_s=0.0)
    eventually(lambda: session.is_to_stop(spec.trial))
    assert session.is_wanted(spec.trial)
    session.report_epoch(spec.trial, epoch_result(4, validation_correct=12), search_wait_s=0.0)
    following = session.claim()
    session.report_end(spec.trial, Outcome.STOPPED).result(WAIT_S)
    assert [event for event in trial_events(master) if event[0] == "epoch"][-1] == ("epoch", 4)
    (closed,) = [event for event in master.events() if event["event"] == "trial_closed"]
    assert (closed["outcome"], closed["reason"]) == ("stopped", "stalled: no better error in 1 epochs")
    assert following.result(WAIT_S).spec is not None
    assert not session.is_to_stop(2)
