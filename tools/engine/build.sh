#!/usr/bin/env bash
# The Pulumi CLI for the engine tests: the one on PATH if it is new enough, else one built from its Go module into
# .cache/engine/pulumi. Status 0: it is there; 3: it cannot be had here, and the last line says why.
# Another version: `go get github.com/pulumi/pulumi/pkg/v3@v<version>` in this folder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=$root/.cache/engine
module=github.com/pulumi/pulumi/pkg/v3
export PULUMI_SKIP_UPDATE_CHECK=true

cannot_be_had() {
  echo "the Pulumi engine cannot be had here: $1" >&2
  exit 3
}

version_of() { "$1" version 2>/dev/null | sed 's/^v//'; }

at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

needed=$(sed -n 's/^requiredPulumiVersion: *">=\(.*\)"$/\1/p' "$root/Pulumi.yaml")
pinned=$(sed -n "s|^require $module v\(.*\)\$|\1|p" "$here/go.mod")
: "${needed:?Pulumi.yaml names no requiredPulumiVersion}" "${pinned:?go.mod does not require $module on a line of its own}"

# 1. The user's own CLI, not the link to ours in the folder that `gpufleet twin env` puts on PATH.
on_path="no pulumi on PATH"
while read -r found; do
  [ ! -e "${found%/*}/.gpufleet-twin" ] || continue
  version=$(version_of "$found" || true)
  if at_least "${version:-0}" "$needed"; then
    echo "engine: pulumi $version ($found)"
    exit 0
  fi
  on_path="the pulumi on PATH is ${version:-broken}, this needs $needed"
done < <(type -aP pulumi || true)

# 2. The one built before from the same go.mod.
if cmp -s "$here/go.mod" "$cache/go.mod" && [ "$(version_of "$cache/pulumi" || true)" = "$pinned" ]; then
  echo "engine: pulumi $pinned (.cache/engine/pulumi)"
  exit 0
fi

# 3. A build. Go itself knows which Go the module needs, and may be set to fetch it (GOTOOLCHAIN).
command -v go >/dev/null || cannot_be_had "$on_path, and no Go to build it with"
cd "$here"
go list -m >/dev/null 2>&1 || cannot_be_had "$on_path, and $(go env GOVERSION) cannot build it (go.mod: $(grep -m 1 '^go ' go.mod))"
mkdir -p "$cache"
echo "engine: building pulumi $pinned into .cache/engine (once: five minutes, 3 GB of Go's caches) ..."
go list -deps "$module/cmd/pulumi" 2>"$cache/build.log" >/dev/null ||
  cannot_be_had "$on_path, and Go could not get its modules: see .cache/engine/build.log"
stamp="-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$pinned"
if ! go build -ldflags "-s -w $stamp" -o "$cache/pulumi.new" "$module/cmd/pulumi" >"$cache/build.log" 2>&1; then
  echo "engine: the build failed: see .cache/engine/build.log" >&2
  exit 1
fi
built=$(version_of "$cache/pulumi.new" || true)
[ "$built" = "$pinned" ] || { echo "engine: what was built answers ${built:-nothing} instead of $pinned" >&2; exit 1; }
mv "$cache/pulumi.new" "$cache/pulumi" # never half written, even for a run that uses the old one now
cp go.mod "$cache/go.mod"
echo "engine: pulumi $pinned (.cache/engine/pulumi)"
