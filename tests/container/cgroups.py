"""The limits of cgroup v2 on a machine whose controllers belong to v1: a tree of files where the kernel's would be.

Owns: the tree, seen by one process in a mount namespace of its own.
Does not own: what the process makes of it; the kernel's part (that it throttles and kills), which is not tried here.
"""
import json
import subprocess
from pathlib import Path

from engine import Failed

# As Kubernetes nests them: the limits stand at the pod, not at the container.
GROUP = "kubepods.slice/pod1.slice/pintail.scope"
SCRIPT = """set -e
mount -t tmpfs tmpfs /sys/fs/cgroup
cd /sys/fs/cgroup
mkdir -p {group}
for directory in . kubepods.slice kubepods.slice/pod1.slice {group}; do
    echo 'cpu memory' > $directory/cgroup.controllers
    echo max > $directory/memory.max
    echo 'max 100000' > $directory/cpu.max
done
echo {memory} > kubepods.slice/pod1.slice/memory.max
echo '100000 100000' > kubepods.slice/pod1.slice/cpu.max
mount --bind {work}/mountinfo /proc/$$/mountinfo
mount --bind {work}/cgroup /proc/$$/cgroup
cd {work}
exec "$0" "$@"
"""


def run_limited(binary, work, memory, *arguments):
    """Runs the binary to its end where it sees one core and `memory` bytes by cgroup v2. Returns the lines of its log."""
    work = Path(work) / "cgroup-v2"
    work.mkdir()
    (work / "cgroup").write_text(f"0::/{GROUP}\n")
    (work / "mountinfo").write_text("31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
    script = SCRIPT.format(group=GROUP, memory=memory, work=work)
    done = subprocess.run(["unshare", "--mount", "bash", "-c", script, str(Path(binary).resolve()), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"a run with a tree of cgroup v2 ended with {done.returncode}: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
