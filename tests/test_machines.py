"""Several machines, made on this one: where TEXT2IMAGE_MACHINES is set, as root, with what they take. A minute or two each."""

import os
import shutil
import subprocess

import pytest

from tests.conftest import ROOT
from tests.machines import sweep, two_hosts


def require(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if not os.environ.get("TEXT2IMAGE_MACHINES") or os.geteuid() != 0 or missing:
        pytest.skip(f"TEXT2IMAGE_MACHINES is not set, or this is not root, or there is no {missing}")


def test_torchrun_over_two_hosts(tmp_path):
    require("ip")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("network namespaces cannot be made here")
    two_hosts.main(tmp_path)


def test_a_sweep_on_slurm(tmp_path):
    require("munged", "slurmctld", "slurmd", "sbatch")
    sweep.main(tmp_path)


def test_the_batch_script_is_the_one_that_is_printed():
    script = (ROOT / "docs/sweep.sbatch").read_text(encoding="utf-8")
    assert f"```bash\n{script}```" in (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", "docs/sweep.sbatch"], cwd=ROOT, check=True)
