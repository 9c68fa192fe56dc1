# What the scripts of this folder share. They are run by platforms.mk, in the module's root.
#
# A platform is a row of docs/PLATFORMS.md, a suite of tests a column. A cell's
# outcome is a line of out/platforms/results/PLATFORM.tsv.

set -euo pipefail

OUT=$PWD/out/platforms # caches too: a second run downloads nothing
GO=${GO:-go}
mkdir -p "$OUT/results"

# is PLATFORM TEXT: begins the results of a platform. The text says what it is. A run of $only one suite keeps the
# others' outcomes.
is() {
	local file=$OUT/results/$1.tsv
	[ -n "${only:-}" ] || : >"$file"
	touch "$file"
	sed -i -E '/^(is|ran|cell\tboot)\t/d' "$file"
	printf 'is\t%s\nran\t%s\n' "$2" "$(date -u +%F)" >>"$file"
}

# record PLATFORM SUITE VERDICT NOTE: VERDICT is pass, fail or unsupported.
record() {
	[ ! -e "$OUT/results/$1.tsv" ] || sed -i "/^cell\t$2\t/d" "$OUT/results/$1.tsv"
	printf 'cell\t%s\t%s\t%s\n' "$2" "$3" "$4" >>"$OUT/results/$1.tsv"
	printf '%s: %s: %s%s\n' "$1" "$2" "$3" "${4:+ ($4)}"
}

# tally LOG: how many tests the verbose log of a test binary has.
tally() {
	awk '/^--- PASS/ { passed++ } /^--- SKIP/ { skipped++ } /^--- FAIL/ { failed++ }
		END { printf "%d tests passed", passed; if (skipped) printf ", %d skipped", skipped; if (failed) printf ", %d failed", failed }' "$1"
}

# passed LOG: the verdict on a log without failures. A run that skipped every test has shown nothing.
passed() {
	grep -q '^--- PASS' "$1" && echo pass || echo fail
}

# show_failures LOG: what its failed tests said.
show_failures() {
	local log=$1
	awk '/^=== RUN/ { said = ""; next } /^--- FAIL/ { print said $0; said = ""; next } /^--- / { said = ""; next }
		length(said) < 4000 { said = said $0 "\n" } /^panic|^fatal|^SIG/ { print }' "$log" | cut -c 1-250 | head -150
}

# What takes minutes where a processor is imitated, and has nothing to do with the kernel.
SLOW='OverlappingCopyThatFaultsLeaves|NoHandlerOfTheParent|LeanDoesNotDisturb|ForkWhileResized|AttacksCostNoMemory'

# build_suites FLAGS...: builds the tests for a guest. $only is one suite that is wanted, $args are for its tests.
build_suites() {
	local build=$OUT/build/$platform
	mkdir -p "$build"
	build_suite core 1200 . "$@"
	build_suite devzero 1200 . -tags devzero "$@"
	env -u CC -u CGO_ENABLED -u GOARCH "$GO" build -o "$build/livego" ./cmd/livego
	GO=$build/livego build_suite live 1200 ./live -tags livego "$@"
}

# build_suite NAME SECONDS PACKAGE FLAGS...
build_suite() {
	local name=$1 limit=$2 package=$3
	shift 3
	[ -z "$only" ] || [ "$only" = "$name" ] || return 0
	"$GO" test -c -o "$build/$name.test" "$@" "$package" 2>"$build/$name.err" || { cat "$build/$name.err" && return 1; }
	guest_suite "$name" "$limit" "$package" "$build/$name.test" "-test.skip=$SLOW" $args
}

# run_suite PLATFORM SUITE SECONDS FOLDER COMMAND...: runs a test binary in a package's folder, and records it.
run_suite() {
	local platform=$1 suite=$2 limit=$3 folder=$4 log=$OUT/logs/$1/$2.log rc=0
	shift 4
	mkdir -p "${log%/*}"
	(cd "$folder" && timeout --kill-after=10 "$limit" "$@" </dev/null) >"$log" 2>&1 || rc=$?
	case $rc in
	0) record "$platform" "$suite" "$(passed "$log")" "$(tally "$log")" ;;
	124 | 137) record "$platform" "$suite" fail "not done after $limit seconds" ;;
	*)
		record "$platform" "$suite" fail "$(tally "$log")"
		show_failures "$log"
		;;
	esac
}

# need PROGRAM PACKAGE...: has Debian's packages if the program is missing.
need() {
	local program=$1
	shift
	command -v "$program" >/dev/null && return
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "$program is missing: on Debian, apt-get install $*" >&2
		exit 1
	fi
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

# done_with PLATFORM: whether a cell of it failed.
done_with() {
	! grep -q $'^cell\t[^\t]*\tfail' "$OUT/results/$1.tsv"
}
