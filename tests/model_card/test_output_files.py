"""Two processes that write one output: the second is refused, and a kill leaves nothing that stops the next start. CSV files as a
spreadsheet reads them.
"""

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import SoftFileLock

from model.errors import AgeGenderError
from model_card import output_files
from model_card.output_files import ENCODING, OutputLockedError, only_writer, read_cell, safe_cell, write_csv
from scripts import predict
from tests.support.tiny_model import save_tiny_model
from tests.support.training_runs import ROOT
from trainer.data.arguments import DataArguments
from trainer.data.preparation import PrepareArguments, prepare_data
from trainer.onnx.export import ExportArguments, FaceArguments, export_onnx
from trainer.train import main as train


CELLS = [
    ("=cmd()", "'=cmd()"),
    ("+49", "'+49"),
    ("-1", "'-1"),
    ("@SUM(A1)", "'@SUM(A1)"),
    ("\t=1", "'\t=1"),
    ("\r=1", "'\r=1"),
    ("\n=1", "'\n=1"),
    (" =1", "' =1"),  # LibreOffice takes the space off
    ("\uff1d1", "'\uff1d1"),  # = in full width
    ("'=1", "''=1"),  # so that reading gives the same again
    ("3-9", "'3-9"),  # March 9th
    ("10-19", "'10-19"),
    ("1/2/2017", "'1/2/2017"),
    ("photos/=1.jpg", "photos/=1.jpg"),
    ("3-9.jpg", "3-9.jpg"),
    ("25_1_2_20170116.jpg", "25_1_2_20170116.jpg"),
    ("70+", "70+"),
    ("3 to 9", "3 to 9"),
    ("O'Neill", "O'Neill"),
    ("'quoted'", "'quoted'"),
    ("", ""),
    (-1.5, -1.5),  # a number is no text
    (None, None),
]


def test_the_second_is_told_who_the_first_is(tmp_path):
    output = tmp_path / "new" / "faces.csv"
    first = f"process {os.getpid()} on {socket.gethostname()}"
    with only_writer(output, "--output"):
        for _ in range(2):  # being refused does not free the output
            with (
                pytest.raises(OutputLockedError, match=rf"faces\.csv is alive \({first}\): .* another --output\."),
                only_writer(output, "--output"),
            ):
                pass
    with only_writer(output, "--output"):
        assert output.parent.exists()
    assert list(output.parent.iterdir()) == []


def test_a_marker_of_another_machine_is_named(tmp_path, monkeypatch):
    """As on a file system without locks, where nobody can see whether that process is alive."""
    monkeypatch.setattr(output_files, "FileLock", SoftFileLock)
    lock_file = tmp_path / ".run.lock"
    lock_file.write_text("12345\nelsewhere\n")
    with pytest.raises(OutputLockedError, match=r"process 12345 on elsewhere; .* remove .*\.run\.lock\)"):
        only_writer(tmp_path / "run", "--output_dir").__enter__()
    assert lock_file.read_text() == "12345\nelsewhere\n"


def test_a_killed_process_holds_nothing(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path; from model_card.output_files import only_writer\n"
        "with only_writer(Path(sys.argv[1]), '--output'): print('held', flush=True); time.sleep(600)"
    )
    output = tmp_path / "faces.csv"
    with subprocess.Popen([sys.executable, "-c", hold, output], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(OutputLockedError, match=f"process {process.pid} on "), only_writer(output, "--output"):
            pass
        process.kill()
    with only_writer(output, "--output"):
        pass
    assert list(tmp_path.iterdir()) == []


def score(folder: Path) -> None:
    predict.main(predict.read_arguments([str(folder), "--output", str(folder / "out.csv"), "--model", "nowhere"]))


def prepare(folder: Path) -> None:
    prepare_data(PrepareArguments(output_dir=str(folder / "out")), DataArguments(dataset=str(folder)))


def export(folder: Path) -> None:
    save_tiny_model(folder / "model")
    export_onnx(ExportArguments(model=str(folder / "model"), output_dir=str(folder / "out")), FaceArguments())


def start_training(folder: Path) -> None:
    train(["trainer/recipes/smoke.yaml", "--output_dir", str(folder / "out"), "--dataset", str(folder)])


@pytest.mark.parametrize(
    ("write", "name", "lock"),
    [
        (score, "out.csv", ".out.csv.lock"),
        (prepare, "out", ".out.lock"),
        (start_training, "out", ".out.lock"),
        (export, "out", "out/.export.lock"),
    ],
)
def test_every_command_that_writes_for_long_is_refused(tmp_path, write, name, lock):
    with (
        only_writer(tmp_path / name, "--output", tmp_path / lock),
        pytest.raises(AgeGenderError, match=rf"Another start that writes to .*{name} is alive \(process"),
    ):
        write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"model", "out"}


@pytest.mark.parametrize(("cell", "written"), CELLS, ids=[repr(cell) for cell, _ in CELLS])
def test_cells(cell, written):
    assert safe_cell(cell) == written
    if isinstance(cell, str):
        assert read_cell(written) == cell


def test_a_file_that_a_spreadsheet_opens(tmp_path):
    path = tmp_path / "table.csv"
    with path.open("w", encoding=ENCODING, newline="") as file:
        write_csv(file, ["näme", "=age"], [["a,b\n", -3], ["=x", None]])
    assert path.read_bytes().startswith(b"\xef\xbb\xbfn")
    with path.open(encoding=ENCODING, newline="") as file:
        assert list(csv.reader(file)) == [["näme", "'=age"], ["a,b\n", "-3"], ["'=x", ""]]
