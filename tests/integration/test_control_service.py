import json
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from support.fake_master import epoch_result, join_request
from support.fake_workload import make_config
from support.served_master import ServedMaster
from support.waiting import eventually

from aibench.api.events import EndReason, Lineage
from aibench.api.protocol import (
    ROUTES,
    ClaimReply,
    ClaimRequest,
    EpochRequest,
    HistoryReply,
    HistoryRequest,
    JoinReply,
    ProposeRequest,
)
from aibench.architecture import Shape
from aibench.architecture.resnet import resnet
from aibench.errors import ConfigError
from aibench.master.control import MAX_BODY_BYTES, allow_connections, bind
from aibench.score.html import render_html
from aibench.score.report import build_report

CLAIM = ClaimRequest(worker="w0", incarnation="a", request="r1")
PROPOSAL = ProposeRequest(
    worker="w0",
    incarnation="a",
    architecture=resnet("resnet18", Shape(3, 8, 8), 10, width=6).to_document(),
    lineage=Lineage(origin="evolution"),
    bound=0.5,
    num_known=0,
)
EPOCH = EpochRequest(worker="w0", incarnation="a", trial=1, result=epoch_result(1))


@pytest.fixture
def master(tmp_path: Path) -> Iterator[ServedMaster]:
    served = ServedMaster(tmp_path)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedMaster]:
    """One for all tests that no request may change."""
    served = ServedMaster(tmp_path_factory.mktemp("idle"))
    yield served
    served.stop()
    assert [event["event"] for event in served.events()] == ["run_started"]


def send(master: ServedMaster, path: str, body: bytes) -> httpx.Response:
    with master.client() as client:
        return client.post(path, content=body)


def history(master: ServedMaster, since: int = 0) -> HistoryReply:
    request = HistoryRequest(worker="w0", incarnation="a", since=since)
    return msgspec.json.decode(master.post("/v1/history", request).content, type=HistoryReply)


def refusal(response: httpx.Response) -> str:
    body = response.json()
    assert set(body) == {"error", "must_join"}
    return str(body["error"])


# Who is heard -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*ROUTES, "/metrics", "/", "/no-such-thing", "/healthz/"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "HEAD"])
def test_without_the_token_nothing_but_health_is_answered(idle: ServedMaster, path: str, method: str) -> None:
    token = idle.token
    wrong = ["", "Bearer", "Bearer x", "Basic " + token, token, f"bearer {token}", f"Bearer {token}x"]
    with idle.client(headers={}) as client:
        for headers in [{}, *({"Authorization": value} for value in wrong)]:
            body = msgspec.json.encode(join_request())
            response = client.request(method, path, headers=headers, content=body)
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"


def test_health_needs_no_token(idle: ServedMaster) -> None:
    with idle.client(headers={}) as client:
        response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("POST", "/", 404),
        ("GET", "/v1/claim", 405),
        ("DELETE", "/v1/join", 405),
        ("GET", "/v1/history", 405),
        ("POST", "/metrics", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_calls_that_do_not_exist_are_refused_in_the_words_of_the_protocol(
    idle: ServedMaster, method: str, path: str, status: int
) -> None:
    with idle.client() as client:
        response = client.request(method, path)
    assert response.status_code == status
    assert refusal(response)


# What is understood -----------------------------------------------------------------------------------

VALID = b'{"worker":"w0","incarnation":"a"'


@pytest.mark.parametrize("path", [*ROUTES])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"not json", 400),
        (b"\xff\xfe\x00", 400),
        (b'{"worker":"\xff"}', 400),
        (b'{"worker":"\\ud800"}', 400),
        (b'{"worker":NaN}', 400),
        (b"null", 422),
        (b"[]", 422),
        (b"3", 422),
        (b"{}", 422),
        (VALID + b',"surprise":1}', 422),
        (b'{"worker":"","incarnation":"a"}', 422),
        (b'{"worker":3,"incarnation":"a"}', 422),
        (b'{"worker":"' + b"w" * 129 + b'","incarnation":"a"}', 422),
    ],
)
def test_a_body_that_is_not_the_message_is_refused_with_the_reason(
    idle: ServedMaster, path: str, body: bytes, status: int
) -> None:
    if path == "/v1/enlist":
        body = body.replace(b'"worker"', b'"pool"').replace(b'"incarnation"', b'"place"')
    response = send(idle, path, body)
    assert response.status_code == status
    assert refusal(response)


