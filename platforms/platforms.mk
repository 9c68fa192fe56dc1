# Other C libraries, kernels and processors: see docs/PLATFORMS.md. Each target installs what it
# needs from Debian, or names it. What they fetch and build is kept in out/platforms.

.PHONY: musl static kernels arm64 processors matrix platforms-doc

musl:
	platforms/libc.sh musl
	platforms/libc.sh musl-static

# Statically linked, with glibc.
static:
	platforms/libc.sh glibc-static
