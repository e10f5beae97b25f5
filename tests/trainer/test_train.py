"""Training from a recipe: what it writes, that it restores the best checkpoint, and that a killed run resumes."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file

from model.backbones import BackboneError
from model.modeling_age_gender import AgeGenderModel
from model_card.hub_checks import HubError
from tests.support.made_up_faces import write_utkface_folder
from tests.support.warm_python import warm_python
from trainer.arguments import METRICS
from trainer.checkpoints import last_whole_checkpoint
from trainer.publishing import ReportArguments
from trainer.recipe import RecipeError
from trainer.train import main


ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "trainer/recipes/smoke.yaml")


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    return write_utkface_folder(tmp_path_factory.mktemp("data") / "faces", count=240, size=48)


def train(faces: Path, output_dir: Path, *overrides: str) -> dict:
    """Train the smoke recipe in this process; returns the run's record."""
    arguments = [
        "--dataset",
        str(faces),
        "--output_dir",
        str(output_dir),
        "--disable_tqdm",
        "true",
        "--report",
        "false",
    ]
    main([SMOKE, *arguments, *overrides])
    return json.loads((output_dir / "training_run.json").read_text())


def evaluations(record: dict) -> list[dict]:
    return [entry for entry in record["log_history"] if "eval_loss" in entry]


@pytest.fixture(scope="module")
def finished_run(faces, tmp_path_factory) -> tuple[Path, dict]:
    output_dir = tmp_path_factory.mktemp("outputs") / "run"
    return output_dir, train(faces, output_dir, "--num_train_epochs", "8", "--report", "true")


def test_the_output_is_shaped_like_the_model_folder(finished_run):
    output_dir, _ = finished_run
    left = {path.relative_to(output_dir).as_posix() for path in output_dir.rglob("*") if path.is_file()}
    shipped = {path.relative_to(ROOT / "model").as_posix() for path in (ROOT / "model").rglob("*") if path.is_file()}
    # scripts.export_onnx makes the ONNX files
    assert left == {name for name in shipped if "__pycache__" not in name and not name.startswith("onnx/")}


def test_it_learns_and_logs_the_metrics_of_both_heads(finished_run):
    _, record = finished_run
    first, *_, last = evaluations(record)
    assert last["eval_age_mae"] < first["eval_age_mae"]
    timing = {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "epoch", "step"}
    assert set(last) - timing == {f"eval_{name}" for name in METRICS}
    steps = [entry for entry in record["log_history"] if "loss" in entry]
    assert all({"age_loss", "gender_loss", "learning_rate"} <= set(entry) for entry in steps)
    # the metrics of both heads on training faces are near those on validation
    assert steps[-1]["age_mae"] == pytest.approx(last["eval_age_mae"], rel=0.5)
    assert 0 <= steps[-1]["gender_accuracy"] <= 1


def test_the_record_says_what_was_run(finished_run):
    _, record = finished_run
    assert record["arguments"]["num_train_epochs"] == 8
    assert record["arguments"]["learning_rate"] == 3e-3
    assert record["recipe_text"] == Path(SMOKE).read_text()
    assert sum(record["data"]["splits"].values()) == 240
    assert len(record["data"]["splits_sha256"]) == 64
    assert record["versions"]["torch"] == torch.__version__
    assert {"scikit-learn", "opencv-python-headless", "faiss-cpu"} <= set(record["versions"])
    assert record["hardware"]["machines"] == 1
    assert record["hardware"]["gpus"] == 0
    assert record["calibration"]["faces"] == record["data"]["splits"]["validation"]


def test_the_best_checkpoint_is_restored_when_it_is_not_the_last(faces, tmp_path):
    # The largest error counts as best here, so the first epoch wins and every later one is worse.
    overrides = ["--num_train_epochs", "4", "--greater_is_better", "true", "--age_class_weights", "sqrt"]
    record = train(faces, tmp_path / "run", *overrides)
    first_step = evaluations(record)[0]["step"]
    assert record["best_step"] == first_step < evaluations(record)[-1]["step"]
    best = AgeGenderModel.from_pretrained(tmp_path / f"run.checkpoints/checkpoint-{first_step}").state_dict()
    saved = AgeGenderModel.from_pretrained(tmp_path / "run").state_dict()
    calibration = record["calibration"]
    for name, weights in saved.items():
        # Calibration divides the heads by their temperature and touches nothing else.
        temperature = {"age_head": calibration["age_temperature"], "gender_head": calibration["gender_temperature"]}
        torch.testing.assert_close(weights * temperature.get(name.split(".")[0], 1), best[name])


@pytest.mark.slow
def test_a_killed_run_resumes_and_ends_with_the_same_weights(faces, tmp_path, finished_run):
    undisturbed_dir, undisturbed = finished_run
    output_dir = tmp_path / "run"
    command = [warm_python(), "-m", "trainer.train", SMOKE, "--dataset", str(faces), "--output_dir", str(output_dir)]
    command += [
        "--num_train_epochs",
        "8",
        "--disable_tqdm",
        "true",
        "--report",
        "false",
        "--resume_from_checkpoint",
        "true",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            if "eval_loss" in line and "'epoch': '4'" in line:
                process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not output_dir.exists()
    state = json.loads((last_whole_checkpoint(tmp_path / "run.checkpoints") / "trainer_state.json").read_text())
    before = state["stateful_callbacks"]["RunCost"]["attributes"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    resumed = json.loads((output_dir / "training_run.json").read_text())
    assert [entry["epoch"] for entry in evaluations(resumed)] == list(range(1, 9))
    assert (undisturbed["starts"], before["starts"], resumed["starts"]) == (1, 1, 2)
    assert before["started"] == resumed["started"]
    assert resumed["seconds"] > before["seconds"] > 0
    expected, actual = (load_file(folder / "model.safetensors") for folder in (undisturbed_dir, output_dir))
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], msg=lambda text, name=name: f"{name}: {text}")
    assert resumed["best_metric"] == undisturbed["best_metric"]


