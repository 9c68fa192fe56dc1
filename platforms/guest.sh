# A guest: a machine in qemu that boots a kernel, runs tests, and turns itself off. It has the test binaries,
# busybox, and nothing else: what needs a compiler, strace or the go command is skipped there.

# choose chooses tests, as a processor that is imitated takes hours for all of them. CHOSEN tell most of how a
# processor or a kernel differs from another. SLOW takes a child through each of its instructions.
choose() {
	SLOW+='|EachInstruction|AnArenaIsMended|Killed'
	CHOSEN[core]='-test.run=Huge|FullFile|Detach|SwapExchanges|SplitMappingMoves|Advise|SandboxLetsCompute|SandboxWithout'
	CHOSEN[core]+='|DeniedSays|LandlockIs|PathOfAFile|ReadOnlyStays|CrashIsReported|ForkServersChildrenReport|DoPasses'
	CHOSEN[core]+='|SetUpThatFails|CloseFDsLeaves|LeanChild|ForkShares|LimitsAnd|PoolReplacesWhat|ResizeInPlace'
	CHOSEN[shared]='-test.run=EachKind|AGate|Mutex|Semaphore|Barrier|Garbage|NewArena|NewRing'
	CHOSEN[devzero]='-test.run=DefaultTechnique|MapMakes|ResizeKeeps|ForkShares|DetachTakes|SwapExchanges|Split|MoveTo$'
	CHOSEN[parity]='-test.run=ListingPrints|CallsDoAsInC|LimitsHold'
	CHOSEN[live]='-test.run=FrozenMeansFrozen|ForkReturns|CallReturns|SnapshotIs|AtEachSystemCall|TimersInTheChild -forks 20'
}

# guest_begin: an empty guest.
guest_begin() {
	choose
	guest=$OUT/guests/$platform
	take=guest_suite
	is "$description"
	rm -rf "$guest"
	mkdir -p "$guest/root/tests" "$guest/root/bin" "$guest/root/src"
	cp platforms/init "$guest/root/init"
	git archive HEAD | tar -x -C "$guest/root/src" # some tests read the sources and the docs
}

# guest_busybox FILE: the guest's commands.
guest_busybox() {
	cp "$1" "$guest/root/bin/busybox"
}

# guest_suite NAME PACKAGE: a suite to run, which is built.
guest_suite() {
	cp "$build/$1.test" "$guest/root/tests/$1.test"
	[ "$1" != parity ] || cp -r "$build/programs" "$guest/root/"
	echo "$1 $((LIMIT + 60)) /src/$2 /tests/$1.test $(flags "$1")" >>"$guest/root/tests/list"
}

# accelerator: how qemu runs a guest of this machine's own processor: by the processor itself where it can. A /dev/kvm
# alone does not say that: there are some that run no kernel but their own.
accelerator() {
	if [ -w /dev/kvm ] && grep -q -E '^flags.* (vmx|svm)( |$)' /proc/cpuinfo; then
		echo kvm
	else
		echo tcg,thread=multi
	fi
}

# guest_run QEMU...: boots it, and records what its suites came to.
guest_run() {
	local log=$OUT/logs/$platform name
	[ -e "$guest/root/tests/list" ] || return 0 # none was built
	mkdir -p "$log"
	chmod +x "$guest/root/init" "$guest/root/bin/busybox"
	(cd "$guest/root" && find . | cpio --quiet -o -H newc) >"$guest/initrd"
	rm -rf "$guest/root/tests/"*.test "$guest/root/programs"
	timeout --kill-after=10 $((4 * LIMIT)) "$@" -initrd "$guest/initrd" -nographic -no-reboot -nodefaults -serial stdio \
		</dev/null >"$log/console.log" 2>&1 || true
	rm "$guest/initrd"
	sed -i 's/\r$//' "$log/console.log"
	if ! grep -q '^guest: is' "$log/console.log"; then
		record boot fail "the kernel did not start"
		tail -20 "$log/console.log"
		return
	fi
	describe "$(sed -n 's/^guest: is //p' "$log/console.log"), $description"
	while read -r name _; do
		guest_outcome "$name" "$log"
	done <"$guest/root/tests/list"
}

guest_outcome() {
	local name=$1 log=$2/$1.log rc
	sed -n "/^guest: begins $name\$/,/^guest: ends $name /p" "$2/console.log" >"$log"
	rc=$(sed -n "s/^guest: ends $name //p" "$log")
	case $rc in
	0) record "$name" "$(passed "$log")" "$(tally "$name" "$log")" ;;
	'') record "$name" fail "the machine came to no end" ;;
	137) record "$name" fail "not done within its time" ;;
	*)
		record "$name" fail "$(tally "$name" "$log")"
		show_failures "$log"
		;;
	esac
}
