"""The tables of docs/recipes.md: every key, from the schema; every part of a method, likewise."""

from __future__ import annotations

from purenoise.keyhelp import key_table, phase_table


def table() -> str:
    """Return every key of recipes with its short name, values, default and meaning."""
    lines = ["| key | short | values | default | meaning |", "|---|---|---|---|---|"]
    for key in key_table():
        short = f"`{key.short}`" if key.short != key.name else ""
        default = f"`{key.default}`" if key.default else ""
        lines.append(f"| `{key.name}` | {short} | {key.values} | {default} | {key.meaning} |")
    return "\n".join(lines)


def method_parts() -> str:
    """Return the keys of a phase with their values and meanings."""
    lines = ["| key of a phase | values | default | meaning |", "|---|---|---|---|"]
    for key in phase_table():
        default = f"`{key.default}`" if key.default else ""
        lines.append(f"| `{key.name}` | {key.values} | {default} | {key.meaning} |")
    return "\n".join(lines)
