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
cat >/etc/systemd/system/crikpy-job.service <<'EOF'
[Unit]
After=network-online.target
Wants=network-online.target
[Service]
Environment=CRIKPY_STORE_REGION=${region}
ExecStart=/opt/crikpy/venv/bin/crikpy run --name ${job_name} --store ${store} -- ${command}
# Saving may take as long as the notice leaves.
TimeoutStopSec=120
[Install]
WantedBy=multi-user.target
EOF
systemctl enable --now crikpy-job
