"""Scripts, build tools, and the small programs that every pipeline has."""

from __future__ import annotations

from catalogue.describing import Group, Verdict, Workload, client_saw, printed

_BASH = """
sum=0
for ((number = 1; number <= 150; number++)); do
    sum=$(((sum * 31 + $(printf '%s' "$number" | sha256sum | cut -c1-6 | sed 's/^/0x/')) % 1000003))
    echo "$number $sum"
    sleep 0.01
done
"""

_MAKE = r"""
mkdir /tmp/build && cd /tmp/build
for name in image image_write truetype perlin dxt rect_pack hexwave; do
    upper=$(echo $name | tr a-z A-Z)
    printf '#define STB_%s_IMPLEMENTATION\n#include <stb/stb_%s.h>\n' $upper $name >$name.c
done
printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\n%%.o: %%.c\n\t@gcc -O2 -c $< -o $@\n' >Makefile
echo begun
make --jobs=3
sha256sum *.o
"""

_TMUX = (
    """tmux new-session -d 'while read -r line; do echo "got $line"; done'; """
    "echo begun; while tmux has-session; do sleep 0.2; done"
)
_TYPE = "tmux send-keys {} Enter; sleep 1; tmux capture-pane -p"
_COMPRESS = "seq 1 1500000 >/tmp/numbers; echo begun; {0} | sha256sum"

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
        Workload(
            name="parallel",
            program="GNU parallel (Perl)",
            does="200 short commands, four at a time",
            packages=("parallel",),
            words=("bash", "-c", "seq 200 | parallel -j4 --keep-order 'sleep 0.05; echo {}; echo {} | sha256sum'"),
            progress="^30$",
        ),
        Workload(
            name="make",
            program="GCC",
            does="make --jobs=3 compiles the stb libraries",
            packages=("gcc", "libc6-dev", "libstb-dev", "make"),
            words=("bash", "-c", _MAKE),
            progress="begun",
            settle_s=1.0,
        ),
        Workload(
            name="xz",
            program="xz",
            does="compresses with two threads, in a sandbox that it makes for itself (Landlock)",
            packages=("xz-utils",),
            words=("bash", "-c", _COMPRESS.format("xz -T2 -3 --block-size=4MiB --stdout /tmp/numbers")),
            progress="begun",
            settle_s=0.5,
            expected=Verdict.UNSAVED,
            note="Nothing in /proc tells that a process is in such a sandbox, so it cannot be refused before.",
        ),
        Workload(
            name="zstd",
            program="zstd",
            does="compresses with two threads",
            packages=("zstd",),
            words=("bash", "-c", _COMPRESS.format("zstd -T2 -16 --stdout --quiet /tmp/numbers")),
            progress="begun",
            settle_s=1.0,
        ),
        Workload(
            name="openssl",
            program="OpenSSL",
            does="openssl speed, two processes timed by alarms",
            packages=("openssl",),
            words=("openssl", "speed", "-seconds", "1", "-multi", "2", "sha256", "aes-128-cbc"),
            progress="(?:Got|Forked|Doing)",
            settle_s=1.5,
            check=printed(r"^sha256 .*k"),
        ),
        Workload(
            name="tmux",
            program="tmux",
            does="a shell in a detached session; a client types before and after",
            packages=("tmux",),
            words=("bash", "-c", _TMUX),
            progress="begun",
            settle_s=0.5,
            before=("bash", "-c", _TYPE.format("one")),
            after=("bash", "-c", _TYPE.format("two")),
            ends=False,
            check=client_saw(r"^got one\n(.*\n)*got two$"),
        ),
    ),
)
