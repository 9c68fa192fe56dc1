# A guest: a machine in qemu that boots a kernel, runs tests, and turns itself off. It has the test binaries,
# busybox, and nothing else: what needs a compiler, strace or the go command is skipped there.

# guest_begin PLATFORM: an empty guest.
guest_begin() {
	guest=$OUT/guests/$1
	rm -rf "$guest"
	mkdir -p "$guest/root/tests" "$guest/root/bin" "$guest/root/src"
	cp platforms/init "$guest/root/init"
	git archive HEAD | tar -x -C "$guest/root/src" # some tests read the sources and the docs
}

# guest_busybox FILE: the guest's commands.
guest_busybox() {
	cp "$1" "$guest/root/bin/busybox"
}

# guest_suite NAME SECONDS PACKAGE BINARY ARGS...: a suite to run.
guest_suite() {
	local name=$1 limit=$2 package=$3 binary=$4
	shift 4
	cp "$binary" "$guest/root/tests/$name.test"
	echo "$name $limit /src/$package /tests/$name.test -test.v -test.short -test.timeout $((limit - 10))s $*" >>"$guest/root/tests/list"
}

# guest_run PLATFORM SECONDS QEMU...: boots it, and records what its suites came to.
guest_run() {
	local platform=$1 limit=$2 log=$OUT/logs/$1 name
	shift 2
	mkdir -p "$log"
	chmod +x "$guest/root/init" "$guest/root/bin/busybox"
	(cd "$guest/root" && find . | cpio --quiet -o -H newc) >"$guest/initrd"
	rm -rf "$guest/root/tests/"*.test
	timeout --kill-after=10 "$limit" "$@" -initrd "$guest/initrd" -nographic -no-reboot -nodefaults -serial stdio \
		</dev/null >"$log/console.log" 2>&1 || true
	rm "$guest/initrd"
	sed -i 's/\r$//' "$log/console.log"
	if ! grep -q '^guest: is' "$log/console.log"; then
		record "$platform" boot fail "the kernel did not start"
		tail -20 "$log/console.log"
		return
	fi
	is "$platform" "$(sed -n 's/^guest: is //p' "$log/console.log"), $description"
	while read -r name _; do
		guest_outcome "$platform" "$name" "$log"
	done <"$guest/root/tests/list"
}

guest_outcome() {
	local platform=$1 name=$2 log=$3/$2.log rc
	sed -n "/^guest: begins $name\$/,/^guest: ends $name /p" "$3/console.log" >"$log"
	rc=$(sed -n "s/^guest: ends $name //p" "$log")
	case $rc in
	0) record "$platform" "$name" "$(passed "$log")" "$(tally "$log")" ;;
	'') record "$platform" "$name" fail "the machine came to no end" ;;
	137) record "$platform" "$name" fail "not done within its time" ;;
	*)
		record "$platform" "$name" fail "$(tally "$log")"
		show_failures "$log"
		;;
	esac
}
