"""A virtual environment with only what a requirements.txt asks for, linked from this environment instead of installed."""

import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def make_clean_environment(folder: Path, requirements: Path) -> Path:
    """The environment's Python. Packages are links to the ones of this environment, in exactly their versions.

    Raises:
        PackageNotFoundError: something that is required is not installed here. AssertionError: in another version.
    """
    venv.create(folder, symlinks=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    wanted = [Requirement(line) for line in requirements.read_text().splitlines()]
    for package in required_distributions(wanted):
        for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            link = site_packages / top
            if not link.exists():  # several distributions may share a folder
                link.symlink_to(package.locate_file(top))
    return folder / "bin" / "python"


def required_distributions(requirements: list[Requirement]) -> list[Distribution]:
    """The distributions that are required, directly or by others that are."""
    waiting, found, seen = list(requirements), [], set()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        package = distribution(requirement.name)
        assert requirement.specifier.contains(package.version, prereleases=True), f"{requirement}: {package.version}"
        found.append(package)
        for line in package.requires or ():
            dependency = Requirement(line)
            extras = requirement.extras or {""}
            if dependency.marker is None or any(dependency.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(dependency)
    return found
