"""Reads `go test -json` and prints a line a package, the output of what failed, what was skipped and why, and the counts."""
import json
import sys

output, failed, skipped, passed = {}, [], [], 0
for line in sys.stdin:
    try:
        event = json.loads(line)
    except ValueError:
        print(line, end="")  # the build's own words
        continue
    key = (event.get("Package", event.get("ImportPath", "")), event.get("Test", ""))
    action = event["Action"]
    if action in ("output", "build-output"):
        output.setdefault(key, []).append(event["Output"])
        if action == "build-output":
            print(event["Output"], end="")
    elif action == "pass" and key[1]:
        passed += 1
        output.pop(key, None)
    elif action == "fail" and key[1]:
        failed.append(key)
    elif action == "skip" and key[1]:
        skipped.append(key)
    elif action in ("pass", "fail"):
        print(f"{'ok  ' if action == 'pass' else 'FAIL'} {key[0]} {event.get('Elapsed', 0):.1f}s", flush=True)
        if action == "fail":
            failed_here = [k for k in failed if k[0] == key[0]]
            for k in failed_here or [key]:
                print("".join(output.get(k, [])), end="")
            failed += [] if failed_here else [key]
for package, test in skipped:
    reason = "".join(l for l in output.get((package, test), []) if not l.startswith(("===", "---", "    ---"))).strip()
    print(f"skipped: {package} {test}: {reason}")
print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
sys.exit(1 if failed else 0)
