# shellcheck shell=bash disable=SC2154 # hack/images sets the rest
# What a build borrows of this machine to reach Debian and PyPI, part of hack/images: one folder,
# mounted at an empty one of Debian's, and named to apt and pip by the Dockerfiles' ARGs.

readonly lent_at=/mnt

# lend FOLDER: fill it with apt.conf, sources.list, pip.conf and ca.pem.
lend() {
    local mirror
    mirror=$(machine_mirror)
    mkdir -m 755 "$1"
    cat /etc/ssl/certs/ca-certificates.crt >"$1/ca.pem" 2>/dev/null || true
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
        "$mirror" "$suite" "$mirror" "$suite-updates" >"$1/sources.list"
    {
        apt-config dump Acquire
        printf 'Acquire::https::CAInfo "%s/ca.pem";\nAcquire::Retries "3";\n' "$lent_at"
        printf 'Dir::Etc::sourcelist "%s/sources.list";\nDir::Etc::sourceparts "/dev/null";\n' "$lent_at"
        printf 'APT::Sandbox::User "root";\n'
    } >"$1/apt.conf"
    pip_settings >"$1/pip.conf"
    chmod 644 "$1"/*
}

# pip_settings: those of this machine that say where packages come from.
pip_settings() {
    local pip=("$checkout/.venv/bin/python" -m pip)
    "${pip[@]}" --version >/dev/null 2>&1 || pip=(python3 -m pip)
    printf '[global]\ncert = %s/ca.pem\n' "$lent_at"
    { "${pip[@]}" config list 2>/dev/null || true; } | python3 -c '
import ast, sys

wanted = {"index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout", "retries"}
for line in sys.stdin:
    name, _, value = line.rstrip("\n").partition("=")
    if name.rpartition(".")[2] in wanted:
        print(name.rpartition(".")[2], "=", ast.literal_eval(value).replace("\n", " "))'
}
