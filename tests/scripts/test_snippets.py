"""Every Python snippet of the card and of docs/use.md runs as it stands, in a process of its own."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from skimage.data import astronaut
from transformers import AutoImageProcessor

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from tests.support.demo_server import DemoServer
from tests.support.hub_server import HubServer


pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
DEMO_URL = "http://127.0.0.1:7860"  # where `make demo` serves


def snippet(text: str, word: str) -> str:
    """The one Python snippet that holds a word."""
    (found,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if word in code]
    return found


def run(code: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    """What the code prints, with every warning an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower(), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def answer(exported_run: Path) -> dict:
    """The pipeline's answer to the photograph."""
    model, processor = (kind.from_pretrained(exported_run) for kind in (AgeGenderModel, AutoImageProcessor))
    (answer,) = AgeGenderPipeline(model=model, image_processor=processor)(str(ROOT / "examples" / "astronaut.jpg"))
    return answer


@pytest.fixture(scope="module")
def card(exported_run: Path) -> str:
    return (exported_run / "README.md").read_text()


class TestCard:
    @pytest.fixture(scope="class")
    def hub(self, exported_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
        """A Hub with the model at v1, as the card says."""
        with HubServer(tmp_path_factory.mktemp("hub")) as hub:
            command = [sys.executable, "-m", "scripts.push_to_hub", exported_run, "user/faces", "--tag", "v1"]
            done = subprocess.run(command, env=hub.env, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert "onnx/model_int8.onnx" in hub.repository("user/faces").tags["v1"].files
            assert len(list(hub.repository("user/faces").branches["main"].history())) == 2  # one is the Hub's own
            yield hub

    @pytest.fixture(scope="class")
    def cwd(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Where somebody lies the pictures that the snippets name."""
        folder = tmp_path_factory.mktemp("somewhere")
        shutil.copy(ROOT / "examples" / "astronaut.jpg", folder / "photo.jpg")
        Image.fromarray(astronaut()[20:200, 130:310]).save(folder / "face.jpg")
        return folder

    def test_pipeline(self, hub: HubServer, cwd: Path, card: str, answer: dict):
        printed = run(snippet(card, "pipeline("), cwd, hub.env)
        names = ("box", "age", "age_interval", "age_range", "gender")
        assert printed.split() == " ".join(str(answer[name]) for name in names).split()

    def test_network_alone_and_onnxruntime_alone_agree(self, hub: HubServer, cwd: Path, card: str):
        printed = run(snippet(card, "AutoModel"), cwd, hub.env)
        probabilities = {label: float(share) for label, share in map(str.split, printed.splitlines())}
        assert sum(probabilities.values()) == pytest.approx(1, abs=0.01)

        download = re.search(r"`hf (download .*?)`", card)[1].split()
        hf = [sys.executable, "-m", "huggingface_hub.cli.hf", *download]
        subprocess.run(hf, cwd=cwd, env=hub.env, check=True, capture_output=True)
        code = snippet(card, "onnxruntime") + "import sys; assert not {'torch', 'transformers'} & set(sys.modules)\n"
        age_range, gender = run(code, cwd).split()
        assert age_range == max(probabilities, key=probabilities.get)
        assert gender in ("male", "female")

    def test_gradio_client(self, demo: DemoServer, cwd: Path, card: str):
        code = snippet(card, "gradio_client")
        assert DEMO_URL in code
        assert re.search(r"\[\d+, \d+, \d+, \d+\] [\d.]+ \[\d+, \d+\]", run(code.replace(DEMO_URL, demo.url), cwd))


class TestUse:
    """On a copy of the repository whose model/ is a small one with ONNX files."""

    @pytest.fixture(scope="class")
    def cwd(self, exported_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("repository")
        (folder / "examples").symlink_to(ROOT / "examples")
        (folder / "model").symlink_to(exported_run)
        return folder

    @pytest.fixture(scope="class")
    def document(self) -> str:
        return (ROOT / "docs" / "use.md").read_text(encoding="utf-8")

    def test_network_alone_and_onnxruntime_alone_agree(self, cwd: Path, document: str):
        printed = [run(snippet(document, word), cwd) for word in ("AutoModel", "onnxruntime")]
        assert printed[0] == printed[1]
        assert re.fullmatch(r"\S+ (male|female)\n", printed[0])

    def test_gradio_client(self, demo: DemoServer, cwd: Path, document: str):
        code = snippet(document, "gradio_client")
        assert DEMO_URL in code
        assert re.search(r"[\d.]+ \[\d+, \d+\] (male|female|unsure)", run(code.replace(DEMO_URL, demo.url), cwd))
