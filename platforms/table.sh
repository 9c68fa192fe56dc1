#!/usr/bin/env bash
# Writes docs/PLATFORMS.md from what the targets came to.
. "$(dirname "$0")/common.sh"

platforms=(musl musl-static glibc-static kernel-bullseye kernel-bookworm kernel-trixie kernel-sid
	arm64-4k arm64-16k arm64-64k 386 arm riscv64 gvisor)

# cell RESULTS SUITE: what stands in the table.
cell() {
	local verdict note
	IFS=$'\t' read -r _ _ verdict note _ < <(grep -P "^cell\t$2\t" "$1" | tail -1) || true
	case ${verdict:-} in
	'') printf 'not run' ;;
	unsupported) printf 'not supported: %s' "$note" ;;
	*) printf '%s%s' "$verdict" "${note:+, ${note//|/\\|}}" ;;
	esac
}

mkdir -p docs
{
	cat platforms/PLATFORMS.head.md
	echo
	echo "As of $(date -u +%Y-%m-%d), Go $("$GO" env GOVERSION | sed s/go//):"
	echo
	echo "| platform | what it was | last run |$(printf ' %s |' "${SUITES[@]}")"
	echo "|---|---|---|$(printf -- '---|%.0s' "${SUITES[@]}")"
	for platform in "${platforms[@]}"; do
		file=$OUT/results/$platform.tsv
		[ -e "$file" ] || file=/dev/null # not run
		printf '| %s | %s | %s |' "$platform" "$(sed -n 's/^is\t//p' "$file")" "$(sed -n 's/^ran\t//p' "$file")"
		for suite in "${SUITES[@]}"; do printf ' %s |' "$(cell "$file" "$suite")"; done
		echo
	done
} >docs/PLATFORMS.md
echo "docs/PLATFORMS.md: $(grep -c -P '^cell\t[^\t]*\tfail' <(cat "$OUT"/results/*.tsv)) cells fail"
! grep -q -P '^cell\t[^\t]*\tfail' "$OUT"/results/*.tsv
