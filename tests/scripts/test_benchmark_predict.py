"""The scoring benchmark: every way scores all pictures for real, beside the first one."""

import re
import sys
from pathlib import Path

import pytest

from scripts.benchmarks.made_up_pictures import write_crops, write_photographs
from scripts.benchmarks.measuring import in_own_process
from scripts.benchmarks.predict import Way, compare, compare_checkouts, measure, read_arguments
from tests.support.tiny_model import save_tiny_model
from tests.support.warm_python import warm_python


def test_the_ways_stand_beside_each_other(tmp_path, capsys):
    save_tiny_model(tmp_path / "tiny")
    args = read_arguments(["--model", str(tmp_path / "tiny"), "--rounds", "1", "--workers", "1"])
    compare(args, "pictures", write_photographs(tmp_path / "pictures", 3), detect=True)
    heading, *lines = capsys.readouterr().out.strip().splitlines()
    assert heading.startswith("3 pictures:")
    rows = [re.fullmatch(r"  (\S.*\S) +([\d.]+) +([\d.]+)x +([\d.]+)", line).groups() for line in lines]
    assert [name for name, *_ in rows] == ["picture by picture", "scripts.predict --no-bf16", "scripts.predict --bf16"]
    assert all(float(rate) > 0 and float(cpu) > 0 for _, rate, _, cpu in rows)
    assert float(rows[0][2]) == 1


def test_crops_are_scored_as_they_are(tmp_path):
    save_tiny_model(tmp_path / "tiny")
    args = read_arguments(["--model", str(tmp_path / "tiny"), "--workers", "1"])
    crops = write_crops(tmp_path / "crops", 3)
    result = in_own_process(measure, args, Way("scripts.predict", bf16=True), crops, detect=False)
    assert min(result.seconds, result.cpu_seconds, result.peak_memory) > 0


@pytest.mark.slow
def test_two_checkouts_stand_beside_each_other(tmp_path, capsys, monkeypatch):
    save_tiny_model(tmp_path / "tiny")
    monkeypatch.setattr(sys, "executable", warm_python())
    monkeypatch.chdir(Path(__file__).parents[2])
    arguments = ["--model", str(tmp_path / "tiny"), "--rounds", "1", "--workers", "1", "--before", str(Path.cwd())]
    compare_checkouts(read_arguments(arguments), "crops", write_crops(tmp_path / "crops", 3), detect=False)
    heading, *lines = capsys.readouterr().out.strip().splitlines()
    assert heading.startswith("2 crops:")
    # Times can be anything here: those of one picture, which are taken off, vary by more on a busy machine.
    rows = [re.fullmatch(r"  (\w+) +-?[\d.]+ +-?[\d.]+x +-?[\d.]+ +(\d+)", line).groups() for line in lines]
    assert [name for name, _ in rows] == ["before", "now"]
    assert all(int(memory) > 50 for _, memory in rows)
