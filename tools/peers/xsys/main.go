// Life by golang.org/x/sys/unix and os/exec. See package execlife.
package main

import (
	"os"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/tools/peers/execlife"
)

func main() {
	execlife.Main(execlife.Library{
		Map: func(f *os.File, length int) ([]byte, error) {
			return unix.Mmap(int(f.Fd()), 0, length, unix.PROT_READ|unix.PROT_WRITE,
				unix.MAP_SHARED)
		},
		Grow: func(_ *os.File, mapped []byte, length int) ([]byte, error) {
			return unix.Mremap(mapped, length, unix.MREMAP_MAYMOVE)
		},
		Unmap: unix.Munmap,
		Grows: "moves pages",
	})
}
