#!/usr/bin/env bash
# Fetches what the tests need and runs them all. A part that can't be had fails the run, unless ALLOW_SKIP=1: then it is listed.
set -uo pipefail
cd "$(dirname "$0")/.."
export ALLOW_SKIP="${ALLOW_SKIP:-}"

if ! tools/fetch-envoy.sh; then
  [ "$ALLOW_SKIP" = 1 ] || { echo "make test: the real Envoy can't be had (see above). ENVOY=/path uses another, ALLOW_SKIP=1 goes on without." >&2; exit 1; }
fi
# Packages that start no goroutine hold nothing for the race detector, which makes them some ten times slower: they run without it.
# Those that repeat a sequential test less often under it (race.Rounds) run both ways.
raced=() plain=()
while read -r package dir; do
  if grep -qsE '^\s*go [a-z(]|\.Go\(|t\.Parallel\(|AfterFunc\(|^\s*"(sync|sync/atomic|net|net/http|net/http/httptest|testing/synctest|google.golang.org/grpc)"$' "$dir"/*.go; then
    raced+=("$package")
    grep -qs '/internal/testkit/race"' "$dir"/*_test.go && plain+=("$package")
  else
    plain+=("$package")
  fi
done < <(go list -f '{{.ImportPath}} {{.Dir}}' ./... | grep -v '/integration')
flags=(-count=1 -timeout 15m -json)
{
  go test "${flags[@]}" "${plain[@]}" || echo "make test: packages failed" >&2
  # Some wait more than they work: three at a time keep two cores busy.
  go test "${flags[@]}" -race -p 3 "${raced[@]}" || echo "make test: packages failed" >&2
  # The tests against real processes run one package at a time, and last: they measure time. Most of it they wait.
  go test "${flags[@]}" -race -p 1 -parallel 4 $(go list ./integration/... | grep -v /differential) || echo "make test: packages failed" >&2
  # Its code is that of one application and its hosts; make differential has the race detector look at it.
  go test "${flags[@]}" ./integration/differential
} 2>&1 | python3 tools/test-report.py
status=("${PIPESTATUS[@]}")
[ "${status[0]}" = 0 ] && [ "${status[1]}" = 0 ]