@pytest.mark.parametrize(
    "end", [b',"train_images":NaN}', b',"trial":Infinity}', b',"trial":-Infinity}', b"}{}"]
)
def test_a_message_that_breaks_off_in_something_else_is_refused(idle: ServedMaster, end: bytes) -> None:
    response = send(idle, "/v1/heartbeat", VALID + end)
    assert response.status_code == 400
    assert refusal(response).startswith("not JSON: ")


def numbers(text: bytes) -> list[tuple[str, bytes]]:
    epoch = msgspec.json.encode(msgspec.structs.replace(EPOCH, result=epoch_result(2)))
    return [
        ("/v1/heartbeat", VALID + b',"trial":1,"train_images":' + text + b"}"),
        ("/v1/heartbeat", VALID + b',"trial":' + text + b"}"),
        ("/v1/finish", VALID + b',"outcome":"failed","trial":' + text + b"}"),
        ("/v1/finish", VALID + b',"outcome":"failed","trial":2,"unfinished_train_images":' + text + b"}"),
        ("/v1/epoch", epoch.replace(b'"train_images":100', b'"train_images":' + text)),
        ("/v1/epoch", epoch.replace(b'"train_loss":0.5', b'"train_loss":' + text)),
        ("/v1/epoch", epoch.replace(b'"compute_s":1.0', b'"compute_s":' + text)),
        ("/v1/epoch", epoch.replace(b'"search_wait_s":0.0', b'"search_wait_s":' + text)),
    ]


@pytest.mark.parametrize(
    "text", [b"1e400", b"-1e400", b"9" * 400, b"9" * 5000, b"-1", b"1e308", b"1.5", b"NaN"]
)
def test_numbers_without_measure_never_break_the_service_or_the_journal(
    master: ServedMaster, text: bytes
) -> None:
    master.post("/v1/join", join_request())
    for message in ("r1", "r2"):
        master.post("/v1/claim", msgspec.structs.replace(CLAIM, request=message))
    master.post("/v1/epoch", EPOCH)
    for path, body in numbers(text):
        response = send(master, path, body)
        assert response.status_code < 500, (path, response.text)
    master.run(lambda: master.coordinator.end(EndReason.SIGNAL))
    master.stop()
    assert master.events()[-1]["event"] == "run_ended"
    assert render_html(build_report(master.history))


def nested(open_: bytes, depth: int) -> bytes:
    close = {b"[": b"]", b'{"a":': b"}"}[open_]
    return open_ * depth + b"1" + close * depth


@pytest.mark.parametrize("open_", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [500, 100_000])
def test_json_without_end_of_depth_is_refused(idle: ServedMaster, open_: bytes, depth: int) -> None:
    bomb = nested(open_, depth)
    bodies = [
        ("/v1/join", bomb),
        ("/v1/propose", VALID + b',"architecture":' + bomb + b"}"),
        ("/v1/propose", VALID + b',"architecture":{"nodes":' + bomb + b"}}"),
        ("/v1/join", VALID + b',"devices":' + bomb + b"}"),
    ]
    for path, body in bodies:
        assert send(idle, path, body).status_code in (400, 422)


@pytest.mark.parametrize("since", [b"-1", b"1.5", b'"1"', b"null", b"true", b"9" * 30])
def test_history_wants_a_whole_number(idle: ServedMaster, since: bytes) -> None:
    response = send(idle, "/v1/history", VALID + b',"since":' + since + b"}")
    assert response.status_code == 422
    assert "$.since" in refusal(response)


def test_history_is_empty_before_the_first_trial_has_ended(master: ServedMaster) -> None:
    master.post("/v1/join", join_request())
    for since in (0, 999999999999):
        reply = history(master, since)
        assert (reply.entries, reply.next_since, reply.wants_proposal, reply.stop) == (
            (),
            since,
            False,
            False,
        )


@pytest.mark.parametrize("bound", [b"null", b"NaN", b"1e400", b"-Infinity", b'"0.5"'])
def test_a_proposal_without_a_finite_bound_is_refused(master: ServedMaster, bound: bytes) -> None:
    master.post("/v1/join", join_request())
    body = msgspec.json.encode(PROPOSAL).replace(b'"bound":0.5', b'"bound":' + bound)
    assert send(master, "/v1/propose", body).status_code in (400, 422)
    assert metrics(master)["aibench_waiting_proposals"] == 0
    assert send(master, "/v1/propose", msgspec.json.encode(PROPOSAL)).json()["accepted"] is True


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(idle: ServedMaster, is_chunked: bool) -> None:
    body = b"x" * (MAX_BODY_BYTES + 1)
    with idle.client() as client:
        response = client.post("/v1/claim", content=iter([body]) if is_chunked else body)
        assert ("content-length" in response.request.headers) is not is_chunked
        assert response.status_code == 413
        assert "larger than 4194304 bytes" in refusal(response)
        assert client.get("/healthz").status_code == 200


