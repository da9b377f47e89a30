"""The command line: the only place that prints, exits and configures logging.

Exit status: 0 success, 1 the benchmark failed or its result is invalid, 2 unusable input, 128 + n a run that
signal n ended (scored and sealed all the same).
"""

from __future__ import annotations

import io
import signal
import sys
from typing import Any, NoReturn

import click

from aibench import __version__
from aibench.cli.compare import compare_search_command
from aibench.cli.count import count_command
from aibench.cli.gang import (
    devices_command,
    network_features_command,
    proposer_command,
    rank_command,
    trainer_command,
    worker_command,
)
from aibench.cli.hosted import cancel_command, fetch_command, logs_command, status_command
from aibench.cli.inspect import report_command, score_command, verify_command
from aibench.cli.run import master_command, resume_command, run_command
from aibench.cli.smoke import smoke_command
from aibench.cli.stage import broadcast_command, staged_command, unpack_command
from aibench.cli.text import printable
from aibench.errors import AibenchError


class _Group(click.Group):
    """Turns every mistake of the user into one line and exit status 2."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        try:
            status = super().main(*args, **{**extra, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        except click.UsageError as error:
            where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
            _fail(f"{error.format_message()}{where}")
        except (AibenchError, click.ClickException) as error:
            _fail(str(error))
        except click.Abort:
            sys.exit(128 + signal.SIGINT)
        sys.exit(status if isinstance(status, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _fail(problem: str) -> NoReturn:
    click.echo(f"aibench: {printable(' '.join(problem.split()))}", err=True)
    sys.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="aibench")
def main() -> None:
    """Benchmark AI compute: train an architecture search, score operations per second × -ln(error).

    \b
    Example:
      aibench smoke                                   # is this machine fit? under two minutes
      aibench run cifar10 --set workload.data_dir=/data/cifar
      aibench report runs/cifar10-20260101-120000
    """


for _command in (
    smoke_command,
    run_command,
    resume_command,
    status_command,
    logs_command,
    cancel_command,
    fetch_command,
    score_command,
    report_command,
    verify_command,
    count_command,
    compare_search_command,
    master_command,
    worker_command,
    rank_command,
    trainer_command,
    proposer_command,
    devices_command,
    network_features_command,
    broadcast_command,
    staged_command,
    unpack_command,
):
    main.add_command(_command)
