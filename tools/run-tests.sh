#!/usr/bin/env bash
# Fetches what the tests need and runs them all. A part that can't be had fails the run, unless ALLOW_SKIP=1: then it is listed.
set -uo pipefail
cd "$(dirname "$0")/.."
export ALLOW_SKIP="${ALLOW_SKIP:-}"
log=$(mktemp) && trap 'rm -f "$log"' EXIT

if ! tools/fetch-envoy.sh; then
  [ "$ALLOW_SKIP" = 1 ] || { echo "make test: the real Envoy can't be had (see above). ENVOY=/path uses another, ALLOW_SKIP=1 goes on without." >&2; exit 1; }
fi
# -p 2: the integration tests measure time against real processes and must not share two cores with ten other packages.
go test -race -count=1 -p 2 -timeout 15m -v ./... >"$log" 2>&1
status=$?
grep -E '^(ok|FAIL|---? FAIL|panic:)|^\s+--- FAIL' "$log"
if [ $status -ne 0 ]; then
  echo "---- output of what failed"
  grep -vE '^(=== (RUN|PAUSE|CONT|NAME)|\s*--- PASS|\? )' "$log" | tail -n 400
fi
passed=$(grep -cE '^\s*--- PASS' "$log"); failed=$(grep -cE '^\s*--- FAIL' "$log"); skipped=$(grep -cE '^\s*--- SKIP' "$log")
if [ "$skipped" -gt 0 ]; then
  echo "---- skipped, and why"
  grep -A2 -E '^\s*--- SKIP' "$log"
  [ "$ALLOW_SKIP" = 1 ] || status=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
exit $status
