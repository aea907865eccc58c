#!/bin/bash
# A worker of one's own: take a message, work on it, delete it. Yours runs a container here.
set -euo pipefail
while true; do
  message=$(aws sqs receive-message --queue-url 'QUEUE_URL' --wait-time-seconds 20 --output json)
  handle=$(jq -r '.Messages[0].ReceiptHandle // empty' <<< "$message")
  [[ -n $handle ]] || continue
  jq -r '.Messages[0].Body' <<< "$message" | /opt/vision/detect
  aws sqs delete-message --queue-url 'QUEUE_URL' --receipt-handle "$handle"
done
