"""Deploying the demo: linted files, an image that is complete, and limits before it that say what the demo's own do."""

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from demo.allowed_requests import IDLE_SECONDS
from demo.limits import HEADER_SECONDS, KEEP_ALIVE_SECONDS, MAX_PER_CLIENT, STALLED_SECONDS
from model_card.space import space_files
from tests.support import image_files
from tests.support.nginx import NGINX, needs_nginx


ROOT = Path(__file__).resolve().parents[2]


def installed(program: str) -> str:
    """A linter of requirements-dev.txt, in the environment that runs the tests."""
    return shutil.which(program, path=str(Path(sys.executable).parent))


def lint(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_nothing_in_the_dockerfile():
    lint(installed("hadolint"), "Dockerfile")


def test_the_manifest_is_what_kubernetes_expects():
    lint(installed("kubernetes-validate"), "--strict", "deploy/kubernetes.yaml")


@needs_nginx
def test_nginx_accepts_its_configuration(tmp_path):
    lint(NGINX, "-t", "-p", tmp_path, "-c", ROOT / "deploy/nginx.conf", "-e", "stderr")


def imported_distributions(path: Path) -> set[str]:
    """What a module imports from elsewhere, but for what it tries to import and can do without."""
    modules, waiting = set(), [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        waiting += [] if isinstance(node, ast.Try) else ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(node.module.split(".")[0])
    known = packages_distributions()
    elsewhere = modules - sys.stdlib_module_names - {"demo", "model"}
    return {canonicalize_name(name) for module in elsewhere for name in known[module]}


def test_the_image_holds_what_the_demo_imports():
    code = [ROOT / path for path in space_files("user/faces", "0" * 40) if path.endswith(".py")]
    distributions = set().union(*map(imported_distributions, code))
    copied = [ROOT / source for source in image_files.copied_paths()]
    assert [file for file in code if not any(file.is_relative_to(source) for source in copied)] == []
    lines = (ROOT / "deploy/requirements.txt").read_text().splitlines()
    pinned = {line.name: line.specifier for line in map(Requirement, filter(lambda line: line[0] != "#", lines))}
    assert set(pinned) == distributions | {"onnxruntime"}  # without which the faces are found in twice the time
    stated = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if line[0] != "#"]
    for wanted in (line for line in stated if line.name in pinned):
        assert wanted.specifier.contains(str(pinned[wanted.name]).removeprefix("==")), wanted


def test_the_image_runs_as_nobody_in_particular_and_nothing_private_is_in_it():
    users = re.findall(r"^USER (.*)$", image_files.DOCKERFILE, re.MULTILINE)
    assert users == ["10001:10001"]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert not {"!.git", "!outputs", "!tests", "!trainer"} & set(ignored)


def test_replicas_limits_probes_affinity_and_autoscaling():
    text = (ROOT / "deploy/kubernetes.yaml").read_text()
    documents = {document["kind"]: document for document in yaml.safe_load_all(text)}
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    probes = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")]
    assert len(set(probes)) == 1
    assert probes[0] in "".join(image_files.health_command())
    assert documents["Service"]["spec"]["sessionAffinity"] == "ClientIP"
    assert documents["Ingress"]["metadata"]["annotations"]["nginx.ingress.kubernetes.io/affinity"] == "cookie"
    scaled = documents["HorizontalPodAutoscaler"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == documents["Deployment"]["metadata"]["name"]
    assert 2 <= scaled["minReplicas"] < scaled["maxReplicas"]


def test_proxies_limit_who_sends_too_much_or_too_slowly():
    """As the demo itself does."""
    lines = {line.partition("#")[0].strip() for line in (ROOT / "deploy/nginx.conf").read_text().splitlines()}
    assert lines >= {
        "limit_conn_zone $binary_remote_addr zone=visitors:10m;",
        f"limit_conn visitors {MAX_PER_CLIENT};",
        "limit_req_zone $binary_remote_addr zone=requests:10m rate=50r/s;",
        "limit_req zone=requests burst=400 nodelay;",
        f"client_header_timeout {HEADER_SECONDS:.0f}s;",
        f"client_body_timeout {IDLE_SECONDS:.0f}s;",
        f"send_timeout {STALLED_SECONDS:.0f}s;",
        f"keepalive_timeout {KEEP_ALIVE_SECONDS}s;",
        "large_client_header_buffers 4 8k;",
        "client_max_body_size 2m;",
        "client_max_body_size 20m;",
        "client_max_body_size 40m;",
        "client_max_body_size 401m;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
    }
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text())
    [ingress] = [document for document in documents if document["kind"] == "Ingress"]
    wanted = {
        "limit-connections": str(MAX_PER_CLIENT),
        "limit-rps": "50",
        "limit-burst-multiplier": "8",
        "proxy-body-size": "401m",
        "ssl-redirect": "true",
    }
    prefixed = {f"nginx.ingress.kubernetes.io/{name}": value for name, value in wanted.items()}
    assert ingress["metadata"]["annotations"].items() >= prefixed.items()
