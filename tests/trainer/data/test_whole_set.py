"""A source as a single split, to measure a model on."""

from tests.support.faces_on_disk import face_files, write_folder
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_whole_set


def test_max_samples_are_spread_over_an_unprepared_source(tmp_path):
    folder = write_folder(tmp_path / "faces", face_files(30))
    everything, few = (
        load_whole_set(DataArguments(dataset=str(folder), cache_dir=str(tmp_path / "cache"), max_samples=count))["all"]
        for count in (None, 10)
    )
    names = everything["file_name"][:]
    places = [names.index(name) for name in few["file_name"]]
    assert len(names) == 30
    assert len(places) == 10
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, 29)
