"""A folder of static files that runs a served model in browsers: any static host can serve it, without a Python process."""

import json
import shutil
from pathlib import Path

from demo.device_files import (
    CODE,
    RUNTIME,
    code_files,
    face_detector_file,
    manifest,
    network_file,
    runtime_file,
)
from demo.serving import ServedModel
from model.errors import AgeGenderError


SITE = CODE.with_name("site")
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "astronaut.jpg"
MANIFEST = "manifest.json"  # also the mark by which a folder is known as an earlier site


class SiteError(AgeGenderError):
    """The folder cannot be written to."""


def write_site(served: ServedModel, folder: Path) -> list[Path]:
    """Write the site into `folder`, in place of an earlier one.

    Returns:
        The paths of its files, relative to `folder` and sorted.

    Raises:
        NotOnDevice: browsers cannot run the model. SiteError: the folder holds other files.
    """
    network = network_file(served.folder)  # before anything is deleted
    if folder.exists():
        if not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).is_file()):
            raise SiteError(f"Expected {folder} to be new, empty, or an earlier site; it holds other files.")
        shutil.rmtree(folder)
    contents = dict(code_files())
    contents[f"device/runtime/{(RUNTIME.parent / 'LICENSE').name}"] = (RUNTIME.parent / "LICENSE").read_bytes()
    contents |= {path.name: path.read_bytes() for path in SITE.iterdir()}
    contents[f"examples/{EXAMPLE.name}"] = EXAMPLE.read_bytes()
    contents |= {f"files/{file.path}": file.read() for file in (runtime_file(), face_detector_file(), network)}
    card = served.folder / "README.md"
    contents["model/README.md"] = card.read_bytes() if card.is_file() else f"# {served.name}\n".encode()
    described = manifest(served.name, served.folder, network, lambda file: f"files/{file.path}")
    contents[MANIFEST] = json.dumps(described, indent=1).encode()
    for path, content in contents.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return sorted(Path(path) for path in contents)
