"""What starts runs elsewhere, as far as that shows without a cluster."""

import json
import os
import re
import subprocess
import time
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
    ("--restarts", "2", "--"), ("2", "--restarts=1", "--"),
])
def test_the_local_launcher_says_how_it_is_called(args):
  done = subprocess.run([LAUNCH / "local.sh", *args], capture_output=True,
                        text=True)
  assert done.returncode == 2
  assert "launch/local.sh [--restarts=R] N -- " in done.stderr


def stand_in(path, text):
  path.write_text(text)
  path.chmod(0o755)


# In the place of Python: process 1 ends with one of $CODES at each start.
PYTHON = """#!/bin/bash
if [[ "$1" == -c ]]; then echo 12345; exit; fi
[[ "$*" == *--process=1 ]] || exit 0
echo >> "$0.starts"
read -ra codes <<< "$CODES"
exit "${codes[$(wc -l < "$0.starts") - 1]}"
"""


@pytest.mark.parametrize("args, codes, code, starts", [
    ((), "137 0", 137, 1),
    (("--restarts=2",), "137 0", 0, 2),
    (("--restarts=2",), "137 134 1 0", 1, 3),
    (("--restarts=2",), "2 0", 2, 1),  # wrong input stays wrong
    (("--restarts=2",), "143 0", 143, 1),  # it was asked to stop
])
def test_the_local_launcher_starts_again_what_was_killed(
    args, codes, code, starts, tmp_path
):
  stand_in(tmp_path / "python", PYTHON)
  done = subprocess.run(
      [LAUNCH / "local.sh", *args, "2", "--"], capture_output=True, text=True,
      env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "CODES": codes,
           "JAX_PLATFORMS": "cpu"}, timeout=60,
  )
  assert done.returncode == code, done.stderr
  assert done.stderr.count("all are started again") == starts - 1
  assert (tmp_path / "python.starts").read_text().count("\n") == starts


def test_the_readme_of_the_launchers_names_each_of_them():
  text = (LAUNCH / "README.md").read_text()
  for path in LAUNCH.iterdir():
    assert path.name == "README.md" or path.name in text, path.name


# Enough of srun for one node: two tasks that see each other.
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
export SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2 SLURM_STEP_TASKS_PER_NODE=2
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" & first=$!
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & second=$!
code=0
wait $first || code=$?
wait $second || code=$?
exit $code
"""


@pytest.mark.parametrize("code, seconds_left, requeued", [
    (0, 9999, False), (143, 100, True), (143, 9999, False), (2, 100, False),
])
def test_slurm_starts_all_and_again_what_the_time_limit_stopped(
    code, seconds_left, requeued, tmp_path
):
  """With whole runs in the place of this Python: tests/test_processes.py"""
  stand_in(tmp_path / "srun", SRUN)
  stand_in(tmp_path / "scontrol", '#!/bin/bash\necho "scontrol $*"\n')
  stand_in(tmp_path / "python", "#!/bin/bash\n"
           f'echo "task $SLURM_PROCID: $*"\nexit {code}\n')
  done = subprocess.run(
      [LAUNCH / "slurm.sh", "--config=a b.py"], capture_output=True, text=True,
      env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7",
           "SLURM_JOB_END_TIME": str(int(time.time()) + seconds_left)},
  )
  assert done.returncode == code and done.stderr == ""
  for task in (0, 1):
    assert done.stdout.count(
        f"task {task}: -m ppseg_jax.main --distributed --config=a b.py\n") == 1
  assert done.stdout.count("scontrol requeue 7\n") == requeued
