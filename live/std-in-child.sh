#!/usr/bin/env bash
# Runs the tests of packages inside a child of a live fork of a busy process, and says which of them fail there
# that do not fail without the fork.
#
#	live/std-in-child.sh [go test's flags] PACKAGE...    for instance: live/std-in-child.sh -short net/http sync
#
# LIVEGO is the livego command. Exits with 1 if there is any difference.
set -uo pipefail
livego=${LIVEGO:-livego}
flags=() packages=()
for arg in "$@"; do
	case $arg in -*) flags+=("$arg") ;; *) packages+=("$arg") ;; esac
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# failures PREFIX: the tests that failed, and the package if it did not come to its end.
failures() {
	sed -n -e 's/^ *--- FAIL: \([^ ]*\).*/\1/p' -e 's/^\(panic: test timed out\).*/\1/p' -e 's/^\(fatal error: .*\)/\1/p' \
		-e 's/^livego: \(.*\)/\1/p' "$1" | sort -u
}
differences=0
for package in "${packages[@]}"; do
	if ! "$livego" test -c -o "$dir/test" "$package" >"$dir/build" 2>&1; then
		cat "$dir/build"
		exit 2
	fi
	home=$("$livego" list -f '{{.Dir}}' "$package")
	args=(-test.timeout=20m)
	for flag in "${flags[@]}"; do args+=("-test.${flag#-}"); done
	(cd "$home" && "$dir/test" "${args[@]}" -test.v) >"$dir/plain" 2>&1 </dev/null
	plain=$?
	(cd "$home" && LIVEGO_TEST_IN_CHILD=1 "$dir/test" "${args[@]}" -test.v) >"$dir/child" 2>&1 </dev/null
	child=$?
	failures "$dir/plain" >"$dir/plain.failed"
	failures "$dir/child" >"$dir/child.failed"
	only=$(comm -13 "$dir/plain.failed" "$dir/child.failed")
	verdict="the same"
	if [ -n "$only" ] || [ $plain != $child ]; then
		verdict=DIFFERENT
		differences=1
	fi
	printf '%-24s %s: %d tests passed without the fork, %d in the child; exit status %d, %d\n' "$package" "$verdict" \
		"$(grep -c '^ *--- PASS' "$dir/plain")" "$(grep -c '^ *--- PASS' "$dir/child")" $plain $child
	sed 's/^/	fails without the fork too: /' < <(comm -12 "$dir/plain.failed" "$dir/child.failed")
	[ -z "$only" ] || sed 's/^/	fails in the child alone: /' <<<"$only"
	[ -z "${KEEP:-}" ] || { mkdir -p "$KEEP" && cp "$dir/plain" "$KEEP/${package//\//_}.plain" && cp "$dir/child" "$KEEP/${package//\//_}.child"; }
done
exit $differences
