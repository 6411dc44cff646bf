#!/usr/bin/env bash
# vet, staticcheck, gofmt, tidy drift: one line for each, and what is wrong.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
step() { # name, then the command; its output is what is wrong, but for what a cold cache has to fetch
  local name=$1 out ok=true; shift
  out=$("$@" 2>&1) || ok=false
  out=$(grep -v '^go: downloading ' <<<"$out")
  if $ok && [ -z "$out" ]; then echo "ok   $name"; else echo "FAIL $name"; echo "$out"; status=1; fi
}
step vet go vet ./...
step staticcheck go tool -modfile=tools/go.mod staticcheck ./...
step gofmt gofmt -l cmd internal integration pkg ./*.go
step tidy go mod tidy -diff
exit $status
