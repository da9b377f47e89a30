"""What runs in the pod of a submitted master, called by its manifest and by ``kubectl exec``.

The programs stand here, not in the image, so that an image needs nothing but Python and aibench.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

CONFIG = Path("/etc/aibench/config.yaml")
TERMINATION_MESSAGE = Path("/dev/termination-log")
END_MARK = "end-of-results"
"""Last member of the archive: a connection that was cut off leaves it out."""
ENDED_NAME = "master-ended"
NOT_RESULTS = {"control.json", "master.lock", "weights", ENDED_NAME}
UNUSABLE_INPUT = 2
POLL_S = 1.0


def main() -> NoReturn:
    """Run the program that the arguments name: ``serve``, ``keep``, ``cancel``, ``pack`` or ``remove``."""
    program, *arguments = sys.argv[1:]
    if program == "serve":
        sys.exit(serve(Path(arguments[0]), arguments[1]))
    elif program == "keep":
        sys.exit(keep(Path(arguments[0]), float(arguments[1])))
    elif program == "cancel":
        os.kill(1, signal.SIGINT)
    elif program == "pack":
        pack(Path(arguments[0]))
    else:
        shutil.rmtree(arguments[0])
    sys.exit()


def serve(folder: Path, run: str) -> int:
    """Be the master of the run in the folder; 0 once there is nothing more to do for it.

    SIGINT ends the run early, scored and sealed. SIGTERM is the cluster taking the pod away: the master ends
    at once, so that the one in the next pod goes on from the journal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ended, report = folder / ENDED_NAME, folder / "report.json"
    if report.exists():
        ended.touch()
        return 0
    ended.unlink(missing_ok=True)
    if not (folder / "config.yaml").exists():
        shutil.copyfile(CONFIG, folder / "config.yaml")
    status = _run_master([sys.executable, "-m", "aibench", "master", str(folder), "--run", run])
    if not report.exists() and status != UNUSABLE_INPUT:
        return 1
    with contextlib.suppress(OSError):
        TERMINATION_MESSAGE.write_text(f"the master ended with status {status}")
    ended.touch()
    return 0


def _run_master(argv: list[str]) -> int:
    """Exit status of the master, to whom signals are passed on; none is missed while it is started."""
    early: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: FrameType | None = None) -> None:
        for child in children:
            child.send_signal(signal.SIGTERM if number == signal.SIGINT else signal.SIGKILL)
        if not children:
            early.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    children.append(subprocess.Popen(argv))
    for missed in early:
        pass_on(missed)
    return children[0].wait()


def keep(folder: Path, ttl_s: float) -> int:
    """Hold the volume with the folder until the master has ended, and ``ttl_s`` longer."""
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    while not (folder / ENDED_NAME).exists():
        if is_over.wait(POLL_S):
            return 0
    is_over.wait(ttl_s)
    return 0


def pack(folder: Path) -> None:
    """Write the results to standard output, as an archive whose last member says that it is whole."""
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for path in sorted(folder.iterdir()):
            if path.name not in NOT_RESULTS:
                archive.add(path, arcname=path.name)
        mark = tarfile.TarInfo(END_MARK)
        mark.mtime = int(time.time())
        archive.addfile(mark)


def unpack(stream: IO[bytes], folder: Path) -> bool:
    """Bring the results from a stream into the folder; False, and nothing changed, if it was cut off."""
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder) as draft:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                archive.extractall(draft, filter="data")  # never outside the folder
        except tarfile.TarError:
            return False
        mark = Path(draft, END_MARK)
        if not mark.exists():
            return False
        mark.unlink()
        shutil.copytree(draft, folder, dirs_exist_ok=True)
    return True
