#!/usr/bin/env bash
# Fetches what the tests need and runs them all. A part that can't be had fails the run, unless ALLOW_SKIP=1: then it is listed.
set -uo pipefail
cd "$(dirname "$0")/.."
export ALLOW_SKIP="${ALLOW_SKIP:-}"

if ! tools/fetch-envoy.sh; then
  [ "$ALLOW_SKIP" = 1 ] || { echo "make test: the real Envoy can't be had (see above). ENVOY=/path uses another, ALLOW_SKIP=1 goes on without." >&2; exit 1; }
fi
# The tests that measure time against real processes run one package at a time, and last.
flags=(-race -count=1 -timeout 15m -json)
{
  go test "${flags[@]}" $(go list ./... | grep -v '/integration') || echo "make test: packages failed" >&2
  go test "${flags[@]}" -p 1 ./integration/...
} 2>&1 | python3 tools/test-report.py
status=("${PIPESTATUS[@]}")
[ "${status[0]}" = 0 ] && [ "${status[1]}" = 0 ]