def test_a_body_of_the_largest_size_is_read(idle: ServedMaster) -> None:
    assert send(idle, "/v1/claim", b" " * MAX_BODY_BYTES).status_code == 400


# What is answered -------------------------------------------------------------------------------------


def test_a_stranger_is_told_to_join(idle: ServedMaster) -> None:
    response = idle.post("/v1/claim", CLAIM)
    assert response.status_code == 409
    assert response.json()["must_join"] is True


def test_what_is_not_the_callers_is_refused_without_a_new_join(master: ServedMaster) -> None:
    master.post("/v1/join", join_request())
    response = master.post("/v1/epoch", EPOCH)
    assert response.status_code == 409
    assert response.json() == {"error": "trial 1 is not leased to worker 'w0'", "must_join": False}


def test_a_trial_goes_from_join_to_history(master: ServedMaster) -> None:
    joined = msgspec.json.decode(master.post("/v1/join", join_request()).content, type=JoinReply)
    assert joined.workload == "fake"
    reply = msgspec.json.decode(master.post("/v1/claim", CLAIM).content, type=ClaimReply)
    assert reply.spec is not None
    for epoch in range(1, reply.spec.epochs + 1):
        message = msgspec.structs.replace(EPOCH, result=epoch_result(epoch))
        assert master.post("/v1/epoch", message).json() == {"stop": False, "stop_trial": False}
    finish = {"worker": "w0", "incarnation": "a", "trial": 1, "outcome": "completed"}
    assert master.post("/v1/finish", finish).json() == {"stop": False, "stop_trial": False}
    assert [(entry.trial, entry.error) for entry in history(master).entries] == [(1, 0.25)]
    kinds = [event["event"] for event in master.events()]
    assert kinds == [
        "run_started",
        "worker_joined",
        "start_barrier_opened",
        "trial_claimed",
        "epoch_finished",
        "epoch_finished",
        "trial_closed",
    ]


