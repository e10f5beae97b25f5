"""What a browser needs to run a served model itself: code, runtime, networks, and a manifest with the model's configuration; and
a folder with all of it, which any static host can serve without a Python process.
"""

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from demo.about import own_card
from demo.serving import NETWORK_FILE, ServedModel
from demo.settings import DEFAULT_RANGES
from model import face_detection, face_network, face_orientation, face_search
from model.configuration_age_gender import RANGE_SETS, UTKFACE_LANDMARKS_XY, AgeGenderConfig
from model.errors import AgeGenderError
from model.face_alignment import YUNET_CROP
from model.face_detection import YUNET_FILE
from model.model_files import PREPROCESSING_FILE, check_own_file, stays_inside


ROOT = Path(__file__).resolve().parents[1]
WEB, EXAMPLES = ROOT / "demo" / "web", ROOT / "examples"
CODE, SITE = WEB / "device", WEB / "site"
# What it shares with the page: words, answers and options.
SHARED = ("answers.js", "curve.js", "dom.js", "options.js", "ranges.js", "texts.js", "texts.json", "words.js")
# Files of web/style/. Later rules replace earlier ones.
STYLES = ("base", "start", "answer", "several", "tabs_and_dialogs", "adapting")
COMPARISON_FILE = "onnx/comparison.json"  # scripts.export_onnx --web writes it beside the network
MAX_NETWORK_MB = 60  # more would take minutes to fetch, and more memory than a phone gives a page
MEDIA_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
# What answers depend on, out of config.json.
CONFIG_FIELDS = (
    *("image_size", "landmarks_xy", "max_age", "age_ranges", "age_estimate", "interval_coverage", "interval_mass"),
    *("gender_names", "gender_threshold", "min_face_pixels"),
)

OF_THE_SERVER = ("about.js", "live.js", "page.js")  # modules of the page that the site does without
MANIFEST = "manifest.json"  # also the mark by which a folder is known as an earlier site


class NotOnDevice(AgeGenderError):
    """A model that browsers cannot run; the message says why, and what the operator has to run."""


@dataclass(frozen=True)
class WebFile:
    """A file that browsers fetch once and keep, since its address holds its hash.

    file: on the disk; one whose name ends in .gz lies there compressed.
    """

    file: Path

    @property
    def name(self) -> str:
        """As browsers see it."""
        return self.file.name.removesuffix(".gz")

    def read(self) -> bytes:
        content = self.file.read_bytes()
        return gzip.decompress(content) if self.file.suffix == ".gz" else content

    @cached_property
    def gzipped(self) -> bytes:
        """What is sent: 8 of 10 bytes of a network with 8-bit weights, 3 of 10 of a runtime."""
        return self.file.read_bytes() if self.file.suffix == ".gz" else gzip.compress(self.read(), mtime=0)

    @cached_property
    def size(self) -> int:
        return len(self.read())

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.read()).hexdigest()

    @property
    def path(self) -> str:
        return f"{self.sha256[:16]}/{self.name}"

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES.get(Path(self.name).suffix, "application/octet-stream")


# Of onnxruntime-web, for the processor and for the graphics processor; browsers fetch the one that they use.
RUNTIMES = {
    "wasm": WebFile(CODE / "runtime" / "ort-wasm-simd-threaded.wasm.gz"),
    "webgpu": WebFile(CODE / "runtime" / "ort-wasm-simd-threaded.jspi.wasm.gz"),
}
FACE_DETECTOR = WebFile(ROOT / "model" / YUNET_FILE)


