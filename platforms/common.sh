# What the scripts of this folder share. They are run by platforms.mk, in the module's root.
#
# A platform is a row of docs/PLATFORMS.md, a suite of tests a column. A cell's
# outcome is a line of out/platforms/results/PLATFORM.tsv.

set -euo pipefail

OUT=$PWD/out/platforms # caches too: a second run downloads nothing
SUITES=(core devzero shared parity live)
GO=${GO:-go}
mkdir -p "$OUT/results"

# is TEXT: begins the results of the platform. The text says what it is. A run of $only some suites keeps the others'
# outcomes.
is() {
	[ -n "$only" ] || : >"$OUT/results/$platform.tsv"
	describe "$1"
}

# describe TEXT: says anew what the platform is.
describe() {
	local file=$OUT/results/$platform.tsv
	touch "$file"
	sed -i -E '/^(is|ran|cell\tboot)\t/d' "$file"
	printf 'is\t%s\nran\t%s\n' "$1" "$(date -u +%F)" >>"$file"
}

# record SUITE VERDICT NOTE: VERDICT is pass, fail or unsupported. The line has the commit, too.
record() {
	local file=$OUT/results/$platform.tsv
	sed -i "/^cell\t$1\t/d" "$file"
	printf 'cell\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$(git rev-parse --short HEAD)" >>"$file"
	printf '%s: %s: %s%s\n' "$platform" "$1" "$2" "${3:+ ($3)}"
}

# What chooses tests of a suite, if not all are run. $args stands in for it.
declare -A CHOSEN=()
chosen() { echo "${args:-${CHOSEN[$1]:-}}"; }

# tally SUITE LOG: how many tests the verbose log of a test binary has, and what chose them.
tally() {
	awk '/^--- PASS/ { passed++ } /^--- SKIP/ { skipped++ } /^--- FAIL/ { failed++ }
		END { printf "%d tests passed", passed; if (skipped) printf ", %d skipped", skipped; if (failed) printf ", %d failed", failed }' "$2"
	[ -z "$(chosen "$1")" ] || printf ', by %s' "$(chosen "$1")"
}

# passed LOG: the verdict on a log without failures. A run that skipped every test has shown nothing.
passed() {
	grep -q '^--- PASS' "$1" && echo pass || echo fail
}

# show_failures LOG: what its failed tests said.
show_failures() {
	local log=$1
	awk '/^=== RUN/ { if (!/\//) said = ""; next } /^--- FAIL/ { print said $0; said = ""; next } /^--- / { said = ""; next }
		length(said) < 4000 { said = said $0 "\n" } /^panic|^fatal|^SIG/ { print }' "$log" | cut -c 1-250 | head -150
}

# What takes minutes where a processor is imitated, and has nothing to do with the kernel.
SLOW='OverlappingCopyThatFaultsLeaves|NoHandlerOfTheParent|LeanDoesNotDisturb|ForkWhileResized|AttacksCostNoMemory'

# Seconds that a suite may take. The limit is for a hang: a machine that imitates another processor, and has other
# work, is slow.
LIMIT=${LIMIT:-7200}

programs=true # whether parity is built the programs that it runs
no_parity=    # why it is not run

# build_suites FLAGS...: builds the suites, and has each taken by what $take names. $only are those that are wanted, if not all.
build_suites() {
	build=$OUT/build/$platform
	mkdir -p "$build"
	build_suite core . "$@"
	build_suite devzero . -tags devzero "$@"
	build_suite shared ./shared "$@"
	if [ -n "$no_parity" ]; then
		record parity unsupported "$no_parity"
	else
		if [ "$programs" = true ] && wanted parity; then build_programs "$@"; fi
		build_suite parity ./tests/parity "$@"
	fi
	if wanted live; then env -u CC -u CGO_ENABLED -u GOARCH "$GO" build -o "$build/livego" ./cmd/livego; fi
	GO=$build/livego build_suite live ./live -tags livego "$@"
}

# wanted SUITE: whether a suite is to run.
wanted() { [[ -z "$only" || " $only " == *" $1 "* ]]; }

# build_suite NAME PACKAGE FLAGS...
build_suite() {
	local name=$1 package=$2
	shift 2
	wanted "$name" || return 0
	if "$GO" test -c -o "$build/$name.test" "$@" "$package" 2>"$build/$name.err"; then
		"$take" "$name" "$package"
	else
		cat "$build/$name.err"
		record "$name" fail "does not compile"
	fi
}

# build_programs FLAGS...: what the comparison with C builds as it runs, for where no compiler is. The names are those
# that tests/parity gives them.
build_programs() {
	local c=(-std=gnu11 -O2 -static)
	mkdir -p "$build/programs"
	"$CC" "${c[@]}" -o "$build/programs/twin" internal/ctest/testdata/twin.c internal/ctest/children.c 2>/dev/null
	"$CC" "${c[@]}" -o "$build/programs/anon_mmap-c" -DUSE_MAP_ANON csrc/anon_mmap.c
	"$CC" "${c[@]}" -o "$build/programs/dev_zero-c" csrc/anon_mmap.c
	"$GO" build -o "$build/programs/anon_mmap-go-" "$@" ./cmd/anon_mmap
	"$GO" build -o "$build/programs/anon_mmap-go-devzero" -tags devzero "$@" ./cmd/anon_mmap
	"$GO" build -o "$build/programs/forkwait-go-" "$@" ./internal/ctest/forkwait
}

# flags SUITE: of a test binary, what chooses its tests included. The whole of parity builds other programs.
flags() {
	local short=-test.short
	[ "$1" != parity ] || short=-test.short=false
	echo "-test.v $short -test.timeout ${LIMIT}s -test.skip=$SLOW $(chosen "$1")"
}

# run_suite SUITE FOLDER COMMAND...: runs a test binary in a package's folder, and records it.
run_suite() {
	local suite=$1 folder=$2 log=$OUT/logs/$platform/$1.log rc=0
	shift 2
	mkdir -p "${log%/*}"
	(cd "$folder" && timeout --kill-after=10 $((LIMIT + 60)) "$@" </dev/null) >"$log" 2>&1 || rc=$?
	case $rc in
	0) record "$suite" "$(passed "$log")" "$(tally "$suite" "$log")" ;;
	124 | 137) record "$suite" fail "not done after $LIMIT seconds" ;;
	*)
		record "$suite" fail "$(tally "$suite" "$log")"
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

# finish exits with 1 if a cell of the platform failed.
finish() {
	! grep -q $'^cell\t[^\t]*\tfail' "$OUT/results/$platform.tsv"
	exit
}
