"""What launchers run on nodes to bring data and environments there."""

from __future__ import annotations

from pathlib import Path

import click

manifest_option = click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The parcel's manifest.",
)
into_option = click.option(
    "--into", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to unpack into."
)
parts_option = click.option(
    "--parts", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the parts."
)


@click.command("staged", hidden=True)
@manifest_option
@into_option
@parts_option
def staged_command(manifest: Path, into: Path, parts: Path) -> None:
    """Print as one line of JSON what this node has of a parcel."""
    import msgspec

    from aibench.staging.pack import read_parcel
    from aibench.staging.unpack import report

    click.echo(msgspec.json.encode(report(read_parcel(manifest), into, parts)).decode())


@click.command("broadcast", hidden=True)
@manifest_option
@into_option
@parts_option
def broadcast_command(manifest: Path, into: Path, parts: Path) -> None:
    """Bring a parcel that lies beside its manifest to all nodes; mpirun starts this once on each."""
    import shutil

    from aibench.staging.broadcast import broadcast
    from aibench.staging.pack import read_parcel

    broadcast(read_parcel(manifest), manifest.parent, into, parts, lambda text: click.echo(f"stage: {text}"))
    shutil.rmtree(parts, ignore_errors=True)


@click.command("unpack", hidden=True)
@manifest_option
@into_option
@parts_option
def unpack_command(manifest: Path, into: Path, parts: Path) -> None:
    """Unpack a parcel on this node, unless it is there; parts that lie beside the target are removed then."""
    import shutil

    from aibench.staging.pack import read_parcel
    from aibench.staging.unpack import unpack

    unpack(read_parcel(manifest), into, parts)
    if parts.parent == into.parent:
        shutil.rmtree(parts, ignore_errors=True)
