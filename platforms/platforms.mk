# Other C libraries, kernels and processors: see docs/PLATFORMS.md. Each target installs what it
# needs from Debian, or names it. What they fetch and build is kept in out/platforms.

.PHONY: musl static kernels arm64 processors gvisor matrix platforms-doc

musl: ## the tests with musl, linked dynamically and statically
	platforms/libc.sh musl
	platforms/libc.sh musl-static

static: ## the tests linked statically with glibc
	platforms/libc.sh glibc-static

kernels: ## the tests on Debian's kernels 5.10, 6.1, 6.12 and the newest, in qemu
	rc=0; for release in bullseye bookworm trixie sid; do platforms/kernels.sh $$release || rc=1; done; exit $$rc

arm64: ## the tests on arm64 with pages of 4 and 16 KiB, in qemu
	rc=0; for pages in 4k 16k; do platforms/cross.sh arm64-$$pages || rc=1; done; exit $$rc

processors: ## the tests for 386, 32-bit ARM and riscv64, by qemu
	rc=0; for processor in 386 arm riscv64; do platforms/cross.sh $$processor || rc=1; done; exit $$rc

gvisor: ## some tests under gVisor
	platforms/gvisor.sh

# A target that fails does not stop the others.
matrix: ## all platforms, and docs/PLATFORMS.md
	-$(MAKE) --no-print-directory -k musl static kernels arm64 processors gvisor
	-platforms/cross.sh arm64-64k
	platforms/table.sh

platforms-doc: ## docs/PLATFORMS.md from the last runs
	platforms/table.sh
