import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from aibench.api.events import EndReason, Outcome, RunEnded, TrialClosed
from aibench.journal import JournalWriter, read_journal
from aibench.score.history import RunHistory
from aibench.score.score import compute_score


def epoch_keys(run: Any) -> list[tuple[int, int]]:
    return [(event["trial"], event["result"]["epoch"]) for event in run.events("epoch_finished")]


def outcomes(run: Any) -> dict[int, str]:
    return {event["trial"]: event["outcome"] for event in run.events("trial_closed")}


def test_kill_of_the_master_and_resume_loses_no_epoch_and_counts_none_twice(
    make_run: Callable[..., Any], aibench: Callable[..., Any]
) -> None:
    run = make_run(limits={"measured_time_s": 40})
    run.start()
    run.wait_for("epoch_finished", 4)
    run.kill_master()
    before = run.records()
    open_trials = {e["spec"]["trial"] for e in run.events("trial_claimed")} - set(outcomes(run))
    survivors = [run.worker_process(worker) for worker in ("w0", "w1")]
    assert all(process.is_running() for process in survivors)

    run.resume()
    run.wait_for("run_resumed", 1)
    status, output = run.finish()

    assert status == 0, output
    assert run.records()[: len(before)] == before
    keys = epoch_keys(run)
    assert len(keys) == len(set(keys))
    assert len(run.events("worker_joined")) == 2, "the workers lived on: nobody joined anew"
    assert {outcomes(run)[trial] for trial in open_trials} <= {"completed", "interrupted"}
    assert open_trials & {trial for trial, _ in keys[len([r for r in before if "result" in r["event"]]) :]}
    assert run.left_over_processes() == []
    verified = aibench("verify", run.root)
    assert verified.returncode == 0, verified.stdout


