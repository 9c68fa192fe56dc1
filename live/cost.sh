#!/usr/bin/env bash
# What the patch costs programs that never fork: the standard library's benchmarks with livego's runtime against plain
# go's, and the size of programs.
#
#	live/cost.sh [PACKAGE...]
#
# The two runs of each round follow each other, and rounds are repeated, so that a machine that others use disturbs both
# alike. BENCH selects benchmarks, ROUNDS how often, BENCHTIME how long. benchstat (BENCHSTAT) prints each ratio with its
# spread, and the geometric mean.
set -euo pipefail
livego=${LIVEGO:-livego} rounds=${ROUNDS:-10} bench=${BENCH:-.} time=${BENCHTIME:-20ms}
read -ra benchstat <<<"${BENCHSTAT:-benchstat}"
[ $# -gt 0 ] || set -- sync time sort encoding/json regexp
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for package; do
	go test -c -o "$dir/plain.test" "$package"
	"$livego" test -c -o "$dir/patched.test" "$package"
	home=$(go list -f '{{.Dir}}' "$package")
	for ((round = 0; round < rounds; round++)); do
		for impl in plain patched; do
			(cd "$home" && "$dir/$impl.test" -test.run '^$' -test.bench "$bench" -test.benchtime "$time") \
				>>"$dir/$impl"
		done
	done
	for impl in plain patched; do
		printf '%s.test, %s: %d bytes\n' "${package##*/}" $impl "$(stat -c %s "$dir/$impl.test")"
	done
done
"${benchstat[@]}" plain="$dir/plain" patched="$dir/patched"