def test_an_answer_waits_until_its_event_is_on_disk(
    master: ServedMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    master.post("/v1/join", join_request())
    order: list[str] = []
    writing, may_end = threading.Event(), threading.Event()
    fsync = os.fsync

    def slow_fsync(file: int) -> None:
        writing.set()
        assert may_end.wait(30)
        fsync(file)
        order.append("disk")

    monkeypatch.setattr("aibench.journal.writer.os.fsync", slow_fsync)
    with ThreadPoolExecutor() as clients:
        answers = [clients.submit(master.post, "/v1/claim", CLAIM)]
        answers[0].add_done_callback(lambda _: order.append("answer"))
        assert writing.wait(30)
        # Asked again while the first is being written: the same event, the same wait.
        answers.append(clients.submit(master.post, "/v1/claim", CLAIM))
        for answer in answers:
            with pytest.raises(FutureTimeoutError):
                answer.result(timeout=0.2)
        may_end.set()
        assert [answer.result().json()["spec"]["trial"] for answer in answers] == [1, 1]
    assert order[:2] == ["disk", "answer"]
    assert [e["event"] for e in master.events()].count("trial_claimed") == 1


def test_a_disk_that_refuses_gives_no_answer_of_success(
    master: ServedMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    master.post("/v1/join", join_request())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("aibench.journal.writer.os.fsync", full)
        assert master.post("/v1/claim", CLAIM).status_code == 500
    assert master.post("/v1/claim", CLAIM).status_code == 500


def test_claims_at_the_same_time_get_different_trials(tmp_path: Path) -> None:
    num_workers = 32
    master = ServedMaster(tmp_path, make_config(workers=[{"count": num_workers}]))
    names = [f"w{number}" for number in range(num_workers)]
    try:
        for name in names:
            master.post("/v1/join", join_request(name))
        together = threading.Barrier(num_workers)

        def claim(name: str) -> int:
            together.wait()
            request = ClaimRequest(worker=name, incarnation="a", request="r1")
            return int(master.post("/v1/claim", request).json()["spec"]["trial"])

        with ThreadPoolExecutor(num_workers) as clients:
            trials = list(clients.map(claim, names))
    finally:
        master.stop()
    assert sorted(trials) == list(range(1, num_workers + 1))


def metrics(master: ServedMaster) -> dict[str, float]:
    with master.client() as client:
        response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_tell_trials_workers_and_the_score(master: ServedMaster) -> None:
    assert metrics(master) == {
        'aibench_trials{outcome="running"}': 0,
        "aibench_workers": 0,
        "aibench_waiting_proposals": 0,
        'aibench_proposals_total{fate="accepted"}': 0,
        'aibench_proposals_total{fate="refused"}': 0,
        'aibench_proposals_total{fate="handed_out"}': 0,
        'aibench_proposals_total{fate="stale"}': 0,
        'aibench_proposals_total{fate="displaced"}': 0,
    }
    master.post("/v1/join", join_request())
    master.post("/v1/claim", CLAIM)
    master.post("/v1/epoch", EPOCH)
    master.post("/v1/claim", msgspec.structs.replace(CLAIM, request="r2"))
    failed = {"worker": "w0", "incarnation": "a", "trial": 2, "outcome": "failed"}
    master.post("/v1/finish", failed)
    for _ in range(2):
        master.post("/v1/propose", PROPOSAL)
    found = metrics(master)
    assert found["aibench_waiting_proposals"] == 1
    assert found['aibench_proposals_total{fate="accepted"}'] == 1
    assert found['aibench_proposals_total{fate="refused"}'] == 1
    assert found['aibench_trials{outcome="running"}'] == 1
    assert found['aibench_trials{outcome="failed"}'] == 1
    assert found["aibench_workers"] == 1
    assert found["aibench_best_error_ratio"] == 0.25
    score = found["aibench_score_ops_per_second"]
    assert score > 0
    # -ln(0.25) = 1.38629436...
    assert found["aibench_normalized_score_ops_per_second"] == pytest.approx(1.3862943611198906 * score)


def test_an_address_that_is_taken_is_refused_with_the_reason(master: ServedMaster) -> None:
    port = int(master.url.rpartition(":")[2])
    with pytest.raises(ConfigError) as refused:
        bind("127.0.0.1", port)
    assert str(refused.value).startswith(
        f"control.host: cannot listen on 127.0.0.1:{port} (Address already in use"
    )


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_an_address_that_is_not_here_is_refused(host: str) -> None:
    with pytest.raises(ConfigError) as refused:
        bind(host, 0)
    assert str(refused.value).startswith(f"control.host: cannot listen on {host}:0 (")


def test_connections_do_not_wait_for_acknowledgements_of_half_answers() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("num_workers", "limits", "expected"),
    [
        (100, (1024, 4096), None),
        (1000, (1024, 4096), (3256, 4096)),
        (1000, (1024, resource.RLIM_INFINITY), (3256, resource.RLIM_INFINITY)),
        (1000, (resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
    ],
)
def test_many_workers_get_as_many_open_files_as_they_take(
    num_workers: int,
    limits: tuple[int, int],
    expected: tuple[int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: given.append(wanted))
    allow_connections(num_workers)
    assert given == ([] if expected is None else [expected])


def test_more_workers_than_the_system_has_files_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    with pytest.raises(ConfigError) as refused:
        allow_connections(2000)
    assert str(refused.value) == (
        "workers: 2000 workers take up to 6256 open files, this system allows 4096 (ulimit -Hn)"
    )


def test_bodies_of_answers_are_json(master: ServedMaster) -> None:
    responses: list[Any] = [master.post("/v1/join", join_request()), master.post("/v1/claim", {})]
    for response in responses:
        assert response.headers["Content-Type"] == "application/json"
        json.loads(response.content)


def test_a_caller_that_ends_amid_its_request_is_no_failure(
    master: ServedMaster, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = httpx.URL(master.url).host, httpx.URL(master.url).port
    head = (
        f"POST /v1/join HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {master.token}\r\n"
        "Content-Length: 1000\r\n\r\n{"
    )
    with caplog.at_level("INFO"), socket.create_connection((host, port)) as caller:
        caller.sendall(head.encode())
        # The request must have begun before its end is seen to be missing.
        time.sleep(0.2)
        caller.close()
        eventually(lambda: "a caller was gone before its request had arrived" in caplog.messages)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert master.post("/v1/join", join_request()).status_code == httpx.codes.OK