def test_a_half_written_last_line_is_cut_off_by_resume_and_refused_by_everything_else(
    make_run: Callable[..., Any], aibench: Callable[..., Any]
) -> None:
    run = make_run(limits={"measured_time_s": 25})
    run.start()
    run.wait_for("epoch_finished", 1)
    run.kill_master()
    whole = (run.root / "journal.jsonl").read_bytes()
    intact = whole.count(b"\n")
    with (run.root / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"event":{"event":"epoch_fin')

    scored = aibench("score", run.root)
    assert scored.returncode == 2
    assert scored.stderr == (
        f"aibench: journal line {intact + 1}: cut off in the middle of a line; "
        f"the {intact} record(s) before it are intact\n"
    )

    run.resume()
    status, output = run.finish()
    assert status == 0, output
    assert (run.root / "journal.jsonl").read_bytes().startswith(whole)


def test_sigterm_ends_with_a_scored_and_sealed_run(
    make_run: Callable[..., Any], aibench: Callable[..., Any]
) -> None:
    run = make_run()
    run.start()
    run.wait_for("epoch_finished", 2)
    run.signal_master(signal.SIGTERM)
    status, output = run.finish()
    assert status == 128 + signal.SIGTERM
    assert "normalized score" in output
    assert run.records()[-1]["event"] == {"event": "run_ended", "reason": "signal", "detail": "SIGTERM"}
    assert run.left_over_processes() == []
    history = RunHistory.of(read_journal(run.root / "journal.jsonl").require_intact())
    score = compute_score(history)
    assert score is not None
    assert score.final.work_ops > 0
    resumed = aibench("resume", run.root)
    assert resumed.returncode == 2
    assert "the run ended already (signal)" in resumed.stderr


def test_a_master_killed_between_the_seal_and_the_end_of_its_workers_leaves_none_after_resume(
    make_run: Callable[..., Any], aibench: Callable[..., Any]
) -> None:
    run = make_run(limits={"measured_time_s": 60})
    run.start()
    run.wait_for("epoch_finished", 2)
    run.kill_master()
    seal(run.root / "journal.jsonl")
    sealed = (run.root / "journal.jsonl").read_bytes()
    assert run.left_over_processes() != []

    run.resume()
    status, output = run.finish()

    assert status in (0, 1), output
    assert "normalized score" in output
    assert run.left_over_processes() == []
    assert (run.root / "journal.jsonl").read_bytes() == sealed
    assert (run.root / "report.json").exists()
    again = aibench("resume", run.root)
    assert again.returncode == 2
    assert "the run ended already (time_limit)" in again.stderr


def test_a_second_master_on_the_same_folder_is_refused(
    make_run: Callable[..., Any], aibench: Callable[..., Any]
) -> None:
    run = make_run(limits={"measured_time_s": 18})
    run.start()
    run.wait_for("worker_joined", 1)
    second = aibench("resume", run.root)
    assert second.returncode == 2
    assert second.stderr == f"aibench: {run.root}: another master is running on this folder\n"
    status, output = run.finish()
    assert status == 0, output


def test_a_killed_worker_costs_its_unfinished_epoch_and_is_replaced(make_run: Callable[..., Any]) -> None:
    run = make_run(limits={"measured_time_s": 40})
    run.start()
    run.wait_until(lambda: any(e["worker"] == "w0" for e in run.events("trial_claimed")), "trial of w0")
    run.wait_for("epoch_finished", 3)
    victim = run.worker_process("w0")
    ranks = victim.children(recursive=True)
    victim.kill()
    run.wait_until(lambda: not any(map(is_alive, ranks)), "end of the orphaned ranks")
    run.wait_for("worker_joined", 3)
    status, output = run.finish()
    assert status == 0, output
    assert [e["worker"] for e in run.events("worker_lost")] == ["w0"]
    assert "lost" in outcomes(run).values()
    rejoined = run.events("worker_joined")[-1]
    claims = [e for e in run.events("trial_claimed") if e["incarnation"] == rejoined["incarnation"]]
    assert claims, "the replaced worker goes on with new trials"
    assert claims[0]["spec"]["round"] > 1, "its rounds go on counting"


def test_a_killed_rank_restarts_its_gang_and_the_run_goes_on(make_run: Callable[..., Any]) -> None:
    group = {"count": 1, "ranks": 2, "device": "cpu", "oversubscribe": True}
    run = make_run(workers=[group], limits={"measured_time_s": 45})
    run.start()
    run.wait_for("epoch_finished", 2)
    gang = run.worker_process("w0").children()
    gang[-1].kill()
    run.wait_for("worker_joined", 2)
    joined = len(run.events("epoch_finished"))
    run.wait_for("epoch_finished", joined + 1)
    status, output = run.finish()
    assert status == 0, output
    lost = [e for e in run.events("trial_closed") if e["outcome"] == "lost"]
    assert lost
    assert lost[0]["reason"] == "its worker restarted"


def test_failing_trials_are_recorded_with_their_reason_and_score_nothing(
    make_run: Callable[..., Any],
) -> None:
    search = {"space": {"learning_rate": {"choices": [1e30]}}}
    run = make_run(search=search, limits={"trials": 3, "measured_time_s": 60})
    run.start()
    status, output = run.finish()
    assert status == 1, output
    closed = run.events("trial_closed")
    assert [event["outcome"] for event in closed] == ["failed"] * 3
    assert all("loss" in event["reason"] for event in closed)
    assert "no epoch was finished" in output
    assert run.records()[-1]["event"]["reason"] == "trial_limit"


def seal(path: Path) -> None:
    """End a run as its master does, without what that does next."""
    history = RunHistory.of(read_journal(path).require_intact())
    assert history.last is not None
    last_s = history.last.t_s

    async def write() -> None:
        writer = JournalWriter(path, lambda: last_s, last=history.last)
        for trial in history.open_trials:
            writer.append(interrupted(trial))
        writer.append(RunEnded(reason=EndReason.TIME_LIMIT, detail=""))
        await writer.durable()
        writer.close()

    asyncio.run(write())


def interrupted(trial: int) -> TrialClosed:
    return TrialClosed(
        trial=trial,
        outcome=Outcome.INTERRUPTED,
        reason="the run ended",
        unfinished_train_images=0,
        unfinished_validation_images=0,
    )


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
