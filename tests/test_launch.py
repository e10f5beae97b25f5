"""Training through what can go wrong: several processes, kills, full disks, losses that are no numbers; and to the bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from tests.made_up_faces import write_utkface_folder
from trainer.checkpoints import CheckpointError, TrainingDiverged, last_whole_checkpoint
from trainer.energy import EnergyMeter
from trainer.recipe import RecipeError
from trainer.train import main


ROOT = Path(__file__).parents[1]
SMOKE = str(ROOT / "trainer/recipes/smoke.yaml")
CONFIGS = ROOT / "trainer/accelerate"
UNVARIED = [f"--{name}=0" for name in ("flip", "rotation_degrees", "zoom_out", "zoom_in", "shift", "color")]
UNVARIED += ["--grayscale=0", "--blur=0", "--erasing=0"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    return write_utkface_folder(tmp_path_factory.mktemp("data") / "faces", count=240, size=48)


def arguments(faces: Path, output_dir: Path, *overrides: str) -> list[str]:
    """Three epochs of twelve steps by the smoke recipe, without a report."""
    fixed = [SMOKE, "--dataset", str(faces), "--output_dir", str(output_dir), "--num_train_epochs", "3"]
    return [*fixed, "--logging_steps", "1", "--disable_tqdm", "true", "--report", "false", *overrides]


def record_of(output_dir: Path) -> dict:
    return json.loads((output_dir / "training_run.json").read_text())


def losses(record: dict) -> list[float]:
    return [entry["loss"] for entry in record["log_history"] if "loss" in entry]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the processes that the tests start: sums over other numbers of threads are rounded otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def varied_run(faces, tmp_path_factory) -> Path:
    """An undisturbed run with the recipe's augmentation."""
    output_dir = tmp_path_factory.mktemp("varied") / "run"
    main(arguments(faces, output_dir))
    return output_dir


def finish(
    faces: Path, output_dir: Path, *overrides: str, launcher: tuple[str, ...] = (), module: str = "trainer.train"
) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", *launcher, module, *arguments(faces, output_dir, *overrides)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("name", "kind", "processes", "machines"),
    [
        ("one_gpu", DistributedType.NO, 1, 1),
        ("multi_gpu", DistributedType.MULTI_GPU, 2, 1),
        ("multi_machine", DistributedType.MULTI_GPU, 16, 2),
        ("fsdp", DistributedType.FSDP, 2, 1),
        ("cpu", DistributedType.MULTI_GPU, 2, 1),  # so on purpose: see the file
    ],
)
def test_accelerate_reads_the_configurations(name, kind, processes, machines):
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert isinstance(config, ClusterConfig)
    assert (config.distributed_type, config.num_processes, config.num_machines) == (kind, processes, machines)
    assert f"--config_file trainer/accelerate/{name}.yaml" in (CONFIGS / f"{name}.yaml").read_text()


def test_every_configuration_is_tested():
    assert {path.stem for path in CONFIGS.iterdir()} == {"one_gpu", "multi_gpu", "multi_machine", "fsdp", "cpu"}


@pytest.fixture(scope="module")
def one_process(faces, tmp_path_factory) -> Path:
    """Of 222 faces 176 train, eleven full batches: a smaller last one would be shared out unevenly."""
    output_dir = tmp_path_factory.mktemp("one") / "run"
    main(arguments(faces, output_dir, *UNVARIED, "--max_samples", "222"))
    return output_dir


