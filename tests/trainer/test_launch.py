"""Training in several processes: the same result as one process, with augmentation of its own in each, and resuming."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from tests.support.seen_pictures import see
from tests.support.training_runs import (
    CONFIGS,
    ENVIRONMENT,
    EVERY_FIVE_STEPS,
    ROOT,
    UNVARIED,
    arguments,
    command,
    finish,
    kill_after,
    launch,
    losses,
    record_of,
)
from tests.support.two_machines import launch_on_machine, on_machine, two_machines
from tests.support.warm_python import warm_python
from trainer.checkpoints import last_whole_checkpoint
from trainer.train import main


pytestmark = pytest.mark.usefixtures("single_thread")


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
    kept = [*EVERY_FIVE_STEPS, "--save_total_limit", "10"]
    main(arguments(faces, output_dir, *UNVARIED, *kept, "--max_samples", "222"))
    return output_dir


@pytest.mark.slow
@pytest.mark.parametrize(("config", "module"), [("cpu", "trainer.train"), ("fsdp", "tests.support.fsdp_on_cpus")])
def test_two_processes_learn_as_one_does(faces, tmp_path, one_process, config, module):
    """The same global batch of 16, as 2 x 8: only the order of additions differs."""
    overrides = [*UNVARIED, *EVERY_FIVE_STEPS, "--max_samples", "222", "--per_device_train_batch_size", "8"]
    done = finish(faces, tmp_path / "two", *overrides, launcher=launch(config), module=module)
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
    overrides = ["--muon", "true", "--num_train_epochs", "2"]
    done = finish(faces, tmp_path / "run", *overrides, launcher=launch("fsdp"), module="tests.support.fsdp_on_cpus")
    assert done.returncode == 0, done.stderr
    whole = load_file(tmp_path / "run/model.safetensors")

    last = max((tmp_path / "run.checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(last)
    shutil.rmtree(tmp_path / "run")
    overrides += ["--resume_from_checkpoint", "true"]
    done = finish(faces, tmp_path / "run", *overrides, launcher=launch("fsdp"), module="tests.support.fsdp_on_cpus")
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(load_file(tmp_path / "run/model.safetensors"), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_two_processes_resume_the_run_of_one(faces, tmp_path, one_process):
    """From the middle of an epoch, with the same global batch as 2 x 8."""
    checkpoint = one_process.with_name("run.checkpoints") / "checkpoint-15"
    shutil.copytree(checkpoint, tmp_path / "two.checkpoints/checkpoint-15")
    overrides = [*UNVARIED, *EVERY_FIVE_STEPS, "--max_samples", "222", "--per_device_train_batch_size", "8"]
    overrides += ["--resume_from_checkpoint", "true"]
    done = finish(faces, tmp_path / "two", *overrides, launcher=launch("cpu"))
    assert done.returncode == 0, done.stderr
    one, two = record_of(one_process), record_of(tmp_path / "two")
    assert (two["processes"], len(losses(two))) == (2, 33)
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)


@pytest.mark.slow
def test_two_machines_learn_as_one_process_does_and_resume_after_losing_one(faces, tmp_path, one_process):
    """With the same global batch, as 2 x 8. A machine does not wait for one that is gone: it stops by itself."""
    overrides = [*UNVARIED, *EVERY_FIVE_STEPS, "--max_samples", "222", "--per_device_train_batch_size", "8"]
    overrides += ["--resume_from_checkpoint", "true"]
    with two_machines() as names:
        first, second = (
            on_machine(name, command(faces, tmp_path / "run", *overrides, launcher=launch_on_machine(rank)))
            for rank, name in enumerate(names)
        )
        with subprocess.Popen(first, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as left:
            kill_after(12, second)
            _, complaint = left.communicate(timeout=60)
        assert left.returncode == 1
        assert re.search(r"(closed|reset) by peer|Broken pipe", complaint), complaint
        assert not (tmp_path / "run").exists()
        assert last_whole_checkpoint(tmp_path / "run.checkpoints").name == "checkpoint-10"

        with subprocess.Popen(second, cwd=ROOT, env=ENVIRONMENT) as other:
            done = subprocess.run(first, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
            assert (done.returncode, other.wait()) == (0, 0), done.stderr
    one, two = record_of(one_process), record_of(tmp_path / "run")
    assert (two["processes"], len(losses(two))) == (2, 33)
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    assert "--num_machines 2 --num_processes 2" in two["command"]


@pytest.mark.slow
def test_each_process_augments_with_its_own_random_numbers(tmp_path):
    """All get the same picture again and again; the first one sees what a single process does."""
    done = subprocess.run(
        [warm_python(), "-m", *launch("cpu"), "tests.support.seen_pictures", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"process_{index}_of_2.pt") for index in range(2))
    alone = see(tmp_path)
    assert alone.shape == (2, 4, 3, 32, 32)
    assert torch.equal(first, alone)
    assert (second - first).abs().flatten(2).mean(dim=2).min() > 0.05


@pytest.mark.slow
def test_machines_without_a_shared_disk_are_refused_before_training(faces, tmp_path):
    done = finish(faces, tmp_path, launcher=launch("cpu"), module="tests.support.own_disks")
    assert done.returncode == 1
    assert "RecipeError" in done.stderr
    assert "run.checkpoints is not the same folder in all processes: 1 of 2 do not see" in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_l1_counts_sharded_weights_whole(faces, tmp_path):
    overrides = [*UNVARIED, "--max_samples", "222", "--num_train_epochs", "1", "--l1_penalty", "1e-2"]
    main(arguments(faces, tmp_path / "one", *overrides))
    overrides += ["--per_device_train_batch_size", "8"]
    done = finish(faces, tmp_path / "two", *overrides, launcher=launch("fsdp"), module="tests.support.fsdp_on_cpus")
    assert done.returncode == 0, done.stderr
    one, two = record_of(tmp_path / "one"), record_of(tmp_path / "two")
    first = next(entry for entry in one["log_history"] if "loss" in entry)
    assert first["loss"] > first["age_loss"] + first["gender_loss"] + 1
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    expected, actual = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")
def test_a_configuration_for_a_gpu_where_there_is_none(faces, tmp_path):
    done = finish(faces, tmp_path / "run", "--use_cpu", "false", launcher=launch("one_gpu"))
    assert done.returncode == 1
    assert "DeviceError: GPU 0 is asked for" in done.stderr
    assert "Add --use_cpu true" in done.stderr
    assert not (tmp_path / "run").exists()
