"""Scripts and the interpreters that nearly every image has."""

from __future__ import annotations

from catalogue.describing import Group, Workload

_BASH = """
sum=0
for ((number = 1; number <= 150; number++)); do
    sum=$(((sum * 31 + $(printf '%s' "$number" | sha256sum | cut -c1-6 | sed 's/^/0x/')) % 1000003))
    echo "$number $sum"
    sleep 0.01
done
"""

GROUP = Group(
    title="Scripts and build tools",
    workloads=(
        Workload(
            name="bash",
            program="bash",
            does="a loop that pipes through sha256sum, cut and sed, and sleeps",
            versioned="bash",
            words=("bash", "-c", _BASH),
            progress=r"^50 ",
        ),
        Workload(
            name="python",
            program="Python",
            does="digits of pi by unbounded integers",
            packages=("python3-minimal",),
            words=("python3", "/opt/programs/digits.py", "2500"),
            progress=r"^800 ",
        ),
    ),
)
