"""What starts runs elsewhere, as far as that shows without a cluster."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ppseg_jax import command, main
from ppseg_jax.server import __main__ as server
from ppseg_jax.server.metrics import Metrics
from tests.helpers import ROOT

LAUNCH = ROOT / "launch"
JOBSETS = sorted(LAUNCH.glob("jobset_*.yaml"))


def loaded(path):
  """(JobSet, its one Job's template, its container)."""
  jobset = yaml.safe_load(path.read_text())
  (job,) = jobset["spec"]["replicatedJobs"]
  (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
  return jobset, job, container


@pytest.mark.parametrize("path", JOBSETS, ids=lambda path: path.stem)
def test_jobs_of_a_jobset_are_what_kubernetes_takes(path):
  validate = pytest.importorskip("kubernetes_validate")
  _, job, _ = loaded(path)
  validate.validate(
      {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"},
       **job["template"]}, "1.31", strict=True,
  )


@pytest.mark.parametrize("path", JOBSETS, ids=lambda path: path.stem)
def test_a_jobset_starts_one_process_a_host_together_and_again(path):
  jobset, job, container = loaded(path)
  spec = job["template"]["spec"]
  assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
  assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
  assert spec["parallelism"] == spec["completions"]
  assert spec["completionMode"] == "Indexed" and spec["backoffLimit"] == 0
  pod = spec["template"]["spec"]
  assert pod["restartPolicy"] == "Never"
  mounted = {mount["name"] for mount in container["volumeMounts"]}
  assert mounted == {volume["name"] for volume in pod["volumes"]}

  words = container["command"]
  assert words[:3] == ["python", "-m", "ppseg_jax.main"]
  flags = command.parse(words[3:], "", "", main._define).flags
  if flags.coordinator:
    assert flags.processes == spec["completions"]
    host, _, port = flags.coordinator.partition(":")
    name = jobset["metadata"]["name"]
    assert host == f"{name}-{job['name']}-0-0.{name}"
    assert int(port) == container["ports"][0]["containerPort"]
  else:
    assert flags.distributed and job["replicas"] >= 1


SERVE = {
    part["kind"]: part
    for part in yaml.safe_load_all((LAUNCH / "serve/serve.yaml").read_text())
}


@pytest.mark.parametrize("kind", SERVE)
def test_what_serves_is_what_kubernetes_takes(kind):
  validate = pytest.importorskip("kubernetes_validate")
  validate.validate(SERVE[kind], "1.31", strict=True)


def test_what_serves_fits_together_and_the_servers_own_flags():
  assert SERVE.keys() == {"Deployment", "Service", "HorizontalPodAutoscaler"}
  spec = SERVE["Deployment"]["spec"]
  labels = spec["template"]["metadata"]["labels"]
  assert labels == spec["selector"]["matchLabels"]
  assert labels == SERVE["Service"]["spec"]["selector"]
  scaled = SERVE["HorizontalPodAutoscaler"]["spec"]
  assert scaled["scaleTargetRef"]["name"] == (
      SERVE["Deployment"]["metadata"]["name"]
  )
  pod = spec["template"]["spec"]
  (container,) = pod["containers"]
  (port,) = container["ports"]
  assert SERVE["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
  assert pod["securityContext"]["runAsNonRoot"]
  assert container["securityContext"]["readOnlyRootFilesystem"]
  mounted = {mount["name"] for mount in container["volumeMounts"]}
  assert mounted == {volume["name"] for volume in pod["volumes"]}

  image = (LAUNCH / "serve/Containerfile").read_text()
  words = json.loads(re.search(r"ENTRYPOINT (\[.*\])", image.replace(
      "\\\n", ""
  ))[1])
  assert words[:3] == ["python", "-m", "ppseg_jax.server"]
  assert f"EXPOSE {port['containerPort']}" in image
  settings = server.read([*words[3:], *container["args"]])
  assert settings.port == port["containerPort"]
  assert settings.host == "0.0.0.0"
  assert settings.workdir == Path(container["volumeMounts"][0]["mountPath"])
  (metric,) = scaled["metrics"]
  assert int(metric["pods"]["target"]["averageValue"]) < settings.queue
  assert metric["pods"]["metric"]["name"] in Metrics().text().decode()


@pytest.mark.parametrize("args", [
    (), ("2",), ("two", "--"), ("0", "--"), ("2", "--config=a.py"),
])
def test_the_local_launcher_says_how_it_is_called(args):
  done = subprocess.run([LAUNCH / "local.sh", *args], capture_output=True,
                        text=True)
  assert done.returncode == 2 and "launch/local.sh N -- " in done.stderr


def test_the_readme_of_the_launchers_names_each_of_them():
  text = (LAUNCH / "README.md").read_text()
  for path in LAUNCH.iterdir():
    assert path.name == "README.md" or path.name in text, path.name