@pytest.mark.slow
@pytest.mark.parametrize(("config", "module"), [("cpu", "trainer.train"), ("fsdp", "tests.fsdp_on_cpus")])
def test_two_processes_learn_as_one_does(faces, tmp_path, one_process, config, module):
    """The same global batch of 16, as 2 x 8: only the order of additions differs."""
    overrides = [*UNVARIED, "--max_samples", "222", "--per_device_train_batch_size", "8"]
    launcher = ("accelerate.commands.launch", "--config_file", str(CONFIGS / f"{config}.yaml"), "-m")
    done = finish(faces, tmp_path / "two", *overrides, launcher=launcher, module=module)
    assert done.returncode == 0, done.stderr
    one, two = record_of(one_process), record_of(tmp_path / "two")
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(losses(one)) == 33
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    assert two["best_metric"]["age_mae"] == pytest.approx(one["best_metric"]["age_mae"], rel=1e-5)
    expected, actual = (load_file(folder / "model.safetensors") for folder in (one_process, tmp_path / "two"))
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_run_on_sharded_weights_resumes(faces, tmp_path):
    launcher = ("accelerate.commands.launch", "--config_file", str(CONFIGS / "fsdp.yaml"), "-m")
    overrides = ["--muon", "true", "--num_train_epochs", "2"]
    done = finish(faces, tmp_path / "run", *overrides, launcher=launcher, module="tests.fsdp_on_cpus")
    assert done.returncode == 0, done.stderr
    whole = load_file(tmp_path / "run/model.safetensors")

    last = max((tmp_path / "run.checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(last)
    shutil.rmtree(tmp_path / "run")
    overrides += ["--resume_from_checkpoint", "true"]
    done = finish(faces, tmp_path / "run", *overrides, launcher=launcher, module="tests.fsdp_on_cpus")
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(load_file(tmp_path / "run/model.safetensors"), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_killed_while_writing_a_checkpoint_it_goes_on_from_the_last_whole_one(faces, tmp_path, varied_run):
    output_dir, half = tmp_path / "run", tmp_path / "run.checkpoints/checkpoint-24"
    half.mkdir(parents=True)
    os.mkfifo(
        half / "optimizer.pt"
    )  # writing it waits for a reader, so the kill comes between the weights and the rest
    command = [sys.executable, "-m", "trainer.train", *arguments(faces, output_dir, "--resume_from_checkpoint", "true")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as run:
        for _ in range(600):
            if (half / "model.safetensors").exists() or run.poll() is not None:
                break
            time.sleep(0.2)
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert run.returncode == -signal.SIGKILL
    (half / "optimizer.pt").unlink()
    assert (half / "model.safetensors").exists()
    assert not (half / "trainer_state.json").exists()

    done = finish(faces, output_dir, "--resume_from_checkpoint", "true")
    assert done.returncode == 0, done.stderr
    expected, actual = (load_file(folder / "model.safetensors") for folder in (varied_run, output_dir))
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-5, atol=1e-6)
    assert record_of(output_dir)["best_metric"] == pytest.approx(record_of(varied_run)["best_metric"], rel=1e-5)


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch_it_ends_with_the_same_weights(faces, tmp_path):
    overrides = ["--save_strategy", "steps", "--save_steps", "5", "--eval_strategy", "steps", "--eval_steps", "5"]
    main(arguments(faces, tmp_path / "undisturbed", *overrides))
    command = [sys.executable, "-m", "trainer.train", *arguments(faces, tmp_path / "run", *overrides)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as run:
        seen = 0
        for line in run.stdout:
            seen += "'loss'" in line
            if seen == 19:  # of 36 steps, twelve an epoch
                run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    state = json.loads((last_whole_checkpoint(tmp_path / "run.checkpoints") / "trainer_state.json").read_text())
    assert 1 < state["epoch"] < 3
    assert state["global_step"] % 12

    main(arguments(faces, tmp_path / "run", *overrides, "--resume_from_checkpoint", "true"))
    whole, resumed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("undisturbed", "run"))
    assert whole == resumed
    whole, resumed = (record_of(tmp_path / name) for name in ("undisturbed", "run"))
    assert losses(whole) == losses(resumed)
    assert whole["best_metric"] == resumed["best_metric"]


def on_a_disk_of(size: str, folder: Path, script: str) -> subprocess.CompletedProcess:
    """Run `script` with a file system of its own of that size at `folder`/disk; skip the test where that is not allowed."""
    (folder / "disk").mkdir()
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", folder], capture_output=True).returncode:
        pytest.skip("needs to mount a tmpfs in a namespace of its own, which is not allowed here")
    script = f"set -e\nmount -t tmpfs -o size={size} none {folder}/disk\n{script}"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, env=environment
    )


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_checkpoint(faces, tmp_path, varied_run):
    """On a real file system of its own that holds one checkpoint and a half."""
    checkpoint = varied_run.with_name("run.checkpoints") / "checkpoint-36"
    kilobytes = sum(file.stat().st_size for file in checkpoint.iterdir()) * 3 // 2 // 1024
    train = " ".join([sys.executable, "-m", "trainer.train", *arguments(faces, tmp_path / "disk/run")])
    script = f"""
        if {train} 2>{tmp_path}/error.txt; then exit 3; fi
        mount -o remount,size=100m {tmp_path}/disk
        {train} --resume_from_checkpoint true
        cp -r {tmp_path}/disk/run {tmp_path}/run
    """
    done = on_a_disk_of(f"{kilobytes}k", tmp_path, script)
    assert done.returncode == 0, done.stderr
    message = (tmp_path / "error.txt").read_text().splitlines()[-1]
    assert message.startswith("CheckpointError: The checkpoint of step 24 could not be written")
    assert "Is the disk full?" in message
    assert message.endswith("/run.checkpoints/checkpoint-12.")
    assert record_of(tmp_path / "run")["best_metric"] == pytest.approx(record_of(varied_run)["best_metric"], rel=1e-5)


@pytest.mark.slow
def test_a_disk_too_full_for_the_trained_model_names_the_way_on(faces, tmp_path, varied_run):
    """There is room for the only checkpoint, and not for the face detector in the model's folder."""
    checkpoint = varied_run.with_name("run.checkpoints") / "checkpoint-36"
    kilobytes = sum(-(-file.stat().st_size // 4096) * 4 for file in checkpoint.iterdir()) + 200
    train = [sys.executable, "-m", "trainer.train", *arguments(faces, tmp_path / "disk/run", "--num_train_epochs", "1")]
    done = on_a_disk_of(f"{kilobytes}k", tmp_path, f"if {' '.join(train)}; then exit 3; fi")
    assert done.returncode == 0, done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith("CheckpointError: The trained model could not be written to")
    assert "/run.checkpoints/checkpoint-12. Make room, and add --resume_from_checkpoint true." in message


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")
def test_a_configuration_for_a_gpu_where_there_is_none(faces, tmp_path):
    launcher = ("accelerate.commands.launch", "--config_file", str(CONFIGS / "one_gpu.yaml"), "-m")
    done = finish(faces, tmp_path / "run", "--use_cpu", "false", launcher=launcher)
    assert done.returncode == 1
    assert "DeviceError: GPU 0 is asked for" in done.stderr
    assert "Add --use_cpu true" in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_same_seed_gives_the_same_weights_to_the_bit(faces, tmp_path, varied_run):
    main(arguments(faces, tmp_path / "run"))
    first, second = ((folder / "model.safetensors").read_bytes() for folder in (varied_run, tmp_path / "run"))
    assert first == second
    first, second = record_of(varied_run), record_of(tmp_path / "run")
    assert losses(first) == losses(second)
    assert first["data"] == second["data"]


def test_a_loss_that_is_no_number_stops_the_run(faces, tmp_path):
    overrides = ["--save_strategy", "steps", "--save_steps", "1", "--eval_strategy", "no"]
    overrides += ["--load_best_model_at_end", "false", "--learning_rate", "1e30", "--max_grad_norm", "0"]
    with pytest.raises(
        TrainingDiverged, match=r"^(The loss is (nan|inf) at|Weights are no numbers any more after) step \d+\."
    ) as error:
        main(arguments(faces, tmp_path / "run", *overrides))
    last = tmp_path / "run.checkpoints" / str(error.value).rsplit("/", 1)[1].rstrip(".")
    weights = load_file(last / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_checkpoint_of_another_architecture(faces, tmp_path, varied_run):
    checkpoint = shutil.copytree(varied_run.with_name("run.checkpoints") / "checkpoint-24", tmp_path / "checkpoint-24")
    deeper = json.dumps(
        {
            "model_type": "vit",
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": 32,
            "patch_size": 8,
        }
    )
    overrides = ["--backbone_config", deeper, "--resume_from_checkpoint", str(checkpoint)]
    with pytest.raises(CheckpointError, match=r"another architecture than the recipe describes: 16 weights differ"):
        main(arguments(faces, tmp_path / "run", *overrides))


def test_a_folder_with_something_in_it_is_left_alone(faces, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("years of work")
    with pytest.raises(RecipeError, match="is not empty"):
        main(arguments(faces, tmp_path / "run"))


def test_half_a_checkpoint_is_no_place_to_resume_from(faces, tmp_path):
    (tmp_path / "checkpoint-12").mkdir()
    (tmp_path / "checkpoint-12/trainer_state.json").write_text('{"global_step": 1')
    with pytest.raises(RecipeError, match="none that was written whole"):
        main(arguments(faces, tmp_path / "run", "--resume_from_checkpoint", str(tmp_path / "checkpoint-12")))


def test_the_record_says_where_and_on_what(varied_run):
    record = record_of(varied_run)
    assert set(record["energy"]) == {"cpu_joules", "gpu_joules"}
    assert len(record["data"]["manifest_sha256"]) == 64
    assert {"commit", "versions", "hardware", "seconds", "recipe_text", "arguments", "command"} <= set(record)


def test_energy_is_read_from_the_processors_counters(tmp_path):
    """Two sockets, of which one counter starts over meanwhile; parts of a socket are not counted twice."""
    for name, microjoules in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 9_000_000), ("intel-rapl:0:0", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "max_energy_range_uj").write_text("9999999")
        (tmp_path / name / "energy_uj").write_text(str(microjoules))
    meter = EnergyMeter(tmp_path, seconds_between_readings=60)
    (tmp_path / "intel-rapl:0/energy_uj").write_text("8000000")
    (tmp_path / "intel-rapl:1/energy_uj").write_text("1000000")
    assert meter.read()["cpu_joules"] == 3 + 2
    assert EnergyMeter(tmp_path / "none").read()["cpu_joules"] is None