def page_style() -> str:
    return "".join((WEB / "style" / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)


@cache
def code_files() -> dict[str, bytes]:
    """Path below web/ -> content of the modules, the styles and the table of texts."""
    paths = [path for path in sorted(CODE.rglob("*")) if path.suffix in MEDIA_TYPES and path.suffix != ".wasm"]
    paths += [WEB / name for name in SHARED]
    return {path.relative_to(WEB).as_posix(): path.read_bytes() for path in paths}


@cache
def code_version() -> str:
    """Changes whenever a module does, so that browsers may keep them."""
    digest = hashlib.sha256()
    for path, content in code_files().items():
        digest.update(path.encode() + content)
    return digest.hexdigest()[:16]


def network_file(folder: Path) -> WebFile:
    """The exported network of a model's folder. Raises `NotOnDevice`: there is none, or it is of other weights."""
    path, again = folder / NETWORK_FILE, f"Run `python -m scripts.export_onnx --model {folder} --web`"
    if not path.is_file():
        raise NotOnDevice(f"This model cannot run in browsers: {NETWORK_FILE} is missing. {again}.")
    if not all(stays_inside(folder / name, folder) for name in (NETWORK_FILE, COMPARISON_FILE)):
        raise NotOnDevice(f"{NETWORK_FILE} or {COMPARISON_FILE} is a link to a file outside {folder}. {again}.")
    try:
        comparison = json.loads((folder / COMPARISON_FILE).read_text(encoding="utf-8"))
        exported_from, exported = comparison["weights_sha256"], comparison["files"][path.name]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise NotOnDevice(f"{COMPARISON_FILE} does not say what {NETWORK_FILE} was made from. {again} again.") from None
    file = WebFile(path)
    if exported_from != _weights_sha256(folder) or exported != file.sha256:
        raise NotOnDevice(f"{NETWORK_FILE} was exported from other weights than the model's. {again} again.")
    if file.size > 1_000_000 * MAX_NETWORK_MB:
        raise NotOnDevice(
            f"This model is too large for browsers: {NETWORK_FILE} has {file.size / 1e6:.0f} MB, at most {MAX_NETWORK_MB} "
            "are sent."
        )
    return file


def _weights_sha256(folder: Path) -> str | None:
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return None
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest(name: str, folder: Path, network: WebFile, address: Callable[[WebFile], str]) -> dict[str, Any]:
    """What device_model.js reads first: where the files are, and all that it has to know of the model.

    Args:
        address: of a file, relative to the manifest's.
    """
    check_own_file(folder, PREPROCESSING_FILE)
    config = AgeGenderConfig.from_pretrained(folder).to_dict()
    preprocessor = json.loads((folder / PREPROCESSING_FILE).read_text(encoding="utf-8"))
    files = {f"runtime_{engine}": file for engine, file in RUNTIMES.items()}
    files |= {"model": network, "face_detector": FACE_DETECTOR}
    return {
        "name": name,
        "files": {role: {"url": address(file), "bytes": file.size} for role, file in files.items()},
        "config": {name: config[name] for name in CONFIG_FIELDS},
        "preprocessor": preprocessor,
        "detector": {
            "landmarks_xy": UTKFACE_LANDMARKS_XY,
            "box_crop": YUNET_CROP,
            "coarse_side": face_search.COARSE_SIDE,
            "fine_side": face_search.FINE_SIDE,
            "candidate_score": face_search.CANDIDATE_SCORE,
            "likely_score": face_search.LIKELY_SCORE,
            "faint_score": face_search.FAINT_SCORE,
            "max_faint": face_search.MAX_FAINT,
            "hint_score": face_search.HINT_SCORE,
            "hint_width": face_search.HINT_WIDTH,
            "block": face_search.BLOCK,
            "whole_share": face_search.WHOLE_SHARE,
            "sure_score": face_detection.SURE_SCORE,
            "upright_score": face_detection.UPRIGHT_SCORE,
            "turned_score": face_detection.TURNED_SCORE,
            "faint_turn_score": face_detection.FAINT_TURN_SCORE,
            "faint_face_score": face_detection.FAINT_FACE_SCORE,
            "faint_failures": face_detection.FAINT_FAILURES,
            "close_margin": face_detection.CLOSE_MARGIN,
            "other_margins": face_detection.OTHER_MARGINS,
            "last_margins": face_detection.LAST_MARGINS,
            "last_score": face_detection.LAST_SCORE,
            "last_candidates": face_detection.LAST_CANDIDATES,
            "crop_side": face_detection.YUNET_CROP_SIDE,
            "min_input_side": face_network.MIN_INPUT_SIDE,
            "steps_per_pixel": face_network.STEPS_PER_PIXEL,
            "min_score": face_detection.MIN_SCORE,
            "max_faces": face_detection.MAX_FACES,
            "turn_score": face_detection.TURN_SCORE,
            "clear_lead": face_detection.CLEAR_LEAD,
            "same_roll_degrees": face_detection.SAME_ROLL_DEGREES,
            "turn_degrees": face_orientation.TURN_DEGREES,
            "cell_side": face_orientation.CELL_SIDE,
            "columns": face_orientation.COLUMNS,
            "square_to_box": face_orientation.SQUARE_TO_BOX,
            "around_side": face_orientation.AROUND_SIDE,
            "around_to_square": face_orientation.AROUND_TO_SQUARE,
            "max_offset": face_orientation.MAX_OFFSET,
            "max_roll_in_cell": face_orientation.MAX_ROLL_IN_CELL,
        },
        "range_sets": RANGE_SETS,
        "default_ranges": DEFAULT_RANGES,
    }


class SiteError(AgeGenderError):
    """The folder cannot be written to."""


def write_site(served: ServedModel, folder: Path) -> list[Path]:
    """Write the site into `folder`, in place of an earlier one. It appears there when all of it is written. One process
    at a time may write it.

    Returns:
        The paths of its files, relative to `folder` and sorted.

    Raises:
        NotOnDevice: browsers cannot run the model. SiteError: the folder holds other files.
    """
    network, folder = network_file(served.folder), folder.absolute()
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).is_file())):
        raise SiteError(f"Expected {folder} to be new, empty, or an earlier site; it holds other files.")
    contents = dict(code_files()) | {"page.css": page_style().encode()}
    contents |= {path.name: path.read_bytes() for path in WEB.glob("*.js") if path.name not in OF_THE_SERVER}
    contents["device/runtime/LICENSE"] = (CODE / "runtime" / "LICENSE").read_bytes()
    contents |= {path.name: path.read_bytes() for path in SITE.iterdir()}
    contents |= {f"examples/{path.relative_to(EXAMPLES)}": path.read_bytes() for path in EXAMPLES.rglob("*.jpg")}
    contents |= {f"files/{file.path}": file.read() for file in (*RUNTIMES.values(), FACE_DETECTOR, network)}
    card = own_card(served.folder)
    contents["model/README.md"] = card.read_bytes() if card else f"# {served.name}\n".encode()
    described = manifest(served.name, served.folder, network, lambda file: f"files/{file.path}")
    contents[MANIFEST] = json.dumps(described, indent=1).encode()
    unfinished, earlier = (folder.with_name(f".{folder.name}.{state}") for state in ("unfinished", "earlier"))
    for path in (unfinished, earlier):  # of a start that was killed
        shutil.rmtree(path, ignore_errors=True)
    for name, content in contents.items():
        target = unfinished / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    if folder.exists():
        folder.rename(earlier)
    unfinished.rename(folder)
    shutil.rmtree(earlier, ignore_errors=True)
    return sorted(Path(name) for name in contents)
