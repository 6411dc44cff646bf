#!/usr/bin/env bash
# Runs every fuzz target of the project for FUZZ_TIME (30s).
set -euo pipefail
cd "$(dirname "$0")/.."
grep -rhoE --include='*_test.go' -H '^func Fuzz[A-Za-z0-9_]+' pkg | while IFS=: read -r file fn; do
  go test -run '^$' -fuzz "^${fn#func }\$" -fuzztime "${FUZZ_TIME:-30s}" "./$(dirname "$file")"
done
