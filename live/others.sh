#!/usr/bin/env bash
# Runs the tests of other people's modules inside a child of a live fork of a busy process, by std-in-child.sh, and
# says which of them fail there that do not fail without the fork.
#
#	live/others.sh [MODULE...]    those of others.txt whose paths have one of these words in them; by default all
#
# LIVEGO is the livego command, FLAGS go test's flags (-short by default). The modules come from the module proxy. With
# KEEP=folder the output of each suite is kept there. Exits with 1 if there is any difference.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
read -ra flags <<<"${FLAGS--short}"
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

wanted() { # MODULE WORD...
	local module=$1 word
	shift
	[ $# -gt 0 ] || return 0
	for word; do [[ $module == *"$word"* ]] && return 0; done
	return 1
}

while read -r module version packages <&3; do
	case $module in '' | '#'*) continue ;; esac
	wanted "$module" "$@" || continue
	echo "== $module $version"
	from=$(cd "$work" && GOFLAGS=-mod=mod go mod download -json "$module@$version" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
	if [ -z "$from" ]; then
		echo "$module $version cannot be had"
		continue
	fi
	rm -rf "$work/module" && cp -r "$from" "$work/module" && chmod -R u+w "$work/module" || exit 2
	(
		export GOFLAGS=-mod=mod
		cd "$work/module" || exit 2
		# shellcheck disable=SC2086 # a list of packages
		mapfile -t tested < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' $packages)
		"$here/std-in-child.sh" ${flags[@]+"${flags[@]}"} "${tested[@]}"
	)
done 3<"$here/others.txt" | tee "$work/log"
[ "${PIPESTATUS[0]}" = 0 ] || exit 2
awk '/ tests passed without the fork, / {
		packages++
		different += / DIFFERENT: /
		for (i = 2; i < NF; i++) {
			if ($i == "tests" && $(i + 1) == "passed") plain += $(i - 1)
			if ($i == "in" && $(i + 2) == "child;") child += $(i - 1)
		}
	}
	/cannot be had/ { missing++ }
	END {
		printf "%d packages: %d tests passed without the fork, %d in the child; ", packages, plain, child
		printf "%d packages differ, %d modules missing\n", different, missing
		exit different + missing > 0
	}' "$work/log"
