#!/usr/bin/env bash
# Runs the tests for another processor: cross.sh PLATFORM [SUITES [ARGS]].
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/debian.sh"
. "$(dirname "$0")/guest.sh"

platform=$1
only=${2:-}
args=${3:-}
static=(-ldflags '-linkmode external -extldflags -static')
export CGO_ENABLED=1

# here_suite NAME PACKAGE: runs a suite under this machine's kernel.
here_suite() { SHM_TEST_PROGRAMS=$build/programs run_suite "$1" "$2" "$build/$1.test" $(flags "$1"); }

# in_guest TRIPLET ARCH KERNEL CONSOLE QEMU...: runs all suites on a kernel of Debian trixie's.
in_guest() {
	local triplet=$1 arch=$2 image console=$4
	image=$(kernel trixie "$arch" "$3")
	shift 4
	need cpio cpio
	CC=$(cross_cc "$triplet" "$arch")
	export CC
	guest_begin
	unpack trixie "$arch" busybox-static
	guest_busybox "$OUT/debian/trixie-$arch/root/usr/bin/busybox"
	build_suites "${static[@]}"
	guest_run "$@" -accel tcg,thread=multi -smp 2 -kernel "$image" -append "console=$console quiet panic=-1 ${append:-}"
}

case $platform in
arm64-4k)
	description="arm64, 4 KiB pages, Debian trixie's cloud kernel in qemu, statically linked with glibc"
	need qemu-system-aarch64 qemu-system-arm
	export GOARCH=arm64
	in_guest aarch64-linux-gnu arm64 linux-image-cloud-arm64 ttyAMA0 \
		qemu-system-aarch64 -M virt -cpu max,pauth-impdef=on -m 3G
	;;
arm64-16k)
	description="arm64, 16 KiB pages, Debian trixie's kernel in qemu, statically linked with glibc"
	need qemu-system-aarch64 qemu-system-arm
	export GOARCH=arm64
	in_guest aarch64-linux-gnu arm64 linux-image-arm64-16k ttyAMA0 \
		qemu-system-aarch64 -M virt -cpu max,pauth-impdef=on -m 4G
	;;
arm64-64k)
	is "arm64, 64 KiB pages"
	for suite in "${SUITES[@]}"; do
		record "$suite" unsupported "Debian trixie has no kernel with 64 KiB pages"
	done
	;;
riscv64)
	description="riscv64, Debian trixie's kernel in qemu, statically linked with glibc"
	need qemu-system-riscv64 qemu-system-misc opensbi
	export GOARCH=riscv64
	in_guest riscv64-linux-gnu riscv64 linux-image-riscv64 ttyS0 qemu-system-riscv64 -M virt -m 3G
	;;
arm)
	description="32-bit ARM, Debian trixie's kernel in qemu, statically linked with glibc"
	need qemu-system-arm qemu-system-arm
	export GOARCH=arm GOARM=7
	append=transparent_hugepage=never # madvise(2) with MADV_DONTNEED of one is an oops in this kernel's zap_huge_pmd
	no_parity="its scripts are for 64 bits"
	in_guest arm-linux-gnueabihf armhf linux-image-armmp-lpae ttyAMA0 qemu-system-arm -M virt -cpu cortex-a15 -m 3G
	;;
386)
	description="386, under this machine's kernel of 64 bits, statically linked with glibc"
	CC=$(cross_cc i686-linux-gnu i386)
	export CC GOARCH=386
	no_parity="its scripts are for 64 bits"
	take=here_suite
	is "$description"
	build_suites "${static[@]}"
	;;
*)
	echo "cross.sh: no platform is called $platform" >&2
	exit 2
	;;
esac
finish
