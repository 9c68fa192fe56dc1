// Life by github.com/edsrzf/mmap-go and os/exec. See package execlife.
package main

import (
	"os"

	"github.com/edsrzf/mmap-go"

	"forkshm.example/shm/tools/peers/execlife"
)

func main() {
	newMap := func(f *os.File, length int) ([]byte, error) {
		return mmap.MapRegion(f, length, mmap.RDWR, 0, 0)
	}
	unmap := func(mapped []byte) error { m := mmap.MMap(mapped); return m.Unmap() }
	execlife.Main(execlife.Library{
		Map: newMap,
		Grow: func(f *os.File, mapped []byte, length int) ([]byte, error) { // it has no mremap
			if err := unmap(mapped); err != nil {
				return nil, err
			}
			return newMap(f, length)
		},
		Unmap: unmap,
		Grows: "maps anew",
	})
}
