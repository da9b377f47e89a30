"""Merging a patch over a manifest as ``kubectl patch --type strategic`` would, for the fields of a pod."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""Lists whose items have a key of their own; the API replaces every other list, such as tolerations."""


def merged(base: Any, patch: Any, key: str = "") -> Any:
    """The base with the patch over it; neither is changed.

    Args:
        key: Name of the field that both are values of.
    """
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        return _merged_mappings(base, patch)
    if isinstance(base, list) and isinstance(patch, list) and key in MERGE_KEYS:
        return _merged_lists(base, patch, MERGE_KEYS[key])
    return patch


def _merged_mappings(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    result = {name: value for name, value in base.items() if patch.get(name, value) is not None}
    for name, value in patch.items():
        if value is not None:
            result[name] = merged(base.get(name), value, name)
    return result


def _merged_lists(base: list[Any], patch: list[Any], key: str) -> list[Any]:
    items = {item[key]: item for item in base}
    for number, item in enumerate(patch):
        # An item without the key is left for the API to refuse.
        name = item.get(key, number) if isinstance(item, Mapping) else number
        items[name] = merged(items.get(name), item)
    return list(items.values())
