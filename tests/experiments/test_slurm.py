"""A table through a real Slurm, with a requeued job, is the sequential table, byte for byte."""

import contextlib
import getpass
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from salr.records import find_runs
from tests.helpers.commands import until
from tests.helpers.sweeps import LONG, epochs_of, sweep, tables

DAEMONS = ("munged", "slurmctld", "slurmd")
PATH = (
    f"{os.environ['PATH']}:/usr/sbin"  # where Debian keeps the daemons, which not every user has on the path
)
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits for its credential to expire: seconds here, two minutes by default.
AuthInfo=socket={folder}/munge.socket,cred_expire=6
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
SchedulerParameters=sched_interval=2,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=1 RealMemory=1000
PartitionName=all Nodes={host} Default=YES
"""


def lacking() -> str:
    """Return what this machine lacks, as a reason to skip."""
    if importlib.util.find_spec("submitit") is None:
        return "needs hydra-submitit-launcher: the extra slurm"
    missing = [name for name in (*DAEMONS, "srun") if shutil.which(name, path=PATH) is None]
    return f"needs Slurm and munge on this machine: no {', '.join(missing)}" if missing else ""


@pytest.fixture
def slurm() -> Iterator[dict[str, str]]:
    """Start a cluster of this machine for one test, and return the environment that finds it."""
    if reason := lacking():
        pytest.skip(reason)
    # Not pytest's folder: the path of a socket has at most 107 characters, and munge wants it open to all.
    with tempfile.TemporaryDirectory(prefix="slurm") as name, contextlib.ExitStack() as daemons:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "munge.key").write_bytes(os.urandom(64))
        (folder / "munge.key").chmod(0o400)
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            ports = [server.getsockname()[1] for server in (one, other)]
        host = socket.gethostname().partition(".")[0]
        conf = folder / "slurm.conf"
        conf.write_text(CONF.format(folder=folder, ports=ports, host=host, user=getpass.getuser()))
        environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": PATH}
        munge = [
            f"--{what}={folder}/munge.{what}" for what in ("socket", "log-file", "pid-file", "seed-file")
        ]
        commands = (
            ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key", *munge],
            ["slurmctld", "-D", "-c"],
            ["slurmd", "-D", "-N", host],
        )
        for command in commands:
            daemons.enter_context(daemon(command, folder / f"{command[0]}.log", environment))
            if command[0] == "munged":
                until((folder / "munge.socket").exists)
        try:
            until(lambda: "idle" in ask(environment, "sinfo", "-h", "-o", "%T"))
        except AssertionError:
            pytest.fail("\n".join(path.read_text() for path in folder.glob("*.log")))
        yield environment
        ask(environment, "scancel", "--user", getpass.getuser())
        until(lambda: not ask(environment, "squeue", "-h"))


@contextlib.contextmanager
def daemon(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    with (
        log.open("w") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def ask(environment: dict[str, str], *command: str) -> str:
    """Return what one of Slurm's commands prints; nothing while the controller does not answer."""
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=30
    ).stdout


@pytest.mark.timeout(2400)
def test_a_table_with_a_requeued_job_is_the_sequential_one(tmp_path: Path, slurm: dict[str, str]) -> None:
    with sweep(tmp_path / "slurm", "slurm", slurm) as run:
        until(lambda: epochs_of(tmp_path / "slurm") >= 3)
        job = ask(slurm, "squeue", "-h", "-r", "-t", "running", "-o", "%i").strip()  # one core: one at a time
        requeued = subprocess.run(
            ["scontrol", "requeue", job], env=slurm, capture_output=True, text=True, check=False
        )
        assert requeued.returncode == 0, requeued.stderr
        # It has been stopped between two epochs, not run to its end.
        interrupted = until(
            lambda: [each for each in find_runs(tmp_path / "slurm") if each.state() == "interrupted"]
        )
        assert 0 < len(interrupted[0].read_metrics()) < LONG
        assert run.wait() == 0, run.output.read_text()
    with sweep(tmp_path / "here", "local") as run:
        assert run.wait() == 0, run.output.read_text()
    assert tables(tmp_path / "slurm") == tables(tmp_path / "here")


def test_without_the_plugin_one_line_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['hydra_plugins.hydra_submitit_launcher'] = None; sys.path.insert(0, '.');"
        "sys.argv = ['table.py', '1', '--launcher', 'slurm'];"
        "from experiments.cli import start; from scripts import table; start(table.main)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "-e '.[slurm]'" in done.stderr
