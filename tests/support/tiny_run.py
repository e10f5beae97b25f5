"""Small models that are trained, evaluated and described as a real run is: folders complete enough to be pushed."""

from pathlib import Path

from tests.support.made_up_faces import write_utkface_folder
from trainer.train import main


SMOKE = Path(__file__).parents[2] / "trainer" / "recipes" / "smoke.yaml"


def train_tiny_run(folder: Path, faces: Path, seed: int = 0) -> Path:
    """Train one epoch of the smoke recipe on `faces`, evaluate it and write its card; returns `folder`."""
    arguments = ["--dataset", faces, "--output_dir", folder, "--seed", seed, "--num_train_epochs", 1]
    main([str(SMOKE), *map(str, arguments), "--stem_channels", "4", "8", "16", "--disable_tqdm", "true"])
    return folder


def write_faces(folder: Path) -> Path:
    """Enough drawn faces for every table of a card, in a folder named as the data set is."""
    return write_utkface_folder(folder / "utkface", count=120, size=40)
