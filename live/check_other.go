//go:build !linux

package live

// What check_linux.go and watch_linux.go declare, for programs that are also built elsewhere.
// There nothing forks.

func (in *inspection) descriptors() []Finding { return nil }
func sharedMemory() []Finding                 { return nil }

func (c *call) begun() {}
