"""Ways to damage a model folder."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


Damage = Callable[[Path], object]


def text(name: str, content: str | bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def changed(file: str = "config.json", **values) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        for name, value in values.items():
            if isinstance(value, dict):
                content[name] = content.get(name, {}) | value
            else:
                content[name] = value
        (folder / file).write_text(json.dumps(content))

    return damage


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path, {"format": "pt"})

    return damage


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def by_link(name: str) -> Damage:
    """The file lies beside the folder, which holds a link to it."""

    def damage(folder: Path) -> None:
        outside = folder.parent / f"other_{name}"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return damage


def shards_elsewhere(folder: Path) -> None:
    path = folder.parent / "other.safetensors"
    (folder / "model.safetensors").rename(path)
    (folder / "part.safetensors").write_bytes(b"")  # the demo looks for any
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(path), "../other.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
