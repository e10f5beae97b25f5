"""A full disk, on a real file system of its own: training and scoring name it, and resume when there is space again."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from datasets.table import embed_table_storage

from tests.support.made_up_faces import draw_face
from tests.support.small_disk import on_a_disk_of
from tests.support.tiny_model import save_tiny_model
from tests.support.training_runs import SMOKE, command, record_of
from tests.support.warm_python import warm_python
from trainer.arguments import Arguments
from trainer.build_model import build_model, check_model
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces


pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.mark.slow
def test_a_disk_without_room_for_two_checkpoints_is_found_before_the_faces_are_read(tmp_path):
    train = command(tmp_path / "nowhere", tmp_path / "disk/run")
    done = on_a_disk_of("256k", tmp_path, f"if {' '.join(train)}; then exit 3; fi")
    assert done.returncode == 0, done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith(
        f"CheckpointError: {tmp_path}/disk/run.checkpoints lies on a disk with 0.3 MB free. The run needs"
    )
    assert "2 x 0." in message


@pytest.mark.parametrize(
    "overrides",
    [
        ["--backbone_config", '{"model_type": "resnet"}'],
        ["--backbone_config", '{"model_type": "swin"}', "--image_size", "224"],  # its windows do not fit 32 pixels
        ["--backbone_config", '{"model_type": "convnextv2"}'],
        ["--stem_channels", "4", "8", "16"],
    ],
)
def test_the_weights_are_counted_without_being_made(overrides):
    args = Arguments.parse([SMOKE, *overrides]).model
    model, _ = build_model(args)
    assert check_model(args) == 4 * model.num_parameters()


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_checkpoint(faces, tmp_path, varied_run):
    """On a real file system of its own that holds two checkpoints and a half; the third replaces the first."""
    checkpoint = varied_run.with_name("run.checkpoints") / "checkpoint-36"
    kilobytes = sum(file.stat().st_size for file in checkpoint.iterdir()) * 5 // 2 // 1024
    train = " ".join(command(faces, tmp_path / "disk/run"))
    script = f"""
        if {train} 2>{tmp_path}/error.txt; then exit 3; fi
        mount -o remount,size=100m {tmp_path}/disk
        {train} --resume_from_checkpoint true
        cp -r {tmp_path}/disk/run {tmp_path}/run
    """
    done = on_a_disk_of(f"{kilobytes}k", tmp_path, script)
    assert done.returncode == 0, done.stderr
    message = (tmp_path / "error.txt").read_text().splitlines()[-1]
    assert message.startswith("CheckpointError: The checkpoint of step 36 could not be written")
    assert "Is the disk full?" in message
    assert message.endswith("/run.checkpoints/checkpoint-24.")
    assert record_of(tmp_path / "run")["best_metric"] == pytest.approx(record_of(varied_run)["best_metric"], rel=1e-5)


@pytest.mark.slow
def test_a_disk_too_full_for_the_trained_model_names_the_checkpoint_to_resume_from(faces, tmp_path, varied_run):
    """When the only checkpoint is written, something else fills the disk but for less than the face detector takes."""
    checkpoint = varied_run.with_name("run.checkpoints") / "checkpoint-36"
    kilobytes = sum(-(-file.stat().st_size // 4096) * 4 for file in checkpoint.iterdir())
    train = command(faces, tmp_path / "disk/run", "--num_train_epochs", "1")
    script = f"""
        {" ".join(train)} &
        until [ -e {tmp_path}/disk/run.checkpoints/checkpoint-12/trainer_state.json ]; do sleep 0.02; done
        head -c {2 * kilobytes - 200}K /dev/zero >{tmp_path}/disk/filler
        if wait $!; then exit 3; fi
    """
    done = on_a_disk_of(f"{3 * kilobytes}k", tmp_path, script)
    assert done.returncode == 0, done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith("CheckpointError: The trained model could not be written to")
    assert "/run.checkpoints/checkpoint-12. Make room, and add --resume_from_checkpoint true." in message


@pytest.mark.slow
@pytest.mark.parametrize("prepared", [False, True], ids=["as it came", "prepared"])
def test_a_disk_too_full_for_the_cache_of_the_data(faces, tmp_path, prepared):
    """Prepared pictures lie in a file, and their columns are copied; an archive's pictures are unpacked."""
    if prepared:
        source = tmp_path / "prepared"
        (source / "data").mkdir(parents=True)
        for split, rows in load_faces(DataArguments(dataset=str(faces)), seed=0).items():
            rows.with_format("arrow").map(embed_table_storage, batched=True).with_format(None).to_parquet(
                source / f"data/{split}-00000-of-00001.parquet"
            )
    else:
        source = Path(shutil.make_archive(str(tmp_path / "faces"), "gztar", faces))
    train = command(source, tmp_path / "run", "--cache_dir", str(tmp_path / "disk"))
    done = on_a_disk_of("96k", tmp_path, f"if {' '.join(train)}; then exit 3; fi")
    assert done.returncode == 0, done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith(f"DatasetError: {source} could not be read into the cache at {tmp_path / 'disk'}: ")
    assert "No space left on device" in message
    assert "name another place with cache_dir" in message


@pytest.mark.slow
def test_scoring_resumes_without_losing_or_repeating_a_row(tmp_path):
    """There is room for a few of 20 parts at first."""
    save_tiny_model(tmp_path / "tiny")
    draw_face(30, 0, seed=0).save(tmp_path / "face.jpg")
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'face.jpg'}\n" * 200)
    output = tmp_path / "disk/faces.parquet"
    options = f"--model {tmp_path}/tiny --output {output} --crops --part-size 10 --device cpu"
    score = f"{warm_python()} -m scripts.predict {tmp_path}/list.txt {options}"
    script = f"""
        if {score} 2>{tmp_path}/error.txt; then exit 3; fi
        ls {output}.parts >{tmp_path}/parts.txt
        mount -o remount,size=100m {tmp_path}/disk
        {score}
        ls {tmp_path}/disk >{tmp_path}/left.txt
        cp {output} {tmp_path}
    """
    done = on_a_disk_of("96k", tmp_path, script)
    assert done.returncode == 0, done.stderr
    error = (tmp_path / "error.txt").read_text()
    assert "No space left on device" in error.splitlines()[-1]
    assert "Traceback" not in error
    assert 0 < (tmp_path / "parts.txt").read_text().count("part-") < 20
    assert pd.read_parquet(tmp_path / "faces.parquet")["picture"].tolist() == list(range(200))
    assert (tmp_path / "left.txt").read_text() == "faces.parquet\n"
