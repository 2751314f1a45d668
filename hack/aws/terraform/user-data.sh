#!/bin/bash
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends ca-certificates gcc git libc6-dev make python3-venv
git clone --quiet --depth 1 --branch '${version}' https://github.com/crikpy/crikpy /opt/crikpy/source
cd /opt/crikpy/source
python3 -m venv /opt/crikpy/venv
/opt/crikpy/venv/bin/pip install --quiet .
hack/criu-bundle /opt/crikpy/criu
make -C daemonset/launcher BUILD=/opt/crikpy
install -m 644 daemonset/systemd/crikpy-job@.service /etc/systemd/system/
mkdir -p /etc/crikpy
cat >'/etc/crikpy/${job_name}.env' <<'END'
CRIKPY_STORE=${store}
CRIKPY_STORE_REGION=${region}
JOB=${command}
END
systemctl daemon-reload
systemctl start 'crikpy-job@${job_name}'