def test_an_unfinished_run_is_not_overwritten(faces, tmp_path):
    (tmp_path / "run.checkpoints/checkpoint-4").mkdir(parents=True)
    with pytest.raises(RecipeError, match=r"holds an unfinished run\. Add --resume_from_checkpoint true"):
        train(faces, tmp_path / "run")


@pytest.mark.parametrize("overrides", [[], ["--resume_from_checkpoint", "true", "--report", "true"]])
def test_a_finished_run_is_not_overwritten(faces, finished_run, overrides):
    output_dir, _ = finished_run
    with pytest.raises(RecipeError, match=r"holds a finished run\. Choose another --output_dir"):
        train(faces, output_dir, *overrides)


@pytest.mark.slow
def test_a_run_killed_during_its_report_resumes_with_the_report(faces, finished_run, hub, tmp_path):
    output_dir = Path(shutil.copytree(finished_run[0], tmp_path / "run"))
    for name in ("metrics.json", "README.md"):
        (output_dir / name).unlink()
    written = (output_dir / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(RecipeError, match=r"without its report\. Add --resume_from_checkpoint true"):
        train(faces, output_dir, "--report", "true")

    command = [warm_python(), "-m", "trainer.train", SMOKE, "--dataset", str(faces), "--output_dir", str(output_dir)]
    command += ["--resume_from_checkpoint", "true", "--push_to_hub", "true", "--hub_model_id", "user/faces"]
    done = subprocess.run([*command, "--onnx", "false"], cwd=ROOT, capture_output=True, text=True, env=hub.env)
    assert done.returncode == 0, done.stderr
    left, before = ({path.name for path in folder.iterdir()} for folder in (output_dir, finished_run[0]))
    assert left == before
    assert (output_dir / "model.safetensors").stat().st_mtime_ns == written  # not trained again
    pushed = {file.rfilename for file in HfApi(hub.url, token=hub.token).model_info("user/faces").siblings}
    assert {"model.safetensors", "README.md", "metrics.json"} <= pushed


def state_at(step: int, folder: Path) -> Path:
    (folder / f"checkpoint-{step}").mkdir(parents=True)
    (folder / f"checkpoint-{step}/trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder / f"checkpoint-{step}"


def test_naming_a_checkpoint_does_not_bypass_the_checks(faces, finished_run, tmp_path):
    checkpoint = state_at(12, tmp_path / "run.checkpoints")
    state_at(24, tmp_path / "run.checkpoints")
    with pytest.raises(RecipeError, match=r"holds checkpoint-24, which is further than .*checkpoint-12\. Remove it"):
        train(faces, tmp_path / "run", "--resume_from_checkpoint", str(checkpoint))
    with pytest.raises(RecipeError, match="holds a finished run"):
        train(faces, finished_run[0], "--resume_from_checkpoint", str(checkpoint))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("years of work")
    with pytest.raises(RecipeError, match="is not empty"):
        train(faces, tmp_path / "other", "--resume_from_checkpoint", str(checkpoint))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--resume_from_checkpoint", "nowhere"], "No checkpoint at nowhere"),
        (["--backbone", "user/repo"], "Set one of `finetune_from` .* and `backbone_config`"),
        (["--age_class_weights", "cubic"], "age_class_weights must be none, sqrt or balanced, got 'cubic'"),
        (["--age_ranges", "0-17", "19+"], "18 is in no range"),
    ],
)
def test_arguments_that_cannot_be_used(faces, tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        train(faces, tmp_path / "run", *overrides)


def test_a_backbone_that_needs_a_text_is_refused_before_the_faces_are_read(tmp_path):
    bert = '{"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}'
    with pytest.raises(BackboneError, match="bert cannot be the backbone: beside a picture it needs input_ids"):
        train(tmp_path / "no faces here", tmp_path / "run", "--backbone_config", bert)


def test_a_push_without_a_login_is_refused_before_training(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
    with pytest.raises(HubError, match="hf auth login"):
        train(faces, tmp_path / "run", "--push_to_hub", "true", "--report", "true")
    assert not (tmp_path / "run.checkpoints").exists()


def test_a_mistake_gives_one_line(tmp_path):
    done = subprocess.run(
        [warm_python(), "-m", "trainer.train", str(tmp_path / "none.yaml")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("RecipeError: No recipe at")
    assert "Traceback" not in done.stderr


def test_missing_onnx_packages_are_found_before_training(faces, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("trainer.publishing.find_spec", lambda name: None if name == "onnxscript" else "found")
    with pytest.raises(RecipeError, match="onnx: true needs onnxscript: pip install"):
        train(faces, tmp_path / "run", "--onnx", "true", "--report", "true")
    with pytest.raises(RecipeError, match="leave out report: false"):
        train(faces, tmp_path / "run", "--onnx", "true")
    assert ReportArguments().exports_onnx(pushes=True) is False
    assert "pushed without ONNX files: they need onnxscript" in caplog.text
