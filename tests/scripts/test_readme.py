"""The documents keep their promises: the tree and the commands they name are there, and what is generated is up to date."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from scripts.maintenance import fill_in
from scripts.maintenance.update_docs import arguments_tables, bring_up_to_date


ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = "\n".join(path.read_text(encoding="utf-8") for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)[1]


def tree_paths() -> list[str]:
    """Paths of the README's tree: two spaces of indent more for what lies in a folder."""
    paths, folder = [], ""
    for line in re.findall(r"^    (.+)$", section("The tree"), re.MULTILINE):
        names = re.split(r"\s{2,}", line.strip())
        if line.startswith("  "):
            paths.append(folder + names[0])
            continue
        if names[0].endswith("/"):
            folder = names[0]
        # a line of several names has no clause about any of them
        paths += names if all(re.fullmatch(r"[\w./-]+", name) for name in names) else names[:1]
    return paths


def test_the_tree_is_what_is_there():
    missing = [path for path in tree_paths() if not (ROOT / path).exists()]
    assert missing == []


def test_the_tree_names_every_part():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    top_level = {path.split("/")[0] for path in tracked if not path.startswith(".")}
    named = {path.split("/")[0] for path in tree_paths()} | {"README.md"}
    assert top_level - named == set()


def test_front_matter_is_a_gradio_space():
    front_matter = yaml.safe_load(README.split("---")[1])
    assert front_matter["sdk"] == "gradio"
    assert (ROOT / front_matter["app_file"]).is_file()
    requirements = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("gradio")]
    assert front_matter["sdk_version"] in Requirement(requirements[0]).specifier
    assert front_matter["sdk_version"] == importlib.metadata.version("gradio")


@pytest.mark.parametrize(
    "module", sorted(set(re.findall(r"python -m ((?:scripts|trainer|model_card)(?:\.[a-z_]+)+)(?!\.?\w)", DOCUMENTS)))
)
def test_every_command_exists(module):
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


def test_the_readme_can_be_read_at_a_sitting():
    assert len(README.splitlines()) <= 150


def test_the_arguments_of_a_training_are_up_to_date():
    text = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    assert fill_in(text, {"arguments": arguments_tables()}, "docs/training.md") == text


def test_a_block_takes_any_text_and_stays_on_its_line():
    text = "<!-- a -->old<!-- /a --> and\n<!-- b -->\nold\n<!-- /b -->\n"
    filled = fill_in(text, {"a": r"\g<1>", "b": r"C:\new"}, "a.md")
    assert filled == "<!-- a -->\\g<1><!-- /a --> and\n<!-- b -->\nC:\\new\n<!-- /b -->\n"
    with pytest.raises(ValueError, match=r"a\.md has no <!-- c --> \.\.\. <!-- /c -->"):
        fill_in(text, {"c": ""}, "a.md")


def test_a_check_writes_no_document(tmp_path):
    document = tmp_path / "a.md"
    document.write_text("<!-- a -->old<!-- /a -->\n")
    os.utime(document, (0, 0))
    bring_up_to_date(document, {"a": "old"}, check=True)
    with pytest.raises(SystemExit, match=r"a\.md is out of date"):
        bring_up_to_date(document, {"a": "new"}, check=True)
    assert document.stat().st_mtime == 0
    bring_up_to_date(document, {"a": "new"}, check=False)
    assert document.read_text() == "<!-- a -->new<!-- /a -->\n"


@pytest.mark.slow
def test_what_is_generated_is_up_to_date():
    done = subprocess.run(
        [sys.executable, "-m", "scripts.maintenance.update_docs", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
