#!/bin/bash
# First boot of a GPU node: write the configuration, fetch and check the payload, hand over to systemd.
# Holds no secrets. Running it again leaves the same node. If anything fails, the launch is abandoned and the machine
# powers off: a node that cannot serve must not cost money.
set -Eeuo pipefail
umask 022

readonly payload_uri='@@PAYLOAD_URI@@'
readonly payload_sha256='@@PAYLOAD_SHA256@@'
readonly metadata='http://169.254.169.254/latest'

# The value of one key of node.json; of a list, one entry per line; nothing for null.
setting() {
  python3 -c '
import json, sys
value = json.load(open("/etc/inference/node.json")).get(sys.argv[1])
entries = value if isinstance(value, list) else [] if value is None else [value]
print("\n".join(map(str, entries)))
' "$1"
}

# Tell the Auto Scaling group that this launch failed. The node does not know its group, so it tells each of them.
abandon() {
  local token instance_id hook group
  hook=$(setting launch_hook)
  [[ -n $hook ]] || return 0
  token=$(curl --silent --fail --max-time 5 --retry 5 --request PUT \
    --header 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$metadata/api/token")
  instance_id=$(curl --silent --fail --max-time 5 --retry 5 \
    --header "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/instance-id")
  while read -r group; do
    aws autoscaling complete-lifecycle-action --region "$(setting region)" --lifecycle-hook-name "$hook" \
      --auto-scaling-group-name "$group" --instance-id "$instance_id" --lifecycle-action-result ABANDON || true
  done < <(setting groups)
}

fail() {
  trap - ERR
  set +e
  echo "inference set-up failed: $1" >&2
  abandon
  systemctl poweroff
  exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

# A Python of at least 3.11 whose boto3 knows conditional writes to S3: the deep-learning AMI has it as python3.12.
find_python() {
  local candidate
  for candidate in python3.14 python3.13 python3.12 python3.11 python3; do
    if command -v "$candidate" >/dev/null \
      && "$candidate" -I -c 'import sys, boto3, botocore.session as b
s3 = b.get_session().get_service_model("s3").operation_model("PutObject")
sys.exit(sys.version_info < (3, 11) or "IfNoneMatch" not in s3.input_shape.members)' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
}

fetch_payload() {
  local try
  for try in 1 2 3 4 5; do
    if aws s3 cp "$payload_uri" /opt/inference/payload.zip --region "$(setting region)" --only-show-errors; then
      return
    fi
    sleep "$((try * 5))" # at boot the role's credentials may come a little later
  done
  fail "the payload $payload_uri cannot be fetched"
}

mkdir -p /etc/inference /opt/inference/cache
cat > /etc/inference/node.json <<'NODE_JSON'
@@NODE_JSON@@
NODE_JSON

python=$(find_python)
[[ -n $python ]] || fail 'no Python 3.11 or newer with boto3; use the Deep Learning Base AMI or install both'
ln -sfn "$python" /opt/inference/python3

fetch_payload
echo "$payload_sha256  /opt/inference/payload.zip" | sha256sum --check --quiet - \
  || fail 'the payload is not the one this launch template was made for (sha256 differs)'
rm -rf /opt/inference/payload
"$python" -m zipfile -e /opt/inference/payload.zip /opt/inference/payload

# Weights go to the instance's own NVMe disk where there is one (the AMI mounts it there), else to the root volume.
if mountpoint -q /opt/dlami/nvme; then
  mkdir -p /opt/dlami/nvme/weights
  ln -sfn /opt/dlami/nvme/weights /opt/inference/weights
else
  mkdir -p /opt/inference/weights
fi

install -m 0644 /opt/inference/payload/units/* /etc/systemd/system/
PYTHONPATH=/opt/inference/payload "$python" -m inference_worker install
systemctl daemon-reload
systemctl enable inference.target
# Not waited for: this script is part of the boot that the units are ordered after.
systemctl start --no-block inference.target
