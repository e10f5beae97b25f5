"""What would keep a run from ending well is said in its first seconds, before the faces are read."""

import csv
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock
from huggingface_hub import HfApi

from model.errors import AgeGenderError
from tests.support.hub_server import HubServer
from tests.support.training_runs import SMOKE, arguments
from trainer.arguments import Arguments
from trainer.run_record import describe_hardware, describe_start
from trainer.train import main


@pytest.fixture
def asked_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The Hub that this process asks: signed in as "user", with repositories of others on it."""
    monkeypatch.chdir(hub.home.parent)  # relative folders of a run
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    HfApi(hub.url, token=hub.stranger_token).create_repo("stranger/faces")
    HfApi(hub.url, token=hub.token).create_repo("user/public")
    return hub


def start(tmp_path: Path, *overrides: str) -> None:
    """Start a run of faces that do not exist: it must fail before it looks for them."""
    main([SMOKE, "--dataset", str(tmp_path / "nowhere"), "--output_dir", str(tmp_path / "run"), *overrides])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--hub_model_id", "faces"], r"'faces' is not the name of a repository, user/name: write whose it is"),
        (["--hub_model_id", "user/fa ces"], r"'user/fa ces' is not the name of a repository, user/name: "),
        (["--hub_model_id", "user/faces--1"], r"'user/faces--1' is not the name of a repository"),
        (["--output_dir", "results/mein lauf"], r"'user/mein lauf' is not the name of a repository"),
        (
            ["--hub_model_id", "stranger/mine"],
            r"stranger/mine does not exist.* of user cannot create it.* of user, org$",
        ),
        (["--hub_model_id", "stranger/faces"], r"could not ask.* stranger/faces: this token may not write there"),
        (
            ["--hub_model_id", "user/public", "--hub_private_repo", "true"],
            r"user/public exists and is public, not private",
        ),
        (["--hub_model_id", "user/new", "--report", "false"], r"push_to_hub: true needs the report"),
    ],
)
def test_where_a_run_cannot_be_pushed_to(asked_hub, tmp_path, overrides, message):
    with pytest.raises(AgeGenderError, match=message):
        start(tmp_path, "--push_to_hub", "true", *overrides)


@pytest.mark.parametrize("repo_id", ["user/new", "user/public", "org/new"])
def test_a_token_that_may_not_write(asked_hub, tmp_path, monkeypatch, repo_id):
    monkeypatch.setenv("HF_TOKEN", asked_hub.read_token)
    with pytest.raises(AgeGenderError, match=r"may only read|this token may not write there"):
        start(tmp_path, "--push_to_hub", "true", "--hub_model_id", repo_id)


@pytest.mark.parametrize("repo_id", ["user/new", "user/public", "org/new"])
def test_nothing_is_created_before_training(asked_hub, tmp_path, repo_id):
    with pytest.raises(AgeGenderError, match=r"nowhere"):
        start(tmp_path, "--push_to_hub", "true", "--hub_model_id", repo_id)
    assert not any(method != "GET" for method, path in asked_hub.requests[2:])


@pytest.mark.parametrize(
    ("overrides", "sharded", "message"),
    [
        (["--gender_loss_weight", "-1"], False, "Expected gender_loss_weight from 0 to 1,000,000; got -1"),
        (["--gender_label_smoothing", "3"], False, "Expected gender_label_smoothing from 0 to 1; got 3"),
        (["--head_dropout", "1.5"], False, "Expected head_dropout from 0 to 1; got 1.5"),
        (["--age_ranges", "0-17", "30+"], False, "18"),
        (
            ["--muon", "true", "--optim", "sgd"],
            False,
            "muon: true expects AdamW for the other parameters, got optim: sgd",
        ),
        (
            ["--early_stopping_patience", "2", "--load_best_model_at_end", "false"],
            False,
            "early_stopping_patience needs load_best_model_at_end",
        ),
        (["--ema_decay", "0.9"], True, "ema_decay and embeddings do not go with FSDP"),
    ],
)
@pytest.mark.parametrize("finetunes", [False, True])
def test_values_that_cannot_be_learnt_with(
    saved_tiny_model, tmp_path, monkeypatch, overrides, sharded, message, finetunes
):
    if finetunes:
        recipe = tmp_path / "recipe.yaml"
        values = yaml.safe_load(Path(SMOKE).read_text())
        del values["backbone_config"]
        recipe.write_text(yaml.safe_dump(values | {"finetune_from": str(saved_tiny_model)}))
        monkeypatch.setattr("tests.trainer.test_before_training.SMOKE", str(recipe))
    if sharded:
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as accelerate launch does
    with pytest.raises(AgeGenderError, match=message):
        start(tmp_path, *overrides)


@pytest.mark.parametrize("output_dir", [".", "..", "run/..", "/"])
def test_an_output_folder_that_is_not_for_this_run_alone(tmp_path, output_dir):
    with pytest.raises(
        AgeGenderError, match=r"output_dir: expected a folder for this run alone, got .*run, for example"
    ):
        start(tmp_path, "--output_dir", output_dir)


@pytest.mark.parametrize("resume", [[], ["--resume_from_checkpoint", "true"]])
def test_a_second_start_while_the_first_is_alive(tmp_path, resume):
    with (
        FileLock(tmp_path / ".run.lock"),  # what the first one holds
        pytest.raises(AgeGenderError, match=r"Another start that writes to .*run is alive"),
    ):
        start(tmp_path, *resume)
    with pytest.raises(AgeGenderError, match="nowhere"):  # the first one has ended
        start(tmp_path, *resume)
    with pytest.raises(AgeGenderError, match="nowhere"):  # so has the second
        start(tmp_path, *resume)


def test_a_batch_that_all_training_faces_do_not_fill(few_faces, tmp_path):
    batch = ["--per_device_train_batch_size", "1000", "--dataloader_drop_last", "true"]
    with pytest.raises(
        AgeGenderError, match=r"true drops an incomplete batch, and 9\d training faces do not fill one of 1000"
    ):
        main(arguments(few_faces, tmp_path / "run", *batch))
    assert not (tmp_path / "run.checkpoints").exists()


def test_models_that_a_run_learns_from_are_named_without_their_path(saved_tiny_model, tmp_path, monkeypatch):
    recipe = tmp_path / "private.yaml"
    recipe.write_text(f"finetune_from: {saved_tiny_model}\ndataset: faces")
    words = [
        str(recipe),
        "--finetune_from",
        str(saved_tiny_model),
        "--resume_from_checkpoint",
        str(tmp_path / "checkpoint-1"),
    ]
    monkeypatch.setattr("sys.argv", ["train.py", *words])
    args = Arguments.parse(words)
    start = describe_start(recipe, args.training.device, args.paths, None, [])
    assert str(tmp_path) not in start["command"] + start["recipe"]
    assert str(saved_tiny_model.parent) not in start["command"]
    assert "private.yaml --finetune_from tiny --resume_from_checkpoint checkpoint-1" in start["command"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_device_that_trains_is_recorded(monkeypatch, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "a large one")
    hardware = describe_hardware(torch.device(device))
    expected = ("cuda", "a large one", 4) if device == "cuda" else ("cpu", None, 0)
    assert (hardware["device"], hardware["gpu"], hardware["gpus"]) == expected


def test_further_sets_inherit_how_this_machine_reads_them():
    sets = [
        '{"dataset": "a"}',
        '{"dataset": "b", "num_proc": 1, "cache_dir": "own", "manifest": "/private/manifest.csv"}',
    ]
    args = Arguments.parse([SMOKE, "--num_proc", "3", "--cache_dir", "/private/cache", "--also_train_on", *sets])
    assert [(one.num_proc, one.cache_dir) for one in args.mixture.sets] == [(3, "/private/cache"), (1, "own")]
    assert "private" not in str(args.describe())
    assert {"/private/cache", "own", "/private/manifest.csv"} <= set(args.paths)


@pytest.mark.slow
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_files_follow_the_umask(few_faces, tmp_path, umask):
    before = os.umask(umask)
    try:
        main(arguments(few_faces, tmp_path / "run", "--num_train_epochs", "1"))
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert {"model.safetensors", "training_run.json", "trainer_state.json"} <= {path.name for path in files}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "not_measured"),
    [(["age"], "gender"), (["gender"], "age in years, age range")],
    ids=["without genders", "without ages"],
)
def test_a_set_without_labels_of_one_head_can_be_pushed(
    asked_hub, few_faces, tmp_path, monkeypatch, columns, not_measured
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # read from the environment at import
    source = shutil.copytree(few_faces, tmp_path / "faces")
    with (source / "metadata.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["file_name", *columns])
        table.writeheader()
        for path in sorted(source.glob("*.jpg")):
            age, gender, *_ = path.name.split("_")
            labels = {"age": age, "gender": ("male", "female")[int(gender)]}
            path.rename(source / f"{path.name[-20:]}")
            table.writerow({"file_name": path.name[-20:], **{name: labels[name] for name in columns}})
    overrides = ["--num_train_epochs", "1", "--metric_for_best_model", "loss", "--report", "true", "--onnx", "false"]
    main(arguments(source, tmp_path / "run", *overrides, "--push_to_hub", "true", "--hub_model_id", "user/faces"))
    card = (tmp_path / "run/README.md").read_text()
    assert f"**Not measured: {not_measured}.**" in card
    pushed = {file.rfilename for file in HfApi(asked_hub.url, token=asked_hub.token).model_info("user/faces").siblings}
    assert {"model.safetensors", "README.md", "metrics.json"} <= pushed
