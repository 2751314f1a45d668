"""Run times of other languages, each under a program written in it."""

from __future__ import annotations

from catalogue.describing import Group, Workload, same

_PIGEONS = r"""
# A formula that cannot be satisfied: PIGEONS pigeons in one hole less.
p=$1 h=$((p - 1))
echo "p cnf $((p * h)) $((p + h * p * (p - 1) / 2))"
for ((i = 0; i < p; i++)); do
    for ((j = 1; j <= h; j++)); do printf '%s ' $((i * h + j)); done
    echo 0
done
for ((j = 1; j <= h; j++)); do
    for ((a = 0; a < p; a++)); do
        for ((b = a + 1; b < p; b++)); do echo "-$((a * h + j)) -$((b * h + j)) 0"; done
    done
done
"""

_SAT4J = """
bash /opt/pigeons 10 >/tmp/pigeons.cnf
java -jar /usr/share/java/org.sat4j.core.jar /tmp/pigeons.cnf
[ $? = 20 ] # that it cannot be satisfied
"""

_TERSER = """
echo begun
terser -m -- /usr/share/nodejs/typescript/lib/tsc.js >/tmp/small.js
sha256sum /tmp/small.js
"""

_RAV1E = """
ffmpeg -v error -f lavfi -i testsrc=size=320x180:rate=25:duration=4 -pix_fmt yuv420p /tmp/film.y4m
echo begun
rav1e --threads 2 --speed 6 --quiet /tmp/film.y4m -o /tmp/film.ivf
sha256sum /tmp/film.ivf
"""

_RESTIC = """
export RESTIC_PASSWORD=none RESTIC_REPOSITORY=/tmp/repository
mkdir /tmp/data
for n in $(seq 30); do
    openssl enc -aes-128-ctr -pass pass:$n -nosalt -md sha256 </dev/zero 2>/dev/null | head -c 6M >/tmp/data/$n
done
restic init --quiet
echo backing up
for n in 1 2 3; do restic backup --quiet --read-concurrency 4 --force /tmp/data; done
restic check --quiet --read-data
restic restore --quiet latest --target /tmp/restored
cd /tmp/restored/tmp/data && sha256sum * | sha256sum
"""

_R = """
set.seed(7)
walk <- 0
for (chain in 1:40) {
    m <- matrix(rnorm(250 * 250), 250)
    walk <- walk + log(abs(det(m))) + sum(svd(m)$d)
    cat(chain, format(walk, digits = 15), "\\n")
}
"""

_RUBY = """
ticks = 0
Thread.new { loop { sleep 0.01; ticks += 1 } }
$stdout.sync = true
q, r, t, k, m, x = 1, 0, 1, 1, 3, 3
made = 0
while made < 4000
  if 4 * q + r - t < m * t
    made += 1
    puts "#{made} #{m}"
    q, r, m = 10 * q, 10 * (r - m * t), (10 * (3 * q + r)) / t - 10 * m
  else
    q, r, t, k, m, x = q * k, (2 * q + r) * x, t * x, k + 1, (q * (7 * k + 2) + r * x) / (t * x), x + 2
  end
end
puts ticks > 10
"""

GROUP = Group(
    title="Languages",
    workloads=(
        Workload(
            name="java",
            program="OpenJDK",
            does="Sat4j, a SAT solver: threads of the run time, garbage collection, code compiled meanwhile",
            packages=("openjdk-21-jre-headless", "sat4j"),
            files={"/opt/pigeons": _PIGEONS},
            words=("bash", "-c", _SAT4J),
            progress="solving|cleaning|nb learnt|starts|#vars",
            settle_s=0.5,
            check=same(r"^(?:s .*|c (?:conflicts|decisions|propagations) .*)$"),
        ),
        Workload(
            name="java-threads",
            program="OpenJDK",
            does="eight threads that allocate, hash and wait for each other",
            packages=("openjdk-21-jdk-headless",),
            words=("java", "-Xmx256m", "/opt/programs/Rounds.java", "400"),
            progress="^100 ",
        ),
        Workload(
            name="node",
            program="Node.js",
            does="terser, which shrinks the sources of TypeScript",
            packages=("nodejs", "terser", "node-typescript"),
            words=("bash", "-c", _TERSER),
            progress="begun",
            settle_s=3.0,
        ),
        Workload(
            name="go",
            program="restic (Go)",
            does="backs up 180 MB, checks and restores it",
            packages=("restic", "openssl"),
            words=("bash", "-c", _RESTIC),
            progress="backing up",
            settle_s=1.0,
            check=same(r"^[0-9a-f]{64} .*"),
        ),
        Workload(
            name="rust",
            program="rav1e (Rust)",
            does="encodes a film as AV1, with two threads",
            packages=("rav1e", "ffmpeg"),
            words=("bash", "-c", _RAV1E),
            progress="begun",
            settle_s=1.0,
        ),
        Workload(
            name="r",
            program="R",
            does="random matrices, their determinants and singular values",
            packages=("r-base-core",),
            words=("Rscript", "-e", _R),
            progress="^8 ",
        ),
        Workload(
            name="ruby",
            program="Ruby",
            does="digits of pi, beside a thread that sleeps",
            packages=("ruby",),
            versioned="ruby3.3",
            words=("ruby", "-e", _RUBY),
            progress="^1000 ",
        ),
    ),
)
