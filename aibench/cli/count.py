"""``aibench count``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from aibench.architecture import Architecture, Shape
    from aibench.counting import NetworkCount

DEFAULT_INPUT = "3,224,224"
DEFAULT_CLASSES = 1000


@click.command("count", short_help="Count the operations of a network.")
@click.argument("architecture")
@click.option(
    "--input", "input_text", metavar="C,H,W", help=f"Shape of one image [default: {DEFAULT_INPUT}]."
)
@click.option("--classes", type=click.IntRange(min=1), help=f"Outputs [default: {DEFAULT_CLASSES}].")
@click.option("--width", type=click.IntRange(min=1), help="Channels of the first stage [default: 64].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, per layer too.")
def count_command(
    architecture: str, input_text: str | None, classes: int | None, width: int | None, as_json: bool
) -> None:
    """Count the operations of a network, per image, exactly.

    ARCHITECTURE is a name (resnet18, resnet34, resnet50, resnet101, resnet152, each also with suffix -v1) or
    an architecture JSON file, as --json prints it under "architecture".

    Two conventions: aiperf_ops for the score, tensor_flops (convolutions and matrix products, one
    multiply-add is 2) for efficiency.

    \b
    Example:
      aibench count resnet50-v1
      aibench count resnet18 --input 3,32,32 --classes 10 --json
      aibench count my-network.json
    """
    from aibench.cli.tables import print_count
    from aibench.counting import count

    network = _load(architecture, input_text, classes, width)
    counts = count(network)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(_document(network, counts)), indent=1))
    else:
        print_count(architecture, network, counts)


def _load(name: str, input_text: str | None, classes: int | None, width: int | None) -> Architecture:
    from aibench.architecture import Architecture
    from aibench.architecture.resnet import IMAGENET_WIDTH, resnet
    from aibench.errors import ArchitectureError

    path = Path(name)
    if not path.suffix and not path.is_file():
        shape = _shape(input_text or DEFAULT_INPUT)
        return resnet(name, shape, classes or DEFAULT_CLASSES, width=width or IMAGENET_WIDTH)
    if input_text or classes or width:
        raise click.UsageError("--input, --classes and --width are for names; a file states them itself")
    try:
        return Architecture.from_json(path.read_bytes())
    except OSError as error:
        raise ArchitectureError(f"{name}: cannot be read ({error.strerror})") from error
    except ArchitectureError as error:
        raise ArchitectureError(f"{name}: {error}") from error


def _shape(text: str) -> Shape:
    from aibench.architecture import Shape

    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{text!r}: expected C,H,W such as 3,224,224", param_hint="--input")
    return Shape(*map(int, parts))


def _document(network: Architecture, counts: NetworkCount) -> dict[str, Any]:
    import msgspec

    return {
        "architecture_hash": network.content_hash,
        "architecture": msgspec.to_builtins(network.to_document()),
        "input": list(network.input_shape),
        "classes": network.output_shape.channels,
        "parameters": counts.parameters,
        "activation_bytes": counts.activation_bytes,
        "aiperf_ops": _operations(counts.aiperf_ops),
        "tensor_flops": _operations(counts.tensor_flops),
        "layers": [
            {
                "layer": layer.position,
                "op": layer.op,
                "output": list(layer.output_shape),
                "parameters": layer.parameters,
                "activation_bytes": layer.activation_bytes,
                "aiperf_ops": _operations(layer.aiperf_ops),
                "tensor_flops": _operations(layer.tensor_flops),
            }
            for layer in counts.layers
        ],
    }


def _operations(operations: Any) -> dict[str, int]:
    return {"forward": operations.forward, "backward": operations.backward, "train": operations.train}
