"""Work on a cluster of Ray. Only this package and scoring/cluster import Ray, and only --ray imports them."""

from model.errors import AgeGenderError


class ClusterError(AgeGenderError):
    """Ray is not installed, there is no such cluster, or it cannot do what is asked."""


try:
    import ray  # noqa: F401
except ModuleNotFoundError as missing:
    raise ClusterError("--ray needs Ray, which is not installed: pip install -r requirements-scale.txt") from missing
